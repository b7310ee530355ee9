//! What an evaluation reads: many rules at once, by a few statements.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use sea_orm::{ConnectionTrait, DbBackend, DbErr};
use time::{Date, OffsetDateTime};

use super::late::LastRun;
use super::moment::View;
use super::revision::RunOf;
use super::team::Team;
use super::versions::{Judged, Seen, Versions};
use crate::change::{Change, ForecastChange};
use crate::database::{json_list, numbers, sql};
use crate::forecast::{Day, DayKey, Resolution, newest_first};

/// Days of series whose versions are read by one statement, at first few of each.
const KEYS: usize = 512;

/// A day of a series, and which of its periods are to be seen how.
#[derive(Debug, Default)]
struct Need {
    parts: Vec<(Range<usize>, Seen)>,
}

/// The days of series that some views need.
#[derive(Debug, Default)]
pub(super) struct Needs {
    days: HashMap<(i64, Day), (Resolution, Need)>,
}

impl Needs {
    pub(super) fn add(&mut self, team: &Team, view: &View) {
        for part in view.window.parts() {
            for member in &team.members {
                let (_, need) = self
                    .days
                    .entry((member.series_id, part.day))
                    .or_insert_with(|| (view.window.resolution, Need::default()));
                for seen in &view.seen {
                    let wanted = (part.of_day.clone(), *seen);
                    if !need.parts.contains(&wanted) {
                        need.parts.push(wanted);
                    }
                }
            }
        }
    }

    /// Reads versions, newest first, until all that is needed is there or there
    /// are no more.
    pub(super) async fn read(
        self,
        db: &impl ConnectionTrait,
        judged: &Judged,
    ) -> Result<Versions, DbErr> {
        let mut versions = Versions::default();
        let days: Vec<((i64, Day), Resolution, Need)> = self
            .days
            .into_iter()
            .map(|(key, (resolution, need))| (key, resolution, need))
            .collect();
        for chunk in days.chunks(KEYS) {
            let keys: Vec<DayKey> = chunk
                .iter()
                .map(|((series_id, day), resolution, _)| DayKey::new(*series_id, *resolution, *day))
                .collect();
            newest_first(db, &keys, |i, older| {
                let ((series_id, day), _, need) = &chunk[i];
                versions.extend(*series_id, *day, older);
                need.parts.iter().any(|(periods, seen)| {
                    !versions.fills(*series_id, *day, periods.clone(), |day, source| {
                        judged.admits(*seen, *series_id, day, source)
                    })
                })
            })
            .await?;
        }
        Ok(versions)
    }
}

/// The days of a half-open delivery range.
pub(super) fn days(from: OffsetDateTime, to: OffsetDateTime) -> impl Iterator<Item = Day> {
    let (first, last) = (from.unix_timestamp(), to.unix_timestamp() - 1);
    (Day::of(first).0..=Day::of(last).0).map(Day)
}

/// What some changes wrote, and what others wrote of the same series after `end`,
/// or without a position yet: theirs is another evaluation.
pub(super) async fn judged(
    db: &impl ConnectionTrait,
    changes: &[(&ForecastChange, u64)],
    series: &HashSet<i64>,
    end: u64,
) -> Result<Judged, DbErr> {
    let mut judged = Judged::default();
    for (change, position) in changes {
        for day in days(change.from, change.to) {
            let key = (change.series_id, change.run_id, day);
            judged.inside.insert(key, *position);
        }
    }
    let series: Vec<i64> = series.iter().copied().collect();
    let backend = db.get_database_backend();
    let list = numbers(backend, "$1");
    let rows = db
        .query_all_raw(sql(
            db,
            format!(
                "SELECT series_id, run_id, range_start, range_end FROM change \
                 WHERE position > $2 AND entity = 'FORECAST' AND series_id IN {list} \
                 UNION ALL SELECT series_id, run_id, range_start, range_end FROM change \
                 WHERE position IS NULL AND entity = 'FORECAST' AND series_id IN {list}"
            ),
            [
                json_list(&series),
                i64::try_from(end).unwrap_or(i64::MAX).into(),
            ],
        ))
        .await?;
    for row in rows {
        let (series_id, run_id) = (row.try_get("", "series_id")?, row.try_get("", "run_id")?);
        for day in days(
            row.try_get("", "range_start")?,
            row.try_get("", "range_end")?,
        ) {
            judged.beyond.insert((series_id, run_id, day));
        }
    }
    if backend == DbBackend::Sqlite {
        // What another program wrote is noted here until it is numbered.
        let rows = db
            .query_all_raw(sql(
                db,
                format!("SELECT series_id, run_id, day FROM touched_forecast_curve WHERE series_id IN {list}"),
                [json_list(&series)],
            ))
            .await?;
        for row in rows {
            let day: Date = row.try_get("", "day")?;
            judged.beyond.insert((
                row.try_get("", "series_id")?,
                row.try_get("", "run_id")?,
                day.into(),
            ));
        }
    }
    Ok(judged)
}

/// When runs were issued.
pub(super) async fn runs(
    db: &impl ConnectionTrait,
    ids: &HashSet<i64>,
) -> Result<HashMap<i64, RunOf>, DbErr> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let ids: Vec<i64> = ids.iter().copied().collect();
    db.query_all_raw(sql(
        db,
        format!(
            "SELECT id, issued_at FROM forecast_run WHERE id IN {}",
            numbers(db.get_database_backend(), "$1")
        ),
        [json_list(&ids)],
    ))
    .await?
    .iter()
    .map(|row| {
        let id = row.try_get("", "id")?;
        let issued_at = row.try_get("", "issued_at")?;
        Ok((id, RunOf { issued_at, id }))
    })
    .collect()
}

/// The last run of each series, of those that reach up to yesterday or later; of
/// a series that does not any more, of those that reached furthest.
pub(super) async fn last_runs(
    db: &impl ConnectionTrait,
    series: &HashSet<i64>,
    now: OffsetDateTime,
) -> Result<HashMap<i64, LastRun>, DbErr> {
    if series.is_empty() {
        return Ok(HashMap::new());
    }
    let series: Vec<i64> = series.iter().copied().collect();
    let backend = db.get_database_backend();
    let yesterday = Day(Day::of(now.unix_timestamp()).0 - 1);
    let (day, yesterday) = match backend {
        DbBackend::Sqlite => ("$2", yesterday.to_string().into()),
        _ => ("$2::date", yesterday.date().into()),
    };
    // The last day is looked up once for each series, not for each version.
    db.query_all_raw(sql(
        db,
        format!(
            "WITH reach AS MATERIALIZED ( \
                 SELECT s.id, (SELECT max(l.day) FROM forecast_curve l WHERE l.series_id = s.id) AS last_day \
                 FROM series s WHERE s.id IN {list}), \
             last AS ( \
                 SELECT k.id AS series_id, max(c.run_id) AS run_id FROM reach k \
                 JOIN forecast_curve c ON c.series_id = k.id \
                     AND c.day >= CASE WHEN k.last_day < {day} THEN k.last_day ELSE {day} END \
                 GROUP BY k.id) \
             SELECT l.series_id, r.id, r.received_at FROM last l JOIN forecast_run r ON r.id = l.run_id",
            list = numbers(backend, "$1"),
        ),
        [json_list(&series), yesterday],
    ))
    .await?
    .iter()
    .map(|row| {
        let run = LastRun {
            id: row.try_get("", "id")?,
            received_at: row.try_get("", "received_at")?,
        };
        Ok((row.try_get("", "series_id")?, run))
    })
    .collect()
}

/// The changes after a position: whole transactions, so that what was saved
/// together is judged together.
pub(super) struct Batch {
    pub(super) changes: Vec<Change>,
    /// There may be more after it.
    pub(super) is_full: bool,
}

/// Pages that one transaction may span and still be judged at once.
const MOST_PAGES: usize = 100;

/// `None` where the log does not go on from there any more.
pub(super) async fn batch(
    db: &impl ConnectionTrait,
    after: u64,
) -> Result<(crate::change::Position, Option<Batch>), DbErr> {
    use crate::change::{PAGE, read_after};
    let page = read_after(db, after, PAGE).await?;
    let head = page.head;
    let is_whole = (page.changes.len() as u64) < PAGE;
    let mut all = page.changes;
    let goes_on = match all.first() {
        Some((first, _)) => first.position.number == after + 1,
        None => head.number == after,
    };
    if !goes_on {
        return Ok((head, None));
    }
    let mut is_full = !is_whole;
    for _ in 1..MOST_PAGES {
        let Some((last, xid)) = all.last().filter(|_| is_full) else {
            break;
        };
        let (number, xid, changed_at) = (last.position.number, *xid, last.changed_at);
        let next = read_after(db, number, PAGE).await?.changes;
        let read = next.len() as u64;
        let belongs = |change: &Change, of: Option<u64>| match xid {
            Some(_) => of == xid,
            None => change.changed_at == changed_at,
        };
        let before = all.len();
        all.extend(
            next.into_iter()
                .take_while(|(change, of)| belongs(change, *of)),
        );
        if (all.len() - before) as u64 != read || read < PAGE {
            is_full = (all.len() - before) as u64 != read;
            break;
        }
    }
    let changes = all.into_iter().map(|(change, _)| change).collect();
    Ok((head, Some(Batch { changes, is_full })))
}
