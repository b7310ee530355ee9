//! Poolers that stand between a server and its PostgreSQL.

use domain::database::Database;
use sea_orm::sqlx::{self, Row};
use sea_orm::{DbBackend, DbErr, RuntimeErr};

/// What makes a pooler fit.
pub(super) const WHAT_TO_SET: &str = "SmartPulse needs sessions of its own: set \
     pool_mode = session and ignore_startup_parameters = extra_float_digits,options, \
     or name the PostgreSQL server itself";

/// Fails where two of our connections share a session, as they do behind a pooler
/// in transaction mode: prepared statements and settings of one would be the
/// other's.
pub(super) async fn refuse_shared_sessions(db: &Database) -> Result<(), DbErr> {
    if db.backend() != DbBackend::Postgres {
        return Ok(());
    }
    let pool = db.control().unlimited().get_postgres_connection_pool();
    let is_shared = async {
        let (mut first, mut second) = (pool.acquire().await?, pool.acquire().await?);
        for (connection, name) in [(&mut first, "first"), (&mut second, "second")] {
            let set = format!("SELECT set_config('smartpulse.session', '{name}', false)");
            sqlx::raw_sql(sqlx::AssertSqlSafe(set))
                .execute(&mut **connection)
                .await?;
        }
        let kept = sqlx::raw_sql("SELECT current_setting('smartpulse.session', true) = 'first'")
            .fetch_one(&mut *first)
            .await?;
        Ok::<_, sqlx::Error>(!kept.try_get::<Option<bool>, _>(0)?.unwrap_or(false))
    };
    match is_shared.await {
        Ok(false) => Ok(()),
        Ok(true) => Err(DbErr::Custom(SHARED.to_owned())),
        Err(error) => Err(DbErr::Conn(RuntimeErr::SqlxError(error.into()))),
    }
}

const SHARED: &str = "two connections share one session";

/// Whether the error is one that only poolers make.
pub(super) fn is_to_blame(error: &DbErr) -> bool {
    match error {
        DbErr::Custom(text) => text == SHARED,
        DbErr::Conn(RuntimeErr::SqlxError(cause)) => {
            let code = cause.as_database_error().and_then(|error| error.code());
            // Of PgBouncer, which knows no other language, for a parameter that it
            // does not pass on.
            code.is_some_and(|code| code == "08P01")
        }
        _ => false,
    }
}
