//! Shared execution: those who ask for the same stream form a cohort. It has
//! one run, and each of its frames is made once for all members.
//!
//! A member that comes back with a position, or does not keep up, gets what it
//! missed by a run of its own and then goes on with the cohort: of events
//! everything, in order and once; of a state the newest.

mod frames;
mod member;

use std::hash::Hash;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use domain::change::Position;
use futures_util::stream::BoxStream;
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use rustc_hash::FxHashMap;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio_stream::StreamExt;
use tokio_util::task::TaskTracker;

use crate::budget::{Budget, Held};
use crate::hub::Hub;
use frames::Frames;
pub use member::{Delivery, Member};

/// What one execution of a subscription delivered.
#[derive(Debug)]
pub struct Frame<P> {
    pub kind: FrameKind,
    /// What a client that has it has seen; `None` of a failure.
    pub position: Option<Position>,
    pub payload: P,
    /// Memory that it takes, about.
    pub bytes: usize,
}

/// A frame that members share, counted as held while any of them has it.
#[derive(Debug)]
pub struct SharedFrame<P> {
    frame: Frame<P>,
    _held: Held,
}

impl<P> SharedFrame<P> {
    fn new(frame: Frame<P>, budget: &Budget) -> Arc<Self> {
        Arc::new(Self {
            _held: budget.hold(frame.bytes),
            frame,
        })
    }
}

impl<P> Deref for SharedFrame<P> {
    type Target = Frame<P>;

    fn deref(&self) -> &Frame<P> {
        &self.frame
    }
}

/// What a frame is to members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameKind {
    /// One of a sequence: each member gets each.
    Event,
    /// A whole state, which stands for all frames before it.
    State,
    /// A whole state for members that have none; to others it is nothing new.
    Snapshot,
    /// What is different from the frame before: for members that had that.
    Difference,
    /// The reason why the run ended; always the last.
    Failure,
}

/// What a run is to deliver.
pub enum Run {
    /// Everything from now on, for the whole cohort.
    Shared(SharedRun),
    /// Events after one position, up to another.
    Past { after: Position, until: Position },
}

/// What a run delivers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Following {
    /// Events, each of which matters.
    Events,
    /// A state, of which the newest matters.
    State,
}

/// What a cohort's run tells the cohort, and hears from it.
#[derive(Clone, Default)]
pub struct SharedRun(Arc<Signals>);

#[derive(Default)]
struct Signals {
    following: OnceLock<Following>,
    began: Notify,
    joiners: Arc<Notify>,
}

impl SharedRun {
    /// To be called once it has joined the hub: nothing published from here on
    /// will be missed.
    pub fn follows(&self, what: Following) {
        self.0.following.get_or_init(|| what);
        self.0.began.notify_waiters();
    }

    /// Rings when a member waits for a [`FrameKind::Snapshot`].
    pub fn joiners(&self) -> Arc<Notify> {
        Arc::clone(&self.0.joiners)
    }
}

/// What cohorts count.
#[derive(Debug, Clone, Default)]
pub struct CohortMetrics {
    /// Cohorts now.
    pub cohorts: Gauge,
    /// Members of all cohorts now.
    pub members: Gauge,
    /// Frames made by executing.
    pub frames: Counter,
    /// Frames handed to members.
    pub delivered: Counter,
    /// Members that did not keep up.
    pub lagged: Counter,
    /// Members that began after a position.
    pub resumed: Counter,
}

/// All cohorts of this replica, by what they ask for.
pub struct Cohorts<K, P> {
    inner: Arc<Inner<K, P>>,
}

impl<K, P> Clone for Cohorts<K, P> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}

struct Inner<K, P> {
    hub: Hub,
    /// Frames that a cohort keeps for members that are behind.
    capacity: usize,
    metrics: CohortMetrics,
    cohorts: Mutex<FxHashMap<K, Entry<K, P>>>,
    /// Each ends with the last member of its cohort.
    runs: TaskTracker,
}

struct Entry<K, P> {
    cohort: Arc<Cohort<K, P>>,
    members: usize,
}

struct Cohort<K, P> {
    key: K,
    frames: Frames<P>,
    /// Makes the run of all, and those of members that catch up.
    start: Start<P>,
    run: SharedRun,
    task: OnceLock<AbortHandle>,
}

type Start<P> = Box<dyn Fn(Run) -> BoxStream<'static, Frame<P>> + Send + Sync>;

impl<K, P> Cohorts<K, P>
where
    K: Eq + Hash + Clone + Send + Sync + 'static,
    P: Send + Sync + 'static,
{
    /// No cohorts yet. Each will keep up to `capacity` frames for members that are
    /// behind, and fewer while the hub's budget is spent.
    pub fn new(hub: Hub, capacity: usize, metrics: CohortMetrics) -> Self {
        Self {
            inner: Arc::new(Inner {
                hub,
                capacity,
                metrics,
                cohorts: Mutex::default(),
                runs: TaskTracker::new(),
            }),
        }
    }

    pub fn metrics(&self) -> &CohortMetrics {
        &self.inner.metrics
    }

    /// Joins the cohort of those who ask for `key`, or begins it: `start` makes
    /// its runs, for all who have this key. Of events come those after `after`
    /// first, else those from now on.
    pub fn join(
        &self,
        key: K,
        after: Option<Position>,
        start: impl Fn(Run) -> BoxStream<'static, Frame<P>> + Send + Sync + 'static,
    ) -> Member<K, P> {
        let inner = &self.inner;
        let (cohort, place) = {
            let mut cohorts = inner.cohorts.lock();
            let entry = cohorts.entry(key).or_insert_with_key(|key| {
                let cohort = Arc::new(Cohort {
                    key: key.clone(),
                    frames: Frames::new(inner.capacity, inner.hub.budget().clone()),
                    start: Box::new(start),
                    run: SharedRun::default(),
                    task: OnceLock::new(),
                });
                let frames = (cohort.start)(Run::Shared(cohort.run.clone()));
                let run = run(Arc::clone(inner), Arc::clone(&cohort), frames);
                let task = inner.runs.spawn(run);
                cohort.task.get_or_init(|| task.abort_handle());
                inner.metrics.cohorts.inc();
                Entry { cohort, members: 0 }
            });
            entry.members += 1;
            (Arc::clone(&entry.cohort), entry.cohort.frames.join())
        };
        inner.metrics.members.inc();
        if after.is_some() {
            inner.metrics.resumed.inc();
        }
        Member::new(Arc::clone(inner), cohort, place, after)
    }
}

impl<K: Eq + Hash, P> Inner<K, P> {
    /// A member leaves; with the last one the cohort ends.
    fn leave(&self, cohort: &Arc<Cohort<K, P>>) {
        self.metrics.members.dec();
        let mut cohorts = self.cohorts.lock();
        let Some(entry) = cohorts.get_mut(&cohort.key) else {
            return;
        };
        if !Arc::ptr_eq(&entry.cohort, cohort) {
            return;
        }
        entry.members -= 1;
        if entry.members == 0 {
            cohorts.remove(&cohort.key);
            self.metrics.cohorts.dec();
            if let Some(task) = cohort.task.get() {
                task.abort();
            }
        }
    }

    /// The run has ended: who comes now begins another.
    fn retire(&self, cohort: &Arc<Cohort<K, P>>) {
        let mut cohorts = self.cohorts.lock();
        if cohorts
            .get(&cohort.key)
            .is_some_and(|entry| Arc::ptr_eq(&entry.cohort, cohort))
        {
            cohorts.remove(&cohort.key);
            self.metrics.cohorts.dec();
        }
    }
}

/// Ends a cohort however its run ends.
struct Ending<K: Eq + Hash, P> {
    inner: Arc<Inner<K, P>>,
    cohort: Arc<Cohort<K, P>>,
}

impl<K: Eq + Hash, P> Drop for Ending<K, P> {
    fn drop(&mut self) {
        self.inner.retire(&self.cohort);
        self.cohort.frames.end();
        // Who waits for it to begin finds that it is over.
        self.cohort.run.follows(Following::State);
    }
}

async fn run<K: Eq + Hash, P>(
    inner: Arc<Inner<K, P>>,
    cohort: Arc<Cohort<K, P>>,
    mut frames: BoxStream<'static, Frame<P>>,
) {
    let ending = Ending { inner, cohort };
    while let Some(frame) = frames.next().await {
        ending.inner.metrics.frames.inc();
        let last = frame.kind == FrameKind::Failure;
        if last {
            // Nobody may join any more, who would come after the reason.
            ending.inner.retire(&ending.cohort);
        } else if frame.kind != FrameKind::State {
            ending.cohort.frames.room().await;
        }
        ending.cohort.frames.publish(frame);
        if last {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
