//! The hub: broadcast channels by topic, within this process.
//!
//! The tail publishes, in the log's order. Each subscriber has one bounded
//! queue, whatever its topics, so that what it receives is in that order too.
//! A subscriber that does not keep up is cut off and told so: it reads on from
//! the log. Nobody waits for it, and nothing is dropped in silence.
//!
//! The newest changes are remembered, so that who comes back after a moment
//! need not ask the database.

mod event;
mod recent;

pub use event::Event;
pub(crate) use event::OF_AN_EVENT;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use domain::change::{Position, Subject};
use domain::unit::UnitKey;
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use rustc_hash::{FxHashMap, FxHashSet};
use tokio::sync::mpsc;

use crate::Budget;
use recent::Recent;

/// What a subscriber can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// Every change, of whatever.
    Everything,
    /// Every forecast.
    Forecasts,
    /// The forecasts of one unit.
    ForecastsOf(UnitKey),
    /// Notifications for several users, whoever they are.
    SharedNotifications,
    /// The notifications of one user, by their id, that are nobody else's.
    NotificationsOf(i64),
}

/// What the hub counts.
#[derive(Debug, Clone, Default)]
pub struct HubMetrics {
    pub subscribers: Gauge,
    pub topics: Gauge,
    /// Events put into queues.
    pub delivered: Counter,
    /// Subscribers that were cut off because their queue was full.
    pub lagged: Counter,
}

#[derive(Clone)]
pub struct Hub {
    inner: Arc<Inner>,
}

struct Inner {
    capacity: usize,
    budget: Budget,
    metrics: HubMetrics,
    state: Mutex<State>,
}

struct State {
    /// Everything up to here has been published.
    published: Position,
    next_id: u64,
    topics: FxHashMap<Topic, FxHashMap<u64, Queue>>,
    recent: Recent,
}

#[derive(Clone)]
struct Queue {
    sender: mpsc::Sender<Arc<Event>>,
    end: Arc<End>,
}

/// Why a queue has no more events, readable once it is drained.
#[derive(Debug, Default)]
struct End {
    lagged: AtomicBool,
    resync: OnceLock<Position>,
}

/// The receiving end. Dropping it is leaving.
pub struct Subscriber {
    hub: Arc<Inner>,
    id: u64,
    topics: Vec<Topic>,
    joined_at: Position,
    receiver: mpsc::Receiver<Arc<Event>>,
    end: Arc<End>,
    /// Without a topic nobody else holds the sending end, and a queue that
    /// nobody can send to would be one that has ended.
    _idle: Option<mpsc::Sender<Arc<Event>>>,
}

/// What a subscriber receives.
#[derive(Debug)]
pub enum Received {
    Event(Arc<Event>),
    /// Its queue was full. What is missing is in the log.
    Lagged,
    /// Everything known is void; the log can be followed from here.
    Resync(Position),
}

impl Hub {
    /// A hub that has published everything up to `applied`. Each subscriber's queue
    /// holds `capacity` events; `budget` is for what else is kept for subscribers.
    pub fn new(applied: Position, capacity: usize, budget: Budget, metrics: HubMetrics) -> Self {
        Self {
            inner: Arc::new(Inner {
                capacity,
                budget,
                metrics,
                state: Mutex::new(State {
                    published: applied,
                    next_id: 0,
                    topics: FxHashMap::default(),
                    recent: Recent::default(),
                }),
            }),
        }
    }

    pub fn metrics(&self) -> &HubMetrics {
        &self.inner.metrics
    }

    /// For what is kept for subscribers.
    pub fn budget(&self) -> &Budget {
        &self.inner.budget
    }

    /// Everything up to here has been published.
    pub fn published(&self) -> Position {
        self.inner.state.lock().published
    }

    /// The events after a position, the oldest first, some of them at least;
    /// `None` where they are not remembered.
    pub(crate) fn recent_after(&self, after: Position) -> Option<Vec<Arc<Event>>> {
        self.inner.state.lock().recent.after(after)
    }

    /// Joins topics. What is published from now on is queued; everything up to
    /// [`Subscriber::joined_at`] is not.
    pub fn join(&self, mut topics: Vec<Topic>) -> Subscriber {
        // A topic may include others: an event must be queued once.
        for all in [Topic::Everything, Topic::Forecasts] {
            if topics.contains(&all) {
                topics = vec![all];
            }
        }
        topics.sort_unstable();
        topics.dedup();
        let (sender, receiver) = mpsc::channel(self.inner.capacity);
        let end = Arc::new(End::default());
        let mut state = self.inner.state.lock();
        let id = state.next_id;
        state.next_id += 1;
        for topic in &topics {
            let queue = Queue {
                sender: sender.clone(),
                end: Arc::clone(&end),
            };
            state.topics.entry(*topic).or_default().insert(id, queue);
        }
        self.inner.metrics.subscribers.inc();
        self.inner.count_topics(&state);
        Subscriber {
            hub: Arc::clone(&self.inner),
            id,
            _idle: topics.is_empty().then_some(sender),
            topics,
            joined_at: state.published,
            receiver,
            end,
        }
    }

    /// Distributes one change. Called by the tail only, in the log's order.
    pub(crate) fn publish(&self, event: Arc<Event>) {
        let mut state = self.inner.state.lock();
        let follows = event.change.position.number == state.published.number + 1;
        state.published = event.change.position;
        state.recent.push(Arc::clone(&event));
        if !follows {
            // A tail that broke off half-way leaves a gap: the log has what is missing.
            self.inner.cut_off_all(&mut state);
            return;
        }
        let (wide, narrow) = match &event.change.subject {
            Subject::Forecast(forecast) => (
                Some(Topic::Forecasts),
                Some(Topic::ForecastsOf(forecast.series.unit)),
            ),
            Subject::Notification(change) => match change.user_id {
                Some(user_id) => (None, Some(Topic::NotificationsOf(user_id))),
                None => (Some(Topic::SharedNotifications), None),
            },
            Subject::Unit(_) | Subject::Provider(_) | Subject::Other(_) | Subject::Everything => {
                (None, None)
            }
        };
        let topics = [Some(Topic::Everything), wide, narrow];
        let mut lagged = Vec::new();
        for topic in topics.iter().flatten() {
            let Some(queues) = state.topics.get(topic) else {
                continue;
            };
            for (id, queue) in queues {
                match queue.sender.try_send(Arc::clone(&event)) {
                    Ok(()) => {
                        self.inner.metrics.delivered.inc();
                    }
                    Err(mpsc::error::TrySendError::Full(_)) => {
                        queue.end.lagged.store(true, Ordering::SeqCst);
                        lagged.push(*id);
                    }
                    // It is just leaving.
                    Err(mpsc::error::TrySendError::Closed(_)) => {}
                }
            }
        }
        if !lagged.is_empty() {
            self.inner.metrics.lagged.inc_by(lagged.len() as u64);
            // From the topics of others, too, it has to go.
            let lagged: FxHashSet<u64> = lagged.into_iter().collect();
            state.topics.retain(|_, queues| {
                queues.retain(|id, _| !lagged.contains(id));
                !queues.is_empty()
            });
            self.inner.count_topics(&state);
        }
    }

    /// Ends every queue: what was published before does not lead to what comes.
    pub(crate) fn resync(&self, position: Position) {
        let mut state = self.inner.state.lock();
        state.published = position;
        state.recent.clear();
        for queue in state.topics.values().flat_map(FxHashMap::values) {
            queue.end.resync.get_or_init(|| position);
        }
        state.topics.clear();
        self.inner.count_topics(&state);
    }
}

impl Inner {
    /// Sends every subscriber to the log.
    fn cut_off_all(&self, state: &mut State) {
        for queue in state.topics.values().flat_map(FxHashMap::values) {
            if !queue.end.lagged.swap(true, Ordering::SeqCst) {
                self.metrics.lagged.inc();
            }
        }
        state.topics.clear();
        self.count_topics(state);
    }

    fn count_topics(&self, state: &State) {
        let topics = i64::try_from(state.topics.len()).unwrap_or(i64::MAX);
        self.metrics.topics.set(topics);
    }
}

impl Subscriber {
    /// Everything up to here was published before it joined.
    pub fn joined_at(&self) -> Position {
        self.joined_at
    }

    /// The next event, or why there is none.
    pub async fn recv(&mut self) -> Received {
        match self.receiver.recv().await {
            Some(event) => Received::Event(event),
            None => self.ended(),
        }
    }

    /// The next event if it is there already.
    pub fn try_recv(&mut self) -> Option<Received> {
        match self.receiver.try_recv() {
            Ok(event) => Some(Received::Event(event)),
            Err(mpsc::error::TryRecvError::Empty) => None,
            Err(mpsc::error::TryRecvError::Disconnected) => Some(self.ended()),
        }
    }

    fn ended(&self) -> Received {
        match self.end.resync.get() {
            Some(position) if !self.end.lagged.load(Ordering::SeqCst) => {
                Received::Resync(*position)
            }
            _ => Received::Lagged,
        }
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        let mut state = self.hub.state.lock();
        for topic in &self.topics {
            if let Some(queues) = state.topics.get_mut(topic) {
                queues.remove(&self.id);
                if queues.is_empty() {
                    state.topics.remove(topic);
                }
            }
        }
        self.hub.metrics.subscribers.dec();
        self.hub.count_topics(&state);
    }
}

#[cfg(test)]
mod tests {
    use domain::change::{Change, Epoch, ForecastChange, Operation};
    use domain::forecast::{Resolution, SeriesKey};
    use time::OffsetDateTime;

    use super::*;

    fn at(number: u64) -> Position {
        Position {
            epoch: Epoch(1),
            number,
        }
    }

    fn event(number: u64) -> Arc<Event> {
        Arc::new(Event::new(Change {
            position: at(number),
            operation: Operation::Insert,
            changed_at: OffsetDateTime::UNIX_EPOCH,
            subject: Subject::Forecast(ForecastChange {
                series: SeriesKey {
                    unit: "plant:1".parse().unwrap(),
                    provider: "p".parse().unwrap(),
                    resolution: Resolution::Hour,
                },
                series_id: 1,
                run_id: 1,
                from: OffsetDateTime::UNIX_EPOCH,
                to: OffsetDateTime::UNIX_EPOCH,
            }),
        }))
    }

    #[test]
    fn a_gap_sends_every_subscriber_to_the_log() {
        let hub = Hub::new(at(4), 8, Budget::new(usize::MAX), HubMetrics::default());
        let mut subscriber = hub.join(vec![Topic::Forecasts]);
        hub.publish(event(5));
        hub.publish(event(7));
        let first = subscriber.try_recv();
        assert!(matches!(first, Some(Received::Event(event)) if event.change.position == at(5)));
        assert!(matches!(subscriber.try_recv(), Some(Received::Lagged)));
        // Who joins now reads the log up to here, and goes on live.
        let mut again = hub.join(vec![Topic::Forecasts]);
        assert_eq!(again.joined_at(), at(7));
        hub.publish(event(8));
        assert!(matches!(again.try_recv(), Some(Received::Event(_))));
    }
}
