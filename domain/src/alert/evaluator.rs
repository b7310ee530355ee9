//! Evaluation on the change log: once for all replicas.

use std::collections::{HashMap, HashSet};

use sea_orm::{ConnectionTrait, DbBackend, DbErr};
use time::{Duration, OffsetDateTime};

use super::AlertError;
use super::firing::Firing;
use super::load::{self, Needs};
use super::moment::Moment;
use super::revision::RunOf;
use super::rule::{Condition, State};
use super::store::{self, Cursor, Stored};
use super::team::{Root, Team, read_capacities, teams};
use super::versions::Judged;
use crate::change::{self, Change, ForecastChange, Operation, Position, Receipt, Subject};
use crate::database::{Database, Transaction, again, sql};
use crate::notification::{self, NotificationError};

/// How often what goes by the clock is looked at.
const CHECK: Duration = Duration::seconds(30);

/// Evaluates the rules as the change log goes on.
///
/// Several may be at it: what one has worked out is written only if nobody has
/// moved the cursor or touched a rule meanwhile.
#[derive(Debug)]
pub struct Evaluator {
    db: Database,
    /// Up to here there was nothing to write: the stored cursor need not follow
    /// each change that is no rule's business.
    passed: Option<Position>,
}

/// What a step did.
#[derive(Debug)]
pub struct Stepped {
    /// There is more to look at already.
    pub more: bool,
    /// Notifications that were written.
    pub fired: usize,
    /// Rules whose notification could not be written, because of what they say.
    pub failed: Vec<(i64, NotificationError)>,
    /// The log did not go on from where it had been looked at.
    pub restart: Option<Restart>,
    /// What to wait for.
    pub receipt: Receipt,
}

/// What lies between the two was not evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restart {
    pub from: Position,
    pub to: Position,
}

impl Stepped {
    fn nothing(more: bool) -> Self {
        Self {
            more,
            fired: 0,
            failed: Vec::new(),
            restart: None,
            receipt: Receipt::Nothing,
        }
    }
}

/// What a look at the log came to.
enum Look {
    /// Nothing that is to be written, up to here.
    Passed {
        to: Position,
        more: bool,
    },
    /// Another replica is at it.
    Elsewhere,
    Write(Box<Work>),
}

/// What is to be written by one transaction.
struct Work {
    read: Cursor,
    to: Position,
    checked_at: OffsetDateTime,
    more: bool,
    restart: Option<Restart>,
    outcomes: Vec<Outcome>,
}

/// What became of a rule.
struct Outcome {
    stored: Stored,
    team: Team,
    state: State,
    firing: Option<Firing>,
}

/// A rule that is to be asked.
struct Job {
    stored: Stored,
    /// The newest run that moved it, of a rule on revisions.
    run: Option<RunOf>,
    /// What the log has up to here is not judged.
    judged_after: u64,
}

impl Evaluator {
    pub fn new(db: Database) -> Self {
        Self { db, passed: None }
    }

    /// Looks at what has come since the last step, some of it, and at the clock;
    /// writes what fires.
    pub async fn step(&mut self, now: OffsetDateTime) -> Result<Stepped, AlertError> {
        let snapshot = self.db.snapshot().await?;
        let look = self.look(&snapshot, now).await?;
        snapshot.commit().await?;
        match look {
            Look::Passed { to, more } => {
                self.passed = Some(to);
                Ok(Stepped::nothing(more))
            }
            Look::Elsewhere => Ok(Stepped::nothing(false)),
            Look::Write(work) => {
                let written = again(|| async {
                    let txn = self.db.begin().await?;
                    match write(&txn, &work, now).await {
                        Ok(Some(mut stepped)) => {
                            stepped.receipt = change::commit(txn).await?;
                            Ok(Some(stepped))
                        }
                        superseded => {
                            txn.rollback().await;
                            superseded
                        }
                    }
                });
                let Some(stepped) = written.await? else {
                    return Ok(Stepped::nothing(true));
                };
                self.passed = Some(work.to);
                Ok(stepped)
            }
        }
    }

    /// Reads and works out, all from one state of the database.
    async fn look(&self, db: &Transaction, now: OffsetDateTime) -> Result<Look, DbErr> {
        let read = store::cursor(db).await?;
        // A clock that was set back must not stop it.
        let is_due = (now - read.checked_at).abs() >= CHECK;
        let nothing = |to: Position, more: bool| {
            if !is_due {
                return Look::Passed { to, more };
            }
            Look::Write(Box::new(Work {
                read,
                to,
                checked_at: now,
                more,
                restart: None,
                outcomes: Vec::new(),
            }))
        };
        if !read.has_rules {
            return Ok(nothing(change::read_head(db).await?, false));
        }
        let from = match self.passed {
            Some(passed)
                if passed.epoch == read.position.epoch && passed.number > read.position.number =>
            {
                passed
            }
            _ => read.position,
        };
        let (head, batch) = load::batch(db, from.number).await?;
        let Some(batch) = batch.filter(|_| head.epoch == from.epoch) else {
            return Ok(Look::Write(Box::new(Work {
                read,
                to: head,
                checked_at: read.checked_at,
                more: true,
                restart: Some(Restart { from, to: head }),
                outcomes: Vec::new(),
            })));
        };
        let to = batch.changes.last().map_or(from, |last| last.position);
        let feed = Feed::of(&batch.changes);
        let mut candidates = if feed.changes.is_empty() {
            Vec::new()
        } else {
            store::touched(db, &feed.series()).await?
        };
        let by_clock = if is_due || feed.is_void {
            store::timed(db).await?
        } else {
            Vec::new()
        };
        if candidates.is_empty() && by_clock.is_empty() {
            return Ok(nothing(to, batch.is_full));
        }
        if !is_our_turn(db).await? {
            return Ok(Look::Elsewhere);
        }
        let known: HashSet<i64> = candidates.iter().map(|stored| stored.rule.id).collect();
        // One that was touched is asked anyway.
        let by_clock: Vec<Stored> = by_clock
            .into_iter()
            .filter(|stored| match &stored.rule.definition.condition {
                Condition::Late(_) => is_due,
                _ => feed.is_void || moves(stored, read.checked_at, now),
            })
            .collect();
        let clocked: HashSet<i64> = by_clock.iter().map(|stored| stored.rule.id).collect();
        candidates.extend(
            by_clock
                .into_iter()
                .filter(|stored| !known.contains(&stored.rule.id)),
        );
        let roots: HashSet<Root> = candidates.iter().map(|stored| stored.root).collect();
        let mut teams = teams(db, &roots.into_iter().collect::<Vec<_>>()).await?;
        let outcomes = evaluate(
            db,
            Asked {
                candidates,
                clocked,
                feed: &feed,
                end: to,
            },
            &mut teams,
            now,
        )
        .await?;
        // Once rules were asked, the cursor moves even if none fires: what has been
        // compared must not be taken together with what comes later.
        let Some(outcomes) = outcomes else {
            return Ok(nothing(to, batch.is_full));
        };
        Ok(Look::Write(Box::new(Work {
            read,
            to,
            checked_at: if is_due { now } else { read.checked_at },
            more: batch.is_full,
            restart: None,
            outcomes,
        })))
    }
}

/// A change of forecasts, and its place in the log.
#[derive(Clone, Copy)]
struct Touch<'a> {
    change: &'a ForecastChange,
    operation: Operation,
    position: Position,
}

impl Touch<'_> {
    /// A run that is taken back is no new run.
    fn is_new(&self) -> bool {
        matches!(self.operation, Operation::Insert | Operation::Update)
    }
}

/// What a batch of the log says of forecasts.
struct Feed<'a> {
    changes: Vec<Touch<'a>>,
    /// Everything known was void at some place in it.
    is_void: bool,
}

impl<'a> Feed<'a> {
    fn of(changes: &'a [Change]) -> Self {
        let forecasts = changes.iter().filter_map(|change| match &change.subject {
            Subject::Forecast(forecast) => Some(Touch {
                change: forecast,
                operation: change.operation,
                position: change.position,
            }),
            Subject::Unit(_)
            | Subject::Provider(_)
            | Subject::Notification(_)
            | Subject::Other(_)
            | Subject::Everything => None,
        });
        Self {
            changes: forecasts.collect(),
            is_void: changes
                .iter()
                .any(|change| change.subject == Subject::Everything),
        }
    }

    fn series(&self) -> HashSet<i64> {
        self.changes
            .iter()
            .map(|touch| touch.change.series_id)
            .collect()
    }
}

/// Whether a delivery period has come into the window of a rule since the clock
/// was last looked at.
fn moves(stored: &Stored, last: OffsetDateTime, now: OffsetDateTime) -> bool {
    let definition = &stored.rule.definition;
    stored.rule.updated_at > last || definition.window(last) != definition.window(now)
}

/// Rules that may have to be asked, and why.
struct Asked<'a> {
    candidates: Vec<Stored>,
    /// Those whose time has come, whatever the log says.
    clocked: HashSet<i64>,
    feed: &'a Feed<'a>,
    end: Position,
}

/// Asks the rules, if the feed or the clock concerns any; returns those that fire
/// or have something new to remember.
async fn evaluate(
    db: &Transaction,
    asked: Asked<'_>,
    teams: &mut HashMap<Root, Team>,
    now: OffsetDateTime,
) -> Result<Option<Vec<Outcome>>, DbErr> {
    let mut by_series: HashMap<i64, Vec<Touch<'_>>> = HashMap::new();
    for touch in &asked.feed.changes {
        let touches = by_series.entry(touch.change.series_id).or_default();
        touches.push(*touch);
    }
    // The rules to ask, and what of the feed each is asked about.
    let mut touched: Vec<(Stored, u64, Vec<Touch<'_>>)> = Vec::new();
    for stored in asked.candidates {
        let definition = &stored.rule.definition;
        let Some(team) = teams.get(&stored.root) else {
            continue;
        };
        let is_revision = matches!(definition.condition, Condition::Revision(_));
        let window = definition.window(now);
        // Positions of another history mean nothing here.
        let is_same = stored.since.epoch == asked.end.epoch;
        let judged_after = if is_same { stored.since.number } else { 0 };
        let mut touches: Vec<Touch<'_>> = team
            .members
            .iter()
            .filter_map(|member| by_series.get(&member.series_id))
            .flatten()
            .filter(|touch| !is_revision || touch.is_new())
            .filter(|touch| touch.position.number > judged_after)
            .filter(|touch| window.is_some_and(|w| w.touches(touch.change.from, touch.change.to)))
            .copied()
            .collect();
        if !touches.is_empty() || asked.clocked.contains(&stored.rule.id) {
            if !is_revision {
                touches.clear();
            }
            touched.push((stored, judged_after, touches));
        }
    }
    let run_ids: HashSet<i64> = touched
        .iter()
        .flat_map(|(_, _, touches)| touches.iter().map(|touch| touch.change.run_id))
        .collect();
    let runs = load::runs(db, &run_ids).await?;
    let judged = if run_ids.is_empty() {
        Judged::default()
    } else {
        let changes: Vec<(&ForecastChange, u64)> = asked
            .feed
            .changes
            .iter()
            .filter(|touch| touch.is_new())
            .map(|touch| (touch.change, touch.position.number))
            .collect();
        // Of members that did not change, too: the next batch may be theirs.
        let series = touched
            .iter()
            .filter(|(_, _, touches)| !touches.is_empty())
            .filter_map(|(stored, _, _)| teams.get(&stored.root))
            .flat_map(|team| team.members.iter().map(|member| member.series_id))
            .collect();
        load::judged(db, &changes, &series, asked.end.number).await?
    };
    let jobs: Vec<Job> = touched
        .into_iter()
        .map(|(stored, judged_after, touches)| Job {
            run: touches
                .iter()
                .filter_map(|touch| runs.get(&touch.change.run_id).copied())
                .max(),
            stored,
            judged_after,
        })
        .collect();
    if jobs.is_empty() {
        return Ok(None);
    }
    Ok(Some(ask(db, jobs, teams, &judged, now).await?))
}

async fn ask(
    db: &Transaction,
    jobs: Vec<Job>,
    teams: &mut HashMap<Root, Team>,
    judged: &Judged,
    now: OffsetDateTime,
) -> Result<Vec<Outcome>, DbErr> {
    let mut needs = Needs::default();
    let mut awaited = HashSet::new();
    let mut measured = HashSet::new();
    for job in &jobs {
        let definition = &job.stored.rule.definition;
        let Some(team) = teams.get(&job.stored.root) else {
            continue;
        };
        let view = definition.view(now, job.run, job.judged_after, &job.stored.state);
        if let Some(view) = view {
            needs.add(team, &view);
        }
        if matches!(definition.condition, Condition::Late(_)) {
            awaited.extend(team.members.iter().map(|member| member.series_id));
        }
        if definition.needs_capacity() {
            measured.insert(job.stored.root);
        }
    }
    let versions = needs.read(db, judged).await?;
    let last_runs = load::last_runs(db, &awaited, now).await?;
    let without = teams
        .iter_mut()
        .filter(|(root, _)| measured.contains(root))
        .map(|(_, team)| team);
    read_capacities(db, without).await?;
    let mut outcomes = Vec::new();
    for job in jobs {
        let Some(team) = teams.get(&job.stored.root) else {
            continue;
        };
        let moment = Moment {
            at: now,
            since: job.stored.rule.created_at,
            versions: &versions,
            judged,
            run: job.run,
            judged_after: job.judged_after,
            last_runs: &last_runs,
        };
        let mut state = job.stored.state.clone();
        let definition = &job.stored.rule.definition;
        let firing = definition.evaluate(team, &moment, &mut state);
        if firing.is_some() || state != job.stored.state {
            outcomes.push(Outcome {
                team: team.clone(),
                state,
                firing,
                stored: job.stored,
            });
        }
    }
    Ok(outcomes)
}

/// Whether no other replica is evaluating: it would be work for nothing. It holds
/// until the transaction ends.
async fn is_our_turn(db: &Transaction) -> Result<bool, DbErr> {
    if db.get_database_backend() != DbBackend::Postgres {
        return Ok(true);
    }
    let row = db
        .query_one_raw(sql(
            db,
            "SELECT pg_try_advisory_xact_lock(hashtext('smartpulse'), hashtext('alert')) AS taken",
            [],
        ))
        .await?;
    row.map_or(Ok(false), |row| row.try_get("", "taken"))
}

/// `None` where it was worked out from what no longer holds.
async fn write(
    txn: &Transaction,
    work: &Work,
    now: OffsetDateTime,
) -> Result<Option<Stepped>, DbErr> {
    if !store::advance(txn, &work.read, work.to, work.checked_at).await? {
        return Ok(None);
    }
    let mut stepped = Stepped::nothing(work.more);
    stepped.restart = work.restart;
    let audible = |outcome: &Outcome| outcome.stored.rule.is_audible(now);
    let targets = work
        .outcomes
        .iter()
        .filter(|outcome| outcome.firing.is_some() && audible(outcome))
        .map(|outcome| &outcome.stored.rule.definition.to);
    store::lock_recipients(txn, targets).await?;
    for outcome in &work.outcomes {
        let rule = &outcome.stored.rule;
        let mut told = None;
        if let Some(firing) = &outcome.firing
            && audible(outcome)
        {
            let request = firing.request(rule, &outcome.team, work.to);
            match notification::write(txn, &rule.sender(), &request, now).await {
                Ok(_) => {
                    stepped.fired += 1;
                    told = Some((firing, now));
                }
                Err(NotificationError::Database(error)) => return Err(error),
                // Whom it was for is gone: the others must not wait for that.
                Err(error) => stepped.failed.push((rule.id, error)),
            }
        }
        store::remember(txn, rule.id, &outcome.state, told).await?;
    }
    Ok(Some(stepped))
}
