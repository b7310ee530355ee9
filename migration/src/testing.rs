//! A database of its own for each test.

use std::time::{Duration, Instant};

use sea_orm_migration::sea_orm::{
    ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DbBackend, Statement,
};
use sea_orm_migration::{MigratorTrait, prelude::DbErr};
use tempfile::TempDir;

use crate::Migrator;

/// The variable that names a PostgreSQL server on which tests may create databases.
pub const POSTGRES_VARIABLE: &str = "SMARTPULSE_TEST_POSTGRES_URL";

/// A migrated, empty database that goes away with this value.
#[derive(Debug)]
pub struct TestDatabase {
    url: String,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Sqlite(TempDir),
    Postgres { server: String, name: String },
}

impl TestDatabase {
    /// A file of its own.
    pub async fn sqlite() -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        let url = format!("sqlite://{}", dir.path().join("smartpulse.db").display());
        let db = Database::connect(format!("{url}?mode=rwc"))
            .await
            .expect("a new SQLite file");
        db.execute_unprepared("PRAGMA journal_mode = WAL")
            .await
            .expect("WAL");
        Migrator::up(&db, None).await.expect("migrations on SQLite");
        db.close().await.expect("close");
        Self {
            url,
            place: Place::Sqlite(dir),
        }
    }

    /// A clone of a template that the first test to come migrates.
    pub async fn postgres() -> Self {
        let server = Self::postgres_server();
        let admin = admin(&server).await.expect("the test PostgreSQL server");
        let template = template(&admin, &server).await.expect("the template");
        let name = format!("smartpulse_test_{}", uuid::Uuid::now_v7().simple());
        clone(&admin, &name, &template).await.expect("a clone");
        admin.close().await.expect("close");
        Self {
            url: with_database(&server, &name),
            place: Place::Postgres { server, name },
        }
    }

    /// The server that [`POSTGRES_VARIABLE`] names.
    pub fn postgres_server() -> String {
        #[expect(
            clippy::disallowed_methods,
            reason = "tests are told their server by the environment"
        )]
        std::env::var(POSTGRES_VARIABLE).unwrap_or_else(|_| {
            panic!("{POSTGRES_VARIABLE} is not set: run the tests with `make test`, which starts a PostgreSQL of its own")
        })
    }

    /// Where it is, as `--database-url` takes it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The SQLite file, if it is one.
    pub fn file(&self) -> Option<std::path::PathBuf> {
        match &self.place {
            Place::Sqlite(dir) => Some(dir.path().join("smartpulse.db")),
            Place::Postgres { .. } => None,
        }
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let Place::Postgres { server, name } = &self.place else {
            return;
        };
        let (server, name) = (server.clone(), name.clone());
        // A drop cannot wait on the test's own runtime, which may be ending.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async move {
                let admin = admin(&server).await?;
                admin
                    .execute_unprepared(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
                    .await?;
                admin.close().await
            })
        });
        // The throwaway server ends with the tests: a database left behind does no harm.
        drop(dropped.join());
    }
}

async fn admin(server: &str) -> Result<DatabaseConnection, DbErr> {
    let mut options = ConnectOptions::new(server);
    options.max_connections(1).sqlx_logging(false);
    Database::connect(options).await
}

fn with_database(server: &str, name: &str) -> String {
    let (base, query) = server.split_once('?').unwrap_or((server, ""));
    let (host, _) = base.rsplit_once('/').unwrap_or((base, ""));
    if query.is_empty() {
        format!("{host}/{name}")
    } else {
        format!("{host}/{name}?{query}")
    }
}

/// The migrated template of these very migrations, made once a server.
async fn template(admin: &DatabaseConnection, server: &str) -> Result<String, DbErr> {
    let scripts = [
        include_str!("sql/postgres/0001_reference.sql"),
        include_str!("sql/postgres/0002_change_log.sql"),
        include_str!("sql/postgres/0003_forecast.sql"),
        include_str!("sql/postgres/0004_api_key.sql"),
    ];
    let fingerprint = scripts
        .concat()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    let name = format!("smartpulse_template_{fingerprint:016x}");
    let exists = format!("SELECT 1 FROM pg_database WHERE datname = '{name}' AND datistemplate");
    let query = || Statement::from_string(DbBackend::Postgres, exists.clone());
    if admin.query_one_raw(query()).await?.is_some() {
        return Ok(name);
    }
    // Tests start together: one makes the template, the others wait here.
    admin
        .execute_unprepared("SELECT pg_advisory_lock(20261121)")
        .await?;
    if admin.query_one_raw(query()).await?.is_none() {
        admin
            .execute_unprepared(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
            .await?;
        admin
            .execute_unprepared(&format!("CREATE DATABASE {name}"))
            .await?;
        let db = Database::connect(with_database(server, &name)).await?;
        Migrator::up(&db, None).await?;
        db.close().await?;
        admin
            .execute_unprepared(&format!("ALTER DATABASE {name} IS_TEMPLATE true"))
            .await?;
    }
    admin
        .execute_unprepared("SELECT pg_advisory_unlock(20261121)")
        .await?;
    Ok(name)
}

/// PostgreSQL refuses to clone a template that somebody else is just cloning from.
async fn clone(admin: &DatabaseConnection, name: &str, template: &str) -> Result<(), DbErr> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let made = admin
            .execute_unprepared(&format!("CREATE DATABASE {name} TEMPLATE {template}"))
            .await;
        match made {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => {}
        }
    }
}
