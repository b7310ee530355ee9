//! One member of a cohort: what it gets, in which order.

use std::hash::Hash;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use domain::change::Position;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use tokio_stream::Stream;

use super::frames::{Cursor, Taken, Whole};
use super::{Cohort, Following, Frame, FrameKind, Inner, Run, SharedFrame};

/// The receiving end of a cohort. Dropping it is leaving.
pub struct Member<K: Eq + Hash, P> {
    inner: Arc<Inner<K, P>>,
    cohort: Arc<Cohort<K, P>>,
    cursor: Cursor,
    stage: Stage<P>,
    /// The last event it got, or did not want.
    last: Option<Position>,
    /// It has no state that differences fit.
    stateless: bool,
    /// A whole state to begin with.
    whole: Option<Arc<SharedFrame<P>>>,
    skipped: u64,
}

/// What a member gets.
#[derive(Debug)]
pub struct Delivery<P> {
    pub frame: Arc<SharedFrame<P>>,
    /// Frames that it did not get because it was behind; those of a state only.
    pub skipped: u64,
}

enum Stage<P> {
    /// Until the cohort follows the hub; then what has been published since
    /// `after` is to be caught up with.
    Joining {
        began: Option<BoxFuture<'static, ()>>,
        after: Position,
    },
    CatchingUp {
        missed: BoxStream<'static, Frame<P>>,
        until: Position,
    },
    Live,
    Over,
}

impl<K: Eq + Hash, P> Member<K, P> {
    pub(super) fn new(
        inner: Arc<Inner<K, P>>,
        cohort: Arc<Cohort<K, P>>,
        (cursor, whole): (Cursor, Whole<P>),
        after: Option<Position>,
    ) -> Self {
        // From now on means from here on, although the run may begin later.
        let after = after.unwrap_or_else(|| inner.hub.published());
        let whole = state_to_begin_with(&cohort, whole);
        let follows = cohort.run.0.following.get().is_some();
        let mut member = Self {
            inner,
            cursor,
            stage: Stage::Joining { began: None, after },
            last: None,
            stateless: true,
            whole,
            skipped: 0,
            cohort,
        };
        if follows {
            member.catch_up(after);
        }
        member
    }

    /// Every event up to here has been handed out; `None` of a state.
    pub fn seen(&self) -> Option<Position> {
        match self.stage {
            Stage::Joining { after, .. } => Some(after),
            _ => self.last,
        }
    }

    /// Whether it gets what it missed, or is about to, by a run of its own.
    pub fn is_behind(&self) -> bool {
        matches!(self.stage, Stage::Joining { .. } | Stage::CatchingUp { .. })
    }

    /// Whether what it gets first includes a position that this replica has
    /// applied. The state that a cohort has told may be older.
    pub fn includes(&self, position: Position) -> bool {
        match self.cohort.run.0.following.get() {
            // It reads the state yet.
            None | Some(Following::Events) => true,
            Some(Following::State) => {
                let whole = self.whole.as_ref().and_then(|frame| frame.position);
                whole.is_some_and(|at| at.epoch == position.epoch && at.number >= position.number)
            }
        }
    }

    fn poll_began(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Stage::Joining { began, .. } = &mut self.stage else {
            return Poll::Ready(());
        };
        let signals = &self.cohort.run.0;
        if signals.following.get().is_some() {
            return Poll::Ready(());
        }
        let began = began.get_or_insert_with(|| {
            let signals = Arc::clone(signals);
            Box::pin(async move {
                // Asked for before it is looked at, so that it cannot be missed.
                let notified = signals.began.notified();
                if signals.following.get().is_none() {
                    notified.await;
                }
            })
        });
        began.poll_unpin(cx)
    }

    /// Goes on with what comes to the cohort, after what was published so far.
    fn catch_up(&mut self, after: Position) {
        if self.cohort.run.0.following.get() == Some(&Following::State) {
            self.stage = Stage::Live;
            return;
        }
        self.last = Some(after);
        let until = self.inner.hub.published();
        self.stage = if after == until {
            Stage::Live
        } else {
            let missed = (self.cohort.start)(Run::Past { after, until });
            Stage::CatchingUp { missed, until }
        };
    }

    /// Goes on although frames are gone that it has not taken.
    fn catch_up_again(&mut self) {
        self.inner.metrics.lagged.inc();
        let (missed, whole) = self.cohort.frames.rejoin(&mut self.cursor);
        if let Some(after) = self.last {
            self.stage = Stage::Joining { began: None, after };
        } else {
            self.stateless = true;
            self.whole = state_to_begin_with(&self.cohort, whole);
            // The state stands for one of them.
            self.skipped += missed - u64::from(self.whole.is_some()).min(missed);
        }
    }

    fn deliver(&mut self, frame: Arc<SharedFrame<P>>) -> Poll<Option<Delivery<P>>> {
        self.inner.metrics.delivered.inc();
        if frame.kind == FrameKind::Failure {
            self.stage = Stage::Over;
        }
        Poll::Ready(Some(Delivery {
            frame,
            skipped: std::mem::take(&mut self.skipped),
        }))
    }

    /// Whether a frame of the cohort is one that this member is to get.
    fn wants(&mut self, frame: &Frame<P>) -> bool {
        match frame.kind {
            FrameKind::Event => {
                let known = match (self.last, frame.position) {
                    (Some(last), Some(at)) => last.epoch == at.epoch && at.number <= last.number,
                    _ => false,
                };
                if !known {
                    self.last = frame.position;
                }
                !known
            }
            FrameKind::State => {
                self.stateless = false;
                true
            }
            FrameKind::Snapshot => std::mem::take(&mut self.stateless),
            FrameKind::Difference => {
                self.skipped += u64::from(self.stateless);
                !self.stateless
            }
            FrameKind::Failure => true,
        }
    }
}

/// The state that a member begins with; `None` where it comes as a frame, which
/// is asked for if it has to be.
fn state_to_begin_with<K, P>(
    cohort: &Cohort<K, P>,
    whole: Whole<P>,
) -> Option<Arc<SharedFrame<P>>> {
    match whole {
        Whole::None => None,
        Whole::Frame(frame) => Some(frame),
        Whole::Outdated => {
            cohort.run.0.joiners.notify_one();
            None
        }
    }
}

impl<K, P> Stream for Member<K, P>
where
    K: Eq + Hash,
{
    type Item = Delivery<P>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Delivery<P>>> {
        let this = self.get_mut();
        loop {
            match &mut this.stage {
                Stage::Over => return Poll::Ready(None),
                Stage::Joining { after, .. } => {
                    let after = *after;
                    ready!(this.poll_began(cx));
                    this.catch_up(after);
                }
                Stage::CatchingUp { missed, until } => {
                    match ready!(missed.as_mut().poll_next(cx)) {
                        Some(frame) => {
                            this.last = frame.position.or(this.last);
                            let budget = this.inner.hub.budget();
                            let frame = SharedFrame::new(frame, budget);
                            return this.deliver(frame);
                        }
                        None => {
                            if this.last.is_none_or(|last| last.number < until.number) {
                                this.last = Some(*until);
                            }
                            this.stage = Stage::Live;
                        }
                    }
                }
                Stage::Live => {
                    if let Some(whole) = this.whole.take() {
                        this.stateless = false;
                        return this.deliver(whole);
                    }
                    match ready!(this.cohort.frames.poll_take(&mut this.cursor, cx)) {
                        Taken::Frame(frame) => {
                            if this.wants(&frame) {
                                return this.deliver(frame);
                            }
                        }
                        Taken::Missed => this.catch_up_again(),
                        Taken::End => {
                            this.stage = Stage::Over;
                            return Poll::Ready(None);
                        }
                    }
                }
            }
        }
    }
}

impl<K: Eq + Hash, P> Drop for Member<K, P> {
    fn drop(&mut self) {
        self.cohort.frames.leave(&self.cursor);
        self.inner.leave(&self.cohort);
    }
}
