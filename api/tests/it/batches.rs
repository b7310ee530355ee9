//! A request for very much is a handful of reads, whatever it selects.

use serde_json::{Value, json};

use crate::server::{Kind, TestServer, on_both, started};

on_both!(
    a_thousand_cold_forecasts_are_a_few_reads,
    the_runs_of_a_curve_are_a_few_reads,
);

const SAVE: &str = "mutation($runs: [ForecastRunInput!]!) {
    saveForecasts(input: { runs: $runs }) { runs { id } } }";

/// Reads of the database that filled a cache.
async fn loads(server: &TestServer) -> f64 {
    server.client.metric("smartpulse_cache_loads_total").await
}

async fn a_thousand_cold_forecasts_are_a_few_reads(kind: Kind) {
    const UNITS: usize = 1000;
    let (database, server) = started(kind).await;
    server.client.prepare(UNITS).await;
    let run = |n: usize| {
        json!({ "unit": format!("plant:{n}"), "provider": "p", "resolution": "PT1H",
                "start": "2024-05-01T00:00:00Z", "values": [n] })
    };
    let runs: Vec<Value> = (1..=UNITS).map(run).collect();
    server.client.data(SAVE, json!({ "runs": runs })).await;
    server.stop().await;
    // Nothing is in memory.
    let server = TestServer::start(database.url()).await;
    let before = loads(&server).await;
    let selection = |n: usize| {
        json!({ "unit": format!("plant:{n}"), "provider": "p", "resolution": "PT1H",
                "from": "2024-05-01T00:00:00Z", "to": "2024-05-01T01:00:00Z" })
    };
    let selections: Vec<Value> = (1..=UNITS).map(selection).collect();
    let data = server
        .client
        .data(
            "query($selections: [ForecastSelection!]!) { forecasts(selections: $selections) {
                unit { name } provider { name } points { mwh run { receivedAt } } } }",
            json!({ "selections": selections }),
        )
        .await;
    let forecasts = data["forecasts"].as_array().unwrap();
    assert_eq!(forecasts.len(), UNITS);
    for (n, forecast) in (1..).zip(forecasts) {
        assert_eq!(forecast["unit"]["name"], format!("plant:{n}"));
        assert_eq!(forecast["points"][0]["mwh"], json!(f64::from(n)));
        assert!(forecast["points"][0]["run"]["receivedAt"].is_string());
    }
    // Of series, days, units, the provider and runs: not one for each forecast.
    let loads = loads(&server).await - before;
    assert!(loads <= 50.0, "{loads} reads");
    server.stop().await;
}

async fn the_runs_of_a_curve_are_a_few_reads(kind: Kind) {
    let (_database, server) = started(kind).await;
    server.client.prepare(1).await;
    // Each hour is of a run of its own.
    let run = |hour: usize| {
        json!({ "unit": "plant:1", "provider": "p", "resolution": "PT1H",
                "start": format!("2024-05-{:02}T{:02}:00:00Z", 1 + hour / 24, hour % 24),
                "values": [hour] })
    };
    let runs: Vec<Value> = (0..240).map(run).collect();
    let saved = server.client.data(SAVE, json!({ "runs": runs })).await;
    let query = "{ forecast(unit: \"plant:1\", provider: \"p\", resolution: PT1H,
        from: \"2024-05-01T00:00:00Z\", to: \"2024-05-11T00:00:00Z\") { points { run { id receivedAt } } } }";
    let before = loads(&server).await;
    let first = server.client.data(query, Value::Null).await;
    let loaded = loads(&server).await - before;
    assert!(loaded <= 10.0, "{loaded} reads");
    let points = first["forecast"]["points"].as_array().unwrap();
    let ids: Vec<&Value> = points.iter().map(|point| &point["run"]["id"]).collect();
    let expect = saved["saveForecasts"]["runs"].as_array().unwrap();
    assert_eq!(ids, expect.iter().map(|run| &run["id"]).collect::<Vec<_>>());
    // Runs never change: they stay in memory.
    let before = loads(&server).await;
    assert_eq!(server.client.data(query, Value::Null).await, first);
    assert_eq!(loads(&server).await, before);
    server.stop().await;
}
