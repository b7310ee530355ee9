//! From one replica to a subscriber of another.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use migration::testing::TestDatabase;
use serde_json::{Value, json};
use tempfile::TempDir;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::commits::frames;
use crate::http::{SAVE, post, prepare, run_of};
use crate::process::Server;
use crate::report::{line, quantile, section};
use crate::socket::Sockets;

const UNITS: usize = 20;
const RATE: u64 = 200;
const SECONDS: u64 = 10;

/// A Redis that lives as long as the measurement.
struct Redis {
    folder: TempDir,
    child: Child,
}

impl Redis {
    fn start() -> Self {
        let folder = TempDir::new().expect("a folder");
        let child = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--unixsocket"])
            .arg(folder.path().join("redis.sock"))
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed");
        Self { folder, child }
    }

    fn url(&self) -> String {
        format!("unix://{}", self.folder.path().join("redis.sock").display())
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

pub(crate) async fn run() {
    section("from a write at one replica to the frame at another's subscriber, on PostgreSQL");
    let redis = Redis::start();
    let url = redis.url();
    let options = |bytes| ["--redis-url", url.as_str(), "--redis-message-bytes", bytes];
    measure("without Redis", &[], 60).await;
    measure("Redis, the head alone", &options("0"), 200).await;
    measure("Redis, the changes too", &options("65536"), 200).await;
}

async fn measure(name: &str, options: &[&str], count: usize) {
    let client = reqwest::Client::new();
    let database = TestDatabase::postgres().await;
    let writer = Server::smartpulse_with(database.url(), options);
    let reader = Server::smartpulse_with(database.url(), options);
    prepare(&client, writer.address, UNITS).await;
    let pause = Duration::from_millis(150);
    let mut idle = frames(writer.address, reader.address, count, pause).await;
    line(
        &format!("{name}, one change now and then"),
        &format!(
            "median {:.2?}{}, p99 {:.2?}",
            quantile(&mut idle, 0.5),
            if options.is_empty() {
                ""
            } else {
                " (limit 10 ms)"
            },
            quantile(&mut idle, 0.99)
        ),
    );
    let before = reader.cpu_seconds();
    let mut busy = under_load(&client, &writer, &reader).await;
    let cpu = (reader.cpu_seconds() - before) * 1e6 / (RATE * SECONDS) as f64;
    line(
        &format!("{name}, {RATE} changes/s to {UNITS} subscribers"),
        &format!(
            "median {:.2?}, p99 {:.2?}; CPU of the other replica {cpu:.0} µs a change",
            quantile(&mut busy, 0.5),
            quantile(&mut busy, 0.99)
        ),
    );
}

/// Saves at a rate at one; each unit has a subscriber at the other.
async fn under_load(client: &reqwest::Client, writer: &Server, reader: &Server) -> Vec<Duration> {
    let sockets = Sockets::open(reader.address, UNITS, 1, |i| {
        let query = format!(
            "subscription {{ forecastChanged(units: [\"plant:{}\"]) {{ position points {{ deliveryStart mwh }} }} }}",
            i + 1
        );
        Some(json!({ "query": query }).to_string())
    })
    .await;
    // Answered in order: the subscriptions stand by the time that this is seen.
    tokio::time::sleep(Duration::from_secs(1)).await;
    // Two clocks meet: the sockets' and the one that the database's is compared to.
    let (instant, now) = (Instant::now(), OffsetDateTime::now_utc());
    let mut rhythm = tokio::time::interval(Duration::from_micros(1_000_000 / RATE));
    let mut saves = tokio::task::JoinSet::new();
    for i in 0..RATE * SECONDS {
        rhythm.tick().await;
        let (client, address) = (client.clone(), writer.address);
        let unit = usize::try_from(i).expect("small") % UNITS + 1;
        saves.spawn(async move {
            let run = run_of(unit, "2026-01-01T07:00:00Z", i as f64);
            let body = json!({ "query": SAVE, "variables": { "runs": [run] } });
            let saved = post(&client, address, body.to_string()).await;
            assert!(saved["errors"].is_null(), "{saved}");
        });
    }
    while let Some(saved) = saves.join_next().await {
        saved.expect("a save");
    }
    while sockets.messages() < RATE * SECONDS {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    sockets
        .take_samples()
        .into_iter()
        .map(|(arrived, text)| {
            let message: Value = serde_json::from_str(&text).expect("JSON");
            let committed = message["payload"]["extensions"]["committedAt"].as_str();
            let committed = OffsetDateTime::parse(committed.expect("a time"), &Rfc3339);
            let arrived = now + (arrived - instant);
            (arrived - committed.expect("a time")).unsigned_abs()
        })
        .collect()
}
