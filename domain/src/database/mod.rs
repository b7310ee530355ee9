//! The connection pools, and how an instant is bound on each database.

mod again;
mod fault;
mod pool;

pub use again::again;
pub use fault::Fault;
pub use pool::{Pool, Transaction};

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use sea_orm::sqlx;
use sea_orm::sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sea_orm::{
    AccessMode, ConnectOptions, ConnectionTrait, DbBackend, DbErr, IsolationLevel, RuntimeErr,
    SqliteTransactionMode, Statement, TransactionOptions, Value,
};
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{OffsetDateTime, UtcOffset};
use tokio_util::task::TaskTracker;

use pool::{Condemned, Watch};

/// How to reach the database.
#[derive(Debug, Clone)]
pub struct DatabaseSettings {
    /// `sqlite://path` or `postgres://…`.
    pub url: String,
    /// Connections for requests, at most (readers, on SQLite).
    pub max_connections: u32,
    /// How long a caller waits for a free connection.
    pub acquire_timeout: Duration,
    /// How long one statement may take.
    pub statement_timeout: Duration,
    /// Whether a missing SQLite file is created.
    pub create_if_missing: bool,
}

/// Connections of sequencer and tail, which no traffic can take: one each, and
/// one for whoever of them is just having a broken one replaced.
const CONTROL_CONNECTIONS: u32 = 3;
/// How long a statement of sequencer or tail may take. What takes longer goes on
/// in the database, and is found done.
const CONTROL_TIMEOUT: Duration = Duration::from_secs(5);
/// How long they wait for a connection: sqlx tries a server that refuses at
/// intervals that grow to a fifth of this.
const CONTROL_ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);
/// By so much longer than the server is an answer waited for.
const GRACE: Duration = Duration::from_secs(5);
/// How long a writer of an SQLite file waits for its turn among ours, and then for
/// another program's write.
const WRITER_TURN: Duration = Duration::from_secs(60);
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);

/// The database, split into who writes, who reads, and who keeps the change log.
///
/// SQLite has one writer at a time: giving it one connection of its own turns
/// `SQLITE_BUSY` into an orderly queue, and readers on theirs never wait for
/// it. On PostgreSQL both are the same pool.
#[derive(Debug, Clone)]
pub struct Database {
    writer: Pool,
    reader: Pool,
    control: Pool,
    beginning: TaskTracker,
}

impl Database {
    /// Opens the pools. Nothing is migrated.
    pub async fn connect(settings: &DatabaseSettings) -> Result<Self, DbErr> {
        let condemned = Arc::<Condemned>::default();
        let watch = Watch::new(settings.statement_timeout + GRACE, Arc::clone(&condemned));
        let control_watch = Watch::new(CONTROL_TIMEOUT, Arc::clone(&condemned));
        let mut options = ConnectOptions::new(&settings.url);
        options
            .sqlx_logging(false)
            .acquire_timeout(settings.acquire_timeout)
            .max_connections(settings.max_connections)
            .set_application_name("smartpulse");
        guard(&mut options, &condemned, settings.statement_timeout + GRACE);
        let beginning = TaskTracker::new();
        if !settings.url.starts_with("sqlite:") {
            let statement_timeout = settings.statement_timeout;
            let mut control = options.clone();
            options.map_sqlx_postgres_opts(move |options| limited(options, statement_timeout));
            control
                .map_sqlx_postgres_opts(kept_alive)
                .max_connections(CONTROL_CONNECTIONS)
                .acquire_timeout(CONTROL_ACQUIRE_TIMEOUT);
            let traffic = Pool::new(sea_orm::Database::connect(options).await?, watch);
            let control = sea_orm::Database::connect(control).await?;
            return Ok(Self {
                writer: traffic.clone(),
                reader: traffic,
                control: Pool::new(control, control_watch),
                beginning,
            });
        }
        let create = settings.create_if_missing;
        options.map_sqlx_sqlite_opts(move |sqlite| durable(sqlite).create_if_missing(create));
        let mut one = options.clone();
        one.max_connections(1)
            .idle_timeout(None::<Duration>)
            .max_lifetime(None::<Duration>)
            // Writers queue for the one connection: a long import must not turn them away.
            .acquire_timeout(settings.acquire_timeout.max(WRITER_TURN));
        let mut control = options.clone();
        control.max_connections(CONTROL_CONNECTIONS);
        let writer = sea_orm::Database::connect(one).await?;
        let reader = sea_orm::Database::connect(options).await?;
        let control = sea_orm::Database::connect(control).await?;
        let patience = settings.statement_timeout + settings.acquire_timeout.max(WRITER_TURN);
        let writer_watch = Watch::new(patience + BUSY_TIMEOUT, condemned);
        Ok(Self {
            writer: Pool::new(writer, writer_watch),
            reader: Pool::new(reader, watch),
            control: Pool::new(control, control_watch),
            beginning,
        })
    }

    pub fn backend(&self) -> DbBackend {
        self.writer.get_database_backend()
    }

    /// For statements that only read.
    pub fn reader(&self) -> &Pool {
        &self.reader
    }

    /// For single statements that write, outside of a transaction.
    pub fn writer(&self) -> &Pool {
        &self.writer
    }

    /// For sequencer and tail alone: to number the change log and to read on in it.
    pub fn control(&self) -> &Pool {
        &self.control
    }

    /// Begins a transaction that is going to write: `IMMEDIATE` on SQLite, since
    /// one that turns from reading to writing fails instead of waiting.
    pub async fn begin(&self) -> Result<Transaction, DbErr> {
        let options = TransactionOptions {
            sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
            ..Default::default()
        };
        self.begin_with(&self.writer, options).await
    }

    /// Begins a transaction that only reads, and whose statements all see the
    /// same state of the database.
    pub async fn snapshot(&self) -> Result<Transaction, DbErr> {
        let options = match self.backend() {
            DbBackend::Sqlite => TransactionOptions {
                sqlite_transaction_mode: Some(SqliteTransactionMode::Deferred),
                ..Default::default()
            },
            _ => TransactionOptions {
                isolation_level: Some(IsolationLevel::RepeatableRead),
                access_mode: Some(AccessMode::ReadOnly),
                ..Default::default()
            },
        };
        self.begin_with(&self.reader, options).await
    }

    /// Begins in a task of its own: a caller that goes away while BEGIN is under
    /// way would leave a connection inside a transaction that nobody ends. Here
    /// the transaction comes to be, and is dropped.
    async fn begin_with(
        &self,
        pool: &Pool,
        options: TransactionOptions,
    ) -> Result<Transaction, DbErr> {
        let pool = pool.clone();
        let begun = self
            .beginning
            .spawn(async move { pool.begin(options).await });
        begun
            .await
            .unwrap_or_else(|error| Err(DbErr::Conn(RuntimeErr::Internal(error.to_string()))))
    }

    /// Closes the pools when their connections are back.
    pub async fn close(&self) -> Result<(), DbErr> {
        self.beginning.close();
        self.beginning.wait().await;
        self.writer.close().await?;
        self.reader.close().await?;
        self.control.close().await
    }
}

/// Looks at each connection before it is used again, and when it comes back.
fn guard(options: &mut ConnectOptions, condemned: &Arc<Condemned>, statement: Duration) {
    let of_postgres = Arc::clone(condemned);
    let of_sqlite = Arc::clone(condemned);
    let on_release = Arc::clone(condemned);
    options
        // What is asked below comes first, and has time limits.
        .test_before_acquire(false)
        .map_sqlx_postgres_before_acquire(move |connection, about| {
            let condemned = Arc::clone(&of_postgres);
            async move { Ok(condemned.spares(connection, about).await) }.boxed()
        })
        // SQLite rolls back by itself when the disk is full: the ROLLBACK that
        // follows fails, and sqlx goes on counting a transaction. The next BEGIN
        // would then be a savepoint of it, and nothing be committed.
        .map_sqlx_sqlite_before_acquire(move |connection, about| {
            let condemned = Arc::clone(&of_sqlite);
            async move { Ok(condemned.spares(connection, about).await) }.boxed()
        })
        // sqlx pings what comes back, for as long as it takes. A statement whose
        // caller has gone may still run, and holds its place until it ends; where
        // servers fall silent there is no waiting for it.
        .map_sqlx_postgres_pool_opts(move |pool: PgPoolOptions| {
            let condemned = Arc::clone(&on_release);
            pool.after_release(move |connection, _| {
                let limit = if condemned.is_suspicious() {
                    pool::PING_TIMEOUT
                } else {
                    statement
                };
                async move {
                    if pool::answers(connection, limit).await {
                        return Ok(true);
                    }
                    Err(sqlx::Error::Protocol(
                        "a connection did not answer when it came back".into(),
                    ))
                }
                .boxed()
            })
        });
}

/// So that a server notices soon that a replica is gone, and lets go of its locks.
fn kept_alive(options: PgConnectOptions) -> PgConnectOptions {
    options.options([
        ("tcp_keepalives_idle", "15"),
        ("tcp_keepalives_interval", "5"),
        ("tcp_keepalives_count", "3"),
    ])
}

fn limited(options: PgConnectOptions, statement_timeout: Duration) -> PgConnectOptions {
    let milliseconds = |of: Duration| of.as_millis().to_string();
    kept_alive(options).options([
        ("statement_timeout", milliseconds(statement_timeout)),
        // An import reads its file between two statements; else there is nothing to
        // wait for.
        (
            "idle_in_transaction_session_timeout",
            milliseconds(statement_timeout * 6),
        ),
    ])
}

fn durable(sqlite: SqliteConnectOptions) -> SqliteConnectOptions {
    sqlite
        .journal_mode(SqliteJournalMode::Wal)
        // A position that a client has seen must survive a power cut.
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
        .pragma("cache_size", "-32000")
        .pragma("mmap_size", "268435456")
        .statement_cache_capacity(200)
}

const SQLITE_INSTANT: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z");

/// An instant as the database keeps it: `timestamptz` on PostgreSQL; on SQLite
/// text of one fixed width in UTC, so that it sorts as text. To the
/// microsecond, which is what PostgreSQL keeps.
pub fn instant(backend: DbBackend, at: OffsetDateTime) -> Value {
    match backend {
        DbBackend::Sqlite => sqlite_instant(at).into(),
        _ => at.into(),
    }
}

/// The same of an instant that may be absent.
pub(crate) fn instant_or_null(backend: DbBackend, at: Option<OffsetDateTime>) -> Value {
    match backend {
        DbBackend::Sqlite => at.map(sqlite_instant).into(),
        _ => at.into(),
    }
}

/// The database's own time.
pub async fn now(db: &impl ConnectionTrait) -> Result<OffsetDateTime, DbErr> {
    let text = match db.get_database_backend() {
        DbBackend::Sqlite => "SELECT strftime('%Y-%m-%dT%H:%M:%f000Z', 'now') AS now",
        _ => "SELECT clock_timestamp() AS now",
    };
    db.query_one_raw(sql(db, text, []))
        .await?
        .ok_or_else(|| DbErr::RecordNotFound("the database's time".into()))?
        .try_get("", "now")
}

/// A statement with its parameters, `$1` and so on.
pub(crate) fn sql(
    db: &impl ConnectionTrait,
    text: impl Into<String>,
    values: impl IntoIterator<Item = Value>,
) -> Statement {
    Statement::from_sql_and_values(db.get_database_backend(), text, values)
}

/// The texts of a JSON array that is bound as a parameter, as a subquery: one
/// statement for any number of them.
pub(crate) fn texts(backend: DbBackend, parameter: &str) -> String {
    match backend {
        DbBackend::Sqlite => format!("(SELECT value FROM json_each({parameter}))"),
        _ => format!("(SELECT json_array_elements_text({parameter}::json))"),
    }
}

/// The numbers of a JSON array that is bound as a parameter, as a subquery.
pub(crate) fn numbers(backend: DbBackend, parameter: &str) -> String {
    match backend {
        DbBackend::Sqlite => format!("(SELECT value FROM json_each({parameter}))"),
        _ => format!("(SELECT json_array_elements_text({parameter}::json)::bigint)"),
    }
}

/// A list as the parameter of [`texts`] or [`numbers`].
pub(crate) fn json_list<T: serde::Serialize>(items: &[T]) -> Value {
    serde_json::to_string(items)
        .unwrap_or_else(|error| unreachable!("texts and numbers are JSON: {error}"))
        .into()
}

/// An instant as SQLite keeps it.
pub(crate) fn sqlite_instant(at: OffsetDateTime) -> String {
    let at = at.to_offset(UtcOffset::UTC);
    at.format(SQLITE_INSTANT)
        .unwrap_or_else(|error| unreachable!("every UTC instant has this form: {error}"))
}
