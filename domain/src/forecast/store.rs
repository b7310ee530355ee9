//! Versions of day curves in the database.

use std::borrow::Cow;
use std::collections::HashMap;

use sea_orm::{ConnectionTrait, DbBackend, DbErr, QueryResult, Statement, Value};
use time::macros::datetime;
use time::{Date, OffsetDateTime};
use tokio::task::yield_now;

use super::{Day, DayCurve, DayKey, Overlay, Resolution, Run, Source, Version};
use crate::change::ForecastChange;
use crate::database::{instant, json_list, numbers, sql, sqlite_instant};

/// Versions that are decoded before other tasks have their turn: a millisecond's
/// work.
const DECODED_AT_ONCE: usize = 256;

/// All versions of one day of a series, newest first.
#[derive(Debug, Clone, PartialEq)]
pub struct DayHistory {
    pub versions: Vec<Version>,
}

impl DayHistory {
    /// Its size in memory, in bytes.
    pub fn weight(&self) -> usize {
        let version = |version: &Version| size_of::<Version>() + size_of_val(&*version.values);
        size_of::<Self>() + self.versions.iter().map(version).sum::<usize>()
    }
}

/// What a run wrote for one day of a series.
#[derive(Debug, Clone, PartialEq)]
pub struct RunDay {
    pub day: Day,
    pub version: Version,
}

/// How many versions the first look reads: mostly the newest one or two fill the day.
const FIRST_LOOK: u64 = 4;
/// Each further look reads this many times more.
const LOOK_GROWTH: u64 = 4;

/// The latest view of each day: reads the newest few versions, and goes on
/// only while periods are missing.
pub(super) async fn latest(
    db: &impl ConnectionTrait,
    keys: &[DayKey],
) -> Result<Vec<DayCurve>, DbErr> {
    let mut overlays: Vec<Overlay> = keys
        .iter()
        .map(|key| Overlay::new(key.resolution))
        .collect();
    newest_first(db, keys, |i, versions| {
        for version in &versions {
            overlays[i].lay(version, |_| true);
        }
        !overlays[i].is_complete()
    })
    .await?;
    Ok(overlays.into_iter().map(Overlay::finish).collect())
}

/// Reads the versions of each day, newest first, a few at a time. `take` gets
/// them with the place of their key, and says whether it wants older ones.
pub(crate) async fn newest_first(
    db: &impl ConnectionTrait,
    keys: &[DayKey],
    mut take: impl FnMut(usize, Vec<Version>) -> bool,
) -> Result<(), DbErr> {
    let mut open: Vec<(usize, Source)> = (0..keys.len()).map(|i| (i, newest())).collect();
    let mut look = FIRST_LOOK;
    while !open.is_empty() {
        let mut read: Vec<Vec<Version>> = open.iter().map(|_| Vec::new()).collect();
        for (place, version) in read_below(db, keys, &open, Some(look)).await? {
            read[place].push(version);
        }
        open = open
            .iter()
            .zip(read)
            .filter_map(|((i, _), versions)| {
                let last = versions.last()?.source;
                let is_all = (versions.len() as u64) < look;
                (take(*i, versions) && !is_all).then_some((*i, last))
            })
            .collect();
        look = (look * LOOK_GROWTH).min(256);
    }
    Ok(())
}

/// Every version of each day.
pub(super) async fn history(
    db: &impl ConnectionTrait,
    keys: &[DayKey],
) -> Result<Vec<DayHistory>, DbErr> {
    let open: Vec<(usize, Source)> = (0..keys.len()).map(|i| (i, newest())).collect();
    let mut found: Vec<DayHistory> = keys
        .iter()
        .map(|_| DayHistory {
            versions: Vec::new(),
        })
        .collect();
    for (place, version) in read_below(db, keys, &open, None).await? {
        found[place].versions.push(version);
    }
    Ok(found)
}

/// Above every real source.
fn newest() -> Source {
    Source {
        issued_at: datetime!(9999-12-31 00:00 UTC),
        run_id: i64::MAX,
    }
}

/// Versions of lower precedence than each bound, newest first, at most `limit`
/// of each; with the place of the bound they belong to.
async fn read_below(
    db: &impl ConnectionTrait,
    keys: &[DayKey],
    open: &[(usize, Source)],
    limit: Option<u64>,
) -> Result<Vec<(usize, Version)>, DbErr> {
    let limit = limit.map_or(i64::MAX, |limit| i64::try_from(limit).unwrap_or(i64::MAX));
    let backend = db.get_database_backend();
    let statement = match backend {
        DbBackend::Postgres => Statement::from_sql_and_values(
            backend,
            "SELECT k.place, c.issued_at, c.run_id, c.first_period, c.\"values\"::text AS mwh \
             FROM unnest($1::bigint[], $2::date[], $3::timestamptz[], $4::bigint[]) \
                  WITH ORDINALITY AS k (series_id, day, issued_at, run_id, place) \
             CROSS JOIN LATERAL ( \
                 SELECT * FROM forecast_curve v \
                 WHERE v.series_id = k.series_id AND v.day = k.day AND (v.issued_at, v.run_id) < (k.issued_at, k.run_id) \
                 ORDER BY v.issued_at DESC, v.run_id DESC LIMIT $5) c \
             ORDER BY k.place, c.issued_at DESC, c.run_id DESC",
            [
                array(open.iter().map(|(i, _)| keys[*i].series_id)),
                array(open.iter().map(|(i, _)| keys[*i].day.date())),
                array(open.iter().map(|(_, below)| below.issued_at)),
                array(open.iter().map(|(_, below)| below.run_id)),
                limit.into(),
            ],
        ),
        _ => {
            let asked: Vec<_> = open
                .iter()
                .map(|(i, below)| {
                    (
                        keys[*i].series_id,
                        keys[*i].day.to_string(),
                        sqlite_instant(below.issued_at),
                        below.run_id,
                    )
                })
                .collect();
            Statement::from_sql_and_values(
                backend,
                "SELECT k.key + 1 AS place, c.issued_at, c.run_id, c.first_period, c.\"values\" AS mwh \
                 FROM json_each(?1) k \
                 CROSS JOIN forecast_curve c \
                 WHERE c.series_id = k.value ->> 0 AND c.day = k.value ->> 1 \
                   AND (c.issued_at, c.run_id) IN ( \
                     SELECT v.issued_at, v.run_id FROM forecast_curve v \
                     WHERE v.series_id = k.value ->> 0 AND v.day = k.value ->> 1 \
                       AND (v.issued_at, v.run_id) < (k.value ->> 2, k.value ->> 3) \
                     ORDER BY v.issued_at DESC, v.run_id DESC LIMIT ?2) \
                 ORDER BY place, c.issued_at DESC, c.run_id DESC",
                [json(&asked)?, limit.into()],
            )
        }
    };
    let rows = db.query_all_raw(statement).await?;
    let mut versions = Vec::with_capacity(rows.len());
    for row in rows {
        if versions.len() % DECODED_AT_ONCE == DECODED_AT_ONCE - 1 {
            yield_now().await;
        }
        let place: i64 = row.try_get("", "place")?;
        versions.push((
            usize::try_from(place - 1).unwrap_or(usize::MAX),
            decode(&row)?,
        ));
    }
    Ok(versions)
}

/// What each change wrote: the versions of its run in the days it touched, in
/// the order of the changes.
pub async fn written(
    db: &impl ConnectionTrait,
    changes: &[&ForecastChange],
) -> Result<Vec<Vec<RunDay>>, DbErr> {
    let backend = db.get_database_backend();
    let keys = || {
        changes.iter().zip(1i64..).flat_map(|(change, place)| {
            let first = Day::of(change.from.unix_timestamp());
            let last = Day::of(change.to.unix_timestamp() - 1);
            (first.0..=last.0).map(move |day| (place, change.series_id, change.run_id, Day(day)))
        })
    };
    // With the run's issue time each key is one row of the primary key; a limit
    // keeps PostgreSQL from reading a whole table to join it.
    let statement = match backend {
        DbBackend::Postgres => Statement::from_sql_and_values(
            backend,
            "SELECT k.place, c.day, c.issued_at, c.run_id, c.first_period, c.\"values\"::text AS mwh \
             FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::date[]) AS k (place, series_id, run_id, day) \
             CROSS JOIN LATERAL (SELECT issued_at FROM forecast_run WHERE id = k.run_id LIMIT 1) r \
             CROSS JOIN LATERAL ( \
                 SELECT * FROM forecast_curve \
                 WHERE series_id = k.series_id AND day = k.day AND issued_at = r.issued_at AND run_id = k.run_id \
                 LIMIT 1) c \
             ORDER BY k.place, c.day",
            [
                array(keys().map(|key| key.0)),
                array(keys().map(|key| key.1)),
                array(keys().map(|key| key.2)),
                array(keys().map(|key| key.3.date())),
            ],
        ),
        _ => Statement::from_sql_and_values(
            backend,
            "SELECT k.value ->> 0 AS place, c.day, c.issued_at, c.run_id, c.first_period, c.\"values\" AS mwh \
             FROM json_each(?1) k \
             CROSS JOIN forecast_run r ON r.id = k.value ->> 2 \
             CROSS JOIN forecast_curve c ON c.series_id = k.value ->> 1 AND c.day = k.value ->> 3 \
                  AND c.issued_at = r.issued_at AND c.run_id = r.id \
             ORDER BY place, c.day",
            [json(
                &keys()
                    .map(|(place, series, run, day)| (place, series, run, day.to_string()))
                    .collect::<Vec<_>>(),
            )?],
        ),
    };
    let mut found: Vec<Vec<RunDay>> = changes.iter().map(|_| Vec::new()).collect();
    for row in db.query_all_raw(statement).await? {
        let place: i64 = row.try_get("", "place")?;
        let of = usize::try_from(place - 1)
            .ok()
            .and_then(|place| found.get_mut(place));
        if let Some(days) = of {
            days.push(RunDay {
                day: row.try_get::<Date>("", "day")?.into(),
                version: decode(&row)?,
            });
        }
    }
    Ok(found)
}

/// The runs of these ids, those that exist.
pub(super) async fn runs(
    db: &impl ConnectionTrait,
    ids: &[i64],
) -> Result<HashMap<i64, Run>, DbErr> {
    let text = format!(
        "SELECT id, issued_at, received_at FROM forecast_run WHERE id IN {}",
        numbers(db.get_database_backend(), "$1")
    );
    db.query_all_raw(sql(db, text, [json_list(ids)]))
        .await?
        .iter()
        .map(|row| {
            let run = Run {
                id: row.try_get("", "id")?,
                issued_at: row.try_get("", "issued_at")?,
                received_at: row.try_get("", "received_at")?,
            };
            Ok((run.id, run))
        })
        .collect()
}

/// A version whose values cannot be read says nothing about its periods.
pub(crate) fn decode(row: &QueryResult) -> Result<Version, DbErr> {
    let run_id: i64 = row.try_get("", "run_id")?;
    let values: String = row.try_get("", "mwh")?;
    // Other programs may have put anything into the array.
    let what = format_args!("a day curve of run {run_id}");
    let values: Vec<Option<f64>> = crate::json::stored(&values, what).unwrap_or_default();
    let first_period: i16 = row.try_get("", "first_period")?;
    Ok(Version {
        source: Source {
            issued_at: row.try_get("", "issued_at")?,
            run_id,
        },
        first_period: u16::try_from(first_period).unwrap_or(u16::MAX),
        values: values.into_iter().map(|v| v.unwrap_or(f64::NAN)).collect(),
    })
}

fn json(value: &impl serde::Serialize) -> Result<Value, DbErr> {
    serde_json::to_string(value)
        .map(Value::from)
        .map_err(|error| DbErr::Json(error.to_string()))
}

fn array<T>(values: impl Iterator<Item = T>) -> Value
where
    Vec<T>: Into<Value>,
{
    values.collect::<Vec<T>>().into()
}

/// A run about to be written: its head, and its day curves.
pub(super) struct RunRows<'a> {
    pub provider_id: i64,
    pub issued_at: OffsetDateTime,
    pub series_id: i64,
    pub days: Vec<NewVersion<'a>>,
}

/// One version about to be written: its values from `first_period` of the day on.
pub(super) struct NewVersion<'a> {
    day: Day,
    first_period: i16,
    values: Cow<'a, [Option<f64>]>,
}

impl<'a> NewVersion<'a> {
    pub(super) fn new(
        day: Day,
        first_period: usize,
        values: impl Into<Cow<'a, [Option<f64>]>>,
    ) -> Self {
        Self {
            day,
            first_period: i16::try_from(first_period).unwrap_or(i16::MAX),
            values: values.into(),
        }
    }

    /// Delivery periods that it gives a value.
    pub(super) fn filled(&self) -> usize {
        self.values.iter().flatten().count()
    }

    /// As the table keeps them.
    fn values_json(&self) -> String {
        serde_json::to_string(&self.values)
            .unwrap_or_else(|error| unreachable!("numbers and nulls are JSON: {error}"))
    }
}

/// A version and the run that it belongs to.
struct VersionRow<'a> {
    run: &'a RunRows<'a>,
    run_id: i64,
    version: &'a NewVersion<'a>,
}

/// Rows of one statement: few enough to keep a statement's memory bounded.
const ROWS_A_STATEMENT: usize = 20_000;

/// Writes runs and their versions, and returns the runs' ids in the same order.
pub(super) async fn insert(
    db: &impl ConnectionTrait,
    runs: &[RunRows<'_>],
    received_at: OffsetDateTime,
) -> Result<Vec<i64>, DbErr> {
    let backend = db.get_database_backend();
    let mut ids = Vec::with_capacity(runs.len());
    for chunk in runs.chunks(ROWS_A_STATEMENT) {
        ids.extend(match backend {
            DbBackend::Postgres => insert_runs_postgres(db, chunk, received_at).await?,
            _ => insert_runs_sqlite(db, chunk, received_at).await?,
        });
    }
    let mut rows = Vec::new();
    for (run, id) in runs.iter().zip(&ids) {
        for version in &run.days {
            rows.push(VersionRow {
                run,
                run_id: *id,
                version,
            });
        }
    }
    // In the order of the table: neighbours land on the same pages.
    rows.sort_by_key(|row| {
        (
            row.run.series_id,
            row.version.day,
            row.run.issued_at,
            row.run_id,
        )
    });
    match backend {
        DbBackend::Postgres => {
            for chunk in rows.chunks(ROWS_A_STATEMENT) {
                insert_versions_postgres(db, chunk).await?;
            }
        }
        _ => insert_versions_sqlite(db, &rows).await?,
    }
    Ok(ids)
}

async fn insert_runs_postgres(
    db: &impl ConnectionTrait,
    runs: &[RunRows<'_>],
    received_at: OffsetDateTime,
) -> Result<Vec<i64>, DbErr> {
    let mut ids = db
        .query_all_raw(Statement::from_sql_and_values(
            DbBackend::Postgres,
            "INSERT INTO forecast_run (provider_id, issued_at, received_at) \
             SELECT r.provider_id, r.issued_at, $3 \
             FROM unnest($1::bigint[], $2::timestamptz[]) WITH ORDINALITY AS r (provider_id, issued_at, place) \
             ORDER BY r.place RETURNING id",
            [
                array(runs.iter().map(|run| run.provider_id)),
                array(runs.iter().map(|run| run.issued_at)),
                received_at.into(),
            ],
        ))
        .await?
        .iter()
        .map(|row| row.try_get("", "id"))
        .collect::<Result<Vec<i64>, _>>()?;
    // Drawn in the order of the rows, whatever order they are returned in.
    ids.sort_unstable();
    Ok(ids)
}

async fn insert_runs_sqlite(
    db: &impl ConnectionTrait,
    runs: &[RunRows<'_>],
    received_at: OffsetDateTime,
) -> Result<Vec<i64>, DbErr> {
    let rows: Vec<_> = runs
        .iter()
        .map(|run| (run.provider_id, sqlite_instant(run.issued_at)))
        .collect();
    let inserted = db
        .execute_raw(Statement::from_sql_and_values(
            DbBackend::Sqlite,
            "INSERT INTO forecast_run (provider_id, issued_at, received_at) \
             SELECT r.value ->> 0, r.value ->> 1, ?2 FROM json_each(?1) r ORDER BY r.key",
            [json(&rows)?, instant(DbBackend::Sqlite, received_at)],
        ))
        .await?;
    // Nobody else writes meanwhile: AUTOINCREMENT drew them one after the other.
    let last = inserted.last_insert_id().cast_signed();
    let count = inserted.rows_affected().cast_signed();
    Ok((last - count + 1..=last).collect())
}

async fn insert_versions_postgres(
    db: &impl ConnectionTrait,
    rows: &[VersionRow<'_>],
) -> Result<(), DbErr> {
    db.execute_raw(Statement::from_sql_and_values(
        DbBackend::Postgres,
        "INSERT INTO forecast_curve (series_id, day, issued_at, run_id, first_period, \"values\") \
         SELECT * FROM unnest($1::bigint[], $2::date[], $3::timestamptz[], $4::bigint[], $5::smallint[], string_to_array($6, chr(10))::json[])",
        [
            array(rows.iter().map(|row| row.run.series_id)),
            array(rows.iter().map(|row| row.version.day.date())),
            array(rows.iter().map(|row| row.run.issued_at)),
            array(rows.iter().map(|row| row.run_id)),
            array(rows.iter().map(|row| row.version.first_period)),
            // One text is cheaper to send than thousands; none of them has a line break.
            rows.iter()
                .map(|row| row.version.values_json())
                .collect::<Vec<_>>()
                .join("\n")
                .into(),
        ],
    ))
    .await?;
    Ok(())
}

/// Rows of one statement on SQLite, at most; a power of two.
const ROWS_A_BATCH: usize = 256;

async fn insert_versions_sqlite(
    db: &impl ConnectionTrait,
    mut rows: &[VersionRow<'_>],
) -> Result<(), DbErr> {
    let mut batch = next_batch(&mut rows);
    while let Some(statement) = batch {
        // The database works in a thread of its own: meanwhile the next one is made.
        let (inserted, next) = tokio::join!(
            biased;
            db.execute_raw(statement),
            async { next_batch(&mut rows) }
        );
        inserted?;
        batch = next;
    }
    Ok(())
}

/// The first of the rows, as one statement; a power of two of them, so that a
/// few texts serve any number of rows and each is prepared once.
fn next_batch(rows: &mut &[VersionRow<'_>]) -> Option<Statement> {
    let length = 1 << rows.len().min(ROWS_A_BATCH).checked_ilog2()?;
    let (batch, rest) = rows.split_at(length);
    *rows = rest;
    let places = ["(?, ?, ?, ?, ?, ?)"].repeat(length).join(", ");
    Some(Statement::from_sql_and_values(
        DbBackend::Sqlite,
        format!(
            "INSERT INTO forecast_curve (series_id, day, issued_at, run_id, first_period, \"values\") VALUES {places}"
        ),
        batch.iter().flat_map(|row| {
            [
                row.run.series_id.into(),
                row.version.day.to_string().into(),
                sqlite_instant(row.run.issued_at).into(),
                row.run_id.into(),
                row.version.first_period.into(),
                row.version.values_json().into(),
            ]
        }),
    ))
}

/// The key's resolution is that of its series; one constructor keeps it so.
impl DayKey {
    pub fn new(series_id: i64, resolution: Resolution, day: Day) -> Self {
        Self {
            series_id,
            resolution,
            day,
        }
    }
}
