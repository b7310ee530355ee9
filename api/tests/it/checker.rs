//! The checker: whatever befalls a subscriber, it ends with exactly the
//! committed changes, in order, each once.

use std::collections::HashMap;
use std::time::Duration;

use domain::database::Database;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sea_orm::{ConnectionTrait, Statement};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::client::{Client, EventStream, Socket};
use crate::server::{Kind, TestServer, on_both};
use crate::wait::soon;

on_both!(
    every_subscriber_gets_every_change_once,
    every_subscriber_gets_every_change_once_without_memory_to_spare,
);

const UNITS: usize = 3;
const WRITERS: u64 = 4;
const SAVES: usize = 40;
const SUBSCRIBERS: u64 = 12;

const CHANGED: &str = "subscription($units: [UnitKey!], $after: Position) {
    forecastChanged(units: $units, after: $after) { position unit { key } run { id } points { mwh } } }";
const SAVE: &str = "mutation($runs: [ForecastRunInput!]!) {
    saveForecasts(input: { runs: $runs }) { runs { id } position } }";

/// The seed of this run: a random one, or the one to replay.
fn seed() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "to replay what has failed")]
    let given = std::env::var("SMARTPULSE_TEST_SEED").ok();
    given.map_or_else(rand::random, |seed| seed.parse().expect("a number"))
}

fn number(position: &Value) -> u64 {
    let (_, number) = position.as_str().unwrap().split_once('.').unwrap();
    number.parse().unwrap()
}

/// A change as a subscriber sees it.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    position: u64,
    unit: String,
    run: String,
    mwh: Vec<f64>,
}

/// All changes, once the writers have done.
type Finished = watch::Receiver<Option<Vec<Seen>>>;

async fn every_subscriber_gets_every_change_once(kind: Kind) {
    // So few frames are kept that whoever stalls a moment is behind.
    check(kind, &["--live-frames", "4"]).await;
}

/// The log is read in the smallest pages and parts.
async fn every_subscriber_gets_every_change_once_without_memory_to_spare(kind: Kind) {
    check(kind, &["--live-frames", "4", "--live-memory-mib", "0"]).await;
}

async fn check(kind: Kind, options: &[&str]) {
    let seed = seed();
    println!("SMARTPULSE_TEST_SEED={seed}");
    let database = kind.database().await;
    let server = TestServer::start_with(database.url(), options).await;
    let client = server.client.clone();
    let start = client.prepare(UNITS).await;

    let (finished, is_finished) = watch::channel(None);
    let mut subscribers = JoinSet::new();
    for number in 0..SUBSCRIBERS {
        let subscriber = Subscriber {
            client: client.clone(),
            random: StdRng::seed_from_u64(seed ^ (number << 32)),
            seen: Vec::new(),
            last: start.clone(),
            over_sse: number % 3 == 2,
            units: match number % 4 {
                0 | 1 => None,
                2 => Some(vec!["plant:1".to_owned()]),
                _ => Some(vec!["plant:1".to_owned(), "plant:3".to_owned()]),
            },
        };
        subscribers.spawn(subscriber.follow(is_finished.clone()));
    }
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let random = StdRng::seed_from_u64(seed.wrapping_add(writer));
        writers.spawn(write(client.clone(), random));
    }
    let written: HashMap<String, (String, Vec<f64>)> =
        writers.join_all().await.into_iter().flatten().collect();

    let all = logged(server.log.database(), number(&start)).await;
    assert_eq!(all.len(), written.len(), "a change a run");
    let all: Vec<Seen> = all
        .into_iter()
        .map(|(position, run)| {
            let (unit, mwh) = written[&run].clone();
            Seen {
                position,
                unit,
                run,
                mwh,
            }
        })
        .collect();
    finished.send_replace(Some(all.clone()));

    for subscriber in subscribers.join_all().await {
        let expect = all.iter().filter(|change| subscriber.wants(change));
        for (i, expect) in expect.clone().enumerate() {
            let seen = subscriber.seen.get(i);
            assert_eq!(seen, Some(expect), "seed {seed}, {:?}", subscriber.units);
        }
        assert_eq!(subscriber.seen.len(), expect.count(), "seed {seed}");
    }
    let resumed = client.metric("smartpulse_live_resumed_total").await;
    assert!(
        resumed > 2.0 * SUBSCRIBERS as f64,
        "{resumed}: this tests little"
    );
    server.stop().await;
}

/// Saves runs of random units; what each was, by its id.
async fn write(client: Client, mut random: StdRng) -> Vec<(String, (String, Vec<f64>))> {
    let mut written = Vec::new();
    for _ in 0..SAVES {
        let runs: Vec<(String, Vec<f64>)> = (0..random.random_range(1..4))
            .map(|_| {
                let unit = format!("plant:{}", random.random_range(1..=UNITS));
                let mwh = (0..random.random_range(1..4))
                    .map(|_| f64::from(random.random_range(0..1000u32)))
                    .collect();
                (unit, mwh)
            })
            .collect();
        let inputs: Vec<Value> = runs
            .iter()
            .map(|(unit, mwh)| {
                json!({ "unit": unit, "provider": "p", "resolution": "PT1H",
                        "start": "2024-05-01T00:00:00Z", "values": mwh })
            })
            .collect();
        let saved = client.data(SAVE, json!({ "runs": inputs })).await;
        let ids = saved["saveForecasts"]["runs"].as_array().unwrap();
        let ids = ids.iter().map(|run| run["id"].as_str().unwrap().to_owned());
        written.extend(ids.zip(runs));
    }
    written
}

/// Position and run of each forecast change, as they stand in the log.
async fn logged(db: &Database, after: u64) -> Vec<(u64, String)> {
    let sql = format!(
        "SELECT position, run_id FROM change WHERE entity = 'FORECAST' AND position > {after} ORDER BY position"
    );
    let rows = db
        .reader()
        .query_all_raw(Statement::from_string(db.backend(), sql))
        .await
        .unwrap();
    rows.iter()
        .map(|row| {
            let position: i64 = row.try_get("", "position").unwrap();
            let run: i64 = row.try_get("", "run_id").unwrap();
            (position.try_into().unwrap(), format!("run:{run}"))
        })
        .collect()
}

struct Subscriber {
    client: Client,
    random: StdRng,
    seen: Vec<Seen>,
    last: Value,
    over_sse: bool,
    units: Option<Vec<String>>,
}

enum Connection {
    Socket(Socket),
    Stream(EventStream),
}

impl Connection {
    async fn next(&mut self) -> Value {
        match self {
            Self::Socket(socket) => socket.next().await.unwrap(),
            Self::Stream(stream) => stream.result().await,
        }
    }
}

impl Subscriber {
    fn wants(&self, change: &Seen) -> bool {
        let units = self.units.as_ref();
        units.is_none_or(|units| units.contains(&change.unit))
    }

    /// Whether nothing more is to come.
    fn has_all(&self, all: &Option<Vec<Seen>>) -> bool {
        let Some(all) = all else {
            return false;
        };
        let last = all.iter().rev().find(|change| self.wants(change));
        last.map(|change| change.position) <= self.seen.last().map(|seen| seen.position)
    }

    async fn connect(&mut self) -> Connection {
        if self.over_sse {
            // Where it was comes from the header, over what the document says.
            let began = json!({ "units": self.units, "after": null });
            let last = self.last.as_str();
            let stream = self.client.event_stream(CHANGED, began, last).await;
            Connection::Stream(stream.unwrap())
        } else {
            let variables = json!({ "units": self.units, "after": self.last });
            Connection::Socket(self.client.subscribe(CHANGED, variables).await)
        }
    }

    /// Connects, reads some, stalls, and goes without a word, again and again.
    async fn follow(mut self, mut finished: Finished) -> Self {
        loop {
            let mut connection = self.connect().await;
            for _ in 0..self.random.random_range(1..60) {
                let payload = tokio::select! {
                    payload = soon("a change", connection.next()) => payload,
                    end = finished.wait_for(|all| self.has_all(all)) => {
                        drop(end);
                        return self;
                    }
                };
                assert_eq!(payload["errors"], Value::Null, "{payload}");
                let change = &payload["data"]["forecastChanged"];
                assert_eq!(change["position"], payload["extensions"]["position"]);
                let points = change["points"].as_array().unwrap();
                self.seen.push(Seen {
                    position: number(&change["position"]),
                    unit: change["unit"]["key"].as_str().unwrap().to_owned(),
                    run: change["run"]["id"].as_str().unwrap().to_owned(),
                    mwh: points.iter().map(|p| p["mwh"].as_f64().unwrap()).collect(),
                });
                self.last = change["position"].clone();
                if self.random.random_range(0..8) == 0 {
                    let stall = self.random.random_range(1..30);
                    tokio::time::sleep(Duration::from_millis(stall)).await;
                }
            }
        }
    }
}
