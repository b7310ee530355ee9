//! The memory that the frames of all cohorts may take together.

use prometheus_client::metrics::gauge::Gauge;

/// Bytes for the frames of all cohorts.
#[derive(Debug, Clone)]
pub(super) struct Budget {
    most: i64,
    held: Gauge,
}

/// Bytes of a frame that is kept, until this is dropped.
#[derive(Debug)]
pub(super) struct Held {
    bytes: i64,
    all: Gauge,
}

impl Budget {
    /// `held` counts the bytes of frames that are kept.
    pub(super) fn new(most_bytes: usize, held: Gauge) -> Self {
        Self {
            most: signed(most_bytes),
            held,
        }
    }

    pub(super) fn hold(&self, bytes: usize) -> Held {
        let bytes = signed(bytes);
        self.held.inc_by(bytes);
        Held {
            bytes,
            all: self.held.clone(),
        }
    }

    /// Whether cohorts have to keep less than they would like to.
    pub(super) fn is_spent(&self) -> bool {
        self.held.get() >= self.most
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.all.dec_by(self.bytes);
    }
}

fn signed(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
