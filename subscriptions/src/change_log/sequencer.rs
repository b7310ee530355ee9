//! The sequencer: gives committed changes their positions.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use domain::change::{self, Epoch, Position};
use domain::database::Database;
use sea_orm::{ConnectionTrait, DbBackend, DbErr, Statement};
use thiserror::Error;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{Shared, Ticked, saturating};

/// Numbers what has committed, when a writer asks and now and then by itself.
///
/// One tick runs at a time on each replica: writers that ask while one runs
/// share the next.
pub struct Sequencer {
    shared: Arc<Shared>,
    interval: Duration,
    scanned: Instant,
}

/// A tick failed; what it would have numbered is left for the next.
#[derive(Debug, Clone, Error)]
#[error("the change log could not be numbered")]
pub struct TickError(#[from] DbErr);

/// How a tick behaves when another one runs, and how it finds new rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Takes its turn: somebody waits for it.
    Wait,
    /// Leaves it to the one that runs.
    Try,
    /// Takes its turn and looks for unnumbered rows the slow way.
    Scan,
}

pub(super) struct Numbering {
    pub(super) head: Position,
    pub(super) numbered: u64,
}

impl Sequencer {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            interval: shared.settings.busy_interval,
            shared,
            scanned: Instant::now(),
        }
    }

    /// Runs until it is stopped; fails when a tick fails.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), TickError> {
        while !stop.is_cancelled() {
            self.step().await?;
            // A writer may have asked while the tick ran.
            if self.is_asked() {
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
            Mode::Scan
        } else if asked {
            Mode::Wait
        } else {
            Mode::Try
        };
        // Read before the tick begins: whoever counts up later waits for the next.
        let covered = self.shared.requested.load(Ordering::SeqCst);
        let began = Instant::now();
        let Some(tick) = tick(&self.shared.db, mode).await? else {
            return Ok(());
        };
        let metrics = &self.shared.metrics;
        metrics.ticks.inc();
        metrics.tick_seconds.observe(began.elapsed().as_secs_f64());
        metrics.numbered.inc_by(tick.numbered);
        metrics.head.set(saturating(tick.head.number));
        if mode == Mode::Scan {
            self.alarm(tick.numbered).await?;
            self.scanned = Instant::now();
        }
        let applied = self.shared.forecasts.clock().applied();
        if tick.head != applied {
            self.shared.wake_tail.notify_one();
        }
        self.shared.ticked.send_replace(Ticked {
            covered,
            head: tick.head,
        });
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
        let db = self.shared.db.reader();
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

/// Numbers what has committed before the call. `None` when another replica is
/// at it and `mode` leaves it to that one.
pub(super) async fn tick(db: &Database, mode: Mode) -> Result<Option<Numbering>, DbErr> {
    if db.backend() == DbBackend::Sqlite {
        return number_others(db).await.map(Some);
    }
    let mode = match mode {
        Mode::Wait => "wait",
        Mode::Try => "try",
        Mode::Scan => "scan",
    };
    let row = db
        .writer()
        .query_one_raw(Statement::from_sql_and_values(
            DbBackend::Postgres,
            "SELECT epoch, head, numbered FROM change_log_tick($1)",
            [mode.into()],
        ))
        .await?;
    let Some(row) = row else { return Ok(None) };
    let epoch: i64 = row.try_get("", "epoch")?;
    let head: i64 = row.try_get("", "head")?;
    let numbered: i64 = row.try_get("", "numbered")?;
    Ok(Some(Numbering {
        head: Position {
            epoch: Epoch(u32::try_from(epoch).unwrap_or(u32::MAX)),
            number: u64::try_from(head).unwrap_or(0),
        },
        numbered: u64::try_from(numbered).unwrap_or(0),
    }))
}

/// On SQLite our transactions number their own rows: only other programs leave any.
async fn number_others(db: &Database) -> Result<Numbering, DbErr> {
    let pending = change::is_pending(db.reader()).await?;
    if !pending {
        return Ok(Numbering {
            head: change::read_head(db.reader()).await?,
            numbered: 0,
        });
    }
    let txn = db.begin().await?;
    let (head, numbered) = change::number_pending(&txn).await?;
    txn.commit().await?;
    Ok(Numbering { head, numbered })
}
