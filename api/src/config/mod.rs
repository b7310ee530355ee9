//! Configuration. The only place that reads the environment: each option has a
//! `SMARTPULSE_*` variable beside its flag, and may stand in a file.

mod auth;
mod channels;
mod connections;
mod effective;
mod file;
mod url;

pub use auth::{AuthArgs, AuthArgsError, AuthMode, JwtSecret};
pub use channels::ChannelArgs;
pub use connections::ConnectionArgs;
pub(crate) use effective::describe;
pub use file::{ConfigFileError, FileOptions};
pub use url::{DatabaseUrl, RedisUrl, UnknownDatabase, UnknownRedis};

use std::net::SocketAddr;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{ArgAction, Args, ValueEnum};
use domain::cache::CacheSettings;
use domain::database::DatabaseSettings;
use domain::forecast::ForecastsSettings;
use subscriptions::Budget;
use subscriptions::change_log::ChangeLogSettings;
use subscriptions::fanout::FanoutSettings;

use crate::graphql::Limits;
use crate::graphql::executor::LiveSettings;
use crate::websocket::SocketSettings;

/// Which database.
#[derive(Args, Debug, Clone)]
pub struct DatabaseArgs {
    /// Where the database is: `sqlite://path` or `postgres://user:password@host/name`
    #[arg(
        long,
        env = "SMARTPULSE_DATABASE_URL",
        default_value = "sqlite://data/smartpulse.db",
        hide_env_values = true
    )]
    pub database_url: DatabaseUrl,

    /// Connections kept at most
    #[arg(long, env = "SMARTPULSE_DATABASE_CONNECTIONS", default_value_t = 16)]
    pub database_connections: u32,

    /// Seconds that one statement may take
    #[arg(
        long,
        env = "SMARTPULSE_DATABASE_STATEMENT_SECONDS",
        default_value_t = 20
    )]
    pub database_statement_seconds: u32,
}

impl DatabaseArgs {
    /// A SQLite file.
    pub(crate) fn embedded(path: &str) -> Self {
        Self {
            database_url: DatabaseUrl::of_file(path),
            database_connections: 16,
            database_statement_seconds: 20,
        }
    }

    pub fn settings(&self) -> DatabaseSettings {
        DatabaseSettings {
            url: self.database_url.as_str().to_owned(),
            max_connections: self.database_connections.max(2),
            acquire_timeout: Duration::from_secs(5),
            statement_timeout: seconds(self.database_statement_seconds),
            create_if_missing: true,
        }
    }
}

/// Where replicas meet.
#[derive(Args, Debug, Clone)]
pub struct RedisArgs {
    /// Redis, through which replicas tell one another of changes at once:
    /// `redis://:password@host`, `rediss://…` or `unix:///path`; without it they
    /// find them in the database, within a second
    #[arg(long, env = "SMARTPULSE_REDIS_URL", hide_env_values = true)]
    pub redis_url: Option<RedisUrl>,

    /// Before every name in Redis; databases that were copied as files need
    /// different ones
    #[arg(long, env = "SMARTPULSE_REDIS_PREFIX", default_value = "smartpulse")]
    pub redis_prefix: String,

    /// Bytes of a message that carries changes; larger ones only say where the
    /// change log ends, and at 0 all do
    #[arg(long, env = "SMARTPULSE_REDIS_MESSAGE_BYTES", default_value_t = 64 << 10)]
    pub redis_message_bytes: usize,
}

impl RedisArgs {
    /// A replica that is alone.
    pub(crate) fn none() -> Self {
        Self {
            redis_url: None,
            redis_prefix: String::new(),
            redis_message_bytes: 0,
        }
    }

    /// None without an address.
    pub(crate) fn settings(&self) -> Option<FanoutSettings> {
        Some(FanoutSettings {
            url: self.redis_url.as_ref()?.as_str().to_owned(),
            prefix: self.redis_prefix.clone(),
            message_bytes: self.redis_message_bytes,
        })
    }
}

/// How `serve` runs.
#[derive(Args, Debug, Clone)]
pub struct ServeArgs {
    #[command(flatten)]
    pub database: DatabaseArgs,

    #[command(flatten)]
    pub redis: RedisArgs,

    /// Address and port to listen on
    #[arg(long, env = "SMARTPULSE_LISTEN", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,

    /// Allow listening beyond this machine although nobody is asked who they are
    #[arg(long, env = "SMARTPULSE_ALLOW_OPEN_ACCESS", num_args = 0..=1, require_equals = true,
        default_missing_value = "true", default_value = "false", hide_default_value = true,
        value_parser = BoolishValueParser::new(), action = ArgAction::Set, value_name = "BOOL")]
    pub allow_open_access: bool,

    /// What this process is called in the log; the host's name if absent
    #[arg(long, env = "SMARTPULSE_REPLICA")]
    pub replica: Option<String>,

    /// Migrate a PostgreSQL database first (SQLite is always migrated)
    #[arg(long, env = "SMARTPULSE_MIGRATE", num_args = 0..=1, require_equals = true,
        default_missing_value = "true", default_value = "false", hide_default_value = true,
        value_parser = BoolishValueParser::new(), action = ArgAction::Set, value_name = "BOOL")]
    pub migrate: bool,

    /// How long changes are kept for subscribers that come back, in hours
    #[arg(long, env = "SMARTPULSE_RETENTION_HOURS", default_value_t = 168)]
    pub retention_hours: u32,

    /// How long notifications are kept, in days
    #[arg(
        long,
        env = "SMARTPULSE_NOTIFICATION_RETENTION_DAYS",
        default_value_t = 365
    )]
    pub notification_retention_days: u32,

    #[command(flatten)]
    pub auth: AuthArgs,

    #[command(flatten)]
    pub channels: ChannelArgs,

    #[command(flatten)]
    pub cache: CacheArgs,

    #[command(flatten)]
    pub limits: LimitArgs,

    #[command(flatten)]
    pub connections: ConnectionArgs,

    #[command(flatten)]
    pub live: LiveArgs,

    #[command(flatten)]
    pub log: LogSettings,
}

impl ServeArgs {
    /// What this process is called.
    pub(crate) fn replica(&self) -> String {
        let host = || gethostname::gethostname().to_string_lossy().into_owned();
        self.replica.clone().unwrap_or_else(host)
    }
}

/// How much is kept in memory.
#[derive(Args, Debug, Clone)]
pub struct CacheArgs {
    /// Memory for latest day curves, in MiB
    #[arg(long, env = "SMARTPULSE_CACHE_LATEST_MIB", default_value_t = 256)]
    pub cache_latest_mib: u64,

    /// Memory for day histories (known at, one run), in MiB
    #[arg(long, env = "SMARTPULSE_CACHE_HISTORY_MIB", default_value_t = 128)]
    pub cache_history_mib: u64,

    /// Memory for each of units, providers and series, in MiB
    #[arg(long, env = "SMARTPULSE_CACHE_REFERENCE_MIB", default_value_t = 32)]
    pub cache_reference_mib: u64,

    /// Age at which an entry goes although it is valid, in seconds
    #[arg(long, env = "SMARTPULSE_CACHE_TTL_SECONDS", default_value_t = 3600)]
    pub cache_ttl_seconds: u64,
}

impl CacheArgs {
    pub fn settings(&self) -> ForecastsSettings {
        let cache = |mib: u64| CacheSettings {
            budget_bytes: mib.saturating_mul(1 << 20),
            time_to_live: Duration::from_secs(self.cache_ttl_seconds.max(1)),
        };
        ForecastsSettings {
            latest: cache(self.cache_latest_mib),
            history: cache(self.cache_history_mib),
            reference: cache(self.cache_reference_mib),
        }
    }
}

/// Subscriptions and the connections that they come over.
#[derive(Args, Debug, Clone)]
pub struct LiveArgs {
    /// Within so many seconds a websocket must say who it is
    #[arg(long, env = "SMARTPULSE_LIVE_INIT_SECONDS", default_value_t = 10)]
    pub live_init_seconds: u32,

    /// Every so many seconds a websocket is asked whether it is there, and an HTTP
    /// stream says so; a websocket that then says nothing until the next time goes
    #[arg(long, env = "SMARTPULSE_LIVE_PING_SECONDS", default_value_t = 20)]
    pub live_ping_seconds: u32,

    /// A websocket that takes nothing for so many seconds is let go
    #[arg(long, env = "SMARTPULSE_LIVE_WRITE_SECONDS", default_value_t = 15)]
    pub live_write_seconds: u32,

    /// Operations under way at once over one websocket
    #[arg(long, env = "SMARTPULSE_LIVE_OPERATIONS", default_value_t = 1000)]
    pub live_operations: usize,

    /// Queries and mutations executed at once over one websocket; others wait in order
    #[arg(long, env = "SMARTPULSE_LIVE_RUNNING", default_value_t = 8)]
    pub live_running: usize,

    /// Bytes of one message over a websocket
    #[arg(long, env = "SMARTPULSE_LIVE_MESSAGE_BYTES", default_value_t = 1 << 20)]
    pub live_message_bytes: usize,

    /// Results kept in memory for subscribers of one subscription that are behind
    #[arg(long, env = "SMARTPULSE_LIVE_FRAMES", default_value_t = 256)]
    pub live_frames: usize,

    /// Memory for what is kept for all subscribers, in MiB: half for curves that are followed, half for results and catching up
    #[arg(long, env = "SMARTPULSE_LIVE_MEMORY_MIB", default_value_t = 512)]
    pub live_memory_mib: usize,

    /// How long an operation waits for the position that it must include, in milliseconds
    #[arg(long, env = "SMARTPULSE_LIVE_MIN_POSITION_MS", default_value_t = 5000)]
    pub live_min_position_ms: u64,

    /// On a stop, connections are sent away over so many seconds at most
    #[arg(long, env = "SMARTPULSE_LIVE_DRAIN_SECONDS", default_value_t = 5)]
    pub live_drain_seconds: u32,
}

impl LiveArgs {
    pub(crate) fn settings(&self) -> LiveSettings {
        LiveSettings {
            frames: self.live_frames.max(1),
            min_position_wait: Duration::from_millis(self.live_min_position_ms),
        }
    }

    pub(crate) fn budget(&self) -> Budget {
        Budget::new(self.live_memory_mib.saturating_mul(1 << 20))
    }

    pub(crate) fn sockets(&self) -> SocketSettings {
        SocketSettings {
            init_timeout: seconds(self.live_init_seconds),
            ping_interval: seconds(self.live_ping_seconds),
            write_timeout: seconds(self.live_write_seconds),
            operations: self.live_operations.max(1),
            running: self.live_running.max(1),
            message_bytes: self.live_message_bytes.max(1024),
        }
    }

    pub(crate) fn heartbeat(&self) -> Duration {
        seconds(self.live_ping_seconds)
    }

    pub(crate) fn drain(&self) -> Duration {
        Duration::from_secs(self.live_drain_seconds.into())
    }
}

fn seconds(number: u32) -> Duration {
    Duration::from_secs(number.max(1).into())
}

/// What one request may ask for.
#[derive(Args, Debug, Clone)]
pub struct LimitArgs {
    /// Bytes of a request's body
    #[arg(long, env = "SMARTPULSE_LIMIT_BODY_BYTES", default_value_t = 16 << 20)]
    pub limit_body_bytes: usize,

    /// Nesting of a GraphQL document
    #[arg(long, env = "SMARTPULSE_LIMIT_DEPTH", default_value_t = 15)]
    pub limit_depth: usize,

    /// Lexical tokens of a GraphQL document
    #[arg(long, env = "SMARTPULSE_LIMIT_TOKENS", default_value_t = 10_000)]
    pub limit_tokens: usize,

    /// Aliases in a GraphQL document
    #[arg(long, env = "SMARTPULSE_LIMIT_ALIASES", default_value_t = 100)]
    pub limit_aliases: usize,

    /// Delivery periods of all forecasts of one request
    #[arg(long, env = "SMARTPULSE_LIMIT_POINTS", default_value_t = 200_000)]
    pub limit_points: i64,

    /// Weight of the answer to one operation: bytes of its text, and what making it takes, estimated beforehand
    #[arg(long, env = "SMARTPULSE_LIMIT_ANSWER_BYTES", default_value_t = 64 << 20)]
    pub limit_answer_bytes: u64,

    /// Seconds that a query or mutation may take
    #[arg(long, env = "SMARTPULSE_LIMIT_OPERATION_SECONDS", default_value_t = 60)]
    pub limit_operation_seconds: u32,
}

impl LimitArgs {
    pub fn settings(&self) -> Limits {
        Limits {
            depth: self.limit_depth,
            tokens: self.limit_tokens,
            aliases: self.limit_aliases,
            points: self.limit_points,
            answer_bytes: self.limit_answer_bytes,
            body_bytes: self.limit_body_bytes,
            operation_timeout: seconds(self.limit_operation_seconds),
        }
    }
}

/// What is logged, to standard error.
#[derive(Args, Debug, Clone)]
pub struct LogSettings {
    /// Levels by target, such as `info,subscriptions=debug`
    #[arg(long = "log", env = "SMARTPULSE_LOG", default_value = "info")]
    pub filter: String,

    /// Readable text, or a JSON object a line
    #[arg(
        long = "log-format",
        env = "SMARTPULSE_LOG_FORMAT",
        value_enum,
        default_value = "auto"
    )]
    pub format: LogFormat,
}

/// How a log line looks.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    Text,
    Json,
}

/// How often the change log is looked at without a signal.
pub(crate) fn change_log_settings() -> ChangeLogSettings {
    ChangeLogSettings {
        busy_interval: Duration::from_millis(50),
        idle_interval: Duration::from_secs(1),
        scan_interval: Duration::from_secs(60),
        acknowledge_timeout: Duration::from_secs(10),
    }
}

/// Events that wait for one subscriber before it is sent to the log.
pub(crate) const SUBSCRIBER_QUEUE: usize = 1024;
