//! Secrets that all replicas share and nobody configures: drawn once, by the first
//! replica that needs one, and kept in the database.

use sea_orm::{ConnectionTrait, DbErr};

use crate::database::{Database, sql};

/// The secret of a name; what `draw` gives, if there is none yet. Of two replicas
/// that draw at once both get the same.
pub async fn get_or_draw(
    db: &Database,
    name: &str,
    draw: impl FnOnce() -> String,
) -> Result<String, DbErr> {
    let writer = db.writer();
    let find = || {
        sql(
            writer,
            "SELECT value FROM server_secret WHERE name = $1",
            [name.into()],
        )
    };
    if let Some(row) = writer.query_one_raw(find()).await? {
        return row.try_get("", "value");
    }
    writer
        .execute_raw(sql(
            writer,
            "INSERT INTO server_secret (name, value) VALUES ($1, $2) ON CONFLICT DO NOTHING",
            [name.into(), draw().into()],
        ))
        .await?;
    writer
        .query_one_raw(find())
        .await?
        .ok_or_else(|| DbErr::RecordNotFound("a secret that was just drawn".into()))?
        .try_get("", "value")
}
