//! CPU of the server, and time, for each `saveForecasts`.

use std::time::Instant;

use migration::testing::TestDatabase;
use serde_json::{Value, json};

use crate::http::{SAVE, post, prepare};
use crate::process::Server;
use crate::report::{line, median, section};

const ROUNDS: usize = 7;

/// A run for each of so many units, of so many hours.
fn runs(units: usize, hours: usize, round: usize) -> Vec<Value> {
    let values: Vec<f64> = (0..hours)
        .map(|hour| (hour + round) as f64 * 1.375)
        .collect();
    let run = |unit| {
        json!({ "unit": format!("plant:{unit}"), "provider": "p", "resolution": "PT1H",
                "start": "2026-06-01T00:00:00Z", "values": values })
    };
    (1..=units).map(run).collect()
}

pub(crate) async fn run() {
    section("saveForecasts over HTTP, SQLite: server CPU and time per save");
    let database = TestDatabase::sqlite().await;
    let server = Server::smartpulse(database.url());
    let client = reqwest::Client::new();
    prepare(&client, server.address, 100).await;
    for (values, units, hours, saves) in [(1_000, 1, 1_000, 50), (100_000, 100, 1_000, 2)] {
        let (mut cpu, mut took) = (Vec::new(), Vec::new());
        for round in 0..=ROUNDS {
            let body = json!({ "query": SAVE, "variables": { "runs": runs(units, hours, round) } });
            let body = body.to_string();
            let (before, began) = (server.cpu_seconds(), Instant::now());
            for _ in 0..saves {
                let saved = post(&client, server.address, body.clone()).await;
                assert!(saved["errors"].is_null(), "{saved}");
            }
            // The first round warms.
            if round > 0 {
                cpu.push((server.cpu_seconds() - before) * 1e3 / f64::from(saves));
                took.push(began.elapsed().as_secs_f64() * 1e3 / f64::from(saves));
            }
        }
        line(
            &format!("{values} values"),
            &format!(
                "{:.2} ms CPU, {:.2} ms",
                median(&mut cpu),
                median(&mut took)
            ),
        );
    }
}
