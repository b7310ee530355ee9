//! The command line: one binary, a subcommand for each chore.

use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Parser, Subcommand};
use subscriptions::change_log;
use time::OffsetDateTime;
use tokio::net::TcpListener;

use crate::app::{self, App};
use crate::backup::{self, BackupArgs, RestoreArgs};
use crate::config::{DatabaseArgs, LogFormat, LogSettings, ServeArgs};
use crate::import::{self, ImportArgs};
use crate::telemetry;

/// Energy production forecasts, live: a GraphQL server.
#[derive(Parser, Debug)]
#[command(name = "smartpulse", version, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run the server
    Serve(Box<ServeArgs>),
    /// Bring the database's schema up to date
    Migrate(DatabaseArgs),
    /// Import forecasts from a CSV file, all of them or none
    Import(ImportCommand),
    /// Print the GraphQL schema
    Schema,
    /// Copy an embedded SQLite database to a file, while the server runs
    Backup(BackupArgs),
    /// Put a copy of an embedded SQLite database in place; the server must be stopped
    Restore(RestoreArgs),
}

#[derive(Args, Debug)]
struct ImportCommand {
    #[command(flatten)]
    database: DatabaseArgs,

    #[command(flatten)]
    import: ImportArgs,
}

impl Cli {
    /// Runs the subcommand. 0: done, 1: it failed and said why.
    pub fn run(self) -> ExitCode {
        let outcome = match self.command {
            Command::Serve(args) => block_on(serve(*args)),
            Command::Migrate(args) => block_on(migrate(args)),
            Command::Import(args) => block_on(import(args)),
            Command::Backup(args) => block_on(backup::backup(args)),
            Command::Restore(args) => block_on(backup::restore(args)),
            Command::Schema => {
                print(&crate::graphql::sdl());
                Ok(())
            }
        };
        match outcome {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
                complain(&format!("error: {}", causes.join(": ")));
                ExitCode::FAILURE
            }
        }
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

#[expect(clippy::print_stdout, reason = "what the command was asked to print")]
fn print(text: &str) {
    print!("{text}");
}

#[expect(clippy::print_stderr, reason = "an error of the command line itself")]
fn complain(text: &str) {
    eprintln!("{text}");
}

fn block_on(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the runtime could not be started")?
        .block_on(work)
}

async fn serve(args: ServeArgs) -> anyhow::Result<()> {
    telemetry::start(&args.log)?;
    if !args.listen.ip().is_loopback() && !args.allow_open_access {
        bail!(
            "{} can be reached from other machines, and nobody is asked who they are: \
             listen on 127.0.0.1, or allow it with --allow-open-access",
            args.listen
        );
    }
    let db = app::open_database(&args.database, args.migrate).await?;
    let app = App::build(db, &args).await?;
    let listener = TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("cannot listen on {}: is the port taken?", args.listen))?;
    let address = listener.local_addr().unwrap_or(args.listen);
    tracing::info!(
        address = %format!("http://{address}"),
        database = %args.database.database_url,
        version = env!("CARGO_PKG_VERSION"),
        mode = "open: every caller is a local administrator",
        "listening"
    );
    app.run(listener, stop_signal()).await
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
    let db = app::open_database(&args, true).await?;
    tracing::info!(database = %args.database_url, "the schema is up to date");
    Ok(db.close().await?)
}

async fn import(args: ImportCommand) -> anyhow::Result<()> {
    let db = app::open_database(&args.database, false).await?;
    let summary = import::run(&db, &args.import, OffsetDateTime::now_utc()).await?;
    // Running servers would number the changes within a second; so they need not.
    let head = change_log::boot(&db).await?;
    print(&format!("{summary}\nchange log position: {head}\n"));
    Ok(db.close().await?)
}
