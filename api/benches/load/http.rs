//! CPU of the server for each `forecast` over HTTP, against a bare handler
//! that answers the same bytes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use migration::testing::TestDatabase;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::process::Server;
use crate::report::{line, median, section};

const UNITS: usize = 100;
/// A backend's few, and a dashboard's many.
const CONNECTIONS: [usize; 2] = [8, 64];
const ROUNDS: usize = 5;
const REQUESTS_A_ROUND: usize = 8_000;

const POINTS: &str = "query($unit: UnitKey!) { forecast(unit: $unit, provider: \"p\", resolution: PT1H, \
    from: \"2026-06-01T00:00:00Z\", to: \"2026-06-02T00:00:00Z\") { points { deliveryStart mwh issuedAt } } }";
const VALUES: &str = "query($unit: UnitKey!) { forecast(unit: $unit, provider: \"p\", resolution: PT1H, \
    from: \"2026-06-01T00:00:00Z\", to: \"2026-06-02T00:00:00Z\") { values } }";

/// As apps ask: nothing stands in the document but variables.
const FOUR: &str = "query($unit: UnitKey!, $provider: String!, $from: DateTime!, $to: DateTime!) { \
    forecast(unit: $unit, provider: $provider, resolution: PT1H, from: $from, to: $to) { points { deliveryStart mwh issuedAt } } }";

fn variables(query: &str, unit: usize) -> Value {
    let unit = format!("plant:{unit}");
    if query == FOUR {
        json!({ "unit": unit, "provider": "p", "from": "2026-06-01T00:00:00Z", "to": "2026-06-02T00:00:00Z" })
    } else {
        json!({ "unit": unit })
    }
}

pub(crate) async fn post(client: &reqwest::Client, address: SocketAddr, body: String) -> Value {
    let response = client
        .post(format!("http://{address}/graphql"))
        .header("content-type", "application/json")
        .body(body)
        .send()
        .await
        .expect("an answer");
    response.json().await.expect("JSON")
}

pub(crate) fn run_of(unit: usize, issued: &str, mwh: f64) -> Value {
    let values: Vec<f64> = (0..24).map(|hour| mwh + f64::from(hour) * 1.375).collect();
    json!({ "unit": format!("plant:{unit}"), "provider": "p", "resolution": "PT1H",
            "issuedAt": issued, "start": "2026-06-01T00:00:00Z", "values": values })
}

pub(crate) const SAVE: &str =
    "mutation($runs: [ForecastRunInput!]!) { saveForecasts(input: { runs: $runs }) { position } }";

pub(crate) async fn prepare(client: &reqwest::Client, address: SocketAddr, units: usize) {
    let inputs: Vec<Value> = (1..=units)
        .map(|n| json!({ "key": format!("plant:{n}") }))
        .collect();
    let body = json!({
        "query": "mutation($units: [UnitInput!]!) { upsertUnits(input: { units: $units }) { position } \
                  upsertProviders(input: { providers: [{ key: \"p\" }] }) { position } }",
        "variables": { "units": inputs },
    });
    post(client, address, body.to_string()).await;
    let runs: Vec<Value> = (1..=units)
        .map(|n| run_of(n, "2026-01-01T06:00:00Z", 100.5))
        .collect();
    let saved = post(
        client,
        address,
        json!({ "query": SAVE, "variables": { "runs": runs } }).to_string(),
    )
    .await;
    assert!(saved["errors"].is_null(), "{saved}");
}

/// Microseconds of the server's CPU for each of many requests: the median of rounds.
async fn cpu_per_request(server: &Server, query: &'static str, of: usize) -> f64 {
    let client = reqwest::Client::new();
    let mut rounds = Vec::new();
    for round in 0..=ROUNDS {
        let before = server.cpu_seconds();
        let mut connections = JoinSet::new();
        for connection in 0..of {
            let client = client.clone();
            let address = server.address;
            connections.spawn(async move {
                for i in 0..REQUESTS_A_ROUND / of {
                    let unit = 1 + (connection * 31 + i) % UNITS;
                    let body = json!({ "query": query, "variables": variables(query, unit) });
                    let response = client
                        .post(format!("http://{address}/graphql"))
                        .header("content-type", "application/json")
                        .body(body.to_string())
                        .send()
                        .await
                        .expect("an answer");
                    let bytes = response.bytes().await.expect("a body");
                    assert!(bytes.starts_with(b"{\"data\":{\"forecast\":{"), "{bytes:?}");
                }
            });
        }
        while let Some(done) = connections.join_next().await {
            done.expect("a connection");
        }
        // The first round warms.
        if round > 0 {
            rounds.push((server.cpu_seconds() - before) * 1e6 / REQUESTS_A_ROUND as f64);
        }
    }
    median(&mut rounds)
}

pub(crate) async fn run() {
    section("forecast over HTTP, 24 hours from warm day curves: server CPU per request");
    let database = TestDatabase::sqlite().await;
    let server = Server::smartpulse(database.url());
    let client = reqwest::Client::new();
    prepare(&client, server.address, UNITS).await;
    let [few, many] = CONNECTIONS;
    for (name, query, of, limit) in [
        ("points", POINTS, few, 6.0),
        ("values", VALUES, few, 3.5),
        ("points, four variables, 64 connections", FOUR, many, 6.0),
    ] {
        let body = json!({ "query": query, "variables": variables(query, 1) }).to_string();
        let answer = post(&client, server.address, body).await.to_string();
        let bare = Server::bare(&answer);
        let floor = cpu_per_request(&bare, query, of).await;
        drop(bare);
        let idle = cpu_per_request(&server, query, of).await;
        line(
            &format!("`{name}` ({} bytes), idle", answer.len()),
            &format!(
                "{idle:.1} µs, bare axum {floor:.1} µs: ratio {:.2} (limit {limit})",
                idle / floor
            ),
        );
        let stop = Arc::new(AtomicBool::new(false));
        let mut changes = JoinSet::new();
        let (stopped, writer, address) = (Arc::clone(&stop), client.clone(), server.address);
        changes.spawn(async move {
            let mut rhythm = tokio::time::interval(Duration::from_millis(10));
            let mut unit = 0;
            while !stopped.load(Ordering::SeqCst) {
                rhythm.tick().await;
                unit = unit % UNITS + 1;
                let body = json!({ "query": SAVE, "variables": { "runs": [run_of(unit, "2026-01-01T06:00:00Z", 99.0)] } });
                post(&writer, address, body.to_string()).await;
            }
        });
        // What the changes take by themselves is not the requests' doing.
        let before = server.cpu_seconds();
        tokio::time::sleep(Duration::from_secs(2)).await;
        let own = (server.cpu_seconds() - before) / 2.0;
        let began = std::time::Instant::now();
        let gross = cpu_per_request(&server, query, of).await;
        let elapsed = began.elapsed().as_secs_f64() / (ROUNDS + 1) as f64;
        let net = gross - own * elapsed * 1e6 / REQUESTS_A_ROUND as f64;
        stop.store(true, Ordering::SeqCst);
        while changes.join_next().await.is_some() {}
        line(
            &format!("`{name}`, with 100 saves/s running"),
            &format!(
                "{net:.1} µs without the saves' own CPU ({gross:.1} µs with it): ratio {:.2} (limit {limit})",
                net / floor
            ),
        );
    }
}
