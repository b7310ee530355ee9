//! Between the run of a subscription and the fields that feed it.

use std::collections::VecDeque;
use std::sync::Arc;

use domain::change::Position;
use parking_lot::Mutex;
use subscriptions::Span;
use subscriptions::cohort::{Following, FrameKind, Run};
use time::OffsetDateTime;
use tokio::sync::Notify;

/// Part of the request's data: the field finds in it what it is to deliver, and
/// notes beside each item what its frame will be.
#[derive(Clone)]
pub(crate) struct Feed(Arc<Inner>);

struct Inner {
    run: Run,
    notes: Mutex<VecDeque<Note>>,
}

/// What is known of an item beside its data.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Note {
    pub(crate) kind: FrameKind,
    pub(crate) position: Position,
    /// When the newest change in it was made.
    pub(crate) committed_at: Option<OffsetDateTime>,
    /// Changes that have no item of their own.
    pub(crate) skipped: u64,
}

impl Feed {
    pub(crate) fn new(run: Run) -> Self {
        Self(Arc::new(Inner {
            run,
            notes: Mutex::default(),
        }))
    }

    /// Which changes are to be followed.
    pub(crate) fn span(&self) -> Span {
        match self.0.run {
            Run::Shared(_) => Span::Live,
            Run::Past { after, until } => Span::Past { after, until },
        }
    }

    /// To be called by the field once it has joined the hub.
    pub(crate) fn follows(&self, what: Following) {
        if let Run::Shared(shared) = &self.0.run {
            shared.follows(what);
        }
    }

    /// Rings when somebody joins who needs a snapshot.
    pub(crate) fn joiners(&self) -> Arc<Notify> {
        match &self.0.run {
            Run::Shared(shared) => shared.joiners(),
            Run::Past { .. } => Arc::default(),
        }
    }

    /// To be called by the field for each item, before it is resolved.
    pub(crate) fn note(&self, note: Note) {
        self.0.notes.lock().push_back(note);
    }

    /// The note on the item that was resolved just now.
    pub(crate) fn take_note(&self) -> Option<Note> {
        self.0.notes.lock().pop_front()
    }
}
