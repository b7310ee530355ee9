//! The connection pools, and how an instant is bound on each database.

use std::time::Duration;

use sea_orm::sqlx::sqlite::{SqliteJournalMode, SqliteSynchronous};
use sea_orm::{
    AccessMode, ConnectOptions, ConnectionTrait, DatabaseConnection, DatabaseTransaction,
    DbBackend, DbErr, IsolationLevel, SqliteTransactionMode, Statement, TransactionOptions,
    TransactionTrait, Value,
};
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{OffsetDateTime, UtcOffset};

/// How to reach the database.
#[derive(Debug, Clone)]
pub struct DatabaseSettings {
    /// `sqlite://path` or `postgres://…`.
    pub url: String,
    /// Connections kept at most (readers, on SQLite).
    pub max_connections: u32,
    /// How long a caller waits for a free connection.
    pub acquire_timeout: Duration,
    /// Whether a missing SQLite file is created.
    pub create_if_missing: bool,
}

/// The database, split into who writes and who reads.
///
/// SQLite has one writer at a time: giving it one connection of its own turns
/// `SQLITE_BUSY` into an orderly queue, and readers on theirs never wait for
/// it. On PostgreSQL both are the same pool.
#[derive(Debug, Clone)]
pub struct Database {
    writer: DatabaseConnection,
    reader: DatabaseConnection,
}

impl Database {
    /// Opens the pools. Nothing is migrated.
    pub async fn connect(settings: &DatabaseSettings) -> Result<Self, DbErr> {
        let mut options = ConnectOptions::new(&settings.url);
        options
            .sqlx_logging(false)
            .acquire_timeout(settings.acquire_timeout)
            .max_connections(settings.max_connections)
            // A ping before each use would double the round trips.
            .test_before_acquire_if_idle_for(Duration::from_secs(10))
            .set_application_name("smartpulse");
        if !settings.url.starts_with("sqlite:") {
            let pool = sea_orm::Database::connect(options).await?;
            return Ok(Self {
                writer: pool.clone(),
                reader: pool,
            });
        }
        let create = settings.create_if_missing;
        options.map_sqlx_sqlite_opts(move |sqlite| {
            sqlite
                .create_if_missing(create)
                .journal_mode(SqliteJournalMode::Wal)
                // A position that a client has seen must survive a power cut.
                .synchronous(SqliteSynchronous::Full)
                .foreign_keys(true)
                .busy_timeout(Duration::from_secs(30))
                .pragma("cache_size", "-32000")
                .pragma("mmap_size", "268435456")
                .statement_cache_capacity(200)
        });
        let mut one = options.clone();
        one.max_connections(1)
            .idle_timeout(None::<Duration>)
            .max_lifetime(None::<Duration>)
            // Writers queue for the one connection: a long import must not turn them away.
            .acquire_timeout(settings.acquire_timeout.max(Duration::from_secs(60)));
        let writer = sea_orm::Database::connect(one).await?;
        let reader = sea_orm::Database::connect(options).await?;
        Ok(Self { writer, reader })
    }

    pub fn backend(&self) -> DbBackend {
        self.writer.get_database_backend()
    }

    /// For statements that only read.
    pub fn reader(&self) -> &DatabaseConnection {
        &self.reader
    }

    /// For single statements that write, outside of a transaction.
    pub fn writer(&self) -> &DatabaseConnection {
        &self.writer
    }

    /// Begins a transaction that is going to write: `IMMEDIATE` on SQLite, since
    /// one that turns from reading to writing fails instead of waiting.
    pub async fn begin(&self) -> Result<DatabaseTransaction, DbErr> {
        self.writer
            .begin_with_options(TransactionOptions {
                sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
                ..Default::default()
            })
            .await
    }

    /// Begins a transaction that only reads, and whose statements all see the
    /// same state of the database.
    pub async fn snapshot(&self) -> Result<DatabaseTransaction, DbErr> {
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
        self.reader.begin_with_options(options).await
    }

    /// Closes the pools when their connections are back.
    pub async fn close(&self) -> Result<(), DbErr> {
        self.writer.close_by_ref().await?;
        self.reader.close_by_ref().await
    }
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
