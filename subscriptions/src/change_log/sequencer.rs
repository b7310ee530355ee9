//! The sequencer: gives committed changes their positions.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use domain::change::{self, TickMode};
use domain::database::Fault;
use sea_orm::{ConnectionTrait, DbBackend, DbErr, Statement};
use thiserror::Error;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::outage::Outage;
use super::{Shared, Ticked, saturating};

/// Numbers what has committed, when a writer asks and now and then by itself.
///
/// One tick runs at a time on each replica: writers that ask while one runs
/// share the next.
pub struct Sequencer {
    shared: Arc<Shared>,
    interval: Duration,
    scanned: Instant,
    /// More than one writer waited for the last tick.
    crowded: bool,
}

/// How long writers gather for a tick when there are many of them.
const GATHERING: Duration = Duration::from_millis(1);

/// A tick failed; what it would have numbered is left for the next.
#[derive(Debug, Clone, Error)]
#[error("the change log could not be numbered")]
pub struct TickError(#[from] DbErr);

impl Sequencer {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            interval: shared.settings.busy_interval,
            shared,
            scanned: Instant::now(),
            crowded: false,
        }
    }

    /// Runs until it is stopped. A tick that fails is tried again: writers wait for it.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), Infallible> {
        let mut outage = Outage::new("the change log cannot be numbered");
        while !stop.is_cancelled() {
            match self.step().await {
                Ok(()) => outage.over(),
                Err(TickError(error)) => {
                    self.shared.metrics.failed_ticks.inc();
                    if Fault::of(&error) == Fault::Busy {
                        // An answer, too: somebody else has the lock.
                        self.shared.answered.sequencer();
                    }
                    let delay = outage.failed(&error);
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = sleep(delay) => {}
                    }
                    continue;
                }
            }
            // A writer may have asked while the tick ran. Where several share ticks
            // anyway, a moment lets more of them share the next: a tick each would
            // cost the database as much as the writes do.
            if self.is_asked() {
                if self.crowded {
                    sleep(GATHERING).await;
                }
                continue;
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.shared.wake_sequencer.notified() => {}
                () = sleep(self.interval) => {}
            }
        }
        Ok(())
    }

    fn is_asked(&self) -> bool {
        self.shared.requested.load(Ordering::SeqCst) > self.shared.ticked.borrow().covered
    }

    /// One tick. Public so that tests can decide when.
    pub async fn step(&mut self) -> Result<(), TickError> {
        let settings = &self.shared.settings;
        let asked = self.is_asked();
        let mode = if self.scanned.elapsed() >= settings.scan_interval {
            TickMode::Scan
        } else if asked {
            TickMode::Wait
        } else {
            TickMode::Try
        };
        // Read before the tick begins: whoever counts up later waits for the next.
        let covered = self.shared.requested.load(Ordering::SeqCst);
        self.crowded = covered - self.shared.ticked.borrow().covered > 1;
        let began = Instant::now();
        let Some(tick) = change::tick(&self.shared.db, mode).await? else {
            self.shared.answered.sequencer();
            return Ok(());
        };
        self.shared.answered.sequencer();
        let head = tick.page.head;
        let metrics = &self.shared.metrics;
        metrics.ticks.inc();
        metrics.tick_seconds.observe(began.elapsed().as_secs_f64());
        metrics.numbered.inc_by(tick.numbered);
        metrics.head.set(saturating(head.number));
        if mode == TickMode::Scan {
            self.alarm(tick.numbered).await?;
            self.scanned = Instant::now();
        }
        if tick.numbered > 0 {
            self.shared.outbox.put(&tick.page);
        }
        let clock = self.shared.forecasts.clock();
        if head != clock.applied() || head != clock.known() {
            // What it has numbered the tail need not read again.
            *self.shared.numbered.lock() = Some(tick.page);
            self.shared.wake_numbered.notify_one();
        }
        self.shared.ticked.send_replace(Ticked { covered, head });
        self.interval = if asked || tick.numbered > 0 {
            settings.busy_interval
        } else {
            (self.interval * 2).min(settings.idle_interval)
        };
        Ok(())
    }

    /// A scan numbers what has just committed, too; what it finds is overlooked
    /// only if earlier ticks should have seen it. They are told apart by age.
    async fn alarm(&self, numbered: u64) -> Result<(), DbErr> {
        if numbered == 0 || self.shared.db.backend() != DbBackend::Postgres {
            return Ok(());
        }
        let db = self.shared.db.control();
        let row = db
            .query_one_raw(Statement::from_string(
                DbBackend::Postgres,
                "SELECT count(*) AS overlooked FROM change c, \
                 (SELECT head, snapshot FROM tick ORDER BY id DESC LIMIT 1 OFFSET 1) previous \
                 WHERE c.position > previous.head AND pg_visible_in_snapshot(c.xid, previous.snapshot)",
            ))
            .await?;
        let overlooked: i64 = match row {
            Some(row) => row.try_get("", "overlooked")?,
            None => 0,
        };
        if overlooked > 0 {
            self.shared
                .metrics
                .overlooked
                .inc_by(u64::try_from(overlooked).unwrap_or(0));
            tracing::error!(
                changes = overlooked,
                "ticks had overlooked committed changes; a scan has numbered them now"
            );
        }
        Ok(())
    }
}
