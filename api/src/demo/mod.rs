//! `smartpulse demo`: a server over a fresh file, with a portfolio that is
//! invented and a feed that is simulated. Solar follows the sun and clouds,
//! wind the weather through a power curve; providers of different skill issue
//! runs that converge on what comes. Everything is written through the same
//! mutations that any client uses.

mod client;
mod feed;
mod noise;
mod plant;
mod portfolio;
mod provider;
mod sun;
mod weather;

use std::fs;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration as StdDuration;

use anyhow::Context;
use clap::builder::BoolishValueParser;
use clap::{ArgAction, Args};
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};
use tokio_util::sync::CancellationToken;

use crate::app::{self, App};
use crate::config::{
    AuthArgs, CacheArgs, ChannelArgs, ConnectionArgs, DatabaseArgs, LimitArgs, LiveArgs,
    LogSettings, RedisArgs, ServeArgs,
};
use crate::database::{self, Owner};

use client::Client;
use feed::FeedSettings;

/// The file, in the current folder; each demo begins with a new one.
const FILE: &str = "data/demo.db";
/// Between two issues of new runs at speed 1.
const PACE: StdDuration = StdDuration::from_secs(2);

/// How the demo runs.
#[derive(Args, Debug, Clone)]
pub(crate) struct DemoArgs {
    /// Address and port to listen on
    #[arg(long, env = "SMARTPULSE_LISTEN", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,

    /// Allow listening beyond this machine although nobody is asked who they are
    #[arg(long, env = "SMARTPULSE_ALLOW_OPEN_ACCESS", num_args = 0..=1, require_equals = true,
        default_missing_value = "true", default_value = "false", hide_default_value = true,
        value_parser = BoolishValueParser::new(), action = ArgAction::Set, value_name = "BOOL")]
    allow_open_access: bool,

    /// How fast new runs come: at 1, ten of them every two seconds
    #[arg(long, default_value_t = 1.0, value_parser = parse_speed)]
    speed: f64,

    /// The weather: another number gives another one
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// The moment the demo begins, RFC 3339; with it every run is the same
    /// again, whenever the demo is started. The explorer's gallery asks for the
    /// real present
    #[arg(long, value_name = "TIME", value_parser = parse_instant)]
    now: Option<OffsetDateTime>,

    /// Days of forecasts there are at the start
    #[arg(long, value_name = "DAYS", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=366))]
    history_days: u16,

    #[command(flatten)]
    cache: CacheArgs,

    #[command(flatten)]
    limits: LimitArgs,

    #[command(flatten)]
    connections: ConnectionArgs,

    #[command(flatten)]
    pub(crate) live: LiveArgs,

    #[command(flatten)]
    pub(crate) log: LogSettings,
}

impl DemoArgs {
    /// As `serve` would be told.
    fn serve_args(&self) -> ServeArgs {
        ServeArgs {
            database: DatabaseArgs::embedded(FILE),
            redis: RedisArgs::none(),
            listen: self.listen,
            allow_open_access: self.allow_open_access,
            replica: None,
            migrate: false,
            retention_hours: 168,
            notification_retention_days: 365,
            // Whatever the environment says for `serve`: there is nothing to hide.
            auth: AuthArgs::default(),
            channels: ChannelArgs::default(),
            cache: self.cache.clone(),
            limits: self.limits.clone(),
            connections: self.connections.clone(),
            live: self.live.clone(),
            log: self.log.clone(),
        }
    }

    fn feed_settings(&self) -> FeedSettings {
        FeedSettings {
            seed: self.seed,
            now: self.now.unwrap_or_else(OffsetDateTime::now_utc),
            history: Duration::days(i64::from(self.history_days)),
            pace: PACE.div_f64(self.speed),
            deterministic: self.now.is_some(),
        }
    }
}

fn parse_speed(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(speed) if (0.01..=100.0).contains(&speed) => Ok(speed),
        _ => Err("a speed lies between 0.01 and 100".to_owned()),
    }
}

fn parse_instant(text: &str) -> Result<OffsetDateTime, String> {
    let at = OffsetDateTime::parse(text, &Rfc3339)
        .map_err(|_| "give an instant such as 2026-06-01T12:00:00Z".to_owned())?;
    if at > OffsetDateTime::now_utc() || at.year() < 1980 {
        return Err("the demo begins between 1980 and now".to_owned());
    }
    Ok(at.to_offset(time::UtcOffset::UTC))
}

/// Serves until `stop` comes; `opened` is called with the server's address once
/// the history is written.
pub(crate) async fn run(
    args: &DemoArgs,
    stop: impl Future<Output = ()> + Send + 'static,
    opened: impl FnOnce(SocketAddr),
) -> anyhow::Result<()> {
    let serve_args = args.serve_args();
    app::check_access(&serve_args)?;
    // Before the file goes: whoever serves on this port may be using it.
    let listener = app::bind(&serve_args).await?;
    let address = listener.local_addr()?;
    let _owner = Owner::take(Path::new(FILE), "demo")?;
    remove_file(FILE)?;
    let db = database::open_owned(&serve_args.database).await?;
    let app = App::build(db, &serve_args)
        .await?
        .in_mode("demo, open: every caller is a local administrator");
    let client = Client::new(app.router());
    let settings = args.feed_settings();
    let failed = CancellationToken::new();
    let ended = failed.clone();
    let stop = async move {
        tokio::select! {
            () = stop => {}
            () = ended.cancelled() => {}
        }
    };
    let feed = async {
        if let Err(error) = write_history(&client, &settings).await {
            failed.cancel();
            return Err(error);
        }
        opened(address);
        feed::issue(&client, &settings, failed.clone()).await;
        Ok(())
    };
    let server = async {
        let served = app.run(listener, stop).await;
        failed.cancel();
        served
    };
    let (fed, served) = tokio::join!(feed, server);
    fed.context("the demo's history could not be written")?;
    served
}

async fn write_history(client: &Client, settings: &FeedSettings) -> anyhow::Result<()> {
    feed::declare(client, settings).await?;
    feed::write_history(client, settings).await
}

/// Removes a database and what SQLite keeps beside it.
fn remove_file(path: &str) -> anyhow::Result<()> {
    for path in ["", "-wal", "-shm"].map(|suffix| format!("{path}{suffix}")) {
        match fs::remove_file(Path::new(&path)) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove the last demo's {path}"));
            }
            _ => {}
        }
    }
    Ok(())
}
