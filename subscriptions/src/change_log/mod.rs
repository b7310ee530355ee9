//! The change log at work: numbered by the [`Sequencer`], read by the [`Tail`].
//!
//! Signals only say *look*: every step finds what there is to do in the
//! database, so that a lost signal costs time and never a change. Changes that
//! other replicas tell of may be applied sooner; the log confirms them.

mod answered;
mod heard;
mod metrics;
mod outage;
mod outbox;
mod sequencer;
mod tail;
#[cfg(test)]
mod tests;

use answered::Answered;
pub(crate) use heard::Heard;
pub use metrics::ChangeLogMetrics;
pub(crate) use outbox::Outbox;
pub use sequencer::{Sequencer, TickError};
pub use tail::{Tail, TailError};

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use domain::cache::Clock;
use domain::change::{self, Epoch, LogPage, Position, Receipt, TickMode};
use domain::database::Database;
use domain::forecast::Forecasts;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use sea_orm::{ConnectionTrait, DbBackend, DbErr, Statement};
use thiserror::Error;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::timeout;

use crate::hub::Hub;

/// How often the log is looked at without a signal.
#[derive(Debug, Clone, Copy)]
pub struct ChangeLogSettings {
    /// While there is something to do.
    pub busy_interval: Duration,
    /// When nothing has happened for a while; reached by doubling.
    pub idle_interval: Duration,
    /// How often unnumbered rows are looked for the slow way, as an alarm.
    pub scan_interval: Duration,
    /// How long a writer waits for the position of what it has committed.
    pub acknowledge_timeout: Duration,
}

/// Numbers what other programs have left and returns the log's head: where a
/// replica starts from. To be called before a [`Clock`] is made.
pub async fn boot(db: &Database) -> Result<Position, DbErr> {
    change::tick(db, TickMode::Scan)
        .await?
        .map(|tick| tick.page.head)
        .ok_or_else(|| DbErr::Custom("the change log gave no head".into()))
}

/// The handle that everyone else holds.
#[derive(Clone)]
pub struct ChangeLog {
    shared: Arc<Shared>,
}

struct Shared {
    db: Database,
    forecasts: Forecasts,
    hub: Hub,
    settings: ChangeLogSettings,
    metrics: ChangeLogMetrics,
    /// Writers count up here and then look for a tick that began after.
    requested: AtomicU64,
    wake_sequencer: Notify,
    /// The log is to be looked at.
    wake_tail: Notify,
    wake_numbered: Notify,
    ticked: watch::Sender<Ticked>,
    /// What the last tick numbered, until the tail takes it.
    numbered: Mutex<Option<LogPage>>,
    outbox: Outbox,
    heard: Heard,
    answered: Answered,
    recent: Mutex<RecentTransactions>,
    /// Leave to read the log from far back, so that those who do cannot take all
    /// connections.
    readers: Semaphore,
}

/// How many read the log from far back at once.
const READERS: usize = 4;

/// The last tick of this replica.
#[derive(Debug, Clone, Copy)]
struct Ticked {
    /// Every request up to this number had been made when it began.
    covered: u64,
    head: Position,
}

/// Why the position of a committed write is not known.
#[derive(Debug, Clone, Error)]
pub enum AcknowledgeError {
    #[error(
        "the write is committed, but its position was not known in time; reads will include it"
    )]
    Timeout,
    #[error("the database began a new history while the write was waiting for its position")]
    NewEpoch,
    #[error("the database failed")]
    Database(#[from] DbErr),
}

/// The head cannot be waited for.
#[derive(Debug, Clone, Copy, Error)]
#[error("position {wanted} is of another history of the database, which is at {current}")]
pub struct ExpiredError {
    pub wanted: Position,
    pub current: Position,
}

impl ChangeLog {
    pub fn new(
        db: Database,
        forecasts: Forecasts,
        hub: Hub,
        settings: ChangeLogSettings,
        metrics: ChangeLogMetrics,
    ) -> Self {
        let head = forecasts.clock().applied();
        metrics.head.set(saturating(head.number));
        metrics.applied.set(saturating(head.number));
        Self {
            shared: Arc::new(Shared {
                db,
                forecasts,
                hub,
                settings,
                metrics,
                requested: AtomicU64::new(0),
                wake_sequencer: Notify::new(),
                wake_tail: Notify::new(),
                wake_numbered: Notify::new(),
                ticked: watch::Sender::new(Ticked { covered: 0, head }),
                numbered: Mutex::default(),
                outbox: Outbox::default(),
                heard: Heard::default(),
                answered: Answered::new(head),
                recent: Mutex::default(),
                readers: Semaphore::new(READERS),
            }),
        }
    }

    /// The worker that numbers changes; one a replica.
    pub fn sequencer(&self) -> Sequencer {
        Sequencer::new(Arc::clone(&self.shared))
    }

    /// The worker that applies changes; one a replica.
    pub fn tail(&self) -> Tail {
        Tail::new(Arc::clone(&self.shared))
    }

    pub fn hub(&self) -> &Hub {
        &self.shared.hub
    }

    pub fn database(&self) -> &Database {
        &self.shared.db
    }

    pub fn forecasts(&self) -> &Forecasts {
        &self.shared.forecasts
    }

    pub(crate) fn readers(&self) -> &Semaphore {
        &self.shared.readers
    }

    pub fn metrics(&self) -> &ChangeLogMetrics {
        &self.shared.metrics
    }

    /// How long ago the database last answered both sequencer and tail. On SQLite
    /// the sequencer waits its turn among writers, which says nothing.
    pub fn silence(&self) -> Duration {
        match self.shared.db.backend() {
            DbBackend::Sqlite => self.shared.answered.silence_of_tail(),
            _ => self.shared.answered.silence(),
        }
    }

    /// What this replica has numbered, for others.
    pub(crate) fn outbox(&self) -> &Outbox {
        &self.shared.outbox
    }

    /// What others have told.
    pub(crate) fn heard(&self) -> &Heard {
        &self.shared.heard
    }

    /// The newest head that this replica has seen.
    pub fn head(&self) -> Position {
        let (ticked, read) = (self.ticked(), self.shared.answered.head());
        if ticked.epoch == read.epoch && ticked.number > read.number {
            ticked
        } else {
            read
        }
    }

    /// The head that this replica's last tick left.
    pub(crate) fn ticked(&self) -> Position {
        self.shared.ticked.borrow().head
    }

    fn clock(&self) -> &Clock {
        self.shared.forecasts.clock()
    }

    /// The last position this replica has applied.
    pub fn applied(&self) -> Position {
        self.clock().applied()
    }

    /// Waits until a committed write has its position and this replica has
    /// applied it, and returns the position of the last of its changes. A read
    /// that begins afterwards includes the write.
    pub async fn acknowledge(&self, receipt: Receipt) -> Result<Position, AcknowledgeError> {
        timeout(
            self.shared.settings.acknowledge_timeout,
            self.position_of(receipt),
        )
        .await
        .unwrap_or(Err(AcknowledgeError::Timeout))
    }

    async fn position_of(&self, receipt: Receipt) -> Result<Position, AcknowledgeError> {
        match receipt {
            Receipt::Numbered(position) => {
                self.shared.wake_tail.notify_one();
                self.wait_applied(position).await?;
                Ok(position)
            }
            Receipt::Nothing => {
                // What it found done already may have been committed by another replica
                // just now, and have no position yet.
                let head = self.settle().await?;
                self.shared.wake_tail.notify_one();
                self.wait_applied(head).await?;
                Ok(head)
            }
            Receipt::Transaction(xid) => {
                let head = self.settle().await?;
                self.wait_applied(head).await?;
                let seen = self.shared.recent.lock().position(head.epoch, xid);
                match seen {
                    Some(number) => Ok(Position { number, ..head }),
                    None => Ok(self.look_up(xid, head).await?),
                }
            }
        }
    }

    /// A tick that begins after this call: everything committed before has its
    /// position then. Returns the head it left.
    async fn settle(&self) -> Result<Position, AcknowledgeError> {
        let mut ticked = self.shared.ticked.subscribe();
        let wanted = self.shared.requested.fetch_add(1, Ordering::SeqCst) + 1;
        self.shared.wake_sequencer.notify_one();
        let ticked = ticked
            .wait_for(|ticked| ticked.covered >= wanted)
            .await
            .map_err(|_| AcknowledgeError::Timeout)?;
        Ok(ticked.head)
    }

    async fn wait_applied(&self, wanted: Position) -> Result<(), AcknowledgeError> {
        self.applied_within(wanted.epoch, wanted)
            .await
            .map_err(|_| AcknowledgeError::NewEpoch)
    }

    /// Waits until this replica has applied a position that somebody has been
    /// told, and has itself read it: an answer then says that it includes it.
    pub async fn reached(&self, wanted: Position) -> Result<(), ExpiredError> {
        let applied = self.applied();
        if is_past(applied, wanted) && is_past(self.clock().known(), wanted) {
            return Ok(());
        }
        if applied.epoch != wanted.epoch {
            // Of a history that began just now, or of one that is over?
            match change::read_head(self.shared.db.reader()).await {
                Ok(head) if head.epoch != wanted.epoch => {
                    return Err(ExpiredError {
                        wanted,
                        current: applied,
                    });
                }
                // One that cannot be told just now is waited for like the first.
                Ok(_) | Err(_) => {}
            }
        }
        // It may be another replica's, of which the tail knows nothing yet. (Of our
        // own writes it is told with what was numbered, and need not read.)
        self.shared.wake_tail.notify_one();
        self.applied_within(applied.epoch, wanted).await
    }

    /// Waits until this replica has itself read a position that it has applied
    /// as another one told it, or until that history is over.
    pub(crate) async fn read_itself(&self, applied: Position) {
        let mut known = self.clock().watch_known();
        // The sender lives as long as the clock.
        drop(
            known
                .wait_for(|at| at.epoch != applied.epoch || at.number >= applied.number)
                .await,
        );
    }

    /// Waits for a position of this epoch, or of the one that follows it.
    async fn applied_within(&self, current: Epoch, wanted: Position) -> Result<(), ExpiredError> {
        let is_over = |at: &Position| at.epoch != current && at.epoch != wanted.epoch;
        for mut watched in [self.clock().watch_applied(), self.clock().watch_known()] {
            let last = watched
                .wait_for(|at| is_past(*at, wanted) || is_over(at))
                .await;
            if !last.is_ok_and(|at| is_past(*at, wanted)) {
                return Err(ExpiredError {
                    wanted,
                    current: self.applied(),
                });
            }
        }
        Ok(())
    }

    /// For a transaction that left the memory of recent ones, or changed nothing.
    async fn look_up(&self, xid: u64, head: Position) -> Result<Position, DbErr> {
        let db = self.shared.db.reader();
        let row = db
            .query_one_raw(Statement::from_sql_and_values(
                db.get_database_backend(),
                "SELECT max(position) AS position FROM change WHERE xid = $1::text::xid8",
                [xid.to_string().into()],
            ))
            .await?;
        let number: Option<i64> = match row {
            Some(row) => row.try_get("", "position")?,
            None => None,
        };
        Ok(match number.and_then(|number| u64::try_from(number).ok()) {
            Some(number) => Position { number, ..head },
            None => head,
        })
    }
}

/// Whether `at` includes `wanted`.
fn is_past(at: Position, wanted: Position) -> bool {
    at.epoch == wanted.epoch && at.number >= wanted.number
}

/// The last position of each of the newest transactions, so that a writer
/// learns its own without asking the database again.
#[derive(Default)]
struct RecentTransactions {
    epoch: Option<Epoch>,
    order: VecDeque<u64>,
    last: FxHashMap<u64, u64>,
}

impl RecentTransactions {
    const MOST: usize = 16_384;

    fn remember(&mut self, epoch: Epoch, xid: u64, number: u64) {
        if self.epoch != Some(epoch) {
            *self = Self {
                epoch: Some(epoch),
                ..Self::default()
            };
        }
        if self.last.insert(xid, number).is_none() {
            self.order.push_back(xid);
            if self.order.len() > Self::MOST
                && let Some(oldest) = self.order.pop_front()
            {
                self.last.remove(&oldest);
            }
        }
    }

    fn position(&self, epoch: Epoch, xid: u64) -> Option<u64> {
        if self.epoch != Some(epoch) {
            return None;
        }
        self.last.get(&xid).copied()
    }
}

fn saturating(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
