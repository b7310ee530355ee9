//! Copies of an embedded database. PostgreSQL has its own tools for this; it
//! notices by itself when it has been restored.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use domain::change;
use domain::database::{Database, DatabaseSettings, Fault};
use sea_orm::{ConnectionTrait, DbBackend, Statement};

use crate::config::DatabaseArgs;
use crate::database::{self, Owner};

/// What `smartpulse backup` takes.
#[derive(Args, Debug)]
pub(crate) struct BackupArgs {
    #[command(flatten)]
    database: DatabaseArgs,

    /// The file to write; it must not exist
    file: PathBuf,
}

/// What `smartpulse restore` takes.
#[derive(Args, Debug)]
pub(crate) struct RestoreArgs {
    #[command(flatten)]
    database: DatabaseArgs,

    /// The copy, as `smartpulse backup` wrote it
    file: PathBuf,

    /// Replace a database that is there
    #[arg(long)]
    replace: bool,
}

fn embedded(args: &DatabaseArgs) -> anyhow::Result<PathBuf> {
    match args.database_url.sqlite_path() {
        Some(path) => Ok(path),
        None => bail!(
            "this is for embedded SQLite databases: use pg_dump and pg_restore for PostgreSQL"
        ),
    }
}

pub(crate) async fn backup(args: BackupArgs) -> anyhow::Result<()> {
    let path = embedded(&args.database)?;
    if !path.exists() {
        bail!("there is no database at {}", path.display());
    }
    if args.file.exists() {
        bail!("{} exists: name another file", args.file.display());
    }
    let db = open(&path).await?;
    // However long it takes.
    let copied = db
        .writer()
        .unlimited()
        .execute_raw(Statement::from_sql_and_values(
            DbBackend::Sqlite,
            "VACUUM INTO ?1",
            [args.file.display().to_string().into()],
        ))
        .await;
    if let Err(error) = copied {
        // What there is of it would be taken for a copy.
        remove_with_logs(&args.file)?;
        return Err(
            anyhow::Error::new(error).context(format!("cannot write {}", args.file.display()))
        );
    }
    Ok(db.close().await?)
}

pub(crate) async fn restore(args: RestoreArgs) -> anyhow::Result<()> {
    let path = embedded(&args.database)?;
    if path.exists() && !args.replace {
        bail!(
            "{} exists: stop the server and say --replace to put the copy in its place",
            path.display()
        );
    }
    let _owner = Owner::take(&path, "restore")?;
    refuse_in_use(&path).await?;
    // Prepared beside the database and moved over it, so that a copy that is
    // none, or a full disk, leaves the database as it was.
    let staged = path.with_extension("restoring");
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot create the folder {}", folder.display()))?;
    }
    std::fs::copy(&args.file, &staged)
        .with_context(|| format!("cannot copy {}", args.file.display()))?;
    let prepared = prepare(&staged).await;
    if let Err(error) = prepared {
        remove_with_logs(&staged)?;
        return Err(error.context(format!("{} cannot be restored", args.file.display())));
    }
    // Again: a large copy takes a while.
    if let Err(in_use) = refuse_in_use(&path).await {
        remove_with_logs(&staged)?;
        return Err(in_use);
    }
    remove_with_logs(&path)?;
    std::fs::rename(&staged, &path)
        .with_context(|| format!("cannot put the copy at {}", path.display()))
}

/// Fails while any program has the database open: what it writes would be gone.
///
/// An SQLite file leaves the mode of a write-ahead log only when nobody else has
/// it open. Any other error is one more reason to replace the file.
async fn refuse_in_use(path: &Path) -> anyhow::Result<()> {
    if !path.exists() {
        return Ok(());
    }
    let mut options = sea_orm::ConnectOptions::new(url_of(path));
    options
        .max_connections(1)
        .sqlx_logging(false)
        .map_sqlx_sqlite_opts(|sqlite| sqlite.busy_timeout(std::time::Duration::ZERO));
    let Ok(alone) = sea_orm::Database::connect(options).await else {
        return Ok(());
    };
    let left = alone
        .execute_unprepared("PRAGMA journal_mode = DELETE")
        .await;
    alone.close().await?;
    match left {
        Err(error) if Fault::of(&error) == Fault::Busy => bail!(
            "another program has {} open: stop it first, or what it writes would be lost",
            path.display()
        ),
        _ => Ok(()),
    }
}

/// Migrates the copy and begins a new epoch in it: positions that were given
/// after the copy was made must not be taken for its own.
async fn prepare(staged: &Path) -> anyhow::Result<()> {
    let db = open(staged).await?;
    if change::read_head(db.reader()).await.is_err() {
        bail!("it is not a SmartPulse database");
    }
    database::migrate(&db).await?;
    change::begin_epoch(&db).await?;
    // One file, with no log beside it that a move could leave behind.
    db.writer()
        .execute_unprepared("PRAGMA wal_checkpoint(TRUNCATE)")
        .await?;
    Ok(db.close().await?)
}

async fn open(path: &Path) -> anyhow::Result<Database> {
    let settings = DatabaseSettings {
        url: url_of(path),
        max_connections: 2,
        acquire_timeout: std::time::Duration::from_secs(5),
        statement_timeout: std::time::Duration::from_secs(600),
        create_if_missing: false,
    };
    Database::connect(&settings)
        .await
        .with_context(|| format!("cannot open {}", path.display()))
}

/// As sqlx reads it, which decodes percent signs and takes what follows a question
/// mark for options.
fn url_of(path: &Path) -> String {
    let path = path.display().to_string();
    format!("sqlite://{}", path.replace('%', "%25").replace('?', "%3F"))
}

/// Removes a database with its write-ahead log and index.
fn remove_with_logs(path: &Path) -> anyhow::Result<()> {
    for suffix in ["", "-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        match std::fs::remove_file(&name) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", path.display()));
            }
            _ => {}
        }
    }
    Ok(())
}
