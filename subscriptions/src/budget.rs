//! The memory that is kept for all subscribers of a replica together.

use prometheus_client::metrics::gauge::Gauge;

/// A limit in bytes, half of it for curves that are followed, half for what is kept
/// on the way to subscribers: results and states for members of cohorts, changes that
/// are read from the log.
///
/// A curve beyond its half is refused. Of the rest, what must be kept is kept beyond
/// the limit too, but less of it: see [`is_spent`](Self::is_spent).
#[derive(Debug, Clone)]
pub struct Budget {
    half: i64,
    /// Both halves.
    held: Gauge,
    /// Of curves alone.
    claimed: Gauge,
}

/// Bytes that count as held until this is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    bytes: i64,
    all: Gauge,
}

/// The bytes of a curve that is followed, until this is dropped.
#[derive(Debug)]
pub(crate) struct Claim {
    _claimed: Held,
    _held: Held,
}

impl Budget {
    pub fn new(most_bytes: usize) -> Self {
        Self {
            half: signed(most_bytes / 2),
            held: Gauge::default(),
            claimed: Gauge::default(),
        }
    }

    /// The bytes held now.
    pub fn held(&self) -> &Gauge {
        &self.held
    }

    /// Holds bytes of what is on the way, whether there is room for them or not.
    pub(crate) fn hold(&self, bytes: usize) -> Held {
        Held::new(&self.held, bytes)
    }

    /// Holds the bytes of a curve, if there is room for them.
    pub(crate) fn claim(&self, bytes: usize) -> Option<Claim> {
        // Counted first: of those who ask at once, not all get the last room.
        let claimed = Held::new(&self.claimed, bytes);
        (self.claimed.get() <= self.half).then(|| Claim {
            _claimed: claimed,
            _held: self.hold(bytes),
        })
    }

    /// Whether less has to be kept of what is on the way.
    pub(crate) fn is_spent(&self) -> bool {
        self.half == 0 || self.held.get() - self.claimed.get() > self.half
    }
}

impl Held {
    fn new(all: &Gauge, bytes: usize) -> Self {
        let bytes = signed(bytes);
        all.inc_by(bytes);
        Self {
            bytes,
            all: all.clone(),
        }
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
