//! Opening the database: reached, owned, migrated.

mod owner;
mod pooler;

pub(crate) use owner::Owner;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use backon::{ExponentialBuilder, Retryable};
use domain::database::{Database, Fault};
use migration::{Migrator, MigratorTrait};
use sea_orm::{ConnectionTrait, DbBackend, DbErr, RuntimeErr, sqlx};

use crate::config::DatabaseArgs;

/// How often a server looks for a database that is away, at least.
const LONGEST_DELAY: Duration = Duration::from_millis(500);
/// How often it says that it waits.
const REMINDER: Duration = Duration::from_secs(10);
/// How long one attempt to reach a database may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long a command waits for a server that is just migrating its database.
const MIGRATION_PATIENCE: Duration = Duration::from_secs(10);

/// Opens the database for a command that may run beside a server. An embedded
/// file is migrated if it has to be and nobody owns it.
pub(crate) async fn open(args: &DatabaseArgs) -> anyhow::Result<Database> {
    let db = connect(args).await.map_err(|error| explain(error, args))?;
    let Some(path) = sqlite_file(args) else {
        refuse_pending(&db, args).await?;
        return Ok(db);
    };
    let began = Instant::now();
    while !pending(&db).await?.is_empty() {
        match Owner::take(&path, "migrate") {
            Ok(_owner) => migrate(&db).await?,
            Err(_) if began.elapsed() < MIGRATION_PATIENCE => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(owned) => return Err(owned.context("the database has to be migrated first")),
        }
    }
    Ok(db)
}

/// Opens the database for a server, which waits for one that is away, and owns an
/// embedded file for as long as the owner is kept.
pub(crate) async fn open_to_serve(
    args: &DatabaseArgs,
    migrates: bool,
) -> anyhow::Result<(Database, Option<Owner>)> {
    let owner = own(args, "serve")?;
    if owner.is_some() {
        // A file is there or not: to wait would only hide why.
        return Ok((open_owned(args).await?, owner));
    }
    let db = waiting("the database", || within_patience(connect(args)))
        .await
        .map_err(|error| explain(error, args))?;
    if migrates {
        migrate(&db).await?;
    } else {
        refuse_pending(&db, args).await?;
    }
    Ok((db, owner))
}

/// Opens the database and brings its schema up to date, as its owner.
pub(crate) async fn open_to_migrate(args: &DatabaseArgs) -> anyhow::Result<Database> {
    let _owner = own(args, "migrate")?;
    open_owned(args).await
}

/// The same for whoever owns it already.
pub(crate) async fn open_owned(args: &DatabaseArgs) -> anyhow::Result<Database> {
    let db = connect(args).await.map_err(|error| explain(error, args))?;
    migrate(&db).await?;
    Ok(db)
}

/// The owner of an embedded file; a server's database has none.
fn own(args: &DatabaseArgs, command: &str) -> anyhow::Result<Option<Owner>> {
    let path = sqlite_file(args);
    path.map(|path| Owner::take(&path, command)).transpose()
}

/// A server may fall silent while it is being reached, too.
async fn within_patience<T>(attempt: impl Future<Output = Result<T, DbErr>>) -> Result<T, DbErr> {
    let silent = || {
        let cause = std::io::Error::new(std::io::ErrorKind::TimedOut, "the database is silent");
        DbErr::Conn(RuntimeErr::SqlxError(Arc::new(sqlx::Error::Io(cause))))
    };
    tokio::time::timeout(PATIENCE, attempt)
        .await
        .unwrap_or_else(|_| Err(silent()))
}

/// Tries again until the database is there: only an error that will stay ends it.
pub(crate) async fn waiting<T, F>(what: &str, attempt: impl FnMut() -> F) -> Result<T, DbErr>
where
    F: Future<Output = Result<T, DbErr>>,
{
    let mut told: Option<Instant> = None;
    let began = Instant::now();
    let delays = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(50))
        .with_max_delay(LONGEST_DELAY)
        .with_jitter()
        .without_max_times();
    let outcome = attempt
        .retry(delays)
        .when(|error: &DbErr| Fault::of_first_connection(error).passes())
        .notify(|error, _| {
            if told.is_none_or(|at| at.elapsed() >= REMINDER) {
                told = Some(Instant::now());
                tracing::warn!(
                    error = error as &dyn std::error::Error,
                    seconds = began.elapsed().as_secs(),
                    "waiting for {what}"
                );
            }
        })
        .await;
    if outcome.is_ok() && began.elapsed() > REMINDER {
        tracing::info!(seconds = began.elapsed().as_secs(), "{what} is there");
    }
    outcome
}

/// Brings the schema up to date. One of several that come at once does it; the
/// others wait, and find it done.
pub(crate) async fn migrate(db: &Database) -> anyhow::Result<()> {
    let migrated = async {
        // No statement has a time limit here: an index takes as long as it takes.
        let connections = db.control().unlimited();
        if db.backend() != DbBackend::Postgres {
            return Migrator::up(connections, None).await;
        }
        let turn = sea_orm::TransactionTrait::begin(connections).await?;
        turn.execute_unprepared(
            "SELECT pg_advisory_xact_lock(hashtext('smartpulse'), hashtext('migrate'))",
        )
        .await?;
        Migrator::up(connections, None).await?;
        turn.commit().await
    };
    migrated.await.context("the database could not be migrated")
}

async fn connect(args: &DatabaseArgs) -> Result<Database, DbErr> {
    args.database_url
        .check()
        .map_err(|error| DbErr::Custom(error.to_string()))?;
    if let Some(folder) = sqlite_file(args).as_deref().and_then(Path::parent) {
        std::fs::create_dir_all(folder).map_err(|error| {
            DbErr::Custom(format!(
                "cannot create the folder {}: {error}",
                folder.display()
            ))
        })?;
    }
    let db = Database::connect(&args.settings()).await?;
    pooler::refuse_shared_sessions(&db).await?;
    Ok(db)
}

fn sqlite_file(args: &DatabaseArgs) -> Option<PathBuf> {
    args.database_url.sqlite_path()
}

fn explain(error: DbErr, args: &DatabaseArgs) -> anyhow::Error {
    if pooler::is_to_blame(&error) {
        return anyhow::Error::new(error).context(format!(
            "the database {} cannot be used by way of its pooler: {}",
            args.database_url,
            pooler::WHAT_TO_SET
        ));
    }
    anyhow::Error::new(error).context(format!(
        "cannot connect to the database {}: is it running, and is --database-url right?",
        args.database_url
    ))
}

async fn pending(db: &Database) -> Result<Vec<String>, DbErr> {
    let pending = Migrator::get_pending_migrations_read_only(db.control().unlimited()).await?;
    Ok(pending.iter().map(|of| of.name().to_owned()).collect())
}

async fn refuse_pending(db: &Database, args: &DatabaseArgs) -> anyhow::Result<()> {
    let pending = waiting("the database", || within_patience(pending(db))).await?;
    if pending.is_empty() {
        return Ok(());
    }
    bail!(
        "the database {} has {} pending migrations: run `smartpulse migrate`, or `smartpulse serve --migrate`",
        args.database_url,
        pending.len()
    );
}
