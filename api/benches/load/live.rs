//! Subscriptions by the thousand.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use migration::testing::TestDatabase;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::http::{SAVE, post, prepare, run_of};
use crate::process::Server;
use crate::report::{line, median, quantile, section};
use crate::socket::Sockets;

const UNITS: usize = 100;
const ROUNDS: usize = 5;
const FIELDS: &str = "position from to points { deliveryStart mwh }";

pub(crate) async fn run(wants: impl Fn(&str) -> bool) {
    if wants("fan-out") {
        section("fan-out of changes to websockets");
        for (sockets, changes) in [(500, 200), (500, 1000), (5000, 40), (5000, 400)] {
            fan_out(sockets, changes).await;
        }
    }
    if wants("variables") {
        section("5,000 websockets that each ask for something else");
        different_variables().await;
    }
    if wants("latency") {
        section("200 changes/s to 1,000 websockets, on PostgreSQL");
        latency().await;
    }
    if wants("behind") {
        section("a subscriber far behind: 10,000 changes from the log");
        for (name, database) in [
            ("PostgreSQL", TestDatabase::postgres().await),
            ("SQLite", TestDatabase::sqlite().await),
        ] {
            behind(name, &database).await;
        }
    }
}

fn one_unit(unit: usize) -> String {
    let query =
        format!("subscription {{ forecastChanged(units: [\"plant:{unit}\"]) {{ {FIELDS} }} }}");
    json!({ "query": query }).to_string()
}

async fn metric(address: SocketAddr, name: &str) -> f64 {
    let url = format!("http://{address}/metrics");
    let text = reqwest::get(url)
        .await
        .expect("metrics")
        .text()
        .await
        .expect("text");
    text.lines()
        .filter_map(|line| line.rsplit_once(' '))
        .find(|(sample, _)| *sample == name)
        .map_or(0.0, |(_, value)| value.parse().expect("a number"))
}

/// Waits until so many subscriptions stand.
async fn subscribed(address: SocketAddr, count: usize) {
    while metric(address, "smartpulse_live_operations").await < count as f64 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Saves runs of one unit in one transaction: a change each.
async fn save_runs(client: &reqwest::Client, address: SocketAddr, unit: usize, changes: usize) {
    let runs: Vec<Value> = (0..changes)
        .map(|i| run_of(unit, "2026-01-01T07:00:00Z", i as f64))
        .collect();
    let body = json!({ "query": SAVE, "variables": { "runs": runs } });
    let saved = post(client, address, body.to_string()).await;
    assert!(saved["errors"].is_null(), "{saved}");
}

async fn fan_out(sockets: usize, changes: usize) {
    let client = reqwest::Client::new();
    let database = TestDatabase::sqlite().await;
    let server = Server::smartpulse(database.url());
    prepare(&client, server.address, 1).await;
    let before = server.resident_bytes();
    let ours = Sockets::open(server.address, sockets, sockets, |_| Some(one_unit(1))).await;
    subscribed(server.address, sockets).await;
    let memory = (server.resident_bytes() - before) / sockets as f64;

    // The same frame for both.
    ours.receive(sockets as u64, save_runs(&client, server.address, 1, 1))
        .await;
    let frame = ours
        .take_samples()
        .pop()
        .expect("a frame was looked into")
        .1;
    let bare = Server::bare_broadcast();
    let before = bare.resident_bytes();
    let theirs = Sockets::open(bare.address, sockets, sockets, |_| None).await;
    let bare_memory = (bare.resident_bytes() - before) / sockets as f64;

    let messages = (sockets * changes) as u64;
    let (mut our_rates, mut their_rates) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let save = save_runs(&client, server.address, 1, changes);
        let our_rate = messages as f64 / ours.receive(messages, save).await;
        let publish = async {
            let url = format!("http://{}/publish/{changes}", bare.address);
            client
                .post(url)
                .body(frame.clone())
                .send()
                .await
                .expect("published");
        };
        let their_rate = messages as f64 / theirs.receive(messages, publish).await;
        // The first round warms.
        if round > 0 {
            our_rates.push(our_rate);
            their_rates.push(their_rate);
        }
        ours.take_samples();
        theirs.take_samples();
    }
    let (our_rate, their_rate) = (median(&mut our_rates), median(&mut their_rates));
    line(
        &format!(
            "{sockets} sockets on one topic, {changes} changes of {} bytes at once",
            frame.len()
        ),
        &format!(
            "{our_rate:.0} frames/s, a bare axum broadcast {their_rate:.0}: ratio {:.2} (limit 0.85)",
            our_rate / their_rate
        ),
    );
    line(
        &format!("memory of each of {sockets} idle subscribed sockets"),
        &format!(
            "{:.1} KiB, of a bare axum socket {:.1} (limit 8)",
            memory / 1024.0,
            bare_memory / 1024.0
        ),
    );
}

/// The server's CPU for a change that concerns 50 subscriptions, with no others
/// and with thousands of others.
async fn different_variables() {
    const ALL: usize = 5000;
    const TOUCHED: usize = ALL / UNITS;
    const CHANGES: usize = 100;
    let client = reqwest::Client::new();
    let query = format!(
        "subscription($unit: UnitKey!, $from: DateTime!) {{ forecastChanged(units: [$unit], from: $from) {{ {FIELDS} }} }}"
    );
    let mut costs = Vec::new();
    for sockets in [TOUCHED, ALL] {
        let database = TestDatabase::sqlite().await;
        let server = Server::smartpulse(database.url());
        prepare(&client, server.address, UNITS).await;
        let units = if sockets == ALL { UNITS } else { 1 };
        let open = Sockets::open(server.address, sockets, sockets, |i| {
            let (unit, second) = (i % units + 1, i / units);
            let from = format!("2026-01-01T{:02}:{:02}:00Z", second / 60, second % 60);
            let variables = json!({ "unit": format!("plant:{unit}"), "from": from });
            Some(json!({ "query": query, "variables": variables }).to_string())
        })
        .await;
        subscribed(server.address, sockets).await;
        assert_eq!(
            metric(server.address, "smartpulse_live_cohorts").await as usize,
            sockets
        );
        let mut rounds = Vec::new();
        for round in 0..=ROUNDS {
            let before = server.cpu_seconds();
            let messages = (TOUCHED * CHANGES) as u64;
            open.receive(messages, save_runs(&client, server.address, 1, CHANGES))
                .await;
            if round > 0 {
                rounds.push((server.cpu_seconds() - before) * 1e6 / CHANGES as f64);
            }
        }
        costs.push(median(&mut rounds));
    }
    line(
        &format!("server CPU for a change that concerns {TOUCHED} different subscriptions"),
        &format!(
            "{:.0} µs with {TOUCHED} sockets, {:.0} µs with {ALL}: ratio {:.2}",
            costs[0],
            costs[1],
            costs[1] / costs[0]
        ),
    );
}

/// From the database's time of each change to its frame at the client.
async fn latency() {
    const SOCKETS: usize = 1000;
    const RATE: u64 = 200;
    const SECONDS: u64 = 10;
    let client = reqwest::Client::new();
    let database = TestDatabase::postgres().await;
    let server = Server::smartpulse(database.url());
    prepare(&client, server.address, UNITS).await;
    // Ten of each unit; one of the ten is looked into.
    let sockets = Sockets::open(server.address, SOCKETS, 10, |i| Some(one_unit(i / 10 + 1))).await;
    subscribed(server.address, SOCKETS).await;
    // Two clocks meet: the sockets' and the one that the database's is compared to.
    let (instant, now) = (Instant::now(), OffsetDateTime::now_utc());
    let mut rhythm = tokio::time::interval(Duration::from_micros(1_000_000 / RATE));
    let mut saves = tokio::task::JoinSet::new();
    for i in 0..RATE * SECONDS {
        rhythm.tick().await;
        let (client, address) = (client.clone(), server.address);
        let unit = usize::try_from(i).expect("small") % UNITS + 1;
        saves.spawn(async move { save_runs(&client, address, unit, 1).await });
    }
    while let Some(saved) = saves.join_next().await {
        saved.expect("a save");
    }
    while sockets.messages() < RATE * SECONDS * 10 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let mut waits: Vec<Duration> = sockets
        .take_samples()
        .into_iter()
        .map(|(arrived, text)| {
            let message: Value = serde_json::from_str(&text).expect("JSON");
            let committed = message["payload"]["extensions"]["committedAt"].as_str();
            let committed = OffsetDateTime::parse(committed.expect("a time"), &Rfc3339);
            let arrived = now + (arrived - instant);
            (arrived - committed.expect("a time")).unsigned_abs()
        })
        .collect();
    line(
        "from the write, before its commit, to the frame at the client",
        &format!(
            "median {:.2?} (limit 10 ms), p99 {:.2?} (limit 50 ms)",
            quantile(&mut waits, 0.5),
            quantile(&mut waits, 0.99)
        ),
    );
}

async fn behind(name: &str, database: &TestDatabase) {
    const CHANGES: usize = 10_000;
    let client = reqwest::Client::new();
    let start = {
        let server = Server::smartpulse(database.url());
        prepare(&client, server.address, UNITS).await;
        let read = json!({ "query": format!(
            "{{ forecast(unit: \"plant:1\", provider: \"p\", resolution: PT1H, \
             from: \"2026-06-01T00:00:00Z\", to: \"2026-06-02T00:00:00Z\") {{ position }} }}"
        ) });
        let answer = post(&client, server.address, read.to_string()).await;
        for unit in 0..CHANGES / 100 {
            save_runs(&client, server.address, unit % UNITS + 1, 100).await;
        }
        answer["data"]["forecast"]["position"].clone()
    };
    // Another process remembers nothing: all of it comes from the log.
    let server = Server::smartpulse(database.url());
    let mut rates = Vec::new();
    for round in 0..=ROUNDS {
        let query = format!(
            "subscription($after: Position) {{ forecastChanged(after: $after) {{ {FIELDS} }} }}"
        );
        let payload = json!({ "query": query, "variables": { "after": start } }).to_string();
        let began = Instant::now();
        let socket = Sockets::open(server.address, 1, 2, |_| Some(payload.clone())).await;
        while socket.messages() < CHANGES as u64 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // The first round warms.
        if round > 0 {
            rates.push(CHANGES as f64 / began.elapsed().as_secs_f64());
        }
    }
    line(
        name,
        &format!("{:.0} changes/s (limit 50,000)", median(&mut rates)),
    );
}
