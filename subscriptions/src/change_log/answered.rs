//! When the database last answered.

use std::time::Duration;

use domain::change::Position;
use parking_lot::Mutex;
use tokio::time::Instant;

/// When sequencer and tail last had an answer. A replica that hears nothing
/// serves the past, however small its known lag.
#[derive(Debug)]
pub(super) struct Answered {
    sequencer: Mutex<Instant>,
    tail: Mutex<(Instant, Position)>,
}

impl Answered {
    pub(super) fn new(head: Position) -> Self {
        let now = Instant::now();
        Self {
            sequencer: Mutex::new(now),
            tail: Mutex::new((now, head)),
        }
    }

    pub(super) fn sequencer(&self) {
        *self.sequencer.lock() = Instant::now();
    }

    pub(super) fn tail(&self, head: Position) {
        *self.tail.lock() = (Instant::now(), head);
    }

    /// The head that the tail last read.
    pub(super) fn head(&self) -> Position {
        self.tail.lock().1
    }

    pub(super) fn silence_of_tail(&self) -> Duration {
        self.tail.lock().0.elapsed()
    }

    /// The longer of both silences.
    pub(super) fn silence(&self) -> Duration {
        let oldest = (*self.sequencer.lock()).min(self.tail.lock().0);
        oldest.elapsed()
    }
}
