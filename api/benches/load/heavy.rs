//! Light requests beside heavy ones.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use migration::testing::TestDatabase;
use serde_json::json;
use tokio::task::JoinSet;

use crate::http::{SAVE, post, prepare};
use crate::process::Server;
use crate::report::{line, quantile, section};

const HEAVY: usize = 20;
const LIGHT: usize = 2_000;
const ROUNDS: usize = 3;
/// Five years of quarter-hours, below the limit of 200,000 periods.
const YEARS: std::ops::Range<i32> = 2021..2026;
/// Times the p99 at rest.
const LIMIT: f64 = 5.0;

const WIDE: &str = "{ forecast(unit: \"plant:1\", provider: \"p\", resolution: PT15M, \
    from: \"2021-01-01T00:00:00Z\", to: \"2026-01-01T00:00:00Z\") \
    { points { deliveryStart deliveryEnd mwh mw issuedAt } } }";
const DAY: &str = "{ forecast(unit: \"plant:1\", provider: \"p\", resolution: PT15M, \
    from: \"2025-06-01T00:00:00Z\", to: \"2025-06-02T00:00:00Z\") { values } }";

/// How long each of many light requests takes, one after the other. By a thread of
/// its own: the client of heavy answers must not hold it up.
async fn light(address: SocketAddr) -> Vec<Duration> {
    let ask = move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let client = reqwest::Client::new();
            let body = json!({ "query": DAY }).to_string();
            let mut took = Vec::with_capacity(LIGHT);
            for _ in 0..LIGHT {
                let began = Instant::now();
                post(&client, address, body.clone()).await;
                took.push(began.elapsed());
            }
            took
        })
    };
    tokio::task::spawn_blocking(ask).await.expect("requests")
}

/// A server with five years of quarter-hours.
async fn filled(database: &TestDatabase) -> Server {
    let server = Server::smartpulse(database.url());
    let (client, address) = (reqwest::Client::new(), server.address);
    prepare(&client, address, 1).await;
    for year in YEARS {
        let values: Vec<f64> = (0..366 * 96).map(|n| f64::from(n % 96) * 1.375).collect();
        let run = json!({ "unit": "plant:1", "provider": "p", "resolution": "PT15M",
            "start": format!("{year}-01-01T00:00:00Z"), "values": values });
        let body = json!({ "query": SAVE, "variables": { "runs": [run] } });
        let saved = post(&client, address, body.to_string()).await;
        assert!(saved["errors"].is_null(), "{saved}");
    }
    server
}

/// How long light requests to one server take while heavy ones go to another or
/// the same, and heavy answers a second.
async fn beside(light_to: SocketAddr, heavy_to: SocketAddr) -> (Vec<Duration>, f64) {
    let client = reqwest::Client::new();
    let wide = json!({ "query": WIDE }).to_string();
    let (stop, answers) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let mut heavy = JoinSet::new();
    for _ in 0..HEAVY {
        let (client, wide) = (client.clone(), wide.clone());
        let (stop, answers) = (Arc::clone(&stop), Arc::clone(&answers));
        heavy.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                send(&client, heavy_to, &wide).await;
                answers.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let began = Instant::now();
    let took = light(light_to).await;
    let elapsed = began.elapsed();
    stop.store(true, Ordering::Relaxed);
    let answered = answers.load(Ordering::Relaxed);
    heavy.join_all().await;
    (took, answered as f64 / elapsed.as_secs_f64())
}

pub(crate) async fn run() {
    section("a light request beside 20 heavy ones: how long it takes");
    let (database, another) = (TestDatabase::sqlite().await, TestDatabase::sqlite().await);
    let (server, other) = (filled(&database).await, filled(&another).await);
    let address = server.address;
    // The first time warms.
    light(address).await;
    beside(other.address, address).await;
    beside(address, other.address).await;
    let (mut at_rest, mut elsewhere, mut here) = (Vec::new(), Vec::new(), Vec::new());
    let mut heavy_rates = Vec::new();
    for _ in 0..ROUNDS {
        at_rest.extend(light(address).await);
        elsewhere.extend(beside(address, other.address).await.0);
        let (took, rate) = beside(address, address).await;
        here.extend(took);
        heavy_rates.push(rate);
    }
    let rate = heavy_rates.iter().sum::<f64>() / heavy_rates.len() as f64;
    line("heavy ones", &format!("{rate:.1}/s of 20 at a time"));
    let [at_rest, elsewhere, here] = [&mut at_rest, &mut elsewhere, &mut here]
        .map(|took| (quantile(took, 0.5), quantile(took, 0.99)));
    for (name, (p50, p99), limit) in [
        ("light, at rest", at_rest, String::new()),
        (
            "light, heavy ones at another server of the machine",
            elsewhere,
            String::new(),
        ),
        (
            "light, heavy ones at the same server",
            here,
            format!(" (limit {LIMIT})"),
        ),
    ] {
        let ratio = p99.as_secs_f64() / at_rest.1.as_secs_f64();
        line(
            name,
            &format!("p50 {p50:.2?}, p99 {p99:.2?}: {ratio:.1} times at rest{limit}"),
        );
    }
}

/// Sends a request and takes the answer; its length.
async fn send(client: &reqwest::Client, address: SocketAddr, body: &str) -> usize {
    let request = client
        .post(format!("http://{address}/graphql"))
        .header("content-type", "application/json")
        .body(body.to_owned());
    let mut response = request.send().await.expect("an answer");
    let mut length = 0;
    while let Some(chunk) = response.chunk().await.expect("a body") {
        length += chunk.len();
    }
    length
}
