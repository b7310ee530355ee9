//! What a rule would have fired in the past.
//!
//! The stored versions are taken in the order in which they were received, and
//! the rule is asked after each save and whenever the clock has something to say:
//! by the same function that evaluates it live.

use std::collections::{BTreeMap, HashMap};

use sea_orm::{ConnectionTrait, DbBackend, DbErr, Value};
use time::{Date, Duration, OffsetDateTime};

use super::AlertError;
use super::firing::Firing;
use super::late::LastRun;
use super::moment::Moment;
use super::revision::RunOf;
use super::rule::{Condition, Definition, State};
use super::store::root_of;
use super::team::{Team, read_capacities, teams};
use super::versions::{Judged, Versions};
use crate::Violation;
use crate::database::{Database, Transaction, json_list, numbers, sql};
use crate::forecast::{Day, Version, decode_version};

/// What a rule would have fired.
#[derive(Debug, Clone, PartialEq)]
pub struct DryRun {
    /// How often.
    pub total: usize,
    /// The first of them.
    pub firings: Vec<DryFiring>,
}

/// A firing that would have been.
#[derive(Debug, Clone, PartialEq)]
pub struct DryFiring {
    pub at: OffsetDateTime,
    pub firing: Firing,
}

/// The longest span.
const LONGEST: Duration = Duration::days(31);
/// How far ahead runs are looked for that say nothing of the days themselves.
const REACH: Duration = Duration::days(8);
/// Firings that are listed.
const LISTED: usize = 500;
/// Versions of day curves that are read.
const MOST_VERSIONS: i64 = 100_000;
/// Values that are compared: periods of members, each time the rule is asked.
const MOST_VALUES: usize = 50_000_000;
/// Others get their turn after so many questions.
const TURN: usize = 64;

/// A version of a day curve, and when it came.
struct Received {
    series_id: i64,
    day: Day,
    version: Version,
    received_at: OffsetDateTime,
}

/// Replays what was received after `since`, up to `until` or, if that is absent or
/// later, up to now. Whether the rule is enabled or muted, and its throttle, make no
/// difference.
pub async fn dry_run(
    db: &Database,
    definition: &Definition,
    since: OffsetDateTime,
    until: Option<OffsetDateTime>,
    now: OffsetDateTime,
) -> Result<DryRun, AlertError> {
    let mut faults = definition.faults();
    faults.extend(fault_of_span(since, until, now));
    if !faults.is_empty() {
        return Err(AlertError::Unanswerable(faults));
    }
    let until = until.unwrap_or(now).min(now);
    let snapshot = db.snapshot().await?;
    let read = read(&snapshot, definition, since, until).await;
    snapshot.rollback().await;
    let (team, received) = read?;
    replay(definition, &team, received, since, until).await
}

/// What is wrong with a span, if anything is: of what was given.
fn fault_of_span(
    since: OffsetDateTime,
    until: Option<OffsetDateTime>,
    now: OffsetDateTime,
) -> Option<Violation> {
    let days = LONGEST.whole_days();
    if since >= now {
        return Some(Violation::new("since", "expected a time before now"));
    }
    let (end, name) = match until {
        Some(until) if until <= since => {
            return Some(Violation::new("until", "expected a time after `since`"));
        }
        Some(until) if until < now => (until, "`until`"),
        Some(_) | None => (now, "now"),
    };
    let message = format!("expected a time at most {days} days before {name}");
    (end - since > LONGEST).then(|| Violation::new("since", message))
}

async fn read(
    db: &Transaction,
    definition: &Definition,
    since: OffsetDateTime,
    until: OffsetDateTime,
) -> Result<(Team, Vec<Received>), AlertError> {
    let root = root_of(db, definition).await?;
    let mut found = teams(db, &[root]).await?;
    let mut team = found
        .remove(&root)
        .ok_or_else(|| AlertError::unknown(format!("unit {}", definition.unit), "unit"))?;
    if definition.needs_capacity() {
        read_capacities(db, std::iter::once(&mut team)).await?;
    }
    let ahead = match &definition.condition {
        // Whatever days a run is for, it has come.
        Condition::Late(_) => REACH,
        condition => Duration::hours(i64::from(condition.hours().unwrap_or(0))),
    };
    // A run that came the day before may be what the next one revises.
    let first = Day(Day::of(since.unix_timestamp()).0 - 1);
    let last = Day::of((until + ahead).unix_timestamp());
    let received = versions(db, &team, first, last, until).await?;
    Ok((team, received))
}

/// The versions of some days that had been received by then, in the order they came.
async fn versions(
    db: &Transaction,
    team: &Team,
    first: Day,
    last: Day,
    until: OffsetDateTime,
) -> Result<Vec<Received>, AlertError> {
    let backend = db.get_database_backend();
    let series: Vec<i64> = team.members.iter().map(|member| member.series_id).collect();
    let date = |day: Day| -> Value {
        match backend {
            DbBackend::Sqlite => day.to_string().into(),
            _ => day.date().into(),
        }
    };
    let values = || {
        [
            json_list(&series),
            date(first),
            date(last),
            crate::database::instant(backend, until),
        ]
    };
    let from = format!(
        "FROM forecast_curve c JOIN forecast_run r ON r.id = c.run_id \
         WHERE c.series_id IN {} AND c.day BETWEEN $2 AND $3 AND r.received_at <= $4",
        numbers(backend, "$1")
    );
    let counted = db
        .query_one_raw(sql(
            db,
            format!(
                "SELECT count(*) AS n FROM (SELECT 1 {from} LIMIT {}) AS counted",
                MOST_VERSIONS + 1
            ),
            values(),
        ))
        .await?;
    let count: i64 = counted.map_or(Ok(0), |row| row.try_get("", "n"))?;
    if count > MOST_VERSIONS {
        return Err(AlertError::TooMuch(format!(
            "more than {MOST_VERSIONS} versions of day curves were received for this unit: ask for a shorter span"
        )));
    }
    let value_column = match backend {
        DbBackend::Postgres => "c.\"values\"::text",
        _ => "c.\"values\"",
    };
    let rows = db
        .query_all_raw(sql(
            db,
            format!(
                "SELECT c.series_id, c.day, c.issued_at, c.run_id, c.first_period, {value_column} AS mwh, r.received_at \
                 {from} ORDER BY r.received_at, c.run_id, c.series_id, c.day"
            ),
            values(),
        ))
        .await?;
    rows.iter()
        .map(|row| {
            let day: Date = row.try_get("", "day")?;
            Ok(Received {
                series_id: row.try_get("", "series_id")?,
                day: day.into(),
                version: decode_version(row)?,
                received_at: row.try_get("", "received_at")?,
            })
        })
        .collect::<Result<_, DbErr>>()
        .map_err(AlertError::from)
}

async fn replay(
    definition: &Definition,
    team: &Team,
    received: Vec<Received>,
    since: OffsetDateTime,
    until: OffsetDateTime,
) -> Result<DryRun, AlertError> {
    let mut timeline = instants(definition, team, &received, since, until);
    let periods = definition
        .window(since)
        .map_or(1, |window| window.periods.max(1));
    let values = timeline
        .len()
        .saturating_mul(team.members.len().max(1))
        .saturating_mul(periods);
    if values > MOST_VALUES {
        return Err(AlertError::TooMuch(format!(
            "{values} values would have to be compared, at most {MOST_VALUES} are: ask for a shorter span or window"
        )));
    }
    let mut known = Known::default();
    for version in received {
        match timeline.get_mut(&version.received_at) {
            Some(at_once) => at_once.push(version),
            // It came before.
            None => known.take(version),
        }
    }
    let mut run = DryRun {
        total: 0,
        firings: Vec::new(),
    };
    let mut state = State::default();
    for (i, (at, came)) in timeline.into_iter().enumerate() {
        if i % TURN == 0 {
            tokio::task::yield_now().await;
        }
        let mut judged = Judged::default();
        let mut newest: Option<RunOf> = None;
        let window = definition.window(at);
        for version in came {
            let source = version.version.source;
            let key = (version.series_id, source.run_id, version.day);
            judged.inside.insert(key, 1);
            let is_seen = window.is_some_and(|w| w.parts().any(|part| part.day == version.day));
            if is_seen {
                newest = newest.max(Some(RunOf {
                    issued_at: source.issued_at,
                    id: source.run_id,
                }));
            }
            known.take(version);
        }
        let moment = Moment {
            at,
            since,
            versions: &known.versions,
            judged: &judged,
            run: newest,
            judged_after: 0,
            last_runs: &known.last_runs,
        };
        if let Some(firing) = definition.evaluate(team, &moment, &mut state) {
            run.total += 1;
            if run.firings.len() < LISTED {
                run.firings.push(DryFiring { at, firing });
            }
        }
    }
    Ok(run)
}

/// What had come by some moment.
#[derive(Default)]
struct Known {
    versions: Versions,
    last_runs: HashMap<i64, LastRun>,
}

impl Known {
    fn take(&mut self, received: Received) {
        let run = LastRun {
            id: received.version.source.run_id,
            received_at: received.received_at,
        };
        self.last_runs.insert(received.series_id, run);
        let Received {
            series_id,
            day,
            version,
            ..
        } = received;
        self.versions.insert(series_id, day, version);
    }
}

/// When the rule is asked: after each save, and when the clock alone may change
/// the answer.
fn instants(
    definition: &Definition,
    team: &Team,
    received: &[Received],
    since: OffsetDateTime,
    until: OffsetDateTime,
) -> BTreeMap<OffsetDateTime, Vec<Received>> {
    let mut all: BTreeMap<OffsetDateTime, Vec<Received>> = BTreeMap::new();
    let mut add = |at: OffsetDateTime| {
        if at > since && at <= until {
            all.entry(at).or_default();
        }
    };
    for version in received {
        add(version.received_at);
    }
    let by_clock = !matches!(definition.condition, Condition::Revision(_));
    if by_clock && definition.condition.hours().is_some() {
        // Just after a period has come into the window.
        let step = definition.resolution.seconds();
        let mut seconds = since.unix_timestamp().div_euclid(step) * step;
        while seconds <= until.unix_timestamp() {
            if let Ok(at) = OffsetDateTime::from_unix_timestamp(seconds) {
                add(at + Duration::MILLISECOND);
            }
            seconds += step;
        }
    }
    if let Condition::Late(rule) = &definition.condition {
        let allowed = Duration::minutes(i64::from(rule.after_minutes));
        if team.members.is_empty() {
            add(since + allowed);
        }
        for version in received {
            add(version.received_at + allowed);
        }
        // Of what came before all that is looked at.
        add(since + allowed);
    }
    all
}
