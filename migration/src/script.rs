//! Runs one migration's SQL on the database at hand.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DbBackend, Statement};

/// Executes `postgres` or `sqlite`, whichever the connection speaks.
///
/// `{schema}` in the PostgreSQL text becomes the quoted name of the current
/// schema: functions that run with their owner's rights must name their search
/// path, and a database may keep SmartPulse outside of `public`.
pub(crate) async fn run(
    manager: &SchemaManager<'_>,
    postgres: &str,
    sqlite: &str,
) -> Result<(), DbErr> {
    let db = manager.get_connection();
    match db.get_database_backend() {
        DbBackend::Postgres => {
            let row = db
                .query_one_raw(Statement::from_string(
                    DbBackend::Postgres,
                    "SELECT quote_ident(current_schema()) AS name",
                ))
                .await?
                .ok_or_else(|| DbErr::Migration("the search path names no schema".into()))?;
            let schema: String = row.try_get("", "name")?;
            db.execute_unprepared(&postgres.replace("{schema}", &schema))
                .await?;
        }
        DbBackend::Sqlite => {
            db.execute_unprepared(sqlite).await?;
        }
        other => {
            return Err(DbErr::Migration(format!(
                "{other:?} is not supported: use SQLite or PostgreSQL"
            )));
        }
    }
    Ok(())
}
