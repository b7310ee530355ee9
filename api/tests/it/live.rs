//! Subscriptions: what changes arrives, once, in order, and only to whom it
//! concerns.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake};
use std::time::Duration;

use domain::change::{self, Position};
use domain::database::Database;
use domain::forecast::{NewRun, Resolution, RunValues, SaveRequest};
use futures_util::StreamExt;
use sea_orm::{ConnectionTrait, Statement};
use serde_json::{Value, json};
use subscriptions::Span;
use subscriptions::change_log::{ChangeLog, ChangeLogSettings};
use subscriptions::forecast::{ForecastFilter, changed};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use time::macros::datetime;
use tokio::task::JoinSet;

use crate::client::{Client, Socket, code};
use crate::server::{Kind, TestServer, change_log_alone, on_both, run_sql, started};
use crate::wait::{eventually, soon};

on_both!(
    changes_are_filtered_by_what_they_are_of,
    changes_are_clipped_to_a_range,
    a_subscriber_goes_on_from_a_position,
    a_position_that_is_not_kept_has_expired,
    a_resync_ends_the_stream,
    plain_sql_is_seen,
    a_slow_subscriber_is_caught_up_from_the_log,
    an_empty_list_waits_for_nothing,
    a_filter_that_names_what_is_not_is_refused,
    a_curve_comes_at_once_and_after_each_change,
    a_curve_changes_only_with_its_series_and_range,
    the_last_state_of_a_burst_is_not_skipped,
    a_curve_lives_through_a_resync,
    a_curve_lives_through_reads_that_fail,
    leaving_leaves_nothing_behind,
);

const CHANGED: &str = "subscription($units: [UnitKey!], $providers: [String!], $resolutions: [Resolution!],
        $from: DateTime, $to: DateTime, $after: Position) {
    forecastChanged(units: $units, providers: $providers, resolutions: $resolutions, from: $from, to: $to, after: $after) {
        position operation changedAt unit { key } provider { key } resolution from to
        run { id issuedAt } points { deliveryStart mwh issuedAt run { id } } } }";
const LIVE: &str = "subscription($unit: UnitKey!, $provider: String!) {
    forecastLive(unit: $unit, provider: $provider, resolution: PT1H,
            from: \"2024-05-01T00:00:00Z\", to: \"2024-05-01T06:00:00Z\") {
        position forecast { from to values position unit { key } } } }";
const SAVE: &str = "mutation($runs: [ForecastRunInput!]!) {
    saveForecasts(input: { runs: $runs }) { runs { id } position } }";

fn run(unit: &str, provider: &str, resolution: &str, start: &str, values: Value) -> Value {
    json!({ "unit": unit, "provider": provider, "resolution": resolution,
            "issuedAt": "2024-04-30T12:00:00Z", "start": start, "values": values })
}

/// Saves one run; its payload.
async fn save(client: &Client, run: Value) -> Value {
    let mut saved = client.data(SAVE, json!({ "runs": [run] })).await;
    saved["saveForecasts"].take()
}

fn number(position: &Value) -> u64 {
    let position: Position = position.as_str().unwrap().parse().unwrap();
    position.number
}

/// A server with `plant:1` to `plant:3` and providers `p` and `q`.
async fn prepared(kind: Kind) -> (migration::testing::TestDatabase, TestServer) {
    let (database, server) = started(kind).await;
    server.client.prepare(3).await;
    server
        .client
        .data(
            "mutation { upsertProviders(input: { providers: [{ key: \"q\" }] }) { position } }",
            Value::Null,
        )
        .await;
    (database, server)
}

async fn subscribers(server: &TestServer, count: u32) {
    eventually("subscribers have joined", async || {
        let operations = server.client.metric("smartpulse_live_operations").await;
        (operations == f64::from(count)).then_some(())
    })
    .await;
}

/// The next change; it must come.
async fn next_change(socket: &mut Socket) -> Value {
    soon("a change", socket.data()).await["forecastChanged"].take()
}

/// The next state of a curve; it must come.
async fn next_state(socket: &mut Socket) -> Value {
    soon("a state", socket.data()).await["forecastLive"].take()
}

/// Positions of the forecast changes after `after`, as they stand in the log.
async fn logged(db: &Database, after: u64) -> Vec<u64> {
    let rows = db
        .reader()
        .query_all_raw(Statement::from_string(
            db.backend(),
            format!("SELECT position FROM change WHERE entity = 'FORECAST' AND position > {after} ORDER BY position"),
        ))
        .await
        .unwrap();
    rows.iter()
        .map(|row| {
            let position: i64 = row.try_get("", "position").unwrap();
            position.try_into().unwrap()
        })
        .collect()
}

async fn changes_are_filtered_by_what_they_are_of(kind: Kind) {
    let (_database, server) = prepared(kind).await;
    let client = &server.client;
    let after = json!(server.log.applied().to_string());
    let written = [
        ("plant:1", "p", "PT1H"),
        ("plant:1", "q", "PT1H"),
        ("plant:2", "p", "PT15M"),
        ("plant:2", "q", "PT30M"),
        ("plant:3", "p", "PT1H"),
    ];
    let filters = [
        (json!({}), vec![0, 1, 2, 3, 4]),
        (
            json!({ "units": null, "providers": null, "resolutions": null }),
            vec![0, 1, 2, 3, 4],
        ),
        (
            json!({ "units": ["plant:1", "plant:3", "plant:1"] }),
            vec![0, 1, 4],
        ),
        (json!({ "providers": ["q"] }), vec![1, 3]),
        (json!({ "resolutions": ["PT15M", "PT30M"] }), vec![2, 3]),
        (
            json!({ "units": ["plant:1", "plant:2"], "providers": ["p"], "resolutions": ["PT1H"] }),
            vec![0],
        ),
        (json!({ "units": [] }), vec![]),
        (json!({ "providers": [] }), vec![]),
        (json!({ "resolutions": [] }), vec![]),
    ];
    // Live, and from the log: the same.
    let mut sockets = Vec::new();
    for (filter, _) in &filters {
        sockets.push(client.subscribe(CHANGED, filter.clone()).await);
    }
    subscribers(&server, 9).await;
    let start = "2024-05-01T00:00:00Z";
    let mut expected = Vec::new();
    for (unit, provider, resolution) in written {
        let saved = save(client, run(unit, provider, resolution, start, json!([1.5]))).await;
        expected.push((saved["position"].clone(), saved["runs"][0]["id"].clone()));
    }
    // The last one goes to everybody who gets anything: a mark for the end.
    for ((filter, expect), live) in filters.iter().zip(sockets) {
        let mut filter = filter.clone();
        filter["after"] = after.clone();
        let replayed = client.subscribe(CHANGED, filter.clone()).await;
        for mut socket in [live, replayed] {
            for &i in expect {
                let change = next_change(&mut socket).await;
                let (unit, provider, resolution) = written[i];
                assert_eq!(change["position"], expected[i].0, "{filter}");
                assert_eq!(change["run"]["id"], expected[i].1, "{filter}");
                assert_eq!(change["unit"]["key"], unit);
                assert_eq!(change["provider"]["key"], provider);
                assert_eq!(change["resolution"], resolution);
                assert_eq!(change["operation"], "INSERT");
                assert_eq!(change["points"][0]["mwh"], 1.5);
                assert_eq!(change["points"][0]["run"]["id"], expected[i].1);
            }
            // Nothing more than that: the next message is the answer to what is asked now.
            socket
                .start("2", "{ __typename }", Value::Null)
                .await
                .unwrap();
            let answer = soon("an answer", socket.message()).await.unwrap();
            assert_eq!(answer["id"], "2", "{filter}: {answer}");
        }
    }
    server.stop().await;
}

async fn changes_are_clipped_to_a_range(kind: Kind) {
    let (_database, server) = prepared(kind).await;
    let client = &server.client;
    let range = json!({ "from": "2024-05-01T01:00:00Z", "to": "2024-05-01T03:00:00Z" });
    let mut socket = client.subscribe(CHANGED, range).await;
    let mut open = client
        .subscribe(CHANGED, json!({ "from": "2024-05-02T00:00:00Z" }))
        .await;
    subscribers(&server, 2).await;
    let write = async |start: &str, values: Value| {
        save(client, run("plant:1", "p", "PT1H", start, values)).await["position"].take()
    };
    // Before it, after it, and about it.
    write("2024-05-01T00:00:00Z", json!([1.0])).await;
    write("2024-05-01T03:00:00Z", json!([1.0])).await;
    let whole = write("2024-05-01T00:00:00Z", json!([0.0, 1.0, 2.0, 3.0])).await;
    let change = next_change(&mut socket).await;
    assert_eq!(change["position"], whole);
    assert_eq!(
        [&change["from"], &change["to"]],
        ["2024-05-01T01:00:00Z", "2024-05-01T03:00:00Z"]
    );
    let points: Vec<_> = change["points"]
        .as_array()
        .unwrap()
        .iter()
        .map(|point| {
            (
                point["deliveryStart"].as_str().unwrap(),
                point["mwh"].as_f64().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        points,
        [("2024-05-01T01:00:00Z", 1.0), ("2024-05-01T02:00:00Z", 2.0)]
    );
    let inside = write("2024-05-01T02:00:00Z", json!([5.0])).await;
    let change = next_change(&mut socket).await;
    assert_eq!(change["position"], inside);
    assert_eq!(
        [&change["from"], &change["to"]],
        ["2024-05-01T02:00:00Z", "2024-05-01T03:00:00Z"]
    );
    // A range with one end, over the edge of a day.
    let later = write("2024-05-01T23:00:00Z", json!([6.0, 7.0])).await;
    let change = next_change(&mut open).await;
    assert_eq!(change["position"], later);
    assert_eq!(change["points"].as_array().unwrap().len(), 1);
    assert_eq!(change["points"][0]["mwh"], 7.0);

    let mut wrong = client
        .subscribe(
            CHANGED,
            json!({ "from": "2024-05-01T01:00:00Z", "to": "2024-05-01T01:00:00Z" }),
        )
        .await;
    let payload = soon("an error", wrong.next()).await.unwrap();
    assert_eq!(code(&payload), "BAD_USER_INPUT");
    server.stop().await;
}

/// What a subscriber that came with `after` has seen by `end`.
async fn collect(client: Client, after: Value, end: u64) -> Vec<u64> {
    let mut socket = client.subscribe(CHANGED, json!({ "after": after })).await;
    let mut seen = Vec::new();
    while seen.last() != Some(&end) {
        seen.push(number(&next_change(&mut socket).await["position"]));
    }
    seen
}

async fn a_subscriber_goes_on_from_a_position(kind: Kind) {
    const SAVES: u64 = 60;
    let (_database, server) = prepared(kind).await;
    let client = &server.client;
    let start = server.log.applied();
    let end = start.number + SAVES;
    let mut subscribers = JoinSet::new();
    for i in 0..SAVES {
        // They come while the writes go on, from the start or from where it stands.
        if i % 10 == 0 {
            let after = if i % 20 == 0 {
                start
            } else {
                server.log.applied()
            };
            let client = client.clone();
            subscribers.spawn(async move {
                let after_text = json!(after.to_string());
                (after.number, collect(client, after_text, end).await)
            });
        }
        let unit = format!("plant:{}", 1 + i % 3);
        save(
            client,
            run(&unit, "p", "PT1H", "2024-05-01T00:00:00Z", json!([i])),
        )
        .await;
    }
    for (after, seen) in subscribers.join_all().await {
        assert_eq!(seen, logged(server.log.database(), after).await);
        assert_eq!(seen, (after + 1..=end).collect::<Vec<_>>());
    }
    // From the head there is nothing to replay, only what comes.
    let head = server.log.applied().to_string();
    let mut socket = client.subscribe(CHANGED, json!({ "after": head })).await;
    let saved = save(
        client,
        run("plant:1", "p", "PT1H", "2024-05-01T00:00:00Z", json!([0])),
    )
    .await;
    assert_eq!(
        next_change(&mut socket).await["position"],
        saved["position"]
    );
    server.stop().await;
}

async fn a_position_that_is_not_kept_has_expired(kind: Kind) {
    let (database, server) = prepared(kind).await;
    let client = &server.client;
    let mut positions = Vec::new();
    for i in 0..6 {
        let saved = save(
            client,
            run("plant:1", "p", "PT1H", "2024-05-01T00:00:00Z", json!([i])),
        )
        .await;
        let position: Position = saved["position"].as_str().unwrap().parse().unwrap();
        positions.push(position);
    }
    let head = server.log.applied();
    let mut socket = client
        .subscribe(CHANGED, json!({ "after": positions[2].to_string() }))
        .await;
    let fourth = next_change(&mut socket).await;
    let format = &time::format_description::well_known::Rfc3339;
    let before = OffsetDateTime::parse(fourth["changedAt"].as_str().unwrap(), format).unwrap();
    let db = server.log.database();
    while change::prune(db.writer(), before).await.unwrap() == change::PAGE {}
    let floor = logged(db, 0).await[0];
    // Another process remembers nothing of what was pruned.
    server.stop().await;
    let server = TestServer::start(database.url()).await;
    let (client, db) = (&server.client, server.log.database());

    let epoch = head.epoch.0 ^ 1;
    let foreign = format!("{epoch:08x}.{}", head.number);
    let below = format!("{}.{}", head.epoch, floor - 2);
    let beyond = format!("{}.{}", head.epoch, head.number + 1);
    for after in [foreign, below, beyond] {
        let mut socket = client.subscribe(CHANGED, json!({ "after": after })).await;
        let payload = soon("an error", socket.next()).await.unwrap();
        assert_eq!(code(&payload), "POSITION_EXPIRED", "{after}");
        assert_eq!(
            payload["errors"][0]["extensions"]["position"],
            json!(head.to_string())
        );
    }
    // The lowest that can still be gone on from, and the head when nothing is kept.
    let lowest = format!("{}.{}", head.epoch, floor - 1);
    assert_eq!(
        collect(client.clone(), json!(lowest), head.number).await,
        (floor..=head.number).collect::<Vec<_>>()
    );
    let future = OffsetDateTime::now_utc() + time::Duration::days(1);
    while change::prune(db.writer(), future).await.unwrap() > 0 {}
    let mut socket = client
        .subscribe(CHANGED, json!({ "after": head.to_string() }))
        .await;
    let saved = save(
        client,
        run("plant:1", "p", "PT1H", "2024-05-01T00:00:00Z", json!([9])),
    )
    .await;
    assert_eq!(
        next_change(&mut socket).await["position"],
        saved["position"]
    );
    for bad in ["", "x", "1.2", "00000000.-1"] {
        let mut socket = client.subscribe(CHANGED, json!({ "after": bad })).await;
        let payload = soon("an error", socket.next()).await.unwrap();
        assert_eq!(code(&payload), "BAD_USER_INPUT", "{bad}");
    }
    server.stop().await;
}

/// More than the log can name: `TRUNCATE` where there is one.
fn resync(kind: Kind, url: &str) {
    let sql = match kind {
        Kind::Sqlite => "DELETE FROM forecast_curve; UPDATE series SET level = level;",
        Kind::Postgres => "TRUNCATE forecast_curve;",
    };
    run_sql(url, sql);
}

async fn a_resync_ends_the_stream(kind: Kind) {
    let (database, server) = prepared(kind).await;
    let client = &server.client;
    let before = save(
        client,
        run("plant:1", "p", "PT1H", "2024-05-01T00:00:00Z", json!([1])),
    )
    .await;
    let mut live = client
        .subscribe(CHANGED, json!({ "units": ["plant:1"] }))
        .await;
    subscribers(&server, 1).await;
    resync(kind, database.url());
    let mut replayed = client
        .subscribe(CHANGED, json!({ "after": before["position"] }))
        .await;
    let mut positions = Vec::new();
    for socket in [&mut live, &mut replayed] {
        let payload = loop {
            let payload = soon("the resync", socket.next()).await.unwrap();
            if payload["errors"].is_array() {
                break payload;
            }
            // SQLite logs each deleted row.
            assert_eq!(payload["data"]["forecastChanged"]["operation"], "DELETE");
        };
        assert_eq!(code(&payload), "RESYNC_REQUIRED");
        positions.push(payload["errors"][0]["extensions"]["position"].clone());
    }
    // Where it says to go on from, it goes on.
    for position in positions {
        let mut socket = client
            .subscribe(CHANGED, json!({ "after": position }))
            .await;
        let saved = save(
            client,
            run("plant:1", "p", "PT1H", "2024-05-01T00:00:00Z", json!([2])),
        )
        .await;
        loop {
            let change = next_change(&mut socket).await;
            // SQLite names what plain SQL did to curves after all else it did.
            assert!(change["operation"] == "INSERT" || kind == Kind::Sqlite);
            if change["position"] == saved["position"] {
                break;
            }
        }
    }
    // And what is read is what is there.
    let read = "{ forecast(unit: \"plant:1\", provider: \"p\", resolution: PT1H,
        from: \"2024-05-01T00:00:00Z\", to: \"2024-05-01T01:00:00Z\") { values } }";
    let data = client.data(read, Value::Null).await;
    assert_eq!(data["forecast"]["values"], json!([2.0]));
    server.stop().await;
}

async fn plain_sql_is_seen(kind: Kind) {
    let (database, server) = prepared(kind).await;
    let client = &server.client;
    save(
        client,
        run(
            "plant:1",
            "p",
            "PT1H",
            "2024-05-01T00:00:00Z",
            json!([1.0, 2.0]),
        ),
    )
    .await;
    let read = "{ forecast(unit: \"plant:1\", provider: \"p\", resolution: PT1H,
        from: \"2024-05-01T00:00:00Z\", to: \"2024-05-01T04:00:00Z\") { values } }";
    client.data(read, Value::Null).await;
    let mut socket = client
        .subscribe(CHANGED, json!({ "units": ["plant:1"] }))
        .await;
    subscribers(&server, 1).await;

    let id = match kind {
        Kind::Sqlite => "last_insert_rowid()",
        Kind::Postgres => "lastval()",
    };
    let insert = format!(
        "BEGIN;
         INSERT INTO forecast_run (provider_id, issued_at) VALUES (1, '2024-04-30T13:00:00.000000Z');
         INSERT INTO forecast_curve SELECT 1, '2024-05-01', '2024-04-30T13:00:00.000000Z', {id}, 1, '[7, null, 8.5]';
         COMMIT;"
    );
    let mine = "run_id = (SELECT max(id) FROM forecast_run)";
    let update = format!("UPDATE forecast_curve SET \"values\" = '[9, 10]' WHERE {mine};");
    let delete = format!("DELETE FROM forecast_curve WHERE {mine};");
    let mut last = 0;
    for (sql, operation, points, to, values) in [
        (
            insert,
            "INSERT",
            json!([7.0, 8.5]),
            "2024-05-01T04:00:00Z",
            json!([1.0, 7.0, null, 8.5]),
        ),
        (
            update,
            "UPDATE",
            json!([9.0, 10.0]),
            "2024-05-01T04:00:00Z",
            json!([1.0, 9.0, 10.0, null]),
        ),
        (
            delete,
            "DELETE",
            json!([]),
            "2024-05-01T03:00:00Z",
            json!([1.0, 2.0, null, null]),
        ),
    ] {
        run_sql(database.url(), &sql);
        let change = next_change(&mut socket).await;
        assert_eq!(change["operation"], operation);
        let mwh: Vec<&Value> = change["points"]
            .as_array()
            .unwrap()
            .iter()
            .map(|point| &point["mwh"])
            .collect();
        assert_eq!(json!(mwh), points, "{operation}");
        assert_eq!(
            [&change["from"], &change["to"]],
            ["2024-05-01T01:00:00Z", to],
            "{operation}"
        );
        assert_eq!(
            change["run"]["issuedAt"], "2024-04-30T13:00:00Z",
            "{change}"
        );
        assert!(number(&change["position"]) > last);
        last = number(&change["position"]);
        // Whoever has the change can read it: memory does not hold it back.
        let data = client.data(read, Value::Null).await;
        assert_eq!(data["forecast"]["values"], values, "{operation}");
    }
    // Units, too.
    run_sql(
        database.url(),
        "UPDATE unit SET name = 'By hand' WHERE unit_number = 1;",
    );
    eventually("the unit has its new name", async || {
        let data = client
            .data("{ unit(key: \"plant:1\") { name } }", Value::Null)
            .await;
        (data["unit"]["name"] == "By hand").then_some(())
    })
    .await;
    server.stop().await;
}

/// While the curve cannot be read its last state stands; then it goes on.
async fn a_curve_lives_through_reads_that_fail(kind: Kind) {
    let (_database, server) = prepared(kind).await;
    let client = &server.client;
    client.save_hour(1).await;
    let variables = json!({ "unit": "plant:1", "provider": "p" });
    let mut socket = client.subscribe(LIVE, variables.clone()).await;
    let first = soon("the first state", socket.next()).await.unwrap();
    let values = |payload: &Value| payload["data"]["forecastLive"]["forecast"]["values"][0].clone();
    assert_eq!(values(&first), json!(1.0), "{first}");
    let db = server.log.database();
    let misses = || {
        let misses = &server.log.forecasts().metrics().misses;
        misses.get_or_create(&[("cache", "latest")]).get()
    };
    // In one transaction: whoever reads after the change finds no table.
    let txn = db.begin().await.unwrap();
    let write = "UPDATE forecast_curve SET \"values\" = '[2]'";
    txn.execute_unprepared(write).await.unwrap();
    let away = "ALTER TABLE forecast_curve RENAME TO moved_away";
    txn.execute_unprepared(away).await.unwrap();
    let before = misses();
    let receipt = change::commit(txn).await.unwrap();
    server.log.acknowledge(receipt).await.unwrap();
    // It was tried, and is tried again: the first attempt has failed.
    eventually("the read is tried again", async || {
        (misses() >= before + 2).then_some(())
    })
    .await;
    let back = "ALTER TABLE moved_away RENAME TO forecast_curve";
    db.writer().execute_unprepared(back).await.unwrap();
    let next = soon("the next state", socket.next()).await.unwrap();
    assert_eq!(next["errors"], Value::Null, "{next}");
    assert_eq!(values(&next), json!(2.0), "{next}");
    server.stop().await;
}

async fn write(log: &ChangeLog, value: f64) -> u64 {
    let request = SaveRequest {
        runs: vec![NewRun {
            unit: "plant:1".parse().unwrap(),
            provider: "p".parse().unwrap(),
            resolution: Resolution::Hour,
            issued_at: Some(datetime!(2024-04-30 12:00 UTC)),
            values: RunValues::From {
                start: datetime!(2024-05-01 00:00 UTC),
                values: vec![Some(value)],
            },
        }],
        idempotency_key: None,
    };
    let now = OffsetDateTime::now_utc();
    let saved = domain::forecast::save(log.database(), "test", &request, now)
        .await
        .unwrap();
    log.acknowledge(saved.receipt).await.unwrap().number
}

async fn a_slow_subscriber_is_caught_up_from_the_log(kind: Kind) {
    let (database, server) = prepared(kind).await;
    server.stop().await;
    // Subscribers' queues hold but two events.
    let settings = ChangeLogSettings {
        busy_interval: Duration::from_millis(50),
        idle_interval: Duration::from_secs(1),
        scan_interval: Duration::from_secs(60),
        acknowledge_timeout: Duration::from_secs(30),
    };
    let (log, stop, mut workers) = change_log_alone(database.url(), 2, settings).await;
    let mut slow = Box::pin(changed(&log, ForecastFilter::default(), Span::Live));
    let mut expect = 0.0;
    // Cut off more than once: while it sleeps, and again after it has caught up.
    for round in 0..3u32 {
        let first = write(&log, expect).await;
        let event = soon("an event", slow.next()).await.unwrap().unwrap();
        assert_eq!(
            (event.position.number, event.points[0].mwh),
            (first, expect)
        );
        expect += 1.0;
        let mut positions = Vec::new();
        for i in 0..40 {
            positions.push(write(&log, expect + f64::from(i)).await);
        }
        assert_eq!(log.hub().metrics().lagged.get(), u64::from(round) + 1);
        for position in positions {
            let event = soon("an event", slow.next()).await.unwrap().unwrap();
            assert_eq!(
                (event.position.number, event.points[0].mwh),
                (position, expect)
            );
            expect += 1.0;
        }
    }
    drop(slow);
    assert_eq!(log.hub().metrics().subscribers.get(), 0);
    assert_eq!(log.hub().metrics().topics.get(), 0);
    stop.cancel();
    while let Some(worker) = workers.join_next().await {
        worker.unwrap();
    }
}

/// Whether a task has asked to be run again.
#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A filter that matches nothing waits; it does not look again and again.
async fn an_empty_list_waits_for_nothing(kind: Kind) {
    let (_database, server) = prepared(kind).await;
    let filter = ForecastFilter {
        units: Some(Vec::new()),
        ..Default::default()
    };
    let mut nothing = Box::pin(changed(&server.log, filter, Span::Live));
    let woken = Arc::new(Woken::default());
    let waker = Arc::clone(&woken).into();
    // A stream that does not wait is stopped by tokio after some rounds, and woken.
    let polled = std::future::poll_fn(|_| {
        let mut context = Context::from_waker(&waker);
        Poll::Ready(nothing.poll_next_unpin(&mut context).is_ready())
    });
    let ready = soon("a poll of nothing", polled).await;
    assert!(!ready);
    save(
        &server.client,
        run("plant:1", "p", "PT1H", "2024-05-01T00:00:00Z", json!([1])),
    )
    .await;
    assert!(!woken.0.load(Ordering::SeqCst), "woken for nothing");
    drop(nothing);
    server.stop().await;
}

async fn a_filter_that_names_what_is_not_is_refused(kind: Kind) {
    let (_database, server) = prepared(kind).await;
    let client = &server.client;
    for (variables, path) in [
        (json!({ "units": ["plant:1", "plant:9"] }), "units"),
        (json!({ "providers": ["p", "none"] }), "providers"),
        (json!({ "providers": ["No Key"] }), "providers"),
    ] {
        let mut socket = client.subscribe(CHANGED, variables.clone()).await;
        let payload = soon("an error", socket.next()).await.unwrap();
        assert_eq!(code(&payload), "NOT_FOUND", "{variables}");
        let violations = &payload["errors"][0]["extensions"]["violations"];
        assert_eq!(violations[0]["path"], path, "{payload}");
    }
    for variables in [
        json!({ "unit": "plant:9", "provider": "p" }),
        json!({ "unit": "plant:1", "provider": "none" }),
        json!({ "unit": "plant:1", "provider": "No Key" }),
    ] {
        let mut socket = client.subscribe(LIVE, variables.clone()).await;
        let payload = soon("an error", socket.next()).await.unwrap();
        assert_eq!(code(&payload), "NOT_FOUND", "{variables}");
    }
    subscribers(&server, 0).await;
    server.stop().await;
}

/// `plant:1` by `p`, in the hours that [`LIVE`] is about.
fn first_hour(value: f64, issued_minute: u32) -> Value {
    let mut run = run(
        "plant:1",
        "p",
        "PT1H",
        "2024-05-01T00:00:00Z",
        json!([value]),
    );
    run["issuedAt"] = json!(format!(
        "2024-04-30T{:02}:{:02}:00Z",
        issued_minute / 60,
        issued_minute % 60
    ));
    run
}

async fn a_curve_comes_at_once_and_after_each_change(kind: Kind) {
    let (_database, server) = prepared(kind).await;
    let client = &server.client;
    let variables = json!({ "unit": "plant:1", "provider": "p" });
    // Before anybody has written it, it is empty; the first write is seen.
    let mut socket = client.subscribe(LIVE, variables.clone()).await;
    let first = next_state(&mut socket).await;
    assert_eq!(
        first["forecast"]["values"],
        json!([null, null, null, null, null, null])
    );
    assert_eq!(first["forecast"]["unit"]["key"], "plant:1");
    assert_eq!(first["position"], first["forecast"]["position"]);
    let mut second = client.subscribe(LIVE, variables.clone()).await;
    next_state(&mut second).await;
    for i in 0..50u32 {
        let value = f64::from(i);
        let saved = save(client, first_hour(value, i)).await;
        for socket in [&mut socket, &mut second] {
            let state = next_state(socket).await;
            assert_eq!(state["forecast"]["values"][0], json!(value), "{state}");
            assert!(number(&state["position"]) >= number(&saved["position"]));
        }
    }
    // An older run that arrives late changes the log, not what is seen.
    let mut late = client.subscribe(LIVE, variables).await;
    assert_eq!(
        next_state(&mut late).await["forecast"]["values"][0],
        json!(49.0)
    );
    save(client, first_hour(1000.0, 0)).await;
    assert_eq!(
        next_state(&mut late).await["forecast"]["values"][0],
        json!(49.0)
    );
    server.stop().await;
}

async fn a_curve_changes_only_with_its_series_and_range(kind: Kind) {
    let (_database, server) = prepared(kind).await;
    let client = &server.client;
    let mut socket = client
        .subscribe(LIVE, json!({ "unit": "plant:1", "provider": "p" }))
        .await;
    next_state(&mut socket).await;
    for elsewhere in [
        run("plant:2", "p", "PT1H", "2024-05-01T00:00:00Z", json!([1])),
        run("plant:1", "q", "PT1H", "2024-05-01T00:00:00Z", json!([1])),
        run("plant:1", "p", "PT15M", "2024-05-01T00:00:00Z", json!([1])),
        run("plant:1", "p", "PT1H", "2024-05-01T06:00:00Z", json!([1])),
        run(
            "plant:1",
            "p",
            "PT1H",
            "2024-04-30T20:00:00Z",
            json!([1, 2, 3, 4]),
        ),
    ] {
        save(client, elsewhere).await;
    }
    // The next state is that of the first change that concerns it.
    save(
        client,
        run(
            "plant:1",
            "p",
            "PT1H",
            "2024-05-01T05:00:00Z",
            json!([5, 6]),
        ),
    )
    .await;
    let state = next_state(&mut socket).await;
    assert_eq!(
        state["forecast"]["values"],
        json!([null, null, null, null, null, 5.0])
    );
    server.stop().await;
}

async fn the_last_state_of_a_burst_is_not_skipped(kind: Kind) {
    const WRITERS: u32 = 8;
    const SAVES: u32 = 20;
    let (_database, server) = prepared(kind).await;
    let mut viewers = JoinSet::new();
    for _ in 0..4 {
        let client = server.client.clone();
        viewers.spawn(async move {
            let mut socket = client
                .subscribe(LIVE, json!({ "unit": "plant:1", "provider": "p" }))
                .await;
            let (mut last, mut at) = (-1.0, 0);
            // Until the one that was issued last.
            while last < f64::from(WRITERS * SAVES - 1) {
                let state = next_state(&mut socket).await;
                let value = state["forecast"]["values"][0].as_f64().unwrap_or(-1.0);
                assert!(value >= last, "{value} after {last}");
                assert!(number(&state["position"]) >= at, "{state}");
                (last, at) = (value, number(&state["position"]));
            }
        });
    }
    subscribers(&server, 4).await;
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let client = server.client.clone();
        writers.spawn(async move {
            for i in 0..SAVES {
                let issue = i * WRITERS + writer;
                save(&client, first_hour(f64::from(issue), issue)).await;
            }
        });
    }
    writers.join_all().await;
    viewers.join_all().await;
    server.stop().await;
}

async fn a_curve_lives_through_a_resync(kind: Kind) {
    let (database, server) = prepared(kind).await;
    let client = &server.client;
    save(client, first_hour(4.0, 0)).await;
    let mut socket = client
        .subscribe(LIVE, json!({ "unit": "plant:1", "provider": "p" }))
        .await;
    assert_eq!(
        next_state(&mut socket).await["forecast"]["values"][0],
        json!(4.0)
    );
    resync(kind, database.url());
    loop {
        let state = next_state(&mut socket).await;
        if state["forecast"]["values"][0].is_null() {
            break;
        }
    }
    save(client, first_hour(5.0, 0)).await;
    loop {
        let state = next_state(&mut socket).await;
        if state["forecast"]["values"][0] == json!(5.0) {
            break;
        }
    }
    server.stop().await;
}

async fn leaving_leaves_nothing_behind(kind: Kind) {
    let (_database, server) = prepared(kind).await;
    let client = &server.client;
    // Those who ask for the same are one subscriber of the hub.
    let hub = async |operations: f64, cohorts: f64, topics: f64| {
        eventually("who has left is forgotten", async || {
            let now = (
                client.metric("smartpulse_live_operations").await,
                client.metric("smartpulse_live_cohorts").await,
                client.metric("smartpulse_hub_subscribers").await,
                client.metric("smartpulse_hub_topics").await,
            );
            (now == (operations, cohorts, cohorts, topics)).then_some(())
        })
        .await;
    };
    hub(0.0, 0.0, 0.0).await;
    let mut first = client.subscribe(CHANGED, json!({})).await;
    let units = json!({ "units": ["plant:1", "plant:2"] });
    first.start("2", CHANGED, units.clone()).await.unwrap();
    let curve = json!({ "unit": "plant:1", "provider": "p" });
    first.start("3", LIVE, curve.clone()).await.unwrap();
    let mut second = client.subscribe(CHANGED, units).await;
    second.start("2", LIVE, curve).await.unwrap();
    hub(5.0, 3.0, 3.0).await;
    // By saying so, one after the other.
    first.unsubscribe("1").await;
    hub(4.0, 2.0, 2.0).await;
    first.unsubscribe("2").await;
    hub(3.0, 2.0, 2.0).await;
    // By closing the connection, without a word.
    drop(second);
    hub(1.0, 1.0, 1.0).await;
    drop(first);
    hub(0.0, 0.0, 0.0).await;
    // A query leaves nothing, either, nor does a subscription that failed.
    let mut third = client
        .subscribe(CHANGED, json!({ "after": "00000000.1" }))
        .await;
    let payload = soon("an error", third.next()).await.unwrap();
    assert_eq!(code(&payload), "POSITION_EXPIRED");
    hub(0.0, 0.0, 0.0).await;
    server.stop().await;
}

/// Else a thousand that come back at once would seem to take all memory.
#[tokio::test]
async fn a_change_counts_once_however_many_have_it() {
    let (_database, server) = started(Kind::Sqlite).await;
    let client = &server.client;
    let after = client.prepare(1).await;
    let others =
        "subscription($after: Position) { forecastChanged(after: $after) { points { mwh } } }";
    let mut held = Vec::new();
    for hour in 0..2 {
        client.save_hour(hour).await;
        for query in [CHANGED, others] {
            let mut socket = client.subscribe(query, json!({ "after": after })).await;
            for _ in 0..=hour {
                socket.data().await;
            }
        }
        held.push(
            eventually("only changes are held", async || {
                let operations = client.metric("smartpulse_live_operations").await;
                let held = client.metric("smartpulse_live_held_bytes").await;
                (operations == 0.0).then_some(held)
            })
            .await,
        );
    }
    // A value each.
    assert_eq!(held, [528.0, 1056.0]);
    server.stop().await;
}

/// A curve that is followed is kept for as long as it is followed.
#[tokio::test]
async fn curves_that_are_followed_have_a_limit_together() {
    let database = Kind::Sqlite.database().await;
    let server = TestServer::start_with(database.url(), &["--live-memory-mib=2"]).await;
    let client = &server.client;
    client.prepare(1).await;
    let query = "subscription($to: DateTime!) { forecastLive(unit: \"plant:1\", provider: \"p\", \
                     resolution: PT15M, from: \"2024-01-01T00:00:00Z\", to: $to) { position } }";
    let year = |days| {
        let to = datetime!(2025-01-01 00:00 UTC) + time::Duration::days(days);
        json!({ "to": to.format(&Rfc3339).unwrap() })
    };
    let mut socket = client.subscribe(query, year(0)).await;
    socket.data().await;
    socket.start("2", query, year(1)).await.unwrap();
    socket.data().await;
    // A third curve of a year would be too much…
    socket.start("3", query, year(2)).await.unwrap();
    let refused = soon("an error", socket.next()).await.unwrap();
    assert_eq!(code(&refused), "RATE_LIMITED");
    let message = refused["errors"][0]["message"].as_str().unwrap();
    assert!(message.contains("shorter range"), "{message}");
    let ended = soon("the end", socket.message()).await.unwrap();
    assert_eq!(ended["type"], "complete", "{ended}");
    // …but not one that is followed already, nor one in place of another.
    socket.start("4", query, year(1)).await.unwrap();
    socket.data().await;
    let held = client.metric("smartpulse_live_held_bytes").await;
    assert!((700_000.0..1_000_000.0).contains(&held), "{held}");
    socket.unsubscribe("1").await;
    eventually("there is room again", async || {
        let held = client.metric("smartpulse_live_held_bytes").await;
        (held < 500_000.0).then_some(())
    })
    .await;
    socket.start("5", query, year(2)).await.unwrap();
    socket.data().await;
    drop(socket);
    eventually("nothing is held", async || {
        let held = client.metric("smartpulse_live_held_bytes").await;
        (held == 0.0).then_some(())
    })
    .await;
    server.stop().await;
}

/// Each holds what it has read of the past, and a client may come back with a
/// thousand.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_some_subscriptions_of_a_connection_catch_up_at_once() {
    const SUBSCRIPTIONS: usize = 48;
    const CHANGES: usize = 40;
    let (_database, server) = started(Kind::Sqlite).await;
    let client = &server.client;
    let after = client.prepare(1).await;
    for mwh in 0..CHANGES {
        client.save_hour(u32::try_from(mwh).unwrap()).await;
    }
    let mut socket = client.try_connect(Value::Null).await.unwrap();
    for n in 0..SUBSCRIPTIONS {
        let query =
            "subscription($after: Position) { forecastChanged(after: $after) { position } }";
        socket
            .start(&n.to_string(), query, json!({ "after": after }))
            .await
            .unwrap();
    }
    let mut got = [0; SUBSCRIPTIONS];
    let mut most = 0;
    while got.iter().any(|got| *got < CHANGES) {
        let message = soon("a change", socket.message()).await.unwrap();
        assert_eq!(message["type"], "next", "{message}");
        got[message["id"].as_str().unwrap().parse::<usize>().unwrap()] += 1;
        let under_way = got.iter().filter(|got| (1..CHANGES).contains(*got));
        most = most.max(under_way.count());
    }
    assert!((2..=16).contains(&most), "{most} at once");
    server.stop().await;
}
