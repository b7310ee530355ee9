//! Saving runs: all or nothing.

use std::collections::{BTreeSet, HashMap, HashSet};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use time::{Duration, OffsetDateTime};

use super::day::DAY_SECONDS;
use super::series::Drawn;
use super::store::{NewVersion, RunRows};
use super::{Day, DeliveryRange, ForecastError, Resolution, SeriesKey, series, store};
use crate::Violation;
use crate::change::{self, Receipt};
use crate::database::{Database, Transaction, again};
use crate::idempotency;
use crate::provider::{self, ProviderKey};
use crate::unit::{self, UnitKey};

/// One run to be saved.
#[derive(Debug, Clone, PartialEq)]
pub struct NewRun {
    pub unit: UnitKey,
    pub provider: ProviderKey,
    pub resolution: Resolution,
    /// When the provider made it; when we got it, if absent.
    pub issued_at: Option<OffsetDateTime>,
    pub values: RunValues,
}

/// The values of a run: MWh per delivery period.
#[derive(Debug, Clone, PartialEq)]
pub enum RunValues {
    /// Any delivery periods, each by its start.
    Points(Vec<(OffsetDateTime, f64)>),
    /// Consecutive delivery periods; a null says nothing about its period.
    From {
        start: OffsetDateTime,
        values: Vec<Option<f64>>,
    },
    /// Neither form, or both: what is wrong with what was given.
    Unclear(&'static str),
}

/// Runs to be saved in one transaction.
#[derive(Debug, Clone)]
pub struct SaveRequest {
    pub runs: Vec<NewRun>,
    /// The same key and runs within 24 hours are answered again, not saved again.
    pub idempotency_key: Option<String>,
}

/// What was saved.
#[derive(Debug, Clone, PartialEq)]
pub struct Saved {
    /// The runs' ids, in the order given.
    pub run_ids: Vec<i64>,
    /// Delivery periods that were given a value.
    pub values: usize,
    pub receipt: Receipt,
}

/// No unit produces more than this in a delivery period, in MWh.
const MOST_MWH: f64 = 1e12;

/// What was written, and is to be committed.
#[derive(Debug, Clone, PartialEq)]
pub struct Written {
    /// The runs' ids, in the order given.
    pub run_ids: Vec<i64>,
    /// Delivery periods that were given a value.
    pub values: usize,
}

/// Saves every run or none, as the viewer named `viewer`.
///
/// Fails with [`ForecastError::Invalid`], naming every bad value, or when a
/// unit or provider is unknown; nothing is written then.
pub async fn save(
    db: &Database,
    viewer: &str,
    request: &SaveRequest,
    now: OffsetDateTime,
) -> Result<Saved, ForecastError> {
    again(|| save_once(db, viewer, request, now)).await
}

async fn save_once(
    db: &Database,
    viewer: &str,
    request: &SaveRequest,
    now: OffsetDateTime,
) -> Result<Saved, ForecastError> {
    let days = check(request, now)?;
    let txn = db.begin().await?;
    let written = match write_checked(&txn, viewer, request, days, now).await {
        Ok(written) => written,
        Err(error) => {
            // The caller is told why; the connection goes back clean either way.
            txn.rollback().await;
            return Err(error);
        }
    };
    let receipt = change::commit(txn).await?;
    Ok(Saved {
        run_ids: written.run_ids,
        values: written.values,
        receipt,
    })
}

/// [`save`] inside a transaction, which is to be rolled back after an error.
pub async fn write(
    txn: &Transaction,
    viewer: &str,
    request: &SaveRequest,
    now: OffsetDateTime,
) -> Result<Written, ForecastError> {
    write_checked(txn, viewer, request, check(request, now)?, now).await
}

async fn write_checked(
    txn: &Transaction,
    viewer: &str,
    request: &SaveRequest,
    days: Vec<Vec<NewVersion<'_>>>,
    now: OffsetDateTime,
) -> Result<Written, ForecastError> {
    let values = days.iter().flatten().map(NewVersion::filled).sum();
    if let Some(key) = &request.idempotency_key
        && let Some(answered) =
            idempotency::claim::<Answer>(txn, viewer, key, &fingerprint(request), now).await?
    {
        return Ok(Written {
            run_ids: answered.run_ids,
            values,
        });
    }
    let series = draw_series(txn, request).await?;
    let rows: Vec<RunRows<'_>> = request
        .runs
        .iter()
        .zip(days)
        .map(|(run, days)| {
            let series = series[&key_of(run)];
            RunRows {
                provider_id: series.provider_id,
                issued_at: to_microsecond(run.issued_at.unwrap_or(now)),
                series_id: series.id,
                days,
            }
        })
        .collect();
    let run_ids = store::insert(txn, &rows, now).await?;
    if let Some(key) = &request.idempotency_key {
        let answer = Answer {
            run_ids: run_ids.clone(),
        };
        idempotency::remember(txn, viewer, key, &answer).await?;
    }
    Ok(Written { run_ids, values })
}

fn key_of(run: &NewRun) -> SeriesKey {
    SeriesKey {
        unit: run.unit,
        provider: run.provider.clone(),
        resolution: run.resolution,
    }
}

/// What the database keeps of an instant.
fn to_microsecond(at: OffsetDateTime) -> OffsetDateTime {
    at - Duration::nanoseconds(i64::from(at.nanosecond() % 1000))
}

/// Every bad value of the request, or the runs cut into UTC days.
fn check(
    request: &SaveRequest,
    now: OffsetDateTime,
) -> Result<Vec<Vec<NewVersion<'_>>>, ForecastError> {
    let mut violations = Vec::new();
    if request.runs.is_empty() {
        violations.push(Violation::new("runs", "give at least one run"));
    }
    if let Some(key) = &request.idempotency_key {
        violations.extend(idempotency::fault_of_key(key));
    }
    let mut days = Vec::with_capacity(request.runs.len());
    for (i, run) in request.runs.iter().enumerate() {
        if run
            .issued_at
            .is_some_and(|issued| issued > now + Duration::days(1) || issued.year() < 1970)
        {
            violations.push(Violation::new(
                format!("runs[{i}].issuedAt"),
                "an issue time lies after 1970 and not more than a day ahead of now",
            ));
        }
        days.push(check_run(run, i, &mut violations));
    }
    if violations.is_empty() {
        return Ok(days);
    }
    violations.truncate(Violation::MOST);
    Err(ForecastError::Invalid(violations))
}

fn check_run<'a>(
    run: &'a NewRun,
    i: usize,
    violations: &mut Vec<Violation>,
) -> Vec<NewVersion<'a>> {
    let step = run.resolution.seconds();
    let mut wrong = |field: String, message: String| {
        if violations.len() <= Violation::MOST {
            violations.push(Violation::new(format!("runs[{i}].{field}"), message));
        }
    };
    let misplaced = |at: OffsetDateTime| {
        let seconds = at.unix_timestamp();
        if seconds.rem_euclid(step) != 0 || at.nanosecond() != 0 {
            Some(format!(
                "a delivery period of {} begins on a multiple of its length, in UTC",
                run.resolution
            ))
        } else if !DeliveryRange::reaches(seconds) {
            Some("delivery times lie between 1970 and 2200".to_owned())
        } else {
            None
        }
    };
    let bad_number = |mwh: f64| {
        (!mwh.is_finite() || mwh.abs() > MOST_MWH)
            .then(|| "must be a finite number of MWh, at most 1e12".to_owned())
    };
    match &run.values {
        RunValues::Unclear(message) => {
            wrong("points".into(), (*message).to_owned());
            Vec::new()
        }
        RunValues::Points(given) => {
            // Delivery starts in seconds, with their values.
            let mut points: Vec<(i64, f64)> = Vec::with_capacity(given.len());
            let mut seen = HashSet::with_capacity(given.len());
            for (j, (start, mwh)) in given.iter().enumerate() {
                if let Some(message) = misplaced(*start) {
                    wrong(format!("points[{j}].deliveryStart"), message);
                } else if !seen.insert(start.unix_timestamp()) {
                    wrong(
                        format!("points[{j}].deliveryStart"),
                        "this delivery period is in the run twice".into(),
                    );
                }
                if let Some(message) = bad_number(*mwh) {
                    wrong(format!("points[{j}].mwh"), message);
                }
                points.push((start.unix_timestamp(), *mwh));
            }
            if points.is_empty() {
                wrong("points".into(), NO_VALUE.into());
            }
            points.sort_by_key(|(start, _)| *start);
            cut_points(&points, step)
        }
        RunValues::From { start, values } => {
            if let Some(message) = misplaced(*start) {
                wrong("start".into(), message);
            }
            let seconds = start.unix_timestamp();
            let length = i64::try_from(values.len()).unwrap_or(i64::MAX);
            if !values.is_empty()
                && !DeliveryRange::reaches(
                    seconds.saturating_add(length.saturating_mul(step)) - step,
                )
            {
                wrong(
                    "values".into(),
                    "delivery times lie between 1970 and 2200".into(),
                );
            }
            for (j, mwh) in values.iter().enumerate() {
                if let Some(message) = mwh.and_then(bad_number) {
                    wrong(format!("values[{j}]"), message);
                }
            }
            let days = cut_values(seconds, values, step);
            if days.is_empty() {
                wrong("values".into(), NO_VALUE.into());
            }
            days
        }
    }
}

const NO_VALUE: &str = "a run has at least one value";

/// The place in its day of the delivery period that begins then.
fn period_of(seconds: i64, step: i64) -> usize {
    usize::try_from(seconds.rem_euclid(DAY_SECONDS) / step).unwrap_or(0)
}

/// Cuts sorted points into UTC days, from each day's first value to its last.
fn cut_points(points: &[(i64, f64)], step: i64) -> Vec<NewVersion<'static>> {
    points
        .chunk_by(|a, b| Day::of(a.0) == Day::of(b.0))
        .map(|of_day| {
            let first_period = period_of(of_day[0].0, step);
            let last_period = period_of(of_day[of_day.len() - 1].0, step);
            let mut values = vec![None; last_period - first_period + 1];
            for (start, mwh) in of_day {
                values[period_of(*start, step) - first_period] = Some(*mwh);
            }
            NewVersion::new(Day::of(of_day[0].0), first_period, values)
        })
        .collect()
}

/// Cuts consecutive values into UTC days, from each day's first value to its last.
fn cut_values(start: i64, values: &[Option<f64>], step: i64) -> Vec<NewVersion<'_>> {
    let day_periods = usize::try_from(DAY_SECONDS / step).unwrap_or(usize::MAX);
    let mut versions = Vec::with_capacity(values.len() / day_periods + 2);
    let (mut first_period, mut rest) = (period_of(start, step), values);
    for day in Day::of(start).0.. {
        let (of_day, later) = rest.split_at(rest.len().min(day_periods - first_period));
        if let Some(first) = of_day.iter().position(Option::is_some)
            && let Some(last) = of_day.iter().rposition(Option::is_some)
        {
            let filled = &of_day[first..=last];
            versions.push(NewVersion::new(Day(day), first_period + first, filled));
        }
        if later.is_empty() {
            break;
        }
        (first_period, rest) = (0, later);
    }
    versions
}

/// Each series of the request, drawn if need be.
async fn draw_series(
    txn: &Transaction,
    request: &SaveRequest,
) -> Result<HashMap<SeriesKey, Drawn>, ForecastError> {
    // Sorted: two savers that draw the same new series must not wait for each other.
    let keys: BTreeSet<SeriesKey> = request.runs.iter().map(key_of).collect();
    let keys: Vec<SeriesKey> = keys.into_iter().collect();
    let mut drawn = series::find(txn, &keys).await?;
    let new: Vec<&SeriesKey> = keys.iter().filter(|key| !drawn.contains_key(key)).collect();
    if new.is_empty() {
        return Ok(drawn);
    }
    let unit_keys: BTreeSet<UnitKey> = new.iter().map(|key| key.unit).collect();
    let provider_keys: BTreeSet<ProviderKey> = new.iter().map(|key| key.provider.clone()).collect();
    let units: HashMap<UnitKey, i64> =
        unit::by_keys(txn, &unit_keys.into_iter().collect::<Vec<_>>())
            .await?
            .into_iter()
            .map(|unit| (unit.key, unit.id))
            .collect();
    let providers: HashMap<ProviderKey, i64> =
        provider::by_keys(txn, &provider_keys.into_iter().collect::<Vec<_>>())
            .await?
            .into_iter()
            .map(|provider| (provider.key, provider.id))
            .collect();
    let path = |of: &SeriesKey, field: &str| {
        let run = request.runs.iter().position(|run| key_of(run) == *of);
        run.map(|i| format!("runs[{i}].{field}"))
    };
    for key in new {
        let Some(unit_id) = units.get(&key.unit) else {
            return Err(ForecastError::UnknownUnit {
                key: key.unit,
                path: path(key, "unit"),
            });
        };
        let Some(provider_id) = providers.get(&key.provider) else {
            return Err(ForecastError::UnknownProvider {
                key: key.provider.clone(),
                path: path(key, "provider"),
            });
        };
        let series = series::draw(txn, key, *unit_id, *provider_id).await?;
        drawn.insert(key.clone(), series);
    }
    Ok(drawn)
}

/// What an idempotency key stands for.
#[derive(Serialize, Deserialize)]
struct Answer {
    run_ids: Vec<i64>,
}

/// The same for equal requests only.
fn fingerprint(request: &SaveRequest) -> String {
    let mut digest = Sha256::new();
    let mut field = |bytes: &[u8]| {
        digest.update((bytes.len() as u64).to_le_bytes());
        digest.update(bytes);
    };
    let nanos = |at: OffsetDateTime| at.unix_timestamp_nanos().to_le_bytes();
    for run in &request.runs {
        field(run.unit.to_string().as_bytes());
        field(run.provider.as_str().as_bytes());
        field(run.resolution.as_str().as_bytes());
        field(&run.issued_at.map(nanos).unwrap_or_default());
        match &run.values {
            RunValues::Points(points) => {
                field(b"points");
                for (start, mwh) in points {
                    field(&nanos(*start));
                    field(&mwh.to_bits().to_le_bytes());
                }
            }
            RunValues::From { start, values } => {
                field(b"values");
                field(&nanos(*start));
                for mwh in values {
                    field(
                        &mwh.map(|mwh| mwh.to_bits().to_le_bytes())
                            .unwrap_or([0xff; 8]),
                    );
                }
            }
            RunValues::Unclear(message) => field(message.as_bytes()),
        }
    }
    idempotency::hex(&digest.finalize())
}
