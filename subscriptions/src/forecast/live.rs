//! The state of one curve: now, and again, or what changed, whenever it changes.

use std::sync::Arc;
use std::time::Duration;

use domain::change::{Position, Subject};
use domain::forecast::{Curve, DeliveryRange, ForecastError, Point, SeriesKey, View};
use time::OffsetDateTime;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_stream::Stream;

use crate::StreamError;
use crate::change_log::ChangeLog;
use crate::follow::{FIRST_WAIT, LONGEST_WAIT};
use crate::hub::{Received, Subscriber, Topic};

/// So long a change that others told of is waited for in the log. Without that
/// its state would be right, but could not say that it includes the change.
const CONFIRMATION: Duration = Duration::from_secs(1);

/// How a curve is followed.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct LiveOptions {
    /// After the first state only what differs from what was told before.
    pub differences: bool,
    /// MWh by which a delivery period must differ from what was told, or have
    /// come or gone, to be told; absent: any difference, of its run too.
    pub min_delta: Option<f64>,
    /// Between two updates at least so long: what changes meanwhile is told at
    /// once then.
    pub interval: Duration,
}

/// What is told of a curve.
#[derive(Debug, Clone)]
pub struct CurveUpdate {
    pub update: Update,
    /// The change log position that all told so far includes at least.
    pub position: Position,
    /// When the newest change in it was made; `None` if none is known.
    pub changed_at: Option<OffsetDateTime>,
    /// Changes that were not told by themselves since the update before.
    pub skipped: u64,
}

/// One update.
#[derive(Debug, Clone)]
pub enum Update {
    /// The whole curve, which stands for all that was told before.
    State(Curve),
    /// All that was told before as one curve, for who has joined.
    Snapshot(Curve),
    /// What is different now.
    Difference(Difference),
}

/// Delivery periods that differ.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Difference {
    /// As they are now.
    pub changed: Vec<Point>,
    /// Starts of those that have no value any more, in seconds since 1970.
    pub removed: Vec<i64>,
}

/// Follows the latest view of a range: at once, then after each change that
/// touches it. Changes that come faster than they are taken are told together,
/// never without the last. A read that fails is tried again for as long as it takes,
/// and no state is told meanwhile. Whoever joins rings `joiners` and gets a snapshot.
/// The hub is joined before this returns.
pub fn live(
    log: &ChangeLog,
    series: SeriesKey,
    range: DeliveryRange,
    options: LiveOptions,
    joiners: Arc<Notify>,
) -> impl Stream<Item = Result<CurveUpdate, StreamError>> + Send + 'static {
    let mut watch = Watch::new(log.clone(), series, range);
    async_stream::try_stream! {
        let budget = watch.log.hub().budget();
        let _claim = budget.claim(told_bytes(range)).ok_or(StreamError::TooManyCurves)?;
        let mut told = watch.read_first().await?;
        yield CurveUpdate {
            position: told.position(),
            update: Update::State(told.clone()),
            changed_at: None,
            skipped: 0,
        };
        let mut untold = Touch::default();
        let mut newest = None;
        let mut patience = FIRST_WAIT;
        let mut not_before = Instant::now() + options.interval;
        loop {
            let woken = tokio::select! {
                biased;
                () = joiners.notified() => Woken::Joiner,
                () = sleep_until(not_before), if untold.changes > 0 => Woken::Due,
                touch = watch.touched() => Woken::Touched(touch),
            };
            match woken {
                Woken::Joiner => yield CurveUpdate {
                    position: told.position(),
                    update: Update::Snapshot(told.clone()),
                    changed_at: newest,
                    skipped: 0,
                },
                Woken::Touched(touch) => untold.add(touch),
                Woken::Due => {
                    untold.add(watch.queued());
                    watch.confirmed().await;
                    let now = match watch.read().await {
                        Ok(now) => now,
                        Err(error) if is_passing(&error) => {
                            // The last state stands until then, for who joins, too.
                            not_before = Instant::now() + patience;
                            patience = (patience * 2).min(LONGEST_WAIT);
                            continue;
                        }
                        Err(error) => Err(error)?,
                    };
                    patience = FIRST_WAIT;
                    let difference = Difference::between(&told, &now, options.min_delta);
                    if difference.is_empty() && (options.differences || options.min_delta.is_some()) {
                        // Still untold, for the count; nothing to tell until the next touch.
                        untold = Touch { changes: 0, passed: untold.passed + untold.changes, ..untold };
                        continue;
                    }
                    newest = untold.changed_at.or(newest);
                    // The update stands for one of them.
                    let skipped = (untold.passed + untold.changes).saturating_sub(1);
                    untold = Touch::default();
                    let update = if options.differences {
                        told = told.updated(&now, |start| difference.has(start));
                        Update::Difference(difference)
                    } else {
                        told = now;
                        Update::State(told.clone())
                    };
                    yield CurveUpdate {
                        position: told.position(),
                        update,
                        changed_at: newest,
                        skipped,
                    };
                    not_before = Instant::now() + options.interval;
                }
            }
        }
    }
}

/// Memory of the state that was told last, about.
fn told_bytes(range: DeliveryRange) -> usize {
    const OF_A_PERIOD: usize = 10;
    const OF_A_DAY: usize = 256;
    let of_a_day = range.resolution().periods_per_day() * OF_A_PERIOD + OF_A_DAY;
    range.days().count() * of_a_day
}

/// Whether another attempt may succeed.
fn is_passing(error: &ForecastError) -> bool {
    matches!(error, ForecastError::Database(_) | ForecastError::Aborted)
}

enum Woken {
    Joiner,
    Touched(Touch),
    Due,
}

/// Changes that touched the curve.
#[derive(Debug, Clone, Copy, Default)]
struct Touch {
    /// Not looked at yet.
    changes: u64,
    /// Looked at, and too small to be told.
    passed: u64,
    /// When the newest was made.
    changed_at: Option<OffsetDateTime>,
}

impl Touch {
    fn add(&mut self, other: Self) {
        self.changes += other.changes;
        self.changed_at = other.changed_at.or(self.changed_at);
    }
}

/// The curve's place in the hub.
struct Watch {
    log: ChangeLog,
    series: SeriesKey,
    range: DeliveryRange,
    subscriber: Subscriber,
    /// The last state read includes everything up to here.
    seen: Position,
    /// The last change that touched the curve.
    touched: Position,
}

fn join(log: &ChangeLog, series: &SeriesKey) -> Subscriber {
    log.hub().join(vec![Topic::ForecastsOf(series.unit)])
}

impl Watch {
    fn new(log: ChangeLog, series: SeriesKey, range: DeliveryRange) -> Self {
        let subscriber = join(&log, &series);
        Self {
            seen: subscriber.joined_at(),
            touched: subscriber.joined_at(),
            log,
            series,
            range,
            subscriber,
        }
    }

    async fn read(&mut self) -> Result<Curve, ForecastError> {
        let forecasts = self.log.forecasts();
        let curve = forecasts
            .curve(&self.series, self.range, View::Latest)
            .await
            .inspect_err(|error| {
                tracing::warn!(
                    error = error as &dyn std::error::Error,
                    "a live curve could not be read"
                );
            })?;
        self.seen = curve.position();
        Ok(curve)
    }

    /// The first state: as long as event streams do it waits for a database that
    /// fails. There is nothing yet that could stand instead.
    async fn read_first(&mut self) -> Result<Curve, ForecastError> {
        let mut wait = FIRST_WAIT;
        loop {
            match self.read().await {
                Err(error) if is_passing(&error) && wait <= LONGEST_WAIT => {
                    sleep(wait).await;
                    wait *= 2;
                }
                outcome => return outcome,
            }
        }
    }

    /// Waits a moment for this replica to have read what touched the curve.
    async fn confirmed(&self) {
        drop(timeout(CONFIRMATION, self.log.read_itself(self.touched)).await);
    }

    /// Waits for a change that touches the curve. Nothing is lost when it is
    /// dropped before that.
    async fn touched(&mut self) -> Touch {
        loop {
            let received = self.subscriber.recv().await;
            if let Some(touch) = self.touch(&received) {
                return touch;
            }
        }
    }

    /// What is queued by now.
    fn queued(&mut self) -> Touch {
        let mut all = Touch::default();
        while let Some(received) = self.subscriber.try_recv() {
            if let Some(touch) = self.touch(&received) {
                all.add(touch);
            }
        }
        all
    }

    fn touch(&mut self, received: &Received) -> Option<Touch> {
        let Received::Event(event) = received else {
            // What was missed is in the state that is read next.
            self.subscriber = join(&self.log, &self.series);
            self.touched = self.subscriber.joined_at();
            return Some(Touch {
                changes: 1,
                ..Touch::default()
            });
        };
        let position = event.change.position;
        // A state's position is a lower bound: what it includes may come again.
        let unseen = position.epoch != self.seen.epoch || position.number > self.seen.number;
        match &event.change.subject {
            Subject::Forecast(change)
                if unseen
                    && change.series == self.series
                    && change.from.unix_timestamp() < self.range.to()
                    && change.to.unix_timestamp() > self.range.from() =>
            {
                self.touched = position;
                Some(Touch {
                    changes: 1,
                    passed: 0,
                    changed_at: Some(event.change.changed_at),
                })
            }
            _ => None,
        }
    }
}

impl Difference {
    /// What a later state has that is different enough.
    fn between(before: &Curve, after: &Curve, min_delta: Option<f64>) -> Self {
        let differs = |old: &Point, new: &Point| match min_delta {
            None => old != new,
            Some(least) => old.mwh != new.mwh && (old.mwh - new.mwh).abs() >= least,
        };
        let mut difference = Self::default();
        let mut old_points = before.points().peekable();
        for new in after.points() {
            while let Some(old) = old_points.next_if(|old| old.delivery_start < new.delivery_start)
            {
                difference.removed.push(old.delivery_start);
            }
            let old = old_points.next_if(|old| old.delivery_start == new.delivery_start);
            if old.is_none_or(|old| differs(&old, &new)) {
                difference.changed.push(new);
            }
        }
        difference
            .removed
            .extend(old_points.map(|old| old.delivery_start));
        difference
    }

    fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.removed.is_empty()
    }

    fn has(&self, start: i64) -> bool {
        let changed = self
            .changed
            .binary_search_by_key(&start, |point| point.delivery_start);
        changed.is_ok() || self.removed.binary_search(&start).is_ok()
    }
}
