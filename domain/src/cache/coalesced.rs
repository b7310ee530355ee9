//! A bounded cache whose loads are shared and whose entries obey the clock.

use std::collections::HashMap;
use std::fmt::Debug;
use std::future::Future;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use rustc_hash::{FxBuildHasher, FxHashMap};
use sea_orm::DbErr;
use thiserror::Error;
use tokio::sync::watch;

use super::clock::EpochClock;
use super::{Clock, Stamp, Tag};
use crate::change::Position;

/// Where a cache gets what it does not have.
pub trait Load: Send + Sync + 'static {
    type Key: Clone + Eq + Hash + Debug + Send + Sync + 'static;
    /// Cheap to clone: an `Arc`, or a number.
    type Value: Clone + Send + Sync + 'static;

    /// Names the cache, in metrics.
    const NAME: &'static str;

    /// Reads the values of `keys`, one for each and in their order.
    fn load(
        &self,
        keys: Vec<Self::Key>,
    ) -> impl Future<Output = Result<Vec<Self::Value>, DbErr>> + Send;

    /// What a change of the value raises.
    fn tag(key: &Self::Key) -> Tag;

    /// Bytes in memory, key included.
    fn weight(key: &Self::Key, value: &Self::Value) -> u32;

    /// Whether the value, once there, never changes again: its tag then tells
    /// nothing about it, and only a void of everything voids it.
    fn is_final(_value: &Self::Value) -> bool {
        false
    }
}

/// How large a cache may grow, and how long an entry may stay.
#[derive(Debug, Clone, Copy)]
pub struct CacheSettings {
    /// Bytes of all entries.
    pub budget_bytes: u64,
    /// Only a fallback: validity does not depend on it. Each entry lives up to
    /// a tenth less, so that they do not all go at once.
    pub time_to_live: Duration,
}

/// What caches count, by the name of the cache.
#[derive(Debug, Clone, Default)]
pub struct CacheMetrics {
    /// Keys answered from memory.
    pub hits: CacheCounter,
    /// Keys that were loaded.
    pub misses: CacheCounter,
    /// Keys that joined a load under way.
    pub joined: CacheCounter,
    /// Entries found that were no longer valid.
    pub invalid: CacheCounter,
    /// Loads whose result was out of date before it could be kept.
    pub unkept: CacheCounter,
    /// Entries that went for lack of room or age.
    pub evicted: CacheCounter,
}

/// A counter for each cache.
pub type CacheCounter = Family<[(&'static str, &'static str); 1], Counter>;

/// The counters of one cache.
#[derive(Debug)]
struct Counters {
    hits: Counter,
    misses: Counter,
    joined: Counter,
    invalid: Counter,
    unkept: Counter,
    evicted: Counter,
}

impl Counters {
    fn of(cache: &'static str, metrics: &CacheMetrics) -> Self {
        let counter = |family: &CacheCounter| family.get_or_create_owned(&[("cache", cache)]);
        Self {
            hits: counter(&metrics.hits),
            misses: counter(&metrics.misses),
            joined: counter(&metrics.joined),
            invalid: counter(&metrics.invalid),
            unkept: counter(&metrics.unkept),
            evicted: counter(&metrics.evicted),
        }
    }
}

/// A value, and the position it includes at least.
#[derive(Debug, Clone)]
pub struct Loaded<V> {
    pub value: V,
    pub position: Position,
}

/// Why a value could not be loaded.
#[derive(Debug, Clone, Error)]
pub enum LoadError {
    #[error("the database failed")]
    Database(#[source] Arc<DbErr>),
    #[error("the load was broken off")]
    Aborted,
}

#[derive(Clone)]
struct Entry<V> {
    /// Of the clock that `number` is a position of.
    life: u64,
    number: u64,
    value: V,
}

/// A read under way, for one or more keys.
struct Flight<V> {
    stamp: Stamp,
    landed: watch::Receiver<Option<Landing<V>>>,
}

type Landing<V> = Result<Arc<Vec<V>>, LoadError>;

/// A flight, and which of its values is meant.
struct Seat<V> {
    flight: Arc<Flight<V>>,
    index: usize,
}

impl<V> Clone for Seat<V> {
    fn clone(&self) -> Self {
        Self {
            flight: Arc::clone(&self.flight),
            index: self.index,
        }
    }
}

/// What memory has of a key.
enum Look<V> {
    Valid(Loaded<V>),
    Invalid,
    Absent,
}

/// Values by key; see the [module](super) for what may be used when.
pub struct Cache<L: Load> {
    inner: Arc<Inner<L>>,
}

struct Inner<L: Load> {
    load: L,
    clock: Arc<Clock>,
    entries: moka::sync::Cache<L::Key, Entry<L::Value>, FxBuildHasher>,
    flights: Mutex<FxHashMap<L::Key, Seat<L::Value>>>,
    metrics: Counters,
    /// The mistake of remembering the position after the read's snapshot.
    #[cfg(test)]
    stamps_inside_snapshot: std::sync::atomic::AtomicBool,
}

impl<L: Load> Clone for Cache<L> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}

/// Entries of one moment end at different ones.
struct Jittered(Duration);

impl<K: Hash, V> moka::Expiry<K, V> for Jittered {
    fn expire_after_create(&self, key: &K, _: &V, _: Instant) -> Option<Duration> {
        let spread = u32::try_from(FxBuildHasher.hash_one(key) % 100).unwrap_or(0);
        Some(self.0 - self.0 / 1000 * spread)
    }
}

impl<L: Load> Cache<L> {
    pub fn new(
        load: L,
        clock: Arc<Clock>,
        settings: CacheSettings,
        metrics: &CacheMetrics,
    ) -> Self {
        let metrics = Counters::of(L::NAME, metrics);
        let evicted = metrics.evicted.clone();
        let entries = moka::sync::Cache::builder()
            .max_capacity(settings.budget_bytes)
            .weigher(|key, entry: &Entry<L::Value>| L::weight(key, &entry.value))
            .expire_after(Jittered(settings.time_to_live))
            .eviction_listener(move |_, _, cause| {
                if cause.was_evicted() {
                    evicted.inc();
                }
            })
            .build_with_hasher(FxBuildHasher);
        Self {
            inner: Arc::new(Inner {
                load,
                clock,
                entries,
                flights: Mutex::default(),
                metrics,
                #[cfg(test)]
                stamps_inside_snapshot: false.into(),
            }),
        }
    }

    /// How many bytes and entries it holds, about.
    pub fn size(&self) -> (u64, u64) {
        let entries = &self.inner.entries;
        (entries.weighted_size(), entries.entry_count())
    }

    /// The value if it is in memory and valid, with the position it includes.
    pub fn peek(&self, key: &L::Key) -> Option<Loaded<L::Value>> {
        match self.inner.look(key) {
            Look::Valid(loaded) => {
                self.inner.metrics.hits.inc();
                Some(loaded)
            }
            // Counted by the read that follows.
            Look::Invalid | Look::Absent => None,
        }
    }

    /// One value, from memory or loaded.
    pub async fn get(&self, key: L::Key) -> Result<Loaded<L::Value>, LoadError> {
        if let Some(loaded) = self.peek(&key) {
            return Ok(loaded);
        }
        let mut loaded = self.get_many(std::slice::from_ref(&key)).await?;
        loaded.0.pop().map_or(Err(LoadError::Aborted), |value| {
            Ok(Loaded {
                value,
                position: loaded.1,
            })
        })
    }

    /// The values of `keys` in their order, and the position that all of them
    /// include at least. What is missing is loaded by one read; who asks for
    /// the same meanwhile waits for that read, if it may.
    pub async fn get_many(&self, keys: &[L::Key]) -> Result<(Vec<L::Value>, Position), LoadError> {
        // The answer is made of entries of different ages. When the last of them
        // is there the first may be out of date; they are looked at again. A key
        // that changes all the time must not hold up the answer, so that after a
        // few rounds what each load includes is enough.
        const ROUNDS: usize = 3;
        let mut round = 1;
        loop {
            let values = self.inner.gather(keys).await?;
            let clock = self.inner.clock.current();
            // Read before the tags: up to here every change has raised its tag.
            let applied = clock.applied();
            let same_epoch = values
                .iter()
                .all(|loaded| loaded.position.epoch == clock.epoch());
            let all_valid = same_epoch
                && keys.iter().zip(&values).all(|(key, loaded)| {
                    voided_at::<L>(&clock, key, &loaded.value) <= loaded.position.number
                });
            // One value is of one age: who boarded its flight knew that it includes
            // every change before.
            let settled = all_valid || (same_epoch && (keys.len() == 1 || round >= ROUNDS));
            if settled {
                let oldest = values.iter().map(|loaded| loaded.position.number).min();
                let number = match oldest {
                    Some(oldest) if !all_valid => oldest,
                    // No change up to `applied` touched any of these.
                    _ => oldest.unwrap_or(0).max(applied),
                };
                let position = Position {
                    epoch: clock.epoch(),
                    number,
                };
                let values = values.into_iter().map(|loaded| loaded.value).collect();
                return Ok((values, position));
            }
            drop(clock);
            if round >= 2 * ROUNDS {
                return Err(LoadError::Aborted);
            }
            round += 1;
        }
    }
}

/// Up to where changes may have made a value wrong, as the clock knows.
fn voided_at<L: Load>(clock: &EpochClock, key: &L::Key, value: &L::Value) -> u64 {
    if L::is_final(value) {
        clock.floor()
    } else {
        clock.invalidated_at(L::tag(key))
    }
}

/// Waits for a flight.
async fn land<V: Clone>(seat: Seat<V>) -> Result<Loaded<V>, LoadError> {
    let mut landed = seat.flight.landed.clone();
    let landing = landed
        .wait_for(Option::is_some)
        .await
        .map_err(|_| LoadError::Aborted)?;
    match landing.as_ref() {
        Some(Ok(values)) => match values.get(seat.index) {
            Some(value) => Ok(Loaded {
                value: value.clone(),
                position: seat.flight.stamp.position(),
            }),
            None => Err(LoadError::Aborted),
        },
        Some(Err(error)) => Err(error.clone()),
        None => Err(LoadError::Aborted),
    }
}

impl<L: Load> Inner<L> {
    fn look(&self, key: &L::Key) -> Look<L::Value> {
        let Some(entry) = self.entries.get(key) else {
            return Look::Absent;
        };
        let clock = self.clock.current();
        // Read before the tag: up to here every change has raised its tag.
        let applied = clock.applied();
        if entry.life != clock.life() || voided_at::<L>(&clock, key, &entry.value) > entry.number {
            return Look::Invalid;
        }
        Look::Valid(Loaded {
            value: entry.value,
            position: Position {
                epoch: clock.epoch(),
                number: entry.number.max(applied),
            },
        })
    }

    /// The values of `keys`: those in memory, and for the others each a load's.
    async fn gather(self: &Arc<Self>, keys: &[L::Key]) -> Result<Vec<Loaded<L::Value>>, LoadError> {
        let mut values = Vec::with_capacity(keys.len());
        let mut missing = Vec::new();
        for (i, key) in keys.iter().enumerate() {
            match self.look(key) {
                Look::Valid(loaded) => {
                    values.push(Some(loaded));
                    continue;
                }
                Look::Invalid => {
                    self.metrics.invalid.inc();
                }
                Look::Absent => {}
            }
            values.push(None);
            missing.push(i);
        }
        self.metrics
            .hits
            .inc_by((keys.len() - missing.len()) as u64);
        if !missing.is_empty() {
            let seats = self.board(missing.iter().map(|i| &keys[*i]));
            for (i, seat) in missing.iter().zip(seats) {
                values[*i] = Some(land(seat).await?);
            }
        }
        Ok(values.into_iter().flatten().collect())
    }

    /// A seat for each key, in a flight that may answer who asks now: one under
    /// way that includes the last change of the key, or a new one.
    fn board<'a>(self: &Arc<Self>, keys: impl Iterator<Item = &'a L::Key>) -> Vec<Seat<L::Value>> {
        let mut flights = self.flights.lock();
        let stamp = self.clock.stamp();
        let (sender, landed) = watch::channel(None);
        let flight = Arc::new(Flight { stamp, landed });
        let mut own: HashMap<L::Key, usize> = HashMap::new();
        let mut order = Vec::new();
        let mut seats = Vec::new();
        for key in keys {
            let seat = if let Some(index) = own.get(key) {
                Seat {
                    flight: Arc::clone(&flight),
                    index: *index,
                }
            } else if let Some(seat) = flights
                .get(key)
                .filter(|seat| self.clock.includes(L::tag(key), &seat.flight.stamp))
            {
                self.metrics.joined.inc();
                seat.clone()
            } else {
                self.metrics.misses.inc();
                let seat = Seat {
                    flight: Arc::clone(&flight),
                    index: order.len(),
                };
                own.insert(key.clone(), order.len());
                order.push(key.clone());
                flights.insert(key.clone(), seat.clone());
                seat
            };
            seats.push(seat);
        }
        drop(flights);
        if !order.is_empty() {
            let inner = Arc::clone(self);
            #[expect(
                clippy::disallowed_methods,
                reason = "a load outlives the request that began it: others wait for it"
            )]
            tokio::spawn(async move { inner.fly(order, &flight, &sender).await });
        }
        seats
    }

    async fn fly(
        &self,
        keys: Vec<L::Key>,
        flight: &Arc<Flight<L::Value>>,
        landed: &watch::Sender<Option<Landing<L::Value>>>,
    ) {
        // A load that panics must not leave its keys waiting for ever.
        let on_board = ClearFlight {
            inner: self,
            keys: &keys,
            flight,
        };
        let loaded = match self.load.load(keys.clone()).await {
            Ok(values) if values.len() == keys.len() => Ok(Arc::new(values)),
            Ok(_) => Err(LoadError::Aborted),
            Err(error) => Err(LoadError::Database(Arc::new(error))),
        };
        if let Ok(values) = &loaded {
            #[cfg(test)]
            let stamp = &if self
                .stamps_inside_snapshot
                .load(std::sync::atomic::Ordering::SeqCst)
            {
                self.clock.stamp()
            } else {
                flight.stamp.clone()
            };
            #[cfg(not(test))]
            let stamp = &flight.stamp;
            for (key, value) in keys.iter().zip(values.iter()) {
                self.keep(key, value, stamp);
            }
        }
        // Before its waiters hear: one that asks again after an error begins anew.
        drop(on_board);
        landed.send_replace(Some(loaded));
    }

    fn keep(&self, key: &L::Key, value: &L::Value, stamp: &Stamp) {
        let clock = self.clock.current();
        if stamp.clock.life() != clock.life() || voided_at::<L>(&clock, key, value) > stamp.number {
            self.metrics.unkept.inc();
            return;
        }
        self.entries.insert(
            key.clone(),
            Entry {
                life: stamp.clock.life(),
                number: stamp.number,
                value: value.clone(),
            },
        );
    }
}

/// Takes a flight off the board when it has landed, or fallen.
struct ClearFlight<'a, L: Load> {
    inner: &'a Inner<L>,
    keys: &'a [L::Key],
    flight: &'a Arc<Flight<L::Value>>,
}

impl<L: Load> Drop for ClearFlight<'_, L> {
    fn drop(&mut self) {
        let mut flights = self.inner.flights.lock();
        for key in self.keys {
            if flights
                .get(key)
                .is_some_and(|seat| Arc::ptr_eq(&seat.flight, self.flight))
            {
                flights.remove(key);
            }
        }
    }
}

#[cfg(test)]
impl<L: Load> Cache<L> {
    pub(super) fn stamp_inside_snapshot(&self) {
        self.inner
            .stamps_inside_snapshot
            .store(true, std::sync::atomic::Ordering::SeqCst);
    }

    /// The same entries under another clock, as if they had outlived the
    /// process in a tier that replicas share.
    pub(super) fn restarted(&self, load: L, clock: Arc<Clock>, settings: CacheSettings) -> Self {
        let (last, life) = (self.inner.clock.current().life(), clock.current().life());
        let next = Self::new(load, clock, settings, &CacheMetrics::default());
        for (key, mut entry) in &self.inner.entries {
            if entry.life == last {
                entry.life = life;
                next.inner.entries.insert(key.as_ref().clone(), entry);
            }
        }
        next
    }
}
