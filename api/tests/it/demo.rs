//! The demo, as a newcomer starts it.

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::server::{Process, binary};
use crate::wait::{eventually, soon};

const FORECAST: &str = "query($unit: UnitKey!, $provider: String!, $view: ForecastView) { \
     forecast(unit: $unit, provider: $provider, resolution: PT1H, \
              from: \"2026-06-01T00:00:00Z\", to: \"2026-06-03T00:00:00Z\", view: $view) { values points { issuedAt } } }";

/// A demo of one certain moment, with its history written.
async fn demo(folder: &TempDir, seed: &str) -> Process {
    let line = [
        "demo",
        "--history-days",
        "1",
        "--speed",
        "5",
        "--seed",
        seed,
    ];
    let moment = ["--now", "2026-06-01T12:00:00Z"];
    let demo = Process::start_in(folder.path(), &[&line[..], &moment].concat());
    // A run after that moment is the live feed's, and comes after the history.
    eventually("the live feed begins", async || {
        let points = ask(&demo, Value::Null).await["points"].take();
        let live = |point: &Value| point["issuedAt"].as_str() > Some("2026-06-01T12:00:00Z");
        points.as_array()?.iter().any(live).then_some(())
    })
    .await;
    demo
}

/// Null while there is no such unit yet.
async fn ask(demo: &Process, view: Value) -> Value {
    let variables = json!({ "unit": "plant:2105", "provider": "borealis", "view": view });
    demo.client.graphql(FORECAST, variables).await["data"]["forecast"].take()
}

/// What was known at that moment.
async fn known_curve(demo: &Process) -> Value {
    let known = json!({ "knownAt": "2026-06-01T12:00:00Z" });
    ask(demo, known).await["values"].take()
}

#[tokio::test]
async fn a_portfolio_with_curves_that_move() {
    let folder = TempDir::new().unwrap();
    let demo = demo(&folder, "1").await;
    let data = demo
        .client
        .data(
            "{ units(first: 100) { nodes { key parent { key } capacityMw } } \
               providers { nodes { key } } }",
            Value::Null,
        )
        .await;
    let units = data["units"]["nodes"].as_array().unwrap();
    let plants = units.iter().filter(|unit| {
        let key = unit["key"].as_str().unwrap();
        key.starts_with("plant:") && unit["capacityMw"].as_f64().unwrap() > 0.0
    });
    assert!(plants.count() >= 30);
    assert!(units.iter().all(|unit| {
        let company = unit["key"].as_str().unwrap().starts_with("company:");
        company == unit["parent"].is_null()
    }));
    assert_eq!(data["providers"]["nodes"].as_array().unwrap().len(), 3);

    let mut changes = demo
        .client
        .subscribe(
            "subscription { forecastChanged { unit { key } provider { key } points { mwh } } }",
            Value::Null,
        )
        .await;
    let mut seen = std::collections::HashSet::new();
    while seen.len() < 20 {
        let change = soon("a change of another curve", changes.data()).await;
        let change = &change["forecastChanged"];
        assert!(!change["points"].as_array().unwrap().is_empty());
        seen.insert((
            change["unit"]["key"].to_string(),
            change["provider"]["key"].to_string(),
        ));
    }
}

#[tokio::test]
async fn one_seed_and_moment_give_the_same_curves_each_time() {
    let folder = TempDir::new().unwrap();
    let first = demo(&folder, "7").await;
    let curve = known_curve(&first).await;
    assert!(
        curve
            .as_array()
            .unwrap()
            .iter()
            .any(|mwh| mwh.as_f64() > Some(1.0)),
        "{curve}"
    );
    // Two would take the file from each other.
    let other = binary()
        .args(["demo", "--listen", "127.0.0.1:0"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert_eq!(other.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&other.stderr).contains("is in use by smartpulse demo (process ")
    );
    first.kill();
    // The next one begins anew.
    let second = demo(&folder, "7").await;
    assert_eq!(known_curve(&second).await, curve);
    second.kill();
    let other = demo(&folder, "8").await;
    assert_ne!(known_curve(&other).await, curve);
}
