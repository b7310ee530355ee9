//! The positions that decide whether an entry may be used.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::Tag;
use crate::change::{Epoch, Position};

/// Tags share this many counters: 8 MiB.
const STRIPES: usize = 1 << 20;

/// What this replica knows of the change log.
///
/// A change goes through in this order, which is what the rule rests on:
/// [`observe`](Self::observe) (we have read it from the database), then
/// [`invalidate`](Self::invalidate) its tags, then [`advance`](Self::advance).
#[derive(Debug)]
pub struct Clock {
    epoch: ArcSwap<EpochClock>,
    known: watch::Sender<Position>,
    applied: watch::Sender<Position>,
}

/// The clock of one epoch. A new epoch gets a new one: no number of an old
/// history is ever compared with one of another.
#[derive(Debug)]
pub(super) struct EpochClock {
    epoch: Epoch,
    /// Tells it from every other of this [`Clock`]. A log that was replaced by a
    /// shorter one may go on under the same epoch: its numbers come back.
    life: u64,
    /// The highest position this replica itself read from the database.
    known: AtomicU64,
    /// Every change up to here has raised its tags.
    applied: AtomicU64,
    /// Nothing stamped below this is valid, whatever its tag.
    floor: AtomicU64,
    tags: Box<[AtomicU64]>,
}

/// What a load includes at least: remembered before its read begins.
#[derive(Debug, Clone)]
pub struct Stamp {
    pub(super) clock: Arc<EpochClock>,
    pub(super) number: u64,
}

impl Stamp {
    pub fn position(&self) -> Position {
        Position {
            epoch: self.clock.epoch,
            number: self.number,
        }
    }
}

impl EpochClock {
    fn new(head: Position, life: u64, stripes: usize) -> Self {
        Self {
            epoch: head.epoch,
            life,
            known: AtomicU64::new(head.number),
            applied: AtomicU64::new(head.number),
            // What was stored before this moment, by whomever, is not ours to trust.
            floor: AtomicU64::new(head.number),
            tags: (0..stripes).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    pub(super) fn epoch(&self) -> Epoch {
        self.epoch
    }

    pub(super) fn life(&self) -> u64 {
        self.life
    }

    pub(super) fn applied(&self) -> u64 {
        self.applied.load(Ordering::SeqCst)
    }

    /// Nothing stamped below this is valid, whatever its tag.
    pub(super) fn floor(&self) -> u64 {
        self.floor.load(Ordering::SeqCst)
    }

    pub(super) fn admits(&self, tag: Tag, position: Position) -> bool {
        self.epoch == position.epoch && self.invalidated_at(tag) <= position.number
    }

    /// The position of the last change under a tag.
    pub(super) fn invalidated_at(&self, tag: Tag) -> u64 {
        let stripe = self.tags[tag.stripe(self.tags.len())].load(Ordering::SeqCst);
        stripe.max(self.floor())
    }
}

impl Clock {
    /// A clock that starts at the log's head, as the database told it.
    pub fn new(head: Position) -> Self {
        Self::with_stripes(head, STRIPES)
    }

    pub(super) fn with_stripes(head: Position, stripes: usize) -> Self {
        Self {
            epoch: ArcSwap::from_pointee(EpochClock::new(head, 0, stripes)),
            known: watch::Sender::new(head),
            applied: watch::Sender::new(head),
        }
    }

    /// Whether something stamped `position` under this tag may be used now.
    pub fn admits(&self, tag: Tag, position: Position) -> bool {
        self.epoch.load().admits(tag, position)
    }

    /// Whether a load with this stamp includes every change under this tag so far.
    pub(super) fn includes(&self, tag: Tag, stamp: &Stamp) -> bool {
        let clock = self.epoch.load();
        clock.life == stamp.clock.life && clock.invalidated_at(tag) <= stamp.number
    }

    pub(super) fn current(&self) -> arc_swap::Guard<Arc<EpochClock>> {
        self.epoch.load()
    }

    /// To be taken before the snapshot of a read: that read includes at least this.
    pub fn stamp(&self) -> Stamp {
        let clock = self.epoch.load_full();
        let number = clock.known.load(Ordering::SeqCst);
        Stamp { clock, number }
    }

    /// This replica has read `number` from the database of the current epoch.
    /// Never to be called with what another replica said.
    pub fn observe(&self, number: u64) {
        let clock = self.epoch.load();
        clock.known.fetch_max(number, Ordering::SeqCst);
        let known = Position {
            epoch: clock.epoch,
            number: clock.known.load(Ordering::SeqCst),
        };
        self.known.send_if_modified(|last| replace(last, known));
    }

    /// A change at `number` touched what this tag names.
    pub fn invalidate(&self, tag: Tag, number: u64) {
        let clock = self.epoch.load();
        clock.tags[tag.stripe(clock.tags.len())].fetch_max(number, Ordering::SeqCst);
    }

    /// Everything below `number` is void: more changed than the log can name.
    pub fn invalidate_all(&self, number: u64) {
        self.epoch.load().floor.fetch_max(number, Ordering::SeqCst);
    }

    /// Every change up to `number` has raised its tags.
    pub fn advance(&self, number: u64) {
        let clock = self.epoch.load();
        clock.applied.fetch_max(number, Ordering::SeqCst);
        let applied = Position {
            epoch: clock.epoch,
            number: clock.applied(),
        };
        self.applied.send_if_modified(|last| replace(last, applied));
    }

    /// The database has another history now: nothing stored before is valid.
    pub fn begin_epoch(&self, head: Position) {
        let last = self.epoch.load_full();
        let next = EpochClock::new(head, last.life + 1, last.tags.len());
        self.epoch.store(Arc::new(next));
        self.known.send_replace(head);
        self.applied.send_replace(head);
    }

    /// The highest position this replica itself read from the database. What it
    /// has applied may be more, where others told of it.
    pub fn known(&self) -> Position {
        self.stamp().position()
    }

    /// Follows [`known`](Self::known).
    pub fn watch_known(&self) -> watch::Receiver<Position> {
        self.known.subscribe()
    }

    /// The last position whose change this replica has applied.
    pub fn applied(&self) -> Position {
        let clock = self.epoch.load();
        Position {
            epoch: clock.epoch,
            number: clock.applied(),
        }
    }

    /// Follows [`applied`](Self::applied).
    pub fn watch_applied(&self) -> watch::Receiver<Position> {
        self.applied.subscribe()
    }

    /// The mistake of trusting another replica's word for what a read includes.
    #[cfg(test)]
    pub(super) fn hear(&self, number: u64) {
        self.observe(number);
    }

    /// The mistake of starting without the boot head.
    #[cfg(test)]
    pub(super) fn with_tags_at_zero(head: Position, stripes: usize) -> Self {
        let clock = Self::with_stripes(head, stripes);
        clock.epoch.load().floor.store(0, Ordering::SeqCst);
        clock
    }
}

/// Whether it is another one.
fn replace(last: &mut Position, now: Position) -> bool {
    let moved = *last != now;
    *last = now;
    moved
}
