//! The tail: reads the log on from the applied position.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use domain::change::{self, Change, LogPage, PAGE, Position, Subject};
use sea_orm::DbErr;
use thiserror::Error;
use time::OffsetDateTime;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::heard::Contradiction;
use super::outage::Outage;
use super::{Shared, saturating};
use crate::hub::Event;

/// What others tell makes the tail read the log so often at most.
const HEARSAY_PACE: Duration = Duration::from_millis(5);

/// Applies committed changes, in order and once: raises their invalidation
/// tags, then hands them to the hub.
pub struct Tail {
    shared: Arc<Shared>,
    interval: Duration,
    looked_at: Instant,
    /// When to look at the log, if nothing happens before.
    look_at: Instant,
    /// When to look because of what others told.
    asked_for: Option<Instant>,
}

/// The log could not be read; the next try begins where this one did.
#[derive(Debug, Clone, Error)]
#[error("the change log could not be read")]
pub struct TailError(#[from] DbErr);

impl Tail {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let now = Instant::now();
        Self {
            interval: shared.settings.busy_interval,
            shared,
            looked_at: now,
            look_at: now,
            asked_for: None,
        }
    }

    /// Runs until it is stopped. What cannot be read is read later: the log keeps it.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), Infallible> {
        let mut outage = Outage::new("the change log cannot be read");
        while !stop.is_cancelled() {
            self.take_heard();
            let look_at = self
                .asked_for
                .map_or(self.look_at, |at| at.min(self.look_at));
            if look_at <= Instant::now() {
                match self.look().await {
                    Ok(()) => outage.over(),
                    Err(TailError(error)) => {
                        self.shared.metrics.failed_reads.inc();
                        self.look_at = Instant::now() + outage.failed(&error);
                        self.asked_for = None;
                    }
                }
                continue;
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.shared.wake_tail.notified() => self.look_at = Instant::now(),
                () = self.shared.wake_numbered.notified() => self.take_numbered(),
                () = self.shared.heard.arrived() => {}
                () = sleep_until(look_at) => {}
            }
        }
        Ok(())
    }

    /// Applies what our own tick has just numbered, if it goes on from here;
    /// else the log is to be looked at.
    fn take_numbered(&mut self) {
        let Some(page) = self.shared.numbered.lock().take() else {
            return;
        };
        let clock = self.shared.forecasts.clock();
        let applied = clock.applied();
        if page.head == applied {
            // Others told of it, or the log did: now this replica has read it.
            clock.observe(applied.number);
        } else if !page.changes.is_empty() && broken(applied, applied, &page).is_none() {
            clock.observe(page.head.number);
            self.apply(page.changes);
            self.look_again(true);
        } else {
            self.look_at = Instant::now();
        }
    }

    /// Applies what others have told, if it goes on from here. The log is read
    /// soon: to confirm it, and because only that raises what is known.
    pub(super) fn take_heard(&mut self) {
        let taken = self
            .shared
            .heard
            .take(self.shared.forecasts.clock().applied());
        if !taken.changes.is_empty() {
            self.shared.metrics.heard.inc_by(taken.changes.len() as u64);
            self.apply(taken.changes);
        }
        if taken.look {
            let at = self.looked_at + HEARSAY_PACE;
            self.asked_for.get_or_insert(at.max(Instant::now()));
        }
    }

    /// Applies one page of the log.
    pub(super) async fn look(&mut self) -> Result<(), TailError> {
        self.looked_at = Instant::now();
        self.asked_for = None;
        let shared = &self.shared;
        let clock = shared.forecasts.clock();
        let applied = clock.applied();
        let confirmed = shared.heard.confirmed(applied);
        let page = change::read_after(shared.db.control(), confirmed.number, PAGE).await?;
        shared.answered.tail(page.head);
        shared.metrics.head.set(saturating(page.head.number));
        if let Some(reason) = broken(confirmed, applied, &page) {
            self.start_over(page.head, reason);
            self.look_again(true);
            return Ok(());
        }
        if let Err(Contradiction) = shared.heard.confirm(&page.changes) {
            self.start_over(
                page.head,
                "others had told of changes that are not in the log",
            );
            self.look_again(true);
            return Ok(());
        }
        // Also where others have told of all of it.
        clock.observe(page.head.number);
        let (found, full) = (!page.changes.is_empty(), page.changes.len() as u64 == PAGE);
        let mut changes = page.changes;
        changes.retain(|(change, _)| change.position.number > applied.number);
        self.apply(changes);
        self.look_again(found);
        if full {
            self.look_at = Instant::now();
        }
        Ok(())
    }

    fn look_again(&mut self, found: bool) {
        let settings = self.shared.settings;
        self.interval = if found {
            settings.busy_interval
        } else {
            (self.interval * 2).min(settings.idle_interval)
        };
        self.look_at = Instant::now() + self.interval;
    }

    /// Applies changes that go on from the applied position. What of them this
    /// replica has read is known by now.
    fn apply(&self, changes: Vec<(Change, Option<u64>)>) {
        let shared = &self.shared;
        let clock = shared.forecasts.clock();
        let Some(last) = changes.last().map(|(change, _)| change.position) else {
            return;
        };
        // The order the cache rests on: known, then tags, then applied.
        for (change, _) in &changes {
            shared.forecasts.invalidate(change);
        }
        {
            let mut recent = shared.recent.lock();
            for (change, xid) in &changes {
                if let Some(xid) = xid {
                    recent.remember(last.epoch, *xid, change.position.number);
                }
            }
        }
        clock.advance(last.number);
        let now = OffsetDateTime::now_utc();
        for (change, _) in &changes {
            let lag = (now - change.changed_at).as_seconds_f64();
            shared.metrics.lag_seconds.observe(lag.max(0.0));
        }
        shared.metrics.changes.inc_by(changes.len() as u64);
        shared.metrics.applied.set(saturating(last.number));
        for (change, _) in changes {
            if change.subject == Subject::Everything {
                shared.metrics.resyncs.inc();
                shared.hub.resync(change.position);
            } else {
                shared.hub.publish(Arc::new(Event::new(change)));
            }
        }
    }

    /// The log does not continue where this replica stands.
    fn start_over(&self, head: Position, reason: &'static str) {
        tracing::warn!(position = %head, reason, "starting over from the head of the change log");
        let shared = &self.shared;
        // What our tick found is of what was before, too.
        shared.numbered.lock().take();
        if shared.heard.forget() {
            shared.metrics.contradicted.inc();
        }
        shared.metrics.resyncs.inc();
        shared.metrics.applied.set(saturating(head.number));
        shared.forecasts.clock().begin_epoch(head);
        shared.hub.resync(head);
    }
}

/// Why the page, read after `confirmed`, does not continue at `applied`, if it
/// does not.
fn broken(confirmed: Position, applied: Position, page: &LogPage) -> Option<&'static str> {
    if page.head.epoch != applied.epoch {
        return Some("the database has another history");
    }
    if page.head.number < applied.number {
        return Some(
            "the log ends before what was applied: it was replaced without a new epoch, or others had told of what is not in it",
        );
    }
    let mut expected = confirmed.number;
    for (change, _) in &page.changes {
        expected += 1;
        if change.position.number != expected {
            return Some("the log has a gap: what follows was pruned");
        }
    }
    if page.changes.is_empty() && page.head.number > confirmed.number {
        return Some("the log has a gap: what follows was pruned");
    }
    None
}
