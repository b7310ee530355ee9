//! Series: one unit × provider × resolution.

use std::collections::HashMap;
use std::fmt;

use sea_orm::{ConnectionTrait, DbBackend, DbErr, Statement};

use super::Resolution;
use crate::provider::ProviderKey;
use crate::unit::UnitKey;

/// Names a series of expected values.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeriesKey {
    pub unit: UnitKey,
    pub provider: ProviderKey,
    pub resolution: Resolution,
}

impl fmt::Display for SeriesKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.unit, self.provider, self.resolution)
    }
}

/// The ids of those series that exist. A series is drawn once and never changes.
pub(super) async fn ids(
    db: &impl ConnectionTrait,
    keys: &[SeriesKey],
) -> Result<HashMap<SeriesKey, i64>, DbErr> {
    let backend = db.get_database_backend();
    let mut found = HashMap::with_capacity(keys.len());
    for key in keys {
        let sql = match backend {
            DbBackend::Postgres | DbBackend::Sqlite => {
                "SELECT s.id FROM series s JOIN unit u ON u.id = s.unit_id JOIN provider p ON p.id = s.provider_id \
                 WHERE u.unit_type = $1 AND u.unit_number = $2 AND p.key = $3 AND s.resolution = $4 AND s.level = 'EXPECTED'"
            }
            _ => {
                return Err(DbErr::Custom(
                    "only SQLite and PostgreSQL are supported".into(),
                ));
            }
        };
        let row = db
            .query_one_raw(Statement::from_sql_and_values(
                backend,
                sql,
                [
                    key.unit.unit_type().as_str().into(),
                    key.unit.number().into(),
                    key.provider.as_str().into(),
                    key.resolution.as_str().into(),
                ],
            ))
            .await?;
        if let Some(row) = row {
            found.insert(key.clone(), row.try_get("", "id")?);
        }
    }
    Ok(found)
}

/// Draws the series that do not exist yet, in the transaction that fills them.
pub(super) async fn draw(
    db: &impl ConnectionTrait,
    key: &SeriesKey,
    unit_id: i64,
    provider_id: i64,
) -> Result<i64, DbErr> {
    let backend = db.get_database_backend();
    db.execute_raw(Statement::from_sql_and_values(
        backend,
        "INSERT INTO series (unit_id, provider_id, resolution) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        [
            unit_id.into(),
            provider_id.into(),
            key.resolution.as_str().into(),
        ],
    ))
    .await?;
    let row = db
        .query_one_raw(Statement::from_sql_and_values(
            backend,
            "SELECT id FROM series WHERE unit_id = $1 AND provider_id = $2 AND resolution = $3 AND level = 'EXPECTED'",
            [
                unit_id.into(),
                provider_id.into(),
                key.resolution.as_str().into(),
            ],
        ))
        .await?
        .ok_or_else(|| DbErr::RecordNotFound(format!("series {key}")))?;
    row.try_get("", "id")
}

/// Series and days, from the first to the last given, that have a version.
pub(super) async fn written_between(
    db: &impl ConnectionTrait,
    first: super::Day,
    last: super::Day,
) -> Result<Vec<(i64, Resolution, super::Day)>, DbErr> {
    let backend = db.get_database_backend();
    let mut written = Vec::new();
    for day in first.0..=last.0 {
        let day = super::Day(day);
        let date = match backend {
            DbBackend::Sqlite => sea_orm::Value::from(day.to_string()),
            _ => sea_orm::Value::from(day.date()),
        };
        let rows = db
            .query_all_raw(Statement::from_sql_and_values(
                backend,
                "SELECT s.id, s.resolution FROM series s \
                 WHERE EXISTS (SELECT 1 FROM forecast_curve c WHERE c.series_id = s.id AND c.day = $1)",
                [date],
            ))
            .await?;
        for row in rows {
            let resolution: String = row.try_get("", "resolution")?;
            let resolution = resolution
                .parse()
                .map_err(|error| DbErr::Type(format!("{error}")))?;
            written.push((row.try_get("", "id")?, resolution, day));
        }
    }
    Ok(written)
}
