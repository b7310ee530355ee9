//! A bounded cache whose loads are shared and whose entries obey the clock.

use std::fmt::Debug;
use std::future::Future;
use std::hash::{BuildHasher, Hash};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use rustc_hash::{FxBuildHasher, FxHashMap};
use sea_orm::DbErr;
use thiserror::Error;
use tokio::sync::{Semaphore, watch};
use tokio::task::yield_now;

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
    /// Reads that loaded keys, each any number of them.
    pub loads: CacheCounter,
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
    loads: Counter,
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
            loads: counter(&metrics.loads),
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

/// A read that is under way, or soon is, for one or more keys.
struct Flight<V> {
    /// Absent until it departs.
    stamp: OnceLock<Stamp>,
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

/// A flight that has not departed, which takes whoever comes meanwhile.
struct Boarding<L: Load> {
    flight: Arc<Flight<L::Value>>,
    landed: watch::Sender<Option<Landing<L::Value>>>,
    keys: Vec<L::Key>,
    /// Whether a task was begun for it, beyond those that fly already.
    is_called: bool,
}

impl<L: Load> Boarding<L> {
    fn new() -> Self {
        let (landed, receiver) = watch::channel(None);
        Self {
            flight: Arc::new(Flight {
                stamp: OnceLock::new(),
                landed: receiver,
            }),
            landed,
            keys: Vec::new(),
            is_called: false,
        }
    }

    /// A seat for a key that no other flight has.
    fn seat(&mut self, key: &L::Key) -> Seat<L::Value> {
        self.keys.push(key.clone());
        Seat {
            flight: Arc::clone(&self.flight),
            index: self.keys.len() - 1,
        }
    }
}

/// All flights of a cache.
struct Board<L: Load> {
    seats: FxHashMap<L::Key, Seat<L::Value>>,
    gate: Option<Boarding<L>>,
    /// Tasks that fly what is at the gate, one flight after the other.
    flying: usize,
}

/// Loads from the gate that run at once. Keys that are missed meanwhile wait and
/// are loaded together.
const MOST_FLYING: usize = 4;
/// With this many keys at the gate a load departs although as many run already.
const FULL: usize = 1024;
/// A read that misses more keys than this has a load of its own, so that it delays
/// no other read.
const CHARTER: usize = 32;
/// Such loads that run at once, so that they leave connections to others.
const MOST_CHARTERS: usize = 4;

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
    board: Mutex<Board<L>>,
    charters: Semaphore,
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
                charters: Semaphore::new(MOST_CHARTERS),
                board: Mutex::new(Board {
                    seats: FxHashMap::default(),
                    gate: None,
                    flying: 0,
                }),
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
    /// include at least. What is missing is loaded together, with what others miss;
    /// who asks for the same meanwhile waits for that read, if it may.
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
        Some(Ok(values)) => match (values.get(seat.index), seat.flight.stamp.get()) {
            (Some(value), Some(stamp)) => Ok(Loaded {
                value: value.clone(),
                position: stamp.position(),
            }),
            _ => Err(LoadError::Aborted),
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
            let missed: Vec<&L::Key> = missing.iter().map(|i| &keys[*i]).collect();
            let seats = self.board(&missed);
            if seats.iter().any(|seat| seat.flight.stamp.get().is_none()) {
                // A task may begin many reads, as the fields of a list. All of them
                // reach the gate before the task runs again.
                yield_now().await;
                self.call();
            }
            for (i, seat) in missing.iter().zip(seats) {
                values[*i] = Some(land(seat).await?);
            }
        }
        Ok(values.into_iter().flatten().collect())
    }

    /// A seat for each key, in a flight that may answer who asks now: one that has
    /// not departed, one under way that includes the last change of the key, or a
    /// new one.
    fn board(self: &Arc<Self>, keys: &[&L::Key]) -> Vec<Seat<L::Value>> {
        let mut board = self.board.lock();
        let Board { seats, gate, .. } = &mut *board;
        let mut charter = (keys.len() > CHARTER).then(Boarding::new);
        let boarded = keys.iter().map(|key| {
            let joined = seats.get(*key).filter(|seat| {
                let stamp = seat.flight.stamp.get();
                // What departs later includes what has changed by now.
                stamp.is_none_or(|stamp| self.clock.includes(L::tag(key), stamp))
            });
            if let Some(seat) = joined {
                self.metrics.joined.inc();
                return seat.clone();
            }
            self.metrics.misses.inc();
            let boarding = match &mut charter {
                Some(charter) => charter,
                None => gate.get_or_insert_with(Boarding::new),
            };
            let seat = boarding.seat(key);
            seats.insert((*key).clone(), seat.clone());
            seat
        });
        let boarded = boarded.collect();
        let charter = charter.filter(|charter| !charter.keys.is_empty());
        if let Some(charter) = charter {
            let inner = Arc::clone(self);
            fly_off(async move {
                // Never closed: there is a permit to come.
                let _permit = inner.charters.acquire().await;
                {
                    let _board = inner.board.lock();
                    inner.depart(&charter);
                }
                inner.fly(charter).await;
            });
        }
        boarded
    }

    /// Lets what is at the gate depart, unless that is left to those that fly.
    fn call(self: &Arc<Self>) {
        let mut board = self.board.lock();
        let may_fly = board.flying < MOST_FLYING;
        if let Some(gate) = &mut board.gate
            && !gate.is_called
            && (may_fly || gate.keys.len() >= FULL)
        {
            gate.is_called = true;
            board.flying += 1;
            let inner = Arc::clone(self);
            fly_off(async move { inner.fly_from_gate().await });
        }
    }

    /// Flies what is at the gate, until nobody is there.
    async fn fly_from_gate(&self) {
        while let Some(boarding) = self.next_from_gate() {
            self.fly(boarding).await;
        }
    }

    fn next_from_gate(&self) -> Option<Boarding<L>> {
        let mut board = self.board.lock();
        match board.gate.take() {
            Some(boarding) => {
                self.depart(&boarding);
                Some(boarding)
            }
            None => {
                board.flying -= 1;
                None
            }
        }
    }

    /// Remembers the position that the read is going to include. The board is
    /// locked: from here on nobody boards who knows of a later one.
    fn depart(&self, boarding: &Boarding<L>) {
        // It departs once.
        drop(boarding.flight.stamp.set(self.clock.stamp()));
    }

    async fn fly(&self, boarding: Boarding<L>) {
        let Boarding {
            flight,
            landed,
            keys,
            ..
        } = boarding;
        self.metrics.loads.inc();
        // A load that panics must leave neither its keys waiting for ever, nor those
        // at the gate.
        let loaded = AssertUnwindSafe(self.load.load(keys.clone()));
        let loaded = match loaded.catch_unwind().await {
            Ok(Ok(values)) if values.len() == keys.len() => Ok(Arc::new(values)),
            Ok(Ok(_)) | Err(_) => Err(LoadError::Aborted),
            Ok(Err(error)) => Err(LoadError::Database(Arc::new(error))),
        };
        let keep = || self.keep_all(&keys, &loaded, &flight);
        // What cannot be kept is still an answer.
        drop(std::panic::catch_unwind(AssertUnwindSafe(keep)));
        // Before its waiters hear: one that asks again after an error begins anew.
        self.clear(&keys, &flight);
        landed.send_replace(Some(loaded));
    }

    fn keep_all(&self, keys: &[L::Key], loaded: &Landing<L::Value>, flight: &Flight<L::Value>) {
        if let (Ok(values), Some(stamp)) = (loaded, flight.stamp.get()) {
            #[cfg(test)]
            let stamp = &if self
                .stamps_inside_snapshot
                .load(std::sync::atomic::Ordering::SeqCst)
            {
                self.clock.stamp()
            } else {
                stamp.clone()
            };
            for (key, value) in keys.iter().zip(values.iter()) {
                self.keep(key, value, stamp);
            }
        }
    }

    /// Takes a flight off the board.
    fn clear(&self, keys: &[L::Key], flight: &Arc<Flight<L::Value>>) {
        let mut board = self.board.lock();
        for key in keys {
            let seat = board.seats.get(key);
            if seat.is_some_and(|seat| Arc::ptr_eq(&seat.flight, flight)) {
                board.seats.remove(key);
            }
        }
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

/// Runs a load in a task of its own.
fn fly_off(flight: impl Future<Output = ()> + Send + 'static) {
    #[expect(
        clippy::disallowed_methods,
        reason = "a load outlives the request that began it: others wait for it"
    )]
    tokio::spawn(flight);
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
