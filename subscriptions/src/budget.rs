//! The memory that is kept for all subscribers of a replica together.

use prometheus_client::metrics::gauge::Gauge;

/// The limit, and what is held of it: results and states for members of cohorts,
/// curves that are followed, changes that are read from the log.
///
/// What must be kept is kept beyond the limit too, but less of it: see
/// [`is_spent`](Self::is_spent).
#[derive(Debug, Clone)]
pub struct Budget {
    most: i64,
    held: Gauge,
    /// The part of it that nobody can be asked to do without.
    claimed: Gauge,
}

/// Bytes that count as held until this is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    bytes: i64,
    all: Gauge,
}

impl Budget {
    pub fn new(most_bytes: usize) -> Self {
        Self {
            most: signed(most_bytes),
            held: Gauge::default(),
            claimed: Gauge::default(),
        }
    }

    /// The bytes held now.
    pub fn held(&self) -> &Gauge {
        &self.held
    }

    /// Holds bytes, whether there is room for them or not.
    pub(crate) fn hold(&self, bytes: usize) -> Held {
        Held::new(&self.held, bytes)
    }

    /// Holds bytes for as long as a subscription lives, if all such bytes together
    /// do not go beyond the limit. What else is held makes room for them.
    pub(crate) fn claim(&self, bytes: usize) -> Option<Claim> {
        // Counted first: of those who ask at once, not all get the last room.
        let claimed = Held::new(&self.claimed, bytes);
        (self.claimed.get() <= self.most).then(|| Claim {
            _claimed: claimed,
            _held: self.hold(bytes),
        })
    }

    /// Whether everyone has to keep less than they would like to.
    pub(crate) fn is_spent(&self) -> bool {
        self.held.get() > self.most
    }
}

/// Bytes that a subscription holds until this is dropped.
#[derive(Debug)]
pub(crate) struct Claim {
    _claimed: Held,
    _held: Held,
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
