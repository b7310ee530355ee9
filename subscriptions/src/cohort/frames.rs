//! The frames of a cohort that some member has not taken yet.
//!
//! There is no queue a member: frames are shared, each reader knows how far it
//! has come, and a frame goes when the last one has taken it. When there is no
//! room the run waits, as long as some reader takes the oldest frame now and
//! then; those that have not taken it by then come loose. A loose reader finds
//! its next frame gone and has to catch up by itself; it holds up nobody.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use slab::Slab;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use super::{Frame, FrameKind, SharedFrame};
use crate::Budget;

/// When there is no room: so long the run waits for the next reader to take the
/// oldest frame while most have not…
const PATIENCE: Duration = Duration::from_millis(250);
/// …and when most have.
const PATIENCE_WITH_FEW: Duration = Duration::from_millis(20);
/// So long together it waits for few, until there is room again: a reader that is
/// always last is not to hold up the others for ever.
const PATIENCE_WITH_FEW_IN_ALL: Duration = Duration::from_millis(200);
/// Bytes of frames that are kept at most, whatever their number.
const MOST_BYTES: usize = 4 << 20;
/// The same while the frames of all cohorts take more than they may.
const LEAST_BYTES: usize = 64 << 10;

pub(super) struct Frames<P> {
    capacity: usize,
    budget: Budget,
    state: Mutex<State<P>>,
    taken: Notify,
}

struct State<P> {
    waiting: VecDeque<Waiting<P>>,
    /// The number of the first of `waiting`.
    first: u64,
    /// Of all that wait.
    bytes: usize,
    /// What is left of the patience with few.
    patience: Duration,
    readers: Slab<Option<Waker>>,
    /// Readers whose next frame is gone.
    loose: usize,
    whole: Whole<P>,
    /// Why there will be no more, for everyone to take last.
    failure: Option<Arc<SharedFrame<P>>>,
    ended: bool,
}

struct Waiting<P> {
    frame: Arc<SharedFrame<P>>,
    /// Readers that have not taken it, but for loose ones.
    readers: usize,
}

/// The whole state, as the frames so far have it.
pub(super) enum Whole<P> {
    /// There is none yet, or never.
    None,
    Frame(Arc<SharedFrame<P>>),
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

/// How far a reader has come.
pub(super) struct Cursor {
    slot: usize,
    next: u64,
    has_failure: bool,
}

/// What a reader finds.
pub(super) enum Taken<P> {
    Frame(Arc<SharedFrame<P>>),
    /// Its next frame is gone: it has come loose, until it rejoins.
    Missed,
    /// There will be no more.
    End,
}

impl<P> Frames<P> {
    pub(super) fn new(capacity: usize, budget: Budget) -> Self {
        Self {
            capacity: capacity.max(1),
            budget,
            state: Mutex::new(State {
                waiting: VecDeque::new(),
                first: 0,
                bytes: 0,
                patience: PATIENCE_WITH_FEW_IN_ALL,
                readers: Slab::new(),
                loose: 0,
                whole: Whole::None,
                failure: None,
                ended: false,
            }),
            taken: Notify::new(),
        }
    }

    /// A reader of what comes from now on, and the whole state before that.
    pub(super) fn join(&self) -> (Cursor, Whole<P>) {
        let mut state = self.state.lock();
        let slot = state.readers.insert(None);
        let cursor = Cursor {
            slot,
            next: state.end(),
            has_failure: false,
        };
        (cursor, state.whole.clone())
    }

    /// Moves a reader to what comes from now on, as if it had just joined; and
    /// says how many frames it has not taken.
    pub(super) fn rejoin(&self, cursor: &mut Cursor) -> (u64, Whole<P>) {
        let mut state = self.state.lock();
        state.release(cursor);
        let missed = state.end() - cursor.next;
        cursor.next = state.end();
        let whole = state.whole.clone();
        drop(state);
        self.taken.notify_one();
        (missed, whole)
    }

    pub(super) fn leave(&self, cursor: &Cursor) {
        let mut state = self.state.lock();
        state.release(cursor);
        state.readers.try_remove(cursor.slot);
        drop(state);
        self.taken.notify_one();
    }

    /// Waits until there is room for a frame: all readers have taken the oldest,
    /// or those that have not come loose.
    pub(super) async fn room(&self) {
        loop {
            let taken = self.taken.notified();
            let patience = {
                let state = self.state.lock();
                if !self.is_full(&state) {
                    return;
                }
                match state.most_are_behind() {
                    true => PATIENCE,
                    false => PATIENCE_WITH_FEW.min(state.patience),
                }
            };
            let began = Instant::now();
            let timed_out = timeout(patience, taken).await.is_err();
            let mut state = self.state.lock();
            if patience < PATIENCE {
                state.patience = state.patience.saturating_sub(began.elapsed());
            }
            while timed_out && self.is_full(&state) {
                state.loosen_first();
            }
        }
    }

    pub(super) fn publish(&self, frame: Frame<P>) {
        let frame = SharedFrame::new(frame, &self.budget);
        let wakers = {
            let mut state = self.state.lock();
            match frame.kind {
                FrameKind::State => {
                    // It stands for all before it.
                    state.loosen_all();
                    self.retain(&mut state, &frame);
                }
                FrameKind::Snapshot => self.retain(&mut state, &frame),
                FrameKind::Difference => state.whole = Whole::Outdated,
                FrameKind::Event => {}
                FrameKind::Failure => state.failure = Some(Arc::clone(&frame)),
            }
            if state.waiting.is_empty() {
                state.patience = PATIENCE_WITH_FEW_IN_ALL;
            }
            if frame.kind != FrameKind::Failure {
                let readers = state.readers.len() - state.loose;
                state.bytes += frame.bytes;
                state.waiting.push_back(Waiting { frame, readers });
                state.drop_taken();
            }
            state.take_wakers()
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Keeps a whole state for members to come; where there is no memory for it, one
    /// is made for them when they come.
    fn retain(&self, state: &mut State<P>, frame: &Arc<SharedFrame<P>>) {
        state.whole = if self.budget.is_spent() {
            Whole::Outdated
        } else {
            Whole::Frame(Arc::clone(frame))
        };
    }

    fn is_full(&self, state: &State<P>) -> bool {
        let most_bytes = if self.budget.is_spent() {
            LEAST_BYTES
        } else {
            MOST_BYTES
        };
        state.waiting.len() >= self.capacity || state.bytes >= most_bytes
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
            return Poll::Ready(Taken::Missed);
        }
        let place = usize::try_from(cursor.next - state.first).unwrap_or(usize::MAX);
        if let Some(waiting) = state.waiting.get_mut(place) {
            waiting.readers -= 1;
            let frame = Arc::clone(&waiting.frame);
            cursor.next += 1;
            if place == 0 {
                state.drop_taken();
            }
            drop(state);
            // Whether it was full before says nothing: what others keep counts, too.
            if place == 0 {
                self.taken.notify_one();
            }
            return Poll::Ready(Taken::Frame(frame));
        }
        if let Some(failure) = state.failure.clone()
            && !std::mem::replace(&mut cursor.has_failure, true)
        {
            return Poll::Ready(Taken::Frame(failure));
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
    fn end(&self) -> u64 {
        self.first + self.waiting.len() as u64
    }

    fn most_are_behind(&self) -> bool {
        let behind = self.waiting.front().map_or(0, |first| first.readers);
        behind * 2 > self.readers.len() - self.loose
    }

    fn pop_first(&mut self) -> Option<Waiting<P>> {
        let first = self.waiting.pop_front()?;
        self.first += 1;
        self.bytes -= first.frame.bytes;
        Some(first)
    }

    fn drop_taken(&mut self) {
        while (self.waiting.front()).is_some_and(|first| first.readers == 0) {
            self.pop_first();
        }
    }

    /// The first frame goes, whoever has not taken it.
    fn loosen_first(&mut self) {
        let Some(first) = self.pop_first() else {
            return;
        };
        self.loose += first.readers;
        for waiting in &mut self.waiting {
            waiting.readers -= first.readers;
        }
        self.drop_taken();
    }

    /// All frames go, whoever has not taken them.
    fn loosen_all(&mut self) {
        // Who has not taken one has not taken those after it.
        self.loose += self.waiting.back().map_or(0, |last| last.readers);
        self.first = self.end();
        self.waiting.clear();
        self.bytes = 0;
    }

    /// The reader will not take what waits for it.
    fn release(&mut self, cursor: &Cursor) {
        let Some(from) = cursor.next.checked_sub(self.first) else {
            self.loose -= 1;
            return;
        };
        let from = usize::try_from(from).unwrap_or(usize::MAX);
        for waiting in self.waiting.iter_mut().skip(from) {
            waiting.readers -= 1;
        }
        self.drop_taken();
    }

    fn take_wakers(&mut self) -> Vec<Waker> {
        self.readers
            .iter_mut()
            .filter_map(|(_, waker)| waker.take())
            .collect()
    }
}
