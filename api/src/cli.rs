//! The command line: one binary, a subcommand for each chore.

use std::io::{ErrorKind, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use subscriptions::change_log;
use time::OffsetDateTime;

use crate::api_key::{self, ApiKeyArgs};
use crate::app::{self, App};
use crate::backup::{self, BackupArgs, RestoreArgs};
use crate::config::{
    self, ConfigFileError, DatabaseArgs, FileOptions, LogFormat, LogSettings, ServeArgs,
};
use crate::database;
use crate::demo::{self, DemoArgs};
use crate::healthcheck::{self, HealthcheckArgs};
use crate::http;
use crate::import::{self, ImportArgs};
use crate::telemetry;
use crate::tls;

/// Energy production forecasts, live: a GraphQL server.
#[derive(Parser, Debug)]
#[command(
    name = "smartpulse",
    version,
    propagate_version = true,
    after_help = "\
Options with a variable, SMARTPULSE_…, may also stand in smartpulse.toml and
smartpulse.{environment}.toml of the current folder, where SMARTPULSE_ENVIRONMENT
names the environment and SMARTPULSE_CONFIG another file. Flags win over variables,
variables over files, files over what is built in.

Exit status: 0 done, 1 failed, 2 the command line or a file could not be read.

Examples:
  smartpulse demo                     a portfolio to look at, on http://127.0.0.1:8080
  smartpulse serve                    a server on ./data/smartpulse.db
  smartpulse import day.csv --create  your own forecasts"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run the server
    #[command(after_help = "\
Examples:
  smartpulse serve
  smartpulse serve --listen 127.0.0.1:9000 --log info,subscriptions=debug
  SMARTPULSE_DATABASE_URL=postgres://app:secret@db/smartpulse smartpulse serve --migrate
  SMARTPULSE_REDIS_URL=redis://:secret@redis smartpulse serve   one of several replicas")]
    Serve(Box<ServeArgs>),
    /// Run a server with an invented portfolio and a simulated, live feed
    #[command(after_help = "\
It writes ./data/demo.db, which each demo begins anew.

Examples:
  smartpulse demo
  smartpulse demo --speed 5 --seed 7
  smartpulse demo --seed 7 --now 2026-06-01T12:00:00Z   the same curves each time")]
    Demo(Box<DemoArgs>),
    /// Bring the database's schema up to date
    #[command(after_help = "\
Example:
  smartpulse migrate --database-url postgres://app:secret@db/smartpulse")]
    Migrate(DatabaseArgs),
    /// Import forecasts from a CSV file, all of them or none
    #[command(after_help = "\
Examples:
  smartpulse import forecasts.csv --create
  smartpulse import wide.csv.gz --mapping wide.toml --max-rejects 10

The long form: unit,provider,resolution,delivery_start,mwh[,issued_at]
  plant:1,provider-a,PT1H,2026-06-01T12:00:00Z,12.5,2026-05-31T16:00:00Z")]
    Import(ImportCommand),
    /// Make, list and revoke the keys that let programs in
    #[command(after_help = "\
It works on the database itself, whether a server runs or not. A new key's secret
is printed once, and is not to be had again; programs send it as
`Authorization: Bearer sp_...`.

Examples:
  smartpulse api-key create --user ops --name \"First key\" --role ADMIN
  smartpulse api-key create --user feed --name Forecasts --role PROVIDER --expires-in 90d
  smartpulse api-key list
  smartpulse api-key revoke 7")]
    ApiKey(ApiKeyArgs),
    /// Print the GraphQL schema
    Schema,
    /// Print the options that `serve` would run with, and where each comes from
    #[command(after_help = "\
Secrets are masked. Without them, the output would do as a smartpulse.toml.

Example:
  smartpulse config --listen 127.0.0.1:9000")]
    Config(Box<ServeArgs>),
    /// Ask a running server whether it is ready: exit status 0 if it is
    #[command(after_help = "\
Example:
  smartpulse healthcheck --listen 127.0.0.1:9000")]
    Healthcheck(HealthcheckArgs),
    /// Copy an embedded SQLite database to a file, while the server runs
    #[command(after_help = "\
Example:
  smartpulse backup smartpulse-2026-06-01.db")]
    Backup(BackupArgs),
    /// Put a copy of an embedded SQLite database in place; the server must be stopped
    #[command(after_help = "\
Example:
  smartpulse restore smartpulse-2026-06-01.db")]
    Restore(RestoreArgs),
}

#[derive(Args, Debug)]
struct ImportCommand {
    #[command(flatten)]
    database: DatabaseArgs,

    #[command(flatten)]
    import: ImportArgs,
}

/// The exit status of a command line that cannot be meant, as clap has it.
const WRONG_USAGE: u8 = 2;

/// Reads files, variables and the command line, and does what they say.
pub fn main() -> ExitCode {
    tls::install();
    let files = FileOptions::load();
    let read = files.and_then(|files| Ok((files.apply(Cli::command())?, files)));
    let (mut command, files) = match read {
        Ok(read) => read,
        Err(error) => return without_files(error),
    };
    let matches = match command.try_get_matches_from_mut(std::env::args_os()) {
        Ok(matches) => matches,
        Err(error) => {
            let note = files.note_on(&error, &command);
            drop(error.print());
            note.iter().for_each(|note| hint(note));
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(WRONG_USAGE));
        }
    };
    let outcome = match Cli::from_arg_matches(&matches) {
        Ok(cli) => match (cli.command, command.find_subcommand("config")) {
            (Command::Config(_), Some(command)) => {
                let matches = matches.subcommand_matches("config").unwrap_or(&matches);
                print(&config::describe(command, matches, &files))
            }
            (command, _) => run(command),
        },
        Err(error) => Err(error.into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

/// A file that cannot be used keeps nobody from reading the help.
fn without_files(error: ConfigFileError) -> ExitCode {
    match Cli::command().try_get_matches() {
        Err(help) if !help.use_stderr() => {
            drop(help.print());
            ExitCode::SUCCESS
        }
        _ => {
            complain(&error.into());
            ExitCode::from(WRONG_USAGE)
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Serve(args) => block_on(serve(*args)),
        Command::Demo(args) => block_on(demo(*args)),
        Command::Migrate(args) => block_on(migrate(args)),
        Command::Import(args) => block_on(import(args)),
        Command::ApiKey(args) => block_on(api_key(args)),
        Command::Healthcheck(args) => block_on(healthcheck::run(args)),
        Command::Backup(args) => block_on(backup::backup(args)),
        Command::Restore(args) => block_on(backup::restore(args)),
        Command::Schema => print(&crate::graphql::sdl()),
        Command::Config(_) => unreachable!("it is answered from what was read"),
    }
}

/// The options of `serve` as the command line gives them, for tests and benches.
pub fn serve_args<'a>(line: impl IntoIterator<Item = &'a str>) -> ServeArgs {
    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: ServeArgs,
    }
    Line::parse_from(line).args
}

/// Prints what the command was asked for. Whoever has read enough of it may
/// close the pipe.
fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).context("the output could not be written")
        }
        _ => Ok(()),
    }
}

#[expect(clippy::print_stderr, reason = "an error of the command line itself")]
fn hint(text: &str) {
    eprintln!("{text}");
}

#[expect(clippy::print_stderr, reason = "an error of the command line itself")]
fn complain(error: &anyhow::Error) {
    eprintln!("error: {error:#}");
}

fn block_on(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the runtime could not be started")?;
    let outcome = runtime.block_on(work);
    // A look-up of a name or a file that hangs must not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

async fn serve(args: ServeArgs) -> anyhow::Result<()> {
    telemetry::start(&args.log)?;
    app::check_access(&args)?;
    app::check_addresses(&args)?;
    let listener = app::bind(&args).await?;
    let build = async {
        let (db, owner) = database::open_to_serve(&args.database, args.migrate).await?;
        anyhow::Ok((App::build(db, &args).await?, owner))
    };
    let mut stop = Box::pin(stop_signal());
    let (app, _owner) = tokio::select! {
        built = build => built?,
        // Orchestrators restart what does not answer: this waits, and says so.
        () = http::wait(&listener) => return Ok(()),
        () = &mut stop => return Ok(()),
    };
    app.run(listener, stop).await
}

async fn demo(args: DemoArgs) -> anyhow::Result<()> {
    telemetry::start(&args.log)?;
    demo::run(&args, stop_signal(), |address| {
        // Whom it would tell is gone, if it cannot.
        drop(print(&format!("SmartPulse demo: http://{address}\n")));
    })
    .await
}

/// Completes on Ctrl-C, or when a supervisor asks the process to end.
async fn stop_signal() {
    let interrupted = async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    #[cfg(unix)]
    let terminated = async {
        use tokio::signal::unix::{SignalKind, signal};
        match signal(SignalKind::terminate()) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            Err(_) => std::future::pending::<()>().await,
        }
    };
    #[cfg(not(unix))]
    let terminated = std::future::pending::<()>();
    tokio::select! {
        () = interrupted => {}
        () = terminated => {}
    }
}

async fn migrate(args: DatabaseArgs) -> anyhow::Result<()> {
    telemetry::start(&LogSettings {
        filter: "info".to_owned(),
        format: LogFormat::Auto,
    })?;
    let db = database::open_to_migrate(&args).await?;
    tracing::info!(database = %args.database_url, "the schema is up to date");
    Ok(db.close().await?)
}

async fn api_key(args: ApiKeyArgs) -> anyhow::Result<()> {
    let done = api_key::run(args, OffsetDateTime::now_utc()).await?;
    print(&done.output)?;
    done.note.iter().for_each(|note| hint(note));
    Ok(())
}

async fn import(args: ImportCommand) -> anyhow::Result<()> {
    let db = database::open(&args.database).await?;
    let summary = import::run(&db, &args.import, OffsetDateTime::now_utc()).await?;
    // Running servers would number the changes within a second; so they need not.
    let head = change_log::boot(&db).await?;
    db.close().await?;
    print(&format!("{summary}\nchange log position: {head}\n"))
}
