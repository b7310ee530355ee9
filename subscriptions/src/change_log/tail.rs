//! The tail: reads the log on from the applied position.

use std::sync::Arc;
use std::time::Duration;

use domain::change::{self, Change, LogPage, PAGE, Position, Subject};
use sea_orm::DbErr;
use thiserror::Error;
use time::OffsetDateTime;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{Shared, saturating};
use crate::hub::Event;

/// Applies committed changes, in order and once: raises their invalidation
/// tags, then hands them to the hub.
pub struct Tail {
    shared: Arc<Shared>,
    interval: Duration,
}

/// The log could not be read; the next try begins where this one did.
#[derive(Debug, Clone, Error)]
#[error("the change log could not be read")]
pub struct TailError(#[from] DbErr);

/// Whether a step found as much as it could take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    None,
    Some,
    More,
}

impl Tail {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            interval: shared.settings.busy_interval,
            shared,
        }
    }

    /// Runs until it is stopped; fails when the log cannot be read.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), TailError> {
        while !stop.is_cancelled() {
            let settings = self.shared.settings;
            match self.step().await? {
                Progress::More => continue,
                Progress::Some => self.interval = settings.busy_interval,
                Progress::None => self.interval = (self.interval * 2).min(settings.idle_interval),
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.shared.wake_tail.notified() => {}
                () = sleep(self.interval) => {}
            }
        }
        Ok(())
    }

    /// Applies one page: what our own tick has just numbered, if it goes on from
    /// here, else what the log has.
    async fn step(&mut self) -> Result<Progress, TailError> {
        let applied = self.shared.forecasts.clock().applied();
        let numbered = self.shared.numbered.lock().take();
        if let Some(page) = numbered
            && !page.changes.is_empty()
            && broken(applied, &page).is_none()
        {
            self.apply(page);
            return Ok(Progress::Some);
        }
        let page = change::read_after(self.shared.db.reader(), applied.number).await?;
        self.shared.metrics.head.set(saturating(page.head.number));
        if let Some(reason) = broken(applied, &page) {
            self.start_over(page.head, reason);
            return Ok(Progress::Some);
        }
        if page.changes.is_empty() {
            return Ok(Progress::None);
        }
        let full = page.changes.len() as u64 == PAGE;
        self.apply(page);
        Ok(if full { Progress::More } else { Progress::Some })
    }

    fn apply(&self, page: LogPage) {
        let shared = &self.shared;
        let clock = shared.forecasts.clock();
        let Some(last) = page.changes.last().map(|(change, _)| change.position) else {
            return;
        };
        // The order the cache rests on: known, then tags, then applied.
        clock.observe(last.number);
        for (change, _) in &page.changes {
            shared.forecasts.invalidate(change);
        }
        {
            let mut recent = shared.recent.lock();
            for (change, xid) in &page.changes {
                if let Some(xid) = xid {
                    recent.remember(last.epoch, *xid, change.position.number);
                }
            }
        }
        clock.advance(last.number);
        let now = OffsetDateTime::now_utc();
        for (change, _) in &page.changes {
            let lag = (now - change.changed_at).as_seconds_f64();
            shared.metrics.lag_seconds.observe(lag.max(0.0));
        }
        shared.metrics.changes.inc_by(page.changes.len() as u64);
        shared.metrics.applied.set(saturating(last.number));
        let changes: Vec<Change> = page.changes.into_iter().map(|(change, _)| change).collect();
        for change in changes {
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
        shared.metrics.resyncs.inc();
        shared.metrics.applied.set(saturating(head.number));
        shared.forecasts.clock().begin_epoch(head);
        shared.hub.resync(head);
    }
}

/// Why the page does not continue at `applied`, if it does not.
fn broken(applied: Position, page: &LogPage) -> Option<&'static str> {
    if page.head.epoch != applied.epoch {
        return Some("the database has another history");
    }
    if page.head.number < applied.number {
        return Some("the log ends before what was applied: it was replaced without a new epoch");
    }
    let mut expected = applied.number;
    for (change, _) in &page.changes {
        expected += 1;
        if change.position.number != expected {
            return Some("the log has a gap: what follows was pruned");
        }
    }
    if page.changes.is_empty() && page.head.number > applied.number {
        return Some("the log has a gap: what follows was pruned");
    }
    None
}
