//! Going on after failures of the database, from inside a worker.

use std::time::Duration;

use domain::database::Fault;
use sea_orm::DbErr;
use tokio::time::Instant;

/// How long a worker waits after failures in a row: changes flow again within a
/// second of the database's return.
const FIRST_DELAY: Duration = Duration::from_millis(50);
const LONGEST_DELAY: Duration = Duration::from_millis(500);
/// How often an outage that lasts is written to the log.
const REMINDER: Duration = Duration::from_secs(30);

/// The failures in a row of one worker, told in the log when they begin and end.
#[derive(Debug)]
pub(super) struct Outage {
    /// What cannot be done meanwhile, in the log.
    what: &'static str,
    began: Option<Instant>,
    told: Instant,
    delay: Duration,
}

impl Outage {
    pub(super) fn new(what: &'static str) -> Self {
        Self {
            what,
            began: None,
            told: Instant::now(),
            delay: FIRST_DELAY,
        }
    }

    /// Something failed; returns how long to wait before it is tried again.
    pub(super) fn failed(&mut self, error: &DbErr) -> Duration {
        let now = Instant::now();
        if Fault::of(error) == Fault::Busy {
            // Somebody else has the lock: that is no outage.
            return FIRST_DELAY;
        }
        let is_new = self.began.is_none();
        let began = *self.began.get_or_insert(now);
        if is_new || now - self.told >= REMINDER {
            self.told = now;
            tracing::error!(
                error = error as &dyn std::error::Error,
                seconds = (now - began).as_secs(),
                "{}: trying again",
                self.what
            );
        }
        let delay = self.delay;
        self.delay = (delay * 2).min(LONGEST_DELAY);
        delay
    }

    /// It went well.
    pub(super) fn over(&mut self) {
        if let Some(began) = self.began.take() {
            tracing::info!(
                seconds = began.elapsed().as_secs_f64(),
                "{}: over",
                self.what
            );
        }
        self.delay = FIRST_DELAY;
    }
}
