//! Loads are shared by who asks meanwhile, and nobody is left without an answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use domain::cache::{
    Cache, CacheCounter, CacheMetrics, CacheSettings, Clock, Load, LoadError, Tag,
};
use domain::change::{Epoch, Position};
use sea_orm::DbErr;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{JoinSet, yield_now};

/// Gives each key the number of the last write, once the test lets it.
#[derive(Clone)]
struct Numbers(Arc<Source>);

struct Source {
    written: AtomicU64,
    loads: AtomicU64,
    fails: AtomicBool,
    panics: AtomicBool,
    /// A load tells that it has its snapshot.
    begun: mpsc::UnboundedSender<()>,
    /// A load ends with a permit of this.
    gate: Semaphore,
}

impl Load for Numbers {
    type Key = u64;
    type Value = u64;

    const NAME: &'static str = "numbers";

    async fn load(&self, keys: Vec<u64>) -> Result<Vec<u64>, DbErr> {
        let source = &self.0;
        source.loads.fetch_add(1, Ordering::SeqCst);
        let snapshot = source.written.load(Ordering::SeqCst);
        // Nobody listens in tests that need no order.
        let _ = source.begun.send(());
        source.gate.acquire().await.expect("it is open").forget();
        assert!(!source.panics.load(Ordering::SeqCst), "as the test wants");
        if source.fails.load(Ordering::SeqCst) {
            return Err(DbErr::Custom("as the test wants".into()));
        }
        Ok(vec![snapshot; keys.len()])
    }

    fn tag(key: &u64) -> Tag {
        Tag::of("numbers", key)
    }

    fn weight(_: &u64, _: &u64) -> u32 {
        100
    }
}

struct Fixture {
    source: Arc<Source>,
    begun: mpsc::UnboundedReceiver<()>,
    clock: Arc<Clock>,
    cache: Cache<Numbers>,
    metrics: CacheMetrics,
}

impl Fixture {
    /// With so many permits for loads to end.
    fn new(permits: usize) -> Self {
        let (sender, begun) = mpsc::unbounded_channel();
        let source = Arc::new(Source {
            written: AtomicU64::new(0),
            loads: AtomicU64::new(0),
            fails: AtomicBool::new(false),
            panics: AtomicBool::new(false),
            begun: sender,
            gate: Semaphore::new(permits),
        });
        let clock = Arc::new(Clock::new(Position {
            epoch: Epoch(1),
            number: 0,
        }));
        let metrics = CacheMetrics::default();
        let settings = CacheSettings {
            budget_bytes: 100_000,
            time_to_live: Duration::from_secs(3600),
        };
        let cache = Cache::new(
            Numbers(Arc::clone(&source)),
            Arc::clone(&clock),
            settings,
            &metrics,
        );
        Self {
            source,
            begun,
            clock,
            cache,
            metrics,
        }
    }

    fn loads(&self) -> u64 {
        self.source.loads.load(Ordering::SeqCst)
    }

    /// Writes every key, and raises the tag of one as far as an acknowledgement asks.
    fn write(&self, key: u64) -> u64 {
        let position = self.source.written.fetch_add(1, Ordering::SeqCst) + 1;
        self.clock.observe(position);
        self.clock.invalidate(Numbers::tag(&key), position);
        self.clock.advance(position);
        position
    }

    fn get(
        &self,
        tasks: &mut JoinSet<Result<u64, LoadError>>,
        key: u64,
    ) -> tokio::task::AbortHandle {
        let cache = self.cache.clone();
        tasks.spawn(async move { Ok(cache.get(key).await?.value) })
    }

    async fn has_joined(&self, count: u64) {
        eventually(|| read(&self.metrics.joined) == count).await;
    }
}

fn read(counter: &CacheCounter) -> u64 {
    counter.get_or_create(&[("cache", Numbers::NAME)]).get()
}

/// Waits for a condition that other tasks bring about.
async fn eventually(mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "it never comes about");
        yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_gets_of_a_cold_key_are_one_load() {
    let fixture = Fixture::new(0);
    let mut tasks = JoinSet::new();
    for _ in 0..100 {
        fixture.get(&mut tasks, 7);
    }
    fixture.has_joined(99).await;
    fixture.source.gate.add_permits(1);
    for value in tasks.join_all().await {
        assert_eq!(value.unwrap(), 0);
    }
    assert_eq!(fixture.loads(), 1);
    fixture.cache.get(7).await.unwrap();
    assert_eq!(fixture.loads(), 1, "it was kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_gives_up_leaves_the_load_to_the_others() {
    let mut fixture = Fixture::new(0);
    let mut tasks = JoinSet::new();
    let first = fixture.get(&mut tasks, 7);
    fixture.begun.recv().await.unwrap();
    fixture.get(&mut tasks, 7);
    fixture.has_joined(1).await;
    first.abort();
    assert!(tasks.join_next().await.unwrap().unwrap_err().is_cancelled());
    fixture.source.gate.add_permits(1);
    assert_eq!(tasks.join_next().await.unwrap().unwrap().unwrap(), 0);
    assert_eq!(fixture.loads(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_may_give_up_and_the_load_is_kept() {
    let mut fixture = Fixture::new(0);
    let mut tasks = JoinSet::new();
    let only = fixture.get(&mut tasks, 7);
    fixture.begun.recv().await.unwrap();
    only.abort();
    assert!(tasks.join_next().await.unwrap().unwrap_err().is_cancelled());
    fixture.source.gate.add_permits(1);
    eventually(|| fixture.cache.peek(&7).is_some()).await;
    assert_eq!(fixture.loads(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_that_panics_gives_its_waiters_an_error_once() {
    let fixture = Fixture::new(0);
    fixture.source.panics.store(true, Ordering::SeqCst);
    let mut tasks = JoinSet::new();
    for _ in 0..10 {
        fixture.get(&mut tasks, 7);
    }
    fixture.has_joined(9).await;
    fixture.source.gate.add_permits(1);
    for value in tasks.join_all().await {
        assert!(matches!(value, Err(LoadError::Aborted)), "{value:?}");
    }
    fixture.source.panics.store(false, Ordering::SeqCst);
    fixture.source.gate.add_permits(1);
    assert_eq!(fixture.cache.get(7).await.unwrap().value, 0);
    assert_eq!(fixture.loads(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_that_fails_gives_its_waiters_an_error_once() {
    for _ in 0..50 {
        let fixture = Fixture::new(0);
        fixture.source.fails.store(true, Ordering::SeqCst);
        let mut tasks = JoinSet::new();
        for _ in 0..10 {
            let (cache, source) = (fixture.cache.clone(), Arc::clone(&fixture.source));
            tasks.spawn(async move {
                let first = cache.get(7).await;
                assert!(matches!(first, Err(LoadError::Database(_))), "{first:?}");
                source.fails.store(false, Ordering::SeqCst);
                source.gate.add_permits(1);
                // At once: it must not be given the error of the load that has ended.
                cache.get(7).await.map(|loaded| loaded.value)
            });
        }
        fixture.has_joined(9).await;
        fixture.source.gate.add_permits(1);
        for value in tasks.join_all().await {
            assert_eq!(value.unwrap(), 0);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_after_a_write_is_not_given_a_load_from_before() {
    let mut fixture = Fixture::new(0);
    let mut tasks = JoinSet::new();
    fixture.get(&mut tasks, 7);
    fixture.begun.recv().await.unwrap();
    let written = fixture.write(7);
    let mut later = JoinSet::new();
    for _ in 0..10 {
        fixture.get(&mut later, 7);
    }
    fixture.begun.recv().await.unwrap();
    fixture.has_joined(9).await;
    assert_eq!(fixture.loads(), 2);
    fixture.source.gate.add_permits(2);
    for value in later.join_all().await {
        assert_eq!(value.unwrap(), written);
    }
    // It asked before the write: its own load will do.
    assert_eq!(tasks.join_next().await.unwrap().unwrap().unwrap(), 0);
    // Whichever load ended last, what is kept is the later.
    assert_eq!(fixture.cache.peek(&7).unwrap().value, written);
    assert_eq!(read(&fixture.metrics.unkept), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_of_another_key_disturbs_nothing() {
    let mut fixture = Fixture::new(0);
    let mut tasks = JoinSet::new();
    fixture.get(&mut tasks, 7);
    fixture.begun.recv().await.unwrap();
    fixture.write(8);
    fixture.get(&mut tasks, 7);
    fixture.has_joined(1).await;
    fixture.source.gate.add_permits(1);
    for value in tasks.join_all().await {
        assert_eq!(value.unwrap(), 0);
    }
    let kept = fixture.cache.peek(&7).unwrap();
    assert_eq!((kept.value, kept.position.number), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_keys_are_one_load_and_share_those_under_way() {
    let mut fixture = Fixture::new(0);
    let mut tasks = JoinSet::new();
    fixture.get(&mut tasks, 1);
    fixture.begun.recv().await.unwrap();
    let cache = fixture.cache.clone();
    let mut many = JoinSet::new();
    many.spawn(async move { cache.get_many(&[1, 2, 3, 2]).await });
    fixture.begun.recv().await.unwrap();
    fixture.source.gate.add_permits(2);
    let (values, _) = many.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!(values, [0, 0, 0, 0]);
    assert_eq!(fixture.loads(), 2);
    assert_eq!(read(&fixture.metrics.misses), 3);
}

/// Reads that differ in their keys are one load, too, if they come while as many are
/// under way as may be.
#[tokio::test(flavor = "multi_thread")]
async fn what_many_ask_for_one_by_one_is_loaded_together() {
    let mut fixture = Fixture::new(0);
    let mut tasks = JoinSet::new();
    for key in 0..4 {
        fixture.get(&mut tasks, key);
        fixture.begun.recv().await.unwrap();
    }
    for key in 100..600 {
        fixture.get(&mut tasks, key);
    }
    eventually(|| read(&fixture.metrics.misses) == 504).await;
    assert_eq!(fixture.loads(), 4);
    // What changes while it waits for its turn is in what is read then.
    let written = fixture.write(200);
    fixture.source.gate.add_permits(5);
    let mut values = Vec::new();
    while let Some(value) = tasks.join_next().await {
        values.push(value.unwrap().unwrap());
    }
    assert_eq!(fixture.loads(), 5);
    assert_eq!(
        values.iter().filter(|value| **value == written).count(),
        500
    );
    assert_eq!(fixture.cache.peek(&200).unwrap().value, written);
}

/// Who misses very many has a load of their own, and no turn to wait for.
#[tokio::test(flavor = "multi_thread")]
async fn a_very_wide_read_holds_up_nobody() {
    let mut fixture = Fixture::new(0);
    let mut tasks = JoinSet::new();
    let keys: Vec<u64> = (1000..2000).collect();
    for _ in 0..6 {
        let (cache, keys) = (fixture.cache.clone(), keys.clone());
        tasks.spawn(async move { cache.get_many(&keys).await.map(|_| 0) });
    }
    fixture.begun.recv().await.unwrap();
    fixture.has_joined(5000).await;
    fixture.get(&mut tasks, 7);
    fixture.begun.recv().await.unwrap();
    assert_eq!(fixture.loads(), 2);
    fixture.source.gate.add_permits(2);
    for value in tasks.join_all().await {
        assert_eq!(value.unwrap(), 0);
    }
}

/// A load that panics takes nobody with it who waits at the gate.
#[tokio::test(flavor = "multi_thread")]
async fn a_load_that_panics_leaves_the_others_their_turn() {
    let mut fixture = Fixture::new(0);
    let mut tasks = JoinSet::new();
    fixture.source.panics.store(true, Ordering::SeqCst);
    for key in 0..4 {
        fixture.get(&mut tasks, key);
        fixture.begun.recv().await.unwrap();
    }
    let mut waiting = JoinSet::new();
    fixture.get(&mut waiting, 100);
    eventually(|| read(&fixture.metrics.misses) == 5).await;
    fixture.source.gate.add_permits(1);
    fixture.begun.recv().await.unwrap();
    fixture.source.panics.store(false, Ordering::SeqCst);
    fixture.source.gate.add_permits(4);
    assert_eq!(waiting.join_next().await.unwrap().unwrap().unwrap(), 0);
    let aborted = tasks.join_all().await;
    assert!(aborted.iter().any(Result::is_err), "{aborted:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_stays_within_its_budget() {
    const KEYS: u64 = 5000;
    let fixture = Fixture::new(usize::try_from(2 * KEYS).unwrap());
    for key in 0..KEYS {
        fixture.cache.get(key).await.unwrap();
    }
    // The books are kept now and then, on the way of other calls.
    eventually(|| {
        fixture.cache.peek(&0);
        let (bytes, entries) = fixture.cache.size();
        bytes <= 100_000 && entries + read(&fixture.metrics.evicted) == KEYS
    })
    .await;
    let (bytes, entries) = fixture.cache.size();
    assert!(
        entries > 0 && bytes == 100 * entries,
        "{bytes} for {entries}"
    );
}

/// What the model cannot interleave, because it happens between two machine
/// instructions: threads that write and read one key as fast as they can.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn threads_never_read_what_is_older_than_an_acknowledgement() {
    const WRITES: u64 = 20_000;
    let fixture = Arc::new(Fixture::new(Semaphore::MAX_PERMITS));
    let acknowledged = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..3 {
        let (fixture, acknowledged) = (Arc::clone(&fixture), Arc::clone(&acknowledged));
        tasks.spawn(async move {
            loop {
                let before = acknowledged.load(Ordering::SeqCst);
                let loaded = fixture.cache.get(7).await.unwrap();
                assert!(loaded.value >= before, "{} < {before}", loaded.value);
                assert!(loaded.value >= loaded.position.number, "{loaded:?}");
                if before == WRITES {
                    return;
                }
                yield_now().await;
            }
        });
    }
    for _ in 0..WRITES {
        acknowledged.store(fixture.write(7), Ordering::SeqCst);
        yield_now().await;
    }
    tasks.join_all().await;
}
