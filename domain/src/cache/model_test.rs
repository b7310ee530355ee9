//! The validity rule against a model: loads, writes, changes of other
//! replicas, restarts and invalidations in every order that proptest thinks of.
//!
//! The simulated database is a list of committed writes. This replica sees a
//! growing prefix of it, because word of a change may come sooner than the
//! change itself can be read; a load stops before and after its snapshot until
//! the case lets it go on. Everything runs on one thread, and only while no
//! operation does, so that a case always goes the same way.
//!
//! A rule that nothing can break proves nothing: each mistake that the design
//! excludes is switched on in turn, and must be found out.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};
use sea_orm::DbErr;
use tokio::sync::oneshot;
use tokio::task::{JoinSet, yield_now};

use super::{Cache, CacheMetrics, CacheSettings, Clock, Load, LoadError, Tag};
use crate::change::{Epoch, Position};

const KEYS: u8 = 3;
/// Few, so that tags of different keys share one now and then.
const STRIPES: usize = 4;
const SETTINGS: CacheSettings = CacheSettings {
    budget_bytes: 1 << 20,
    time_to_live: Duration::from_secs(3600),
};

/// What happens next.
#[derive(Debug, Clone)]
enum Op {
    /// A read of some keys begins.
    Read(Vec<u8>),
    /// One of the waiting loads goes on: to its snapshot, or to its end.
    StepLoad(usize),
    /// A write here: committed, numbered, its changes read back from the log up
    /// to its own, and acknowledged.
    Write(u8),
    /// A write here that raises only its own tag before it is acknowledged; the
    /// tail is left to do the rest.
    WriteAhead(u8),
    /// Another replica's write is committed.
    CommitElsewhere(u8),
    /// Another replica numbers what is committed.
    NumberElsewhere,
    /// What is committed becomes visible here.
    BecomeVisible,
    /// Other replicas tell of the next changes.
    Hear(usize),
    /// The tail's next step: it reads a page; raises tags; moves `applied`.
    Tail,
    /// Every key changes at once, elsewhere, and the log says only that.
    Resync,
    /// The process ends and begins again; what it had cached is still there.
    Restart,
    /// The database is restored without its last writes.
    NewEpoch { lost: usize },
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let key = || 0..KEYS;
    let op = prop_oneof![
        6 => prop::collection::vec(key(), 1..=3).prop_map(Op::Read),
        8 => (0..4usize).prop_map(Op::StepLoad),
        4 => key().prop_map(Op::Write),
        2 => key().prop_map(Op::WriteAhead),
        3 => key().prop_map(Op::CommitElsewhere),
        2 => Just(Op::NumberElsewhere),
        2 => Just(Op::BecomeVisible),
        2 => (1..4usize).prop_map(Op::Hear),
        5 => Just(Op::Tail),
        1 => Just(Op::Resync),
        1 => Just(Op::Restart),
        1 => (0..3usize).prop_map(|lost| Op::NewEpoch { lost }),
    ];
    prop::collection::vec(op, 1..60)
}

/// The mistakes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    PositionInsideSnapshot,
    PositionFromHearsay,
    TagsAtZeroAfterBoot,
}

#[derive(Debug, Clone, Copy)]
struct Write {
    /// Unlike any other's, lost ones included.
    serial: u32,
    /// None: every key.
    key: Option<u8>,
}

impl Write {
    fn touches(&self, key: u8) -> bool {
        self.key.is_none_or(|own| own == key)
    }
}

/// The database. The write at index `i` has position `i + 1` once it is numbered.
#[derive(Debug, Default)]
struct Log {
    writes: Vec<Write>,
    serials: u32,
    numbered: usize,
    visible: usize,
    /// Loads that wait, each for its next step.
    waiting: Vec<oneshot::Sender<()>>,
}

impl Log {
    fn commit(&mut self, key: Option<u8>) {
        self.serials += 1;
        let serial = self.serials;
        self.writes.push(Write { serial, key });
    }

    /// The position of the last write of a key among the first `count` writes, 0 if none.
    fn last(&self, key: u8, count: usize) -> usize {
        let end = count.min(self.writes.len());
        (self.writes[..end].iter())
            .rposition(|write| write.touches(key))
            .map_or(0, |i| i + 1)
    }

    /// What can be read of a key now: the serial of its last write.
    fn value(&self, key: u8) -> u32 {
        match self.last(key, self.visible) {
            0 => 0,
            position => self.writes[position - 1].serial,
        }
    }

    /// The position of the write that gave this value.
    fn position_of(&self, value: u32) -> Option<usize> {
        if value == 0 {
            return Some(0);
        }
        self.writes
            .iter()
            .position(|write| write.serial == value)
            .map(|i| i + 1)
    }

    /// What a reader of this replica's database finds in the log.
    fn head(&self) -> usize {
        self.visible.min(self.numbered)
    }
}

#[derive(Clone, Default)]
struct Database(Arc<Mutex<Log>>);

impl Database {
    /// Waits until the case lets it go on; fails when the process has ended.
    async fn gate(&self) -> Result<(), DbErr> {
        let (open, gate) = oneshot::channel();
        self.0.lock().waiting.push(open);
        gate.await
            .map_err(|_| DbErr::Custom("the process has ended".into()))
    }
}

impl Load for Database {
    type Key = u8;
    type Value = u32;

    const NAME: &'static str = "model";

    async fn load(&self, keys: Vec<u8>) -> Result<Vec<u32>, DbErr> {
        self.gate().await?;
        let snapshot = {
            let log = self.0.lock();
            keys.iter().map(|key| log.value(*key)).collect()
        };
        self.gate().await?;
        Ok(snapshot)
    }

    fn tag(key: &u8) -> Tag {
        Tag::of("model", key)
    }

    fn weight(_: &u8, _: &u32) -> u32 {
        1
    }
}

/// A read under way.
struct Reading {
    keys: Vec<u8>,
    /// For each key, the position of a write that the answer must include.
    required: Vec<usize>,
    epoch: Epoch,
}

type Answer = Result<(Vec<u32>, Position), LoadError>;

/// One replica and its database.
struct Replica {
    fault: Fault,
    database: Database,
    epoch: Epoch,
    clock: Arc<Clock>,
    cache: Cache<Database>,
    /// By key, the position of the last write acknowledged here.
    acknowledged: HashMap<u8, usize>,
    tail: Option<TailPage>,
    reads: JoinSet<(usize, Answer)>,
    readings: Vec<Reading>,
}

/// Changes that the tail has read but not applied yet.
struct TailPage {
    changes: Vec<(usize, Write)>,
    tags_raised: bool,
}

impl Replica {
    fn new(fault: Fault) -> Self {
        let database = Database::default();
        let epoch = Epoch(1);
        let clock = Arc::new(Clock::with_stripes(Position { epoch, number: 0 }, STRIPES));
        let cache = Cache::new(
            database.clone(),
            Arc::clone(&clock),
            SETTINGS,
            &CacheMetrics::default(),
        );
        let replica = Self {
            fault,
            database,
            epoch,
            clock,
            cache,
            acknowledged: HashMap::new(),
            tail: None,
            reads: JoinSet::new(),
            readings: Vec::new(),
        };
        replica.misremember();
        replica
    }

    fn misremember(&self) {
        if self.fault == Fault::PositionInsideSnapshot {
            self.cache.stamp_inside_snapshot();
        }
    }

    fn head(&self) -> Position {
        Position {
            epoch: self.epoch,
            number: self.database.0.lock().head() as u64,
        }
    }

    fn applied(&self) -> usize {
        usize::try_from(self.clock.applied().number).unwrap()
    }

    fn raise(&self, position: usize, write: Write) {
        match write.key {
            Some(key) => self.clock.invalidate(Database::tag(&key), position as u64),
            None => self.clock.invalidate_all(position as u64),
        }
    }

    /// The changes after `applied`, up to `last`.
    fn unapplied(&self, last: usize) -> Vec<(usize, Write)> {
        let log = self.database.0.lock();
        (self.applied() + 1..=last)
            .map(|position| (position, log.writes[position - 1]))
            .collect()
    }

    fn do_op(&mut self, op: &Op) {
        match op {
            Op::Read(keys) => self.read(keys.clone()),
            Op::StepLoad(which) => {
                let mut log = self.database.0.lock();
                if !log.waiting.is_empty() {
                    let which = which % log.waiting.len();
                    // A load whose process has ended no longer waits.
                    let _ = log.waiting.remove(which).send(());
                }
            }
            Op::Write(key) => {
                let position = self.commit_here(*key);
                self.clock.observe(position as u64);
                for (position, write) in self.unapplied(position) {
                    self.raise(position, write);
                }
                self.clock.advance(position as u64);
                self.acknowledged.insert(*key, position);
            }
            Op::WriteAhead(key) => {
                let position = self.commit_here(*key);
                self.clock.observe(position as u64);
                self.clock.invalidate(Database::tag(key), position as u64);
                self.acknowledged.insert(*key, position);
            }
            Op::CommitElsewhere(key) => self.database.0.lock().commit(Some(*key)),
            Op::Resync => self.database.0.lock().commit(None),
            Op::NumberElsewhere => {
                let mut log = self.database.0.lock();
                log.numbered = log.writes.len();
            }
            Op::BecomeVisible => {
                let mut log = self.database.0.lock();
                log.visible = log.writes.len();
            }
            Op::Hear(most) => {
                let numbered = self.database.0.lock().numbered;
                let last = numbered.min(self.applied() + most);
                let heard = self.unapplied(last);
                if self.fault == Fault::PositionFromHearsay {
                    self.clock.hear(last as u64);
                }
                for (position, write) in heard {
                    self.raise(position, write);
                }
                self.clock.advance(last as u64);
            }
            Op::Tail => self.tail_step(),
            Op::Restart => self.restart(),
            Op::NewEpoch { lost } => {
                self.epoch = Epoch(self.epoch.0 + 1);
                {
                    let mut log = self.database.0.lock();
                    let left = log.writes.len().saturating_sub(*lost);
                    log.writes.truncate(left);
                    log.numbered = log.numbered.min(left);
                    log.visible = left;
                    for position in self.acknowledged.values_mut() {
                        *position = (*position).min(left);
                    }
                }
                self.tail = None;
                self.clock.begin_epoch(self.head());
            }
        }
    }

    /// Commits a write through this replica's own database and numbers it.
    fn commit_here(&self, key: u8) -> usize {
        let mut log = self.database.0.lock();
        log.commit(Some(key));
        log.numbered = log.writes.len();
        log.visible = log.writes.len();
        log.numbered
    }

    fn tail_step(&mut self) {
        match &mut self.tail {
            None => {
                let head = self.database.0.lock().head();
                // Also when others have told of all of it: now this replica has read it.
                self.clock.observe(head as u64);
                let changes = self.unapplied(head);
                if !changes.is_empty() {
                    self.tail = Some(TailPage {
                        changes,
                        tags_raised: false,
                    });
                }
            }
            Some(page) if !page.tags_raised => {
                page.tags_raised = true;
                let changes = page.changes.clone();
                for (position, write) in changes {
                    self.raise(position, write);
                }
            }
            Some(page) => {
                let last = page.changes.last().map_or(0, |(position, _)| *position);
                self.tail = None;
                self.clock.advance(last as u64);
            }
        }
    }

    fn restart(&mut self) {
        self.reads = JoinSet::new();
        self.readings.clear();
        self.tail = None;
        self.database.0.lock().waiting.clear();
        let head = self.head();
        self.clock = Arc::new(if self.fault == Fault::TagsAtZeroAfterBoot {
            Clock::with_tags_at_zero(head, STRIPES)
        } else {
            Clock::with_stripes(head, STRIPES)
        });
        self.cache = self
            .cache
            .restarted(self.database.clone(), Arc::clone(&self.clock), SETTINGS);
        self.misremember();
    }

    fn read(&mut self, keys: Vec<u8>) {
        let required = {
            let log = self.database.0.lock();
            // What was heard of counts as soon as this replica can read it.
            let applied = self.applied().min(log.visible);
            keys.iter()
                .map(|key| {
                    let acknowledged = self.acknowledged.get(key).copied().unwrap_or(0);
                    log.last(*key, acknowledged.max(applied))
                })
                .collect()
        };
        self.readings.push(Reading {
            keys: keys.clone(),
            required,
            epoch: self.epoch,
        });
        let (id, cache) = (self.readings.len() - 1, self.cache.clone());
        self.reads.spawn(async move {
            let answer = match keys[..] {
                [key] => (cache.get(key).await).map(|one| (vec![one.value], one.position)),
                _ => cache.get_many(&keys).await,
            };
            (id, answer)
        });
    }

    /// Lets everything run until it waits for the next operation, and checks
    /// the answers that came.
    async fn settle(&mut self) -> Result<(), String> {
        // A load's last step passes the loader, the flight and its reader, who
        // may begin another load: some of these turns are always left over.
        for _ in 0..12 {
            yield_now().await;
        }
        while let Some(read) = self.reads.try_join_next() {
            let (id, answer) = read.map_err(|error| format!("a read panicked: {error}"))?;
            let (values, position) = match answer {
                Ok(answer) => answer,
                // The history it began to read has ended.
                Err(_) if self.readings[id].epoch != self.epoch => continue,
                Err(error) => return Err(format!("read {id} failed: {error}")),
            };
            self.check(&self.readings[id], &values, position)
                .map_err(|why| format!("read {id} of {:?}: {why}", self.readings[id].keys))?;
        }
        Ok(())
    }

    fn check(&self, reading: &Reading, values: &[u32], position: Position) -> Result<(), String> {
        let log = self.database.0.lock();
        if position.epoch != self.epoch {
            // An answer of the epoch that has ended while it was on its way.
            return if position.epoch == reading.epoch {
                Ok(())
            } else {
                Err(format!("{position} is of no epoch it has seen"))
            };
        }
        let reported = usize::try_from(position.number).unwrap();
        for (i, (key, value)) in reading.keys.iter().zip(values).enumerate() {
            let Some(found) = log.position_of(*value) else {
                return Err(format!("key {key}: the answer is a lost write"));
            };
            let required = log.last(*key, reading.required[i]);
            if reading.epoch == self.epoch && found < required {
                return Err(format!(
                    "key {key}: an older value, of {found}, though {required} was there when it began"
                ));
            }
            let promised = log.last(*key, reported);
            if found < promised {
                return Err(format!(
                    "key {key}: an older value, of {found}, though it says that it includes {promised}"
                ));
            }
        }
        Ok(())
    }

    /// Lets every load go on until every read has its answer.
    async fn drain(&mut self) -> Result<(), String> {
        let most = 20 * (self.reads.len() + 1);
        for _ in 0..most {
            if self.reads.is_empty() {
                return Ok(());
            }
            self.do_op(&Op::StepLoad(0));
            self.settle().await?;
        }
        Err(format!("{} reads never end", self.reads.len()))
    }
}

fn run(fault: Fault, ops: &[Op]) -> Result<(), TestCaseError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut replica = Replica::new(fault);
        for op in ops {
            replica.do_op(op);
            replica.settle().await.map_err(TestCaseError::fail)?;
        }
        replica.drain().await.map_err(TestCaseError::fail)
    })
}

proptest! {
    #![proptest_config(Config { cases: 4000, ..Config::default() })]

    #[test]
    fn no_read_is_older_than_an_acknowledged_write(ops in ops()) {
        run(Fault::None, &ops)?;
    }
}

/// The model finds the mistake, always by the same case.
fn is_found_out(fault: Fault) {
    let config = Config {
        cases: 4000,
        failure_persistence: None,
        ..Config::default()
    };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let outcome = TestRunner::new_with_rng(config, rng).run(&ops(), |ops| run(fault, &ops));
    match outcome {
        Err(TestError::Fail(why, ops)) => {
            println!("{fault:?}: {why}: {ops:?}");
            assert!(why.message().contains("an older value"), "{why}: {ops:?}");
        }
        other => panic!("{fault:?} was not found out: {other:?}"),
    }
}

#[test]
fn a_position_remembered_inside_the_snapshot_is_found_out() {
    is_found_out(Fault::PositionInsideSnapshot);
}

#[test]
fn a_position_from_hearsay_is_found_out() {
    is_found_out(Fault::PositionFromHearsay);
}

#[test]
fn tags_at_zero_after_boot_are_found_out() {
    is_found_out(Fault::TagsAtZeroAfterBoot);
}

/// Runs one case as written, and returns what it leaves.
async fn replay(ops: &[Op]) -> Replica {
    let mut replica = Replica::new(Fault::None);
    for op in ops {
        replica.do_op(op);
        replica.settle().await.unwrap();
    }
    replica
}

#[tokio::test]
async fn a_key_that_changes_during_each_load_is_answered() {
    for keys in [vec![0], vec![0, 1]] {
        let mut replica = replay(&[Op::Read(keys.clone())]).await;
        let mut loads = 0;
        while !replica.reads.is_empty() {
            loads += 1;
            assert!(loads <= 4, "a read of {keys:?} goes on loading");
            for op in [Op::StepLoad(0), Op::Write(0), Op::StepLoad(0)] {
                replica.do_op(&op);
                replica.settle().await.unwrap();
            }
        }
        // One value cannot differ from itself in age: its first load will do.
        assert!(keys.len() > 1 || loads == 1, "{loads} loads of one key");
    }
}

#[tokio::test]
async fn a_change_that_is_only_heard_of_does_not_hold_up_a_read() {
    let heard = [Op::CommitElsewhere(0), Op::NumberElsewhere, Op::Hear(1)];
    for keys in [vec![0], vec![0, 1]] {
        let mut replica = replay(&heard).await;
        replica.do_op(&Op::Read(keys));
        replica.drain().await.unwrap();
        // Nothing can be kept until the tail has read what was heard.
        assert!(replica.cache.peek(&0).is_none());
        for op in [Op::BecomeVisible, Op::Tail, Op::Read(vec![0])] {
            replica.do_op(&op);
            replica.settle().await.unwrap();
        }
        replica.drain().await.unwrap();
        assert_eq!(replica.cache.peek(&0).map(|loaded| loaded.value), Some(1));
    }
}

#[tokio::test]
async fn a_log_replaced_by_a_shorter_one_voids_everything() {
    // The epoch is the same, as after a dump was loaded over a running server.
    let mut replica = replay(&[Op::Write(0), Op::Write(1), Op::Read(vec![0])]).await;
    replica.drain().await.unwrap();
    assert!(replica.cache.peek(&0).is_some());
    // A load is under way, its snapshot taken.
    replica.do_op(&Op::Read(vec![1]));
    replica.settle().await.unwrap();
    replica.do_op(&Op::StepLoad(0));
    replica.settle().await.unwrap();
    {
        let mut log = replica.database.0.lock();
        log.writes.clear();
        log.numbered = 0;
        log.visible = 0;
    }
    replica.acknowledged.clear();
    replica.clock.begin_epoch(replica.head());
    assert!(replica.cache.peek(&0).is_none());
    // Who comes now may not join it, and what it brings is not kept.
    replica.do_op(&Op::Read(vec![1]));
    replica.settle().await.unwrap();
    assert_eq!(replica.database.0.lock().waiting.len(), 2);
    // The first reader began before the log was replaced: it has its answer.
    let _ = replica.database.0.lock().waiting.remove(0).send(());
    let (_, answer) = replica.reads.join_next().await.unwrap().unwrap();
    assert_eq!(answer.unwrap().0, [2]);
    assert!(replica.cache.peek(&1).is_none());
    replica.drain().await.unwrap();
    assert_eq!(replica.cache.peek(&1).map(|loaded| loaded.value), Some(0));
}
