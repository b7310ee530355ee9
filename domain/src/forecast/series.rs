//! Series: one unit × provider × resolution.

use std::collections::HashMap;
use std::fmt;

use sea_orm::{ConnectionTrait, DbBackend, DbErr, Statement, Value};
use serde::{Deserialize, Serialize};

use super::Resolution;
use crate::provider::ProviderKey;
use crate::unit::UnitKey;

/// Names a series of expected values.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
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

/// A series in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Drawn {
    pub(super) id: i64,
    pub(super) provider_id: i64,
}

/// Those of the series that exist, by one statement. A series is drawn once
/// and never changes.
pub(super) async fn find(
    db: &impl ConnectionTrait,
    keys: &[SeriesKey],
) -> Result<HashMap<SeriesKey, Drawn>, DbErr> {
    let backend = db.get_database_backend();
    let statement = match backend {
        DbBackend::Postgres => {
            let column = |of: fn(&SeriesKey) -> String| -> Value {
                keys.iter().map(of).collect::<Vec<_>>().into()
            };
            let numbers: Vec<i64> = keys.iter().map(|key| key.unit.number()).collect();
            Statement::from_sql_and_values(
                backend,
                "SELECT k.place - 1 AS place, s.id, s.provider_id \
                 FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[]) \
                      WITH ORDINALITY AS k (unit_type, unit_number, provider, resolution, place) \
                 JOIN unit u ON u.unit_type = k.unit_type AND u.unit_number = k.unit_number \
                 JOIN provider p ON p.key = k.provider \
                 JOIN series s ON s.unit_id = u.id AND s.provider_id = p.id \
                      AND s.resolution = k.resolution AND s.level = 'EXPECTED'",
                [
                    column(|key| key.unit.unit_type().as_str().to_owned()),
                    numbers.into(),
                    column(|key| key.provider.to_string()),
                    column(|key| key.resolution.to_string()),
                ],
            )
        }
        _ => {
            let asked: Vec<_> = keys
                .iter()
                .map(|key| {
                    (
                        key.unit.unit_type().as_str(),
                        key.unit.number(),
                        key.provider.as_str(),
                        key.resolution.as_str(),
                    )
                })
                .collect();
            let asked =
                serde_json::to_string(&asked).map_err(|error| DbErr::Json(error.to_string()))?;
            Statement::from_sql_and_values(
                backend,
                "SELECT k.key AS place, s.id, s.provider_id FROM json_each(?1) k \
                 CROSS JOIN unit u ON u.unit_type = k.value ->> 0 AND u.unit_number = k.value ->> 1 \
                 CROSS JOIN provider p ON p.key = k.value ->> 2 \
                 CROSS JOIN series s ON s.unit_id = u.id AND s.provider_id = p.id \
                      AND s.resolution = k.value ->> 3 AND s.level = 'EXPECTED'",
                [asked.into()],
            )
        }
    };
    let mut found = HashMap::with_capacity(keys.len());
    for row in db.query_all_raw(statement).await? {
        let place: i64 = row.try_get("", "place")?;
        let key = usize::try_from(place)
            .ok()
            .and_then(|place| keys.get(place));
        if let Some(key) = key {
            let drawn = Drawn {
                id: row.try_get("", "id")?,
                provider_id: row.try_get("", "provider_id")?,
            };
            found.insert(key.clone(), drawn);
        }
    }
    Ok(found)
}

/// Draws a series that did not exist, in the transaction that fills it.
pub(super) async fn draw(
    db: &impl ConnectionTrait,
    key: &SeriesKey,
    unit_id: i64,
    provider_id: i64,
) -> Result<Drawn, DbErr> {
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
    Ok(Drawn {
        id: row.try_get("", "id")?,
        provider_id,
    })
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
            DbBackend::Sqlite => Value::from(day.to_string()),
            _ => Value::from(day.date()),
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
