//! The frames of a cohort that some member has not taken yet.
//!
//! There is no queue a member: frames are shared, each member knows how far it
//! has come, and a frame goes when the last one has taken it. A member that is
//! too far behind finds its next frame gone.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use slab::Slab;

use super::{Frame, FrameKind};

pub(super) struct Frames<P> {
    capacity: usize,
    state: Mutex<State<P>>,
}

struct State<P> {
    waiting: VecDeque<Waiting<P>>,
    /// The number of the first of `waiting`.
    first: u64,
    readers: Slab<Option<Waker>>,
    whole: Whole<P>,
    of_events: bool,
    ended: bool,
}

/// The whole state, as the frames so far have it.
pub(super) enum Whole<P> {
    /// There is none yet, or never.
    None,
    Frame(Arc<Frame<P>>),
    /// A difference has come since.
    Outdated,
}

impl<P> Clone for Whole<P> {
    fn clone(&self) -> Self {
        match self {
            Self::None => Self::None,
            Self::Frame(frame) => Self::Frame(Arc::clone(frame)),
            Self::Outdated => Self::Outdated,
        }
    }
}

struct Waiting<P> {
    frame: Arc<Frame<P>>,
    /// Readers that have not taken it.
    readers: usize,
}

/// How far a reader has come.
pub(super) struct Cursor {
    slot: usize,
    next: u64,
}

/// What a reader finds.
pub(super) enum Taken<P> {
    Frame(Arc<Frame<P>>),
    /// The next event is gone.
    MissedEvents,
    /// Frames of a state are gone: the cursor stands at the first that is left.
    MissedStates {
        count: u64,
        /// That one is a whole state.
        replaced: bool,
    },
    /// There will be no more.
    End,
}

impl<P> State<P> {
    fn end(&self) -> u64 {
        self.first + self.waiting.len() as u64
    }

    fn drop_taken(&mut self) {
        while self.waiting.front().is_some_and(|w| w.readers == 0) {
            self.waiting.pop_front();
            self.first += 1;
        }
    }
}

impl<P> Frames<P> {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity: capacity.max(1),
            state: Mutex::new(State {
                waiting: VecDeque::new(),
                first: 0,
                readers: Slab::new(),
                whole: Whole::None,
                of_events: false,
                ended: false,
            }),
        }
    }

    /// A reader of what comes from now on, and the whole state before that.
    pub(super) fn join(&self) -> (Cursor, Whole<P>) {
        let mut state = self.state.lock();
        let slot = state.readers.insert(None);
        let next = state.end();
        (Cursor { slot, next }, state.whole.clone())
    }

    /// Moves a reader to what comes from now on, as if it had just joined.
    pub(super) fn rejoin(&self, cursor: &mut Cursor) {
        let mut state = self.state.lock();
        Self::release(&mut state, cursor);
        cursor.next = state.end();
    }

    pub(super) fn leave(&self, cursor: &Cursor) {
        let mut state = self.state.lock();
        Self::release(&mut state, cursor);
        state.readers.try_remove(cursor.slot);
    }

    /// The reader will not take what waits for it.
    fn release(state: &mut State<P>, cursor: &Cursor) {
        let from = cursor.next.saturating_sub(state.first);
        let from = usize::try_from(from).unwrap_or(usize::MAX);
        for waiting in state.waiting.iter_mut().skip(from) {
            waiting.readers -= 1;
        }
        state.drop_taken();
    }

    pub(super) fn publish(&self, frame: Arc<Frame<P>>) {
        let wakers = {
            let mut state = self.state.lock();
            match frame.kind {
                FrameKind::State => {
                    // It stands for all before it.
                    state.first = state.end();
                    state.waiting.clear();
                    state.whole = Whole::Frame(Arc::clone(&frame));
                }
                FrameKind::Snapshot => state.whole = Whole::Frame(Arc::clone(&frame)),
                FrameKind::Difference => state.whole = Whole::Outdated,
                FrameKind::Event => state.of_events = true,
                FrameKind::Failure => {}
            }
            if state.waiting.len() == self.capacity {
                state.waiting.pop_front();
                state.first += 1;
            }
            let readers = state.readers.len();
            state.waiting.push_back(Waiting { frame, readers });
            state.drop_taken();
            state.take_wakers()
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// There will be no more.
    pub(super) fn end(&self) {
        let wakers = {
            let mut state = self.state.lock();
            state.ended = true;
            state.take_wakers()
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    pub(super) fn poll_take(&self, cursor: &mut Cursor, cx: &mut Context<'_>) -> Poll<Taken<P>> {
        let mut state = self.state.lock();
        if cursor.next < state.first {
            let missed = state.first - cursor.next;
            cursor.next = state.first;
            return Poll::Ready(match state.of_events {
                true => Taken::MissedEvents,
                false => Taken::MissedStates {
                    count: missed,
                    replaced: (state.waiting.front())
                        .is_some_and(|next| next.frame.kind == FrameKind::State),
                },
            });
        }
        let place = usize::try_from(cursor.next - state.first).unwrap_or(usize::MAX);
        if let Some(waiting) = state.waiting.get_mut(place) {
            waiting.readers -= 1;
            let frame = Arc::clone(&waiting.frame);
            cursor.next += 1;
            if place == 0 {
                state.drop_taken();
            }
            return Poll::Ready(Taken::Frame(frame));
        }
        if state.ended {
            return Poll::Ready(Taken::End);
        }
        if let Some(waker) = state.readers.get_mut(cursor.slot) {
            match waker {
                Some(waker) => waker.clone_from(cx.waker()),
                None => *waker = Some(cx.waker().clone()),
            }
        }
        Poll::Pending
    }
}

impl<P> State<P> {
    fn take_wakers(&mut self) -> Vec<Waker> {
        self.readers
            .iter_mut()
            .filter_map(|(_, waker)| waker.take())
            .collect()
    }
}
