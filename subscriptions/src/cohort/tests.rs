//! Cohorts in memory, under random schedules: seeds that failed can be put into
//! `SEEDS` and are tried first.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use domain::change::{Change, Epoch, Operation, Subject};
use futures_util::FutureExt;
use time::OffsetDateTime;
use tokio::sync::mpsc;
use tokio::task::yield_now;
use tokio_stream::wrappers::UnboundedReceiverStream;

use super::*;
use crate::hub::{Event, HubMetrics};

fn at(number: u64) -> Position {
    Position {
        epoch: Epoch(1),
        number,
    }
}

/// By the key of a cohort.
type ByKey<T> = Arc<Mutex<HashMap<&'static str, T>>>;

/// A hub, a log of all its events, and cohorts whose runs the test feeds.
struct World {
    hub: Hub,
    log: Arc<Mutex<Vec<u64>>>,
    cohorts: Cohorts<&'static str, u64>,
    feeds: ByKey<mpsc::UnboundedSender<Frame<u64>>>,
    runs: Arc<AtomicUsize>,
    joiners: ByKey<Arc<Notify>>,
}

type TestMember = Member<&'static str, u64>;

impl World {
    fn new(capacity: usize) -> Self {
        Self::within(capacity, usize::MAX)
    }

    fn within(capacity: usize, most_bytes: usize) -> Self {
        let budget = Budget::new(most_bytes);
        let hub = Hub::new(at(0), 16, budget, HubMetrics::default());
        Self {
            cohorts: Cohorts::new(hub.clone(), capacity, CohortMetrics::default()),
            hub,
            log: Arc::default(),
            feeds: Arc::default(),
            runs: Arc::default(),
            joiners: Arc::default(),
        }
    }

    fn held(&self) -> i64 {
        self.hub.budget().held().get()
    }

    fn join(&self, key: &'static str, after: Option<u64>, what: Following) -> TestMember {
        let (log, feeds, runs) = (
            Arc::clone(&self.log),
            Arc::clone(&self.feeds),
            Arc::clone(&self.runs),
        );
        let joiners = Arc::clone(&self.joiners);
        self.cohorts.join(key, after.map(at), move |run| match run {
            Run::Shared(shared) => {
                runs.fetch_add(1, Ordering::SeqCst);
                let (feed, frames) = mpsc::unbounded_channel();
                feeds.lock().insert(key, feed);
                joiners.lock().insert(key, shared.joiners());
                shared.follows(what);
                Box::pin(UnboundedReceiverStream::new(frames))
            }
            Run::Past { after, until } => {
                let missed: Vec<_> = log
                    .lock()
                    .iter()
                    .filter(|n| (after.number + 1..=until.number).contains(n))
                    .map(|number| event(*number))
                    .collect();
                Box::pin(tokio_stream::iter(missed))
            }
        })
    }

    /// Commits an event: the hub has published it, and the run may be behind.
    fn commit(&self) -> u64 {
        let mut log = self.log.lock();
        let number = log.len() as u64 + 1;
        log.push(number);
        self.hub.publish(Arc::new(Event::new(Change {
            position: at(number),
            operation: Operation::Insert,
            changed_at: OffsetDateTime::UNIX_EPOCH,
            subject: Subject::Provider("p".parse().unwrap()),
        })));
        number
    }

    fn feed(&self, key: &'static str, frame: Frame<u64>) {
        if let Some(feed) = self.feeds.lock().get(key) {
            // Nobody may be there any more.
            drop(feed.send(frame));
        }
    }
}

fn frame(kind: FrameKind, number: u64) -> Frame<u64> {
    Frame {
        kind,
        position: Some(at(number)),
        payload: number,
        bytes: 1,
    }
}

fn failure() -> Frame<u64> {
    Frame {
        kind: FrameKind::Failure,
        position: None,
        payload: 99,
        bytes: 1,
    }
}

fn event(number: u64) -> Frame<u64> {
    frame(FrameKind::Event, number)
}

fn ready(member: &mut TestMember) -> Option<Delivery<u64>> {
    member.next().now_or_never().flatten()
}

async fn settle() {
    for _ in 0..20 {
        yield_now().await;
    }
}

fn numbers(member: &mut TestMember) -> Vec<u64> {
    std::iter::from_fn(|| ready(member).map(|delivery| delivery.frame.payload)).collect()
}

#[tokio::test]
async fn those_who_ask_for_the_same_share_one_run() {
    let world = World::new(8);
    let mut first = world.join("a", None, Following::Events);
    let mut second = world.join("a", None, Following::Events);
    let mut other = world.join("b", None, Following::Events);
    assert_eq!(world.runs.load(Ordering::SeqCst), 2);
    assert_eq!(world.cohorts.metrics().cohorts.get(), 2);
    assert_eq!(world.cohorts.metrics().members.get(), 3);
    world.commit();
    world.feed("a", event(1));
    settle().await;
    let (one, two) = (ready(&mut first).unwrap(), ready(&mut second).unwrap());
    assert!(Arc::ptr_eq(&one.frame, &two.frame));
    assert!(ready(&mut other).is_none());
    // The first to leave takes nothing with it; the last ends the run.
    drop(first);
    world.commit();
    world.feed("a", event(2));
    settle().await;
    assert_eq!(numbers(&mut second), [2]);
    drop(second);
    settle().await;
    assert!(world.feeds.lock()["a"].is_closed());
    assert!(!world.feeds.lock()["b"].is_closed());
    assert_eq!(world.cohorts.metrics().cohorts.get(), 1);
    let _again = world.join("a", None, Following::Events);
    assert_eq!(world.runs.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_failure_reaches_everybody_and_who_comes_then_begins_anew() {
    let world = World::new(8);
    let mut first = world.join("a", None, Following::Events);
    let mut second = world.join("a", None, Following::Events);
    world.commit();
    world.feed("a", event(1));
    world.feed("a", failure());
    settle().await;
    let mut third = world.join("a", None, Following::Events);
    for member in [&mut first, &mut second] {
        assert_eq!(numbers(member), [1, 99]);
        assert!(matches!(member.next().now_or_never(), Some(None)));
    }
    assert_eq!(world.runs.load(Ordering::SeqCst), 2);
    world.commit();
    world.feed("a", event(2));
    settle().await;
    assert_eq!(numbers(&mut third), [2]);
}

/// Else it would take the end for a regular one, and not come back.
#[tokio::test(start_paused = true)]
async fn a_failure_reaches_who_is_behind_too() {
    let world = World::new(2);
    let mut stalled = world.join("a", None, Following::Events);
    let mut of_state = world.join("b", None, Following::State);
    for number in 1..=6 {
        world.commit();
        world.feed("a", event(number));
        world.feed("b", frame(FrameKind::State, number));
    }
    world.feed("a", failure());
    world.feed("b", failure());
    tokio::time::sleep(std::time::Duration::from_secs(10)).await;
    let mut taken = Vec::new();
    while let Some(delivery) = stalled.next().await {
        taken.push(delivery.frame.payload);
    }
    assert_eq!(taken, [1, 2, 3, 4, 5, 6, 99]);
    assert_eq!(of_state.next().await.unwrap().frame.payload, 6);
    assert_eq!(of_state.next().await.unwrap().frame.payload, 99);
    assert!(of_state.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_member_that_takes_nothing_holds_up_nobody() {
    let world = World::new(4);
    let mut stalled = world.join("a", None, Following::Events);
    let mut quick = [
        world.join("a", None, Following::Events),
        world.join("a", None, Following::Events),
    ];
    let began = tokio::time::Instant::now();
    for number in 1..=40 {
        world.commit();
        world.feed("a", event(number));
        for member in &mut quick {
            assert_eq!(member.next().await.unwrap().frame.payload, number);
        }
    }
    // But for the moment in which it came loose.
    assert!(began.elapsed() < std::time::Duration::from_millis(100));
    // And it has lost nothing itself.
    for number in 1..=40 {
        let delivery = stalled.next().await.unwrap();
        assert_eq!(delivery.frame.payload, number);
    }
    assert!(world.cohorts.metrics().lagged.get() > 0);
}

#[tokio::test(start_paused = true)]
async fn a_burst_makes_nobody_loose_who_takes_some_of_it() {
    let world = World::new(4);
    let mut members: Vec<_> = (0..4)
        .map(|_| world.join("a", None, Following::Events))
        .collect();
    for number in 1..=30 {
        world.commit();
        world.feed("a", event(number));
    }
    // All are as slow as the test: nobody comes loose.
    let mut seen: Vec<Vec<u64>> = vec![Vec::new(); members.len()];
    while seen.iter().any(|seen| seen.len() < 30) {
        for (member, seen) in members.iter_mut().zip(&mut seen) {
            seen.extend(ready(member).map(|delivery| delivery.frame.payload));
        }
        settle().await;
    }
    assert_eq!(world.cohorts.metrics().lagged.get(), 0);
    for seen in seen {
        assert_eq!(seen, (1..=30).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn of_a_state_the_newest_comes_with_a_count_of_the_others() {
    let world = World::new(8);
    let mut member = world.join("a", None, Following::State);
    for number in 1..=5 {
        world.feed("a", frame(FrameKind::State, number));
        settle().await;
    }
    let last = ready(&mut member).unwrap();
    assert_eq!((last.frame.payload, last.skipped), (5, 4));
    // Who joins gets that same frame, without an execution.
    let mut joined = world.join("a", None, Following::State);
    let first = ready(&mut joined).unwrap();
    assert!(Arc::ptr_eq(&first.frame, &last.frame));
    assert_eq!(first.skipped, 0);
    assert!(ready(&mut member).is_none() && ready(&mut joined).is_none());
}

/// Numbers from a seed: splitmix64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }
}

/// Seeds that once failed.
const SEEDS: [u64; 0] = [];

fn seeds() -> impl Iterator<Item = u64> {
    SEEDS.into_iter().chain(0..400)
}

/// Members come, with a position or from now on, take some, and go, while events
/// are committed and the runs are behind as it happens: each member gets all
/// events after where it began, in order and once.
#[tokio::test(start_paused = true)]
async fn members_get_every_event_once_under_any_schedule() {
    for seed in seeds() {
        let mut random = Random(seed);
        let world = World::new(1 + random.below(6) as usize);
        let mut fed: HashMap<&'static str, u64> = HashMap::new();
        let mut members: Vec<(&'static str, TestMember, u64)> = Vec::new();
        for _ in 0..120 {
            match random.below(10) {
                0 | 1 => {
                    let key = ["a", "b"][random.below(2) as usize];
                    let head = world.log.lock().len() as u64;
                    let after = (random.below(2) == 0).then(|| random.below(head + 1));
                    let runs = world.runs.load(Ordering::SeqCst);
                    let member = world.join(key, after, Following::Events);
                    if world.runs.load(Ordering::SeqCst) > runs {
                        // A run that begins now delivers what comes from now on.
                        fed.insert(key, head);
                    }
                    members.push((key, member, after.unwrap_or(head)));
                }
                2 if !members.is_empty() => {
                    let leaving = random.below(members.len() as u64) as usize;
                    drop(members.swap_remove(leaving));
                }
                3..=5 => {
                    world.commit();
                }
                6 | 7 => {
                    let head = world.log.lock().len() as u64;
                    for (key, fed) in &mut fed {
                        if *fed < head && random.below(2) == 0 {
                            *fed += 1;
                            world.feed(key, event(*fed));
                        }
                    }
                }
                8 => settle().await,
                _ => {
                    for (_, member, last) in &mut members {
                        if random.below(2) == 0
                            && let Some(delivery) = ready(member)
                        {
                            assert_eq!(delivery.frame.payload, *last + 1, "seed {seed}");
                            *last += 1;
                        }
                    }
                }
            }
        }
        let head = world.log.lock().len() as u64;
        let mut rounds = 0;
        while members.iter().any(|(_, _, last)| *last < head) {
            for (key, fed) in &mut fed {
                while *fed < head {
                    *fed += 1;
                    world.feed(key, event(*fed));
                }
            }
            settle().await;
            for (_, member, last) in &mut members {
                for number in numbers(member) {
                    assert_eq!(number, *last + 1, "seed {seed}");
                    *last = number;
                }
            }
            rounds += 1;
            assert!(rounds < 1000, "seed {seed}: somebody waits for ever");
        }
        drop(members);
        settle().await;
        assert_eq!(world.cohorts.metrics().cohorts.get(), 0, "seed {seed}");
        assert_eq!(world.cohorts.metrics().members.get(), 0, "seed {seed}");
    }
}

/// The same of a state that is told in differences: each fits what its member
/// had, and in the end all have the newest.
#[tokio::test(start_paused = true)]
async fn differences_fit_what_a_member_had_under_any_schedule() {
    for seed in seeds() {
        let mut random = Random(seed);
        let world = World::new(1 + random.below(6) as usize);
        let mut members: Vec<(TestMember, Option<u64>)> = Vec::new();
        // The state is a number; a difference says its new value, one higher.
        let mut state = 0;
        let mut began = 0;
        let take = |member: &mut TestMember, has: &mut Option<u64>| {
            let delivery = ready(member)?;
            let value = delivery.frame.payload;
            if delivery.frame.kind == FrameKind::Difference {
                assert_eq!(has.map(|has| has + 1), Some(value), "seed {seed}");
            }
            *has = Some(value);
            Some(())
        };
        let run = |state: &mut u64, began: &mut usize, random: &mut Random, more: bool| {
            if world.runs.load(Ordering::SeqCst) > *began {
                *began = world.runs.load(Ordering::SeqCst);
                world.feed("a", frame(FrameKind::State, *state));
            }
            let joiner = world.joiners.lock().get("a").cloned();
            if joiner.is_some_and(|joiner| joiner.notified().now_or_never().is_some()) {
                world.feed("a", frame(FrameKind::Snapshot, *state));
            }
            if more && random.below(2) == 0 {
                *state += 1;
                world.feed("a", frame(FrameKind::Difference, *state));
            }
        };
        for _ in 0..120 {
            match random.below(8) {
                0 => members.push((world.join("a", None, Following::State), None)),
                1 if !members.is_empty() => {
                    let leaving = random.below(members.len() as u64) as usize;
                    drop(members.swap_remove(leaving));
                }
                2 => settle().await,
                3..=5 => run(&mut state, &mut began, &mut random, true),
                _ => {
                    for (member, has) in &mut members {
                        if random.below(2) == 0 {
                            take(member, has);
                        }
                    }
                }
            }
        }
        let mut rounds = 0;
        while members.iter().any(|(_, has)| *has != Some(state)) {
            run(&mut state, &mut began, &mut random, false);
            settle().await;
            for (member, has) in &mut members {
                while take(member, has).is_some() {}
            }
            tokio::time::advance(std::time::Duration::from_secs(1)).await;
            rounds += 1;
            assert!(rounds < 1000, "seed {seed}: somebody never gets the state");
        }
    }
}

/// Frames of a mebibyte.
fn large(frame: Frame<u64>) -> Frame<u64> {
    Frame {
        bytes: 1 << 20,
        ..frame
    }
}

/// Members that take nothing cost no more than the budget and one frame a cohort,
/// and lose nothing.
#[tokio::test(start_paused = true)]
async fn frames_of_all_cohorts_have_one_budget() {
    const KEYS: [&str; 4] = ["a", "b", "c", "d"];
    let world = World::within(256, 10 << 20);
    let mut members: Vec<TestMember> = KEYS
        .iter()
        .map(|key| world.join(key, None, Following::Events))
        .collect();
    for _ in 0..3 {
        let number = world.commit();
        for key in KEYS {
            world.feed(key, large(event(number)));
        }
    }
    // Time stands still but for the patience of runs.
    tokio::time::sleep(Duration::from_secs(60)).await;
    let held = world.held();
    assert!((1 << 20..=9 << 20).contains(&held), "{held} bytes");
    for member in &mut members {
        assert_eq!(numbers(member), [1, 2, 3]);
    }
    assert_eq!(world.held(), 0);
    // What a member has taken is held until it is written.
    let number = world.commit();
    world.feed(KEYS[0], large(event(number)));
    settle().await;
    let taken = ready(&mut members[0]).unwrap();
    assert_eq!(world.held(), 1 << 20);
    drop(taken);
    assert_eq!(world.held(), 0);
    drop(members);
}

#[tokio::test(start_paused = true)]
async fn a_state_that_is_not_kept_is_made_again_for_who_joins() {
    let world = World::within(256, 4 << 20);
    let mut kept = Vec::new();
    for key in ["a", "b", "c"] {
        let mut member = world.join(key, None, Following::State);
        world.feed(key, large(frame(FrameKind::State, 7)));
        settle().await;
        assert_eq!(numbers(&mut member), [7]);
        kept.push(member);
    }
    assert_eq!(world.held(), 2 << 20);
    let mut late = world.join("c", None, Following::State);
    assert_eq!(numbers(&mut late), [0; 0]);
    let joiners = Arc::clone(&world.joiners.lock()["c"]);
    joiners.notified().now_or_never().expect("it was asked for");
    world.feed("c", large(frame(FrameKind::Snapshot, 7)));
    settle().await;
    assert_eq!(numbers(&mut late), [7]);
    assert_eq!(numbers(&mut kept[2]), [0; 0]);
    drop(kept);
    drop(late);
    // Their runs end.
    settle().await;
    assert_eq!(world.held(), 0);
}
