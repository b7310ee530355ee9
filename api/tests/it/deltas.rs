//! Curves that are followed by what is different.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::client::{Client, Socket, code};
use crate::server::{Kind, TestServer, on_both, run_sql, started};
use crate::wait::soon;

on_both!(
    differences_add_up_to_the_curve,
    who_joins_begins_with_what_the_others_were_told,
    what_has_no_value_any_more_is_told,
    small_differences_are_not_told,
    a_rate_is_kept_and_the_last_state_comes,
    who_asks_for_a_position_begins_with_it,
    what_cannot_be_is_refused,
);

const LIVE: &str = "subscription($delta: ForecastDelta, $minDelta: Float, $maxRate: Float) {
    forecastLive(unit: \"plant:1\", provider: \"p\", resolution: PT1H,
            from: \"2024-05-01T00:00:00Z\", to: \"2024-05-01T06:00:00Z\",
            delta: $delta, minDelta: $minDelta, maxRate: $maxRate) {
        position forecast { points { deliveryStart mwh } } changed { deliveryStart mwh } removed } }";
const CURVE: &str = "{ forecast(unit: \"plant:1\", provider: \"p\", resolution: PT1H,
    from: \"2024-05-01T00:00:00Z\", to: \"2024-05-01T06:00:00Z\") { points { deliveryStart mwh } } }";
const SAVE: &str = "mutation($runs: [ForecastRunInput!]!) {
    saveForecasts(input: { runs: $runs }) { runs { id } position } }";

async fn prepared(kind: Kind) -> (migration::testing::TestDatabase, TestServer) {
    let (database, server) = started(kind).await;
    server.client.prepare(1).await;
    (database, server)
}

/// Saves hourly values from an hour of the day on; its position.
async fn save(client: &Client, hour: u32, values: Value) -> u64 {
    let run = json!({ "unit": "plant:1", "provider": "p", "resolution": "PT1H",
        "issuedAt": "2024-04-30T12:00:00Z", "start": format!("2024-05-01T{hour:02}:00:00Z"), "values": values });
    let saved = client.data(SAVE, json!({ "runs": [run] })).await;
    number(&saved["saveForecasts"]["position"])
}

fn number(position: &Value) -> u64 {
    let (_, number) = position.as_str().unwrap().split_once('.').unwrap();
    number.parse().unwrap()
}

/// A curve as a client keeps it.
#[derive(Debug, Default, Clone, PartialEq)]
struct Kept(BTreeMap<String, f64>);

impl Kept {
    fn put(&mut self, points: &Value) {
        for point in points.as_array().unwrap() {
            let start = point["deliveryStart"].as_str().unwrap().to_owned();
            self.0.insert(start, point["mwh"].as_f64().unwrap());
        }
    }

    /// What an update makes of it. The first must be whole, the others not.
    fn update(&mut self, update: &Value, whole: bool) {
        assert_eq!(update["forecast"].is_object(), whole, "{update}");
        assert_eq!(update["changed"].is_null(), whole, "{update}");
        assert_eq!(update["removed"].is_null(), whole, "{update}");
        if whole {
            self.0.clear();
            self.put(&update["forecast"]["points"]);
            return;
        }
        self.put(&update["changed"]);
        for start in update["removed"].as_array().unwrap() {
            assert!(self.0.remove(start.as_str().unwrap()).is_some(), "{update}");
        }
    }

    async fn is_current(&self, client: &Client) {
        let mut now = Self::default();
        now.put(&client.data(CURVE, Value::Null).await["forecast"]["points"]);
        assert_eq!(*self, now);
    }
}

/// The next update, and how many changes had none.
async fn next(socket: &mut Socket) -> (Value, u64) {
    let payload = soon("an update", socket.next()).await.unwrap();
    assert_eq!(payload["errors"], Value::Null, "{payload}");
    let skipped = payload["extensions"]["skipped"].as_u64().unwrap_or(0);
    (payload["data"]["forecastLive"].clone(), skipped)
}

async fn differences_add_up_to_the_curve(kind: Kind) {
    let (_database, server) = prepared(kind).await;
    let client = &server.client;
    save(client, 0, json!([1, 2, 3])).await;
    let mut socket = client.subscribe(LIVE, json!({ "delta": "POINTS" })).await;
    let mut kept = Kept::default();
    kept.update(&next(&mut socket).await.0, true);
    for (i, (hour, values)) in [
        (1, json!([2.5])),
        (0, json!([1, 7])),
        (5, json!([6])),
        (2, json!([null, 4, 4.5, 5])),
        (0, json!([0, 0, 0, 0, 0, 0])),
    ]
    .into_iter()
    .enumerate()
    {
        let periods = values.as_array().unwrap().iter().filter(|v| !v.is_null());
        let written = periods.count();
        let position = save(client, hour, values).await;
        let (update, skipped) = next(&mut socket).await;
        assert_eq!((number(&update["position"]), skipped), (position, 0));
        // Nothing but what was written, though it has the same value.
        assert_eq!(update["changed"].as_array().unwrap().len(), written, "{i}");
        kept.update(&update, false);
        kept.is_current(client).await;
    }
    // What is outside is not told: the next update is of the next save inside.
    save(client, 6, json!([9])).await;
    let position = save(client, 5, json!([9])).await;
    let (update, _) = next(&mut socket).await;
    assert_eq!(number(&update["position"]), position);
    assert_eq!(
        update["changed"],
        json!([{ "deliveryStart": "2024-05-01T05:00:00Z", "mwh": 9.0 }])
    );
    server.stop().await;
}

async fn who_joins_begins_with_what_the_others_were_told(kind: Kind) {
    let (_database, server) = prepared(kind).await;
    let client = &server.client;
    save(client, 0, json!([10, 20, 30])).await;
    let variables = json!({ "delta": "POINTS", "minDelta": 2 });
    let mut first = client.subscribe(LIVE, variables.clone()).await;
    let mut kept = Kept::default();
    kept.update(&next(&mut first).await.0, true);
    save(client, 0, json!([11, 25, 30])).await;
    kept.update(&next(&mut first).await.0, false);
    let told = kept.clone();
    assert_eq!(
        told.0.values().copied().collect::<Vec<_>>(),
        [10.0, 25.0, 30.0]
    );
    // Not the curve as it is, which the first was not told: else a difference
    // to come would not fit both.
    let mut second = client.subscribe(LIVE, variables).await;
    let mut joined = Kept::default();
    joined.update(&next(&mut second).await.0, true);
    assert_eq!(joined, told);
    assert_eq!(client.metric("smartpulse_live_cohorts").await, 1.0);
    save(client, 0, json!([12, 26, 31])).await;
    for (socket, kept) in [(&mut first, &mut kept), (&mut second, &mut joined)] {
        kept.update(&next(socket).await.0, false);
        let values: Vec<f64> = kept.0.values().copied().collect();
        assert_eq!(values, [12.0, 25.0, 30.0]);
    }
    server.stop().await;
}

async fn what_has_no_value_any_more_is_told(kind: Kind) {
    let (database, server) = prepared(kind).await;
    let client = &server.client;
    save(client, 0, json!([1, 2])).await;
    let mut socket = client.subscribe(LIVE, json!({ "delta": "POINTS" })).await;
    let mut kept = Kept::default();
    kept.update(&next(&mut socket).await.0, true);
    run_sql(database.url(), "DELETE FROM forecast_curve;");
    let (update, _) = next(&mut socket).await;
    assert_eq!(
        (&update["changed"], &update["removed"]),
        (
            &json!([]),
            &json!(["2024-05-01T00:00:00Z", "2024-05-01T01:00:00Z"])
        )
    );
    kept.update(&update, false);
    assert_eq!(kept, Kept::default());
    save(client, 1, json!([5])).await;
    kept.update(&next(&mut socket).await.0, false);
    kept.is_current(client).await;
    server.stop().await;
}

async fn small_differences_are_not_told(kind: Kind) {
    let (_database, server) = prepared(kind).await;
    let client = &server.client;
    save(client, 0, json!([10, 20])).await;
    let mut deltas = client
        .subscribe(LIVE, json!({ "delta": "POINTS", "minDelta": 1 }))
        .await;
    let mut whole = client.subscribe(LIVE, json!({ "minDelta": 1 })).await;
    let mut kept = Kept::default();
    kept.update(&next(&mut deltas).await.0, true);
    next(&mut whole).await;
    // Each step is small, and measured from what was told, not from the last one.
    save(client, 0, json!([10.5, 20])).await;
    save(client, 0, json!([10.9, 20.25])).await;
    let position = save(client, 0, json!([11, 20.5])).await;
    let (update, skipped) = next(&mut deltas).await;
    assert_eq!((number(&update["position"]), skipped), (position, 2));
    assert_eq!(
        update["changed"],
        json!([{ "deliveryStart": "2024-05-01T00:00:00Z", "mwh": 11.0 }])
    );
    let (update, skipped) = next(&mut whole).await;
    assert_eq!((number(&update["position"]), skipped), (position, 2));
    assert_eq!(update["forecast"]["points"][1]["mwh"], 20.5);
    // A value that comes is told however small.
    save(client, 2, json!([0.1])).await;
    let (update, _) = next(&mut deltas).await;
    assert_eq!(update["changed"].as_array().unwrap().len(), 1);
    server.stop().await;
}

async fn a_rate_is_kept_and_the_last_state_comes(kind: Kind) {
    let (_database, server) = prepared(kind).await;
    let client = &server.client;
    let variables = json!({ "delta": "POINTS", "maxRate": 4 });
    let mut socket = client.subscribe(LIVE, variables).await;
    let mut kept = Kept::default();
    kept.update(&next(&mut socket).await.0, true);
    const SAVES: u64 = 60;
    let mut last = 0;
    for i in 0..SAVES {
        last = save(client, 0, json!([i])).await;
    }
    let (mut updates, mut untold) = (0, 0);
    loop {
        let (update, skipped) = next(&mut socket).await;
        updates += 1;
        untold += skipped;
        kept.update(&update, false);
        if number(&update["position"]) >= last {
            break;
        }
    }
    kept.is_current(client).await;
    // A state may include a change that is noticed only after it, and not counted.
    assert!(
        updates + untold <= SAVES,
        "{updates} updates, {untold} untold"
    );
    assert!(untold > updates, "{updates} updates, {untold} untold");
    server.stop().await;
}

async fn who_asks_for_a_position_begins_with_it(kind: Kind) {
    let (_database, server) = prepared(kind).await;
    let client = &server.client;
    save(client, 0, json!([1])).await;
    // What the cohort was told is old, and stays so for an hour.
    let variables = json!({ "maxRate": 0.0001 });
    let mut first = client.subscribe(LIVE, variables.clone()).await;
    next(&mut first).await;
    let run = json!({ "unit": "plant:1", "provider": "p", "resolution": "PT1H",
        "start": "2024-05-01T00:00:00Z", "values": [2] });
    let saved = client.data(SAVE, json!({ "runs": [run] })).await;
    let position = &saved["saveForecasts"]["position"];
    let first_value = async |extensions: Value| {
        let mut socket = client.try_connect(Value::Null).await.unwrap();
        let payload = json!({ "query": LIVE, "variables": variables, "extensions": extensions });
        socket
            .send(json!({ "type": "subscribe", "id": "1", "payload": payload }))
            .await
            .unwrap();
        next(&mut socket).await.0["forecast"]["points"][0]["mwh"].clone()
    };
    assert_eq!(first_value(json!({})).await, 1.0);
    assert_eq!(first_value(json!({ "minPosition": position })).await, 2.0);
    server.stop().await;
}

async fn what_cannot_be_is_refused(kind: Kind) {
    let (_database, server) = prepared(kind).await;
    for variables in [
        json!({ "minDelta": -1 }),
        json!({ "maxRate": 0 }),
        json!({ "maxRate": -4 }),
        json!({ "maxRate": 1001 }),
        json!({ "delta": "VALUES" }),
    ] {
        let mut socket = server.client.subscribe(LIVE, variables.clone()).await;
        let payload = soon("an error", socket.next()).await.unwrap();
        assert_eq!(code(&payload), "BAD_USER_INPUT", "{variables}");
    }
    server.stop().await;
}
