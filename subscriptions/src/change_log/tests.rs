//! Word of changes that this replica has not read: step by step, over a database
//! of which it reads only when the test lets it.

use std::sync::Arc;
use std::time::Duration;

use domain::Patch;
use domain::cache::{CacheSettings, Clock};
use domain::change::{self, Change, Operation, Position, Receipt};
use domain::database::{Database, DatabaseSettings};
use domain::forecast::{Forecasts, ForecastsSettings};
use domain::unit::{self, UnitKey, UnitUpsert};
use futures_util::FutureExt;
use migration::testing::TestDatabase;

use super::*;
use crate::Budget;
use crate::hub::{HubMetrics, Received, Topic};

const NEVER: Duration = Duration::from_secs(3600);

struct Replica {
    _database: TestDatabase,
    log: ChangeLog,
    tail: Tail,
}

impl Replica {
    async fn new() -> Self {
        let database = TestDatabase::sqlite().await;
        let db = Database::connect(&DatabaseSettings {
            url: database.url().to_owned(),
            max_connections: 2,
            acquire_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(20),
            create_if_missing: false,
        })
        .await
        .unwrap();
        let head = boot(&db).await.unwrap();
        let cache = CacheSettings {
            budget_bytes: 1 << 20,
            time_to_live: NEVER,
        };
        let caches = ForecastsSettings {
            latest: cache,
            history: cache,
            reference: cache,
        };
        let settings = ChangeLogSettings {
            busy_interval: NEVER,
            idle_interval: NEVER,
            scan_interval: NEVER,
            acknowledge_timeout: Duration::from_secs(5),
        };
        let log = ChangeLog::new(
            db.clone(),
            Forecasts::new(&db, Arc::new(Clock::new(head)), caches),
            Hub::new(head, 16, Budget::new(usize::MAX), HubMetrics::default()),
            settings,
            ChangeLogMetrics::default(),
        );
        let tail = log.tail();
        Self {
            _database: database,
            log,
            tail,
        }
    }

    /// Renames the unit, as another replica would; what that one then tells.
    async fn rename_elsewhere(&self, name: &str) -> (Change, Option<u64>) {
        let upsert = UnitUpsert {
            key: unit(),
            name: Patch::Set(name.to_owned()),
            time_zone: Patch::Keep,
            parent: Patch::Keep,
            capacity_mw: Patch::Keep,
            capacity_valid_from: None,
        };
        let receipt = unit::upsert(self.log.database(), &[upsert]).await.unwrap();
        let Receipt::Numbered(position) = receipt else {
            panic!("{receipt:?}");
        };
        let db = self.log.database().reader();
        let page = change::read_after(db, position.number - 1, change::PAGE)
            .await
            .unwrap();
        page.changes.into_iter().next().unwrap()
    }

    fn hear(&mut self, changes: Vec<(Change, Option<u64>)>) {
        self.log.heard().tell(changes);
        self.tail.take_heard();
    }

    async fn name(&self) -> Option<String> {
        let unit = self.log.forecasts().unit(unit()).await.unwrap();
        unit.map(|unit| unit.name.clone())
    }

    /// Loads whose result could not be kept.
    fn unkept(&self) -> u64 {
        let unkept = &self.log.forecasts().metrics().unkept;
        unkept.get_or_create(&[("cache", "unit")]).get()
    }

    fn known(&self) -> Position {
        self.log.forecasts().clock().known()
    }
}

fn unit() -> UnitKey {
    "plant:1".parse().unwrap()
}

#[tokio::test]
async fn word_of_a_change_says_nothing_about_what_a_read_includes() {
    let mut replica = Replica::new().await;
    let mut subscriber = replica.log.hub().join(vec![Topic::Everything]);
    let start = replica.log.applied();
    let told = replica.rename_elsewhere("first").await;
    let position = told.0.position;
    replica.hear(vec![told]);
    // It is on screens, and voids what was loaded before…
    assert_eq!(replica.log.applied(), position);
    assert!(matches!(subscriber.try_recv(), Some(Received::Event(_))));
    // …but a read that begins now might have a snapshot from before it.
    assert_eq!(replica.known(), start);
    let waits = replica.log.reached(position);
    assert!(waits.now_or_never().is_none(), "it has not read it itself");
    assert_eq!(replica.name().await.as_deref(), Some("first"));
    assert_eq!(replica.unkept(), 1);
    // The log has nothing that was not told; reading it makes it known.
    replica.tail.look().await.unwrap();
    assert_eq!(replica.known(), position);
    replica.log.reached(position).await.unwrap();
    replica.name().await;
    assert_eq!(replica.unkept(), 1);
    assert!(subscriber.try_recv().is_none(), "nothing comes twice");
    assert_eq!(replica.log.metrics().heard.get(), 1);
    assert_eq!(replica.log.metrics().contradicted.get(), 0);
}

#[tokio::test]
async fn what_was_missed_comes_from_the_log_in_order_and_once() {
    let mut replica = Replica::new().await;
    let mut subscriber = replica.log.hub().join(vec![Topic::Everything]);
    let mut told = Vec::new();
    for name in ["a", "b", "c", "d", "e"] {
        told.push(replica.rename_elsewhere(name).await);
    }
    let mut received = Vec::new();
    let mut receive = || {
        while let Some(event) = subscriber.try_recv() {
            let Received::Event(event) = event else {
                panic!("{event:?}");
            };
            received.push(event.change.clone());
        }
        received.len()
    };
    replica.hear(vec![told[0].clone()]);
    assert_eq!(receive(), 1);
    // The second was lost on the way, the fourth comes twice.
    replica.hear(vec![told[3].clone()]);
    replica.hear(vec![told[2].clone(), told[3].clone()]);
    assert_eq!(receive(), 1);
    replica.tail.look().await.unwrap();
    assert_eq!(receive(), 5);
    replica.hear(told.clone());
    assert_eq!(receive(), 5);
    let expect: Vec<Change> = told.into_iter().map(|(change, _)| change).collect();
    assert_eq!(received, expect);
}

#[tokio::test]
async fn a_false_word_is_found_out_and_everything_starts_over() {
    for more in [false, true] {
        let mut replica = Replica::new().await;
        let mut subscriber = replica.log.hub().join(vec![Topic::Everything]);
        let mut told = replica.rename_elsewhere("true").await;
        if more {
            // There is no such change.
            replica.tail.look().await.unwrap();
            subscriber.try_recv();
            told.0.position.number += 1;
        } else {
            // There is another one at its place.
            told.0.operation = Operation::Delete;
        }
        replica.hear(vec![told.clone()]);
        assert!(matches!(subscriber.try_recv(), Some(Received::Event(_))));
        replica.tail.look().await.unwrap();
        assert!(matches!(subscriber.try_recv(), Some(Received::Resync(_))));
        let head = change::read_head(replica.log.database().reader()).await;
        assert_eq!(replica.log.applied(), head.unwrap());
        assert_eq!(replica.log.metrics().contradicted.get(), 1);
        // From now on it only looks.
        let next = replica.rename_elsewhere("next").await;
        let position = next.0.position;
        replica.hear(vec![next]);
        assert!(replica.log.applied().number < position.number);
        replica.tail.look().await.unwrap();
        assert_eq!(replica.log.applied(), position);
        assert_eq!(replica.name().await.as_deref(), Some("next"));
    }
}
