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

pub(crate) async fn run() {
    section("a light request beside 20 heavy ones: how long it takes");
    let database = TestDatabase::sqlite().await;
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
    let wide = json!({ "query": WIDE }).to_string();
    let began = Instant::now();
    let bytes = send(&client, address, &wide).await;
    let alone = began.elapsed();

    // The first time warms.
    light(address).await;
    let at_rest = quantile(&mut light(address).await, 0.99);
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
                send(&client, address, &wide).await;
                answers.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let began = Instant::now();
    let mut beside = light(address).await;
    let elapsed = began.elapsed();
    stop.store(true, Ordering::Relaxed);
    let answered = answers.load(Ordering::Relaxed);
    heavy.join_all().await;
    let (p50, p99) = (quantile(&mut beside, 0.5), quantile(&mut beside, 0.99));
    line(
        &format!(
            "heavy: {:.1} MB each, {alone:.1?} alone",
            bytes as f64 / 1e6
        ),
        &format!(
            "{:.1}/s of 20 at a time",
            answered as f64 / elapsed.as_secs_f64()
        ),
    );
    line(
        "light, p99",
        &format!(
            "{at_rest:.2?} at rest, {p99:.2?} beside (p50 {p50:.2?}): ratio {:.1} (limit {LIMIT})",
            p99.as_secs_f64() / at_rest.as_secs_f64()
        ),
    );
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
