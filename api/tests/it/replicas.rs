//! Two processes on one PostgreSQL.

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::client::{Client, SAVE_HOUR, code};
use crate::server::{Kind, Process};
use crate::wait::soon;

const CHANGED: &str =
    "subscription($after: Position) { forecastChanged(after: $after) { position } }";
const VALUE: &str = "{ forecast(unit: \"plant:1\", provider: \"p\", resolution: PT1H,
    from: \"2024-05-01T00:00:00Z\", to: \"2024-05-01T01:00:00Z\") { values } }";

fn number(position: &str) -> u64 {
    position.split_once('.').unwrap().1.parse().unwrap()
}

/// Follows changes with whatever replica answers, until it has seen `end`.
async fn follow(
    replicas: [Client; 2],
    start: String,
    mut end: watch::Receiver<Option<u64>>,
) -> Vec<u64> {
    let (mut last, mut seen) = (start, Vec::new());
    for client in replicas.iter().cycle() {
        let Ok(mut socket) = client
            .try_subscribe(CHANGED, json!({ "after": last }))
            .await
        else {
            continue;
        };
        loop {
            let reached = number(&last);
            let payload = tokio::select! {
                payload = soon("a change", socket.next()) => payload,
                done = end.wait_for(|end| end.is_some_and(|end| reached >= end)) => {
                    drop(done);
                    return seen;
                }
            };
            // The line broke: to the other replica.
            let Ok(payload) = payload else { break };
            assert_eq!(payload["errors"], Value::Null, "{payload}");
            last = payload["extensions"]["position"]
                .as_str()
                .unwrap()
                .to_owned();
            seen.push(number(&last));
        }
    }
    unreachable!("the replicas are tried for ever");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_a_killed_replica_go_on_with_the_other() {
    let database = Kind::Postgres.database().await;
    let (first, second) = (
        Process::start(database.url()),
        Process::start(database.url()),
    );
    let start = first.client.prepare(1).await.as_str().unwrap().to_owned();
    let (finished, end) = watch::channel(None);
    let mut followers = JoinSet::new();
    for i in 0..6 {
        let mut replicas = [first.client.clone(), second.client.clone()];
        replicas.rotate_left(i % 2);
        followers.spawn(follow(replicas, start.clone(), end.clone()));
    }
    // Under load from both, until one is gone; what it was just saving may be
    // committed or not.
    let mut writer = JoinSet::new();
    let client = first.client.clone();
    writer.spawn(async move {
        let mut mwh = 0;
        while client
            .try_graphql(SAVE_HOUR, json!({ "mwh": [mwh] }))
            .await
            .is_ok()
        {
            mwh += 1;
        }
        mwh
    });
    for mwh in 0..60 {
        second.client.save_hour(mwh).await;
    }
    first.kill();
    assert!(writer.join_next().await.unwrap().unwrap() > 0);
    let mut last = 0;
    for mwh in 0..30 {
        last = number(&second.client.save_hour(mwh).await);
    }
    finished.send_replace(Some(last));
    for seen in followers.join_all().await {
        let expect: Vec<u64> = (number(&start) + 1..=last).collect();
        assert_eq!(seen, expect);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_with_a_position_is_never_older_on_another_replica() {
    let database = Kind::Postgres.database().await;
    let (first, second) = (
        Process::start(database.url()),
        Process::start(database.url()),
    );
    first.client.prepare(1).await;
    for mwh in 0..20u32 {
        let position = first.client.save_hour(mwh).await;
        let http = second.client.http().post(second.client.url("/graphql"));
        // By header and by extension, in turn.
        let request = if mwh % 2 == 0 {
            http.header("smartpulse-min-position", &position)
                .json(&json!({ "query": VALUE }))
        } else {
            http.json(&json!({ "query": VALUE, "extensions": { "minPosition": position } }))
        };
        let answer: Value = request.send().await.unwrap().json().await.unwrap();
        assert_eq!(
            answer["data"]["forecast"]["values"],
            json!([f64::from(mwh)]),
            "{answer}"
        );
        // And at subscribe: the first state is not older.
        let mut socket = second.client.try_connect(Value::Null).await.unwrap();
        let live = "subscription { forecastLive(unit: \"plant:1\", provider: \"p\", resolution: PT1H,
            from: \"2024-05-01T00:00:00Z\", to: \"2024-05-01T01:00:00Z\") { forecast { values } } }";
        socket
            .send(json!({ "type": "subscribe", "id": "1", "payload": {
                "query": live, "extensions": { "minPosition": position } } }))
            .await
            .unwrap();
        let state = soon("a state", socket.data()).await;
        assert_eq!(
            state["forecastLive"]["forecast"]["values"],
            json!([f64::from(mwh)])
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_position_that_nobody_has_reached_is_waited_for_only_so_long() {
    let database = Kind::Sqlite.database().await;
    let server =
        crate::server::TestServer::start_with(database.url(), &["--live-min-position-ms", "50"])
            .await;
    let client = &server.client;
    let position = client.prepare(1).await;
    let (epoch, number) = position.as_str().unwrap().split_once('.').unwrap();
    let ask = async |position: String| -> (u16, Value) {
        let request = client
            .http()
            .post(client.url("/graphql"))
            .header("accept", "application/graphql-response+json")
            .header("smartpulse-min-position", position);
        let response = request
            .json(&json!({ "query": VALUE }))
            .send()
            .await
            .unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    };
    let beyond = number.parse::<u64>().unwrap() + 1;
    let (status, answer) = ask(format!("{epoch}.{beyond}")).await;
    assert_eq!((status, code(&answer)), (503, "UNAVAILABLE"));
    assert_eq!(answer["errors"][0]["extensions"]["position"], position);
    let (status, answer) = ask(format!("00000000.{number}")).await;
    assert_eq!((status, code(&answer)), (400, "POSITION_EXPIRED"));
    let (status, answer) = ask("soon".to_owned()).await;
    assert_eq!((status, code(&answer)), (400, "BAD_USER_INPUT"));
    server.stop().await;
}
