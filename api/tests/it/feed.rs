//! The raw feed: every committed change, for systems that keep up with this one.

use serde_json::{Value, json};

use crate::client::{Socket, code};
use crate::server::{Kind, on_both, run_sql, started};
use crate::wait::soon;

on_both!(
    the_feed_has_every_change_and_can_be_replayed,
    the_feed_is_filtered_by_entity,
);

const CHANGES: &str = "subscription($entities: [ChangeEntity!], $after: Position) {
    changes(entities: $entities, after: $after) {
        position entity operation changedAt unit provider
        forecast { resolution from to run { id } points { deliveryStart mwh } } } }";

async fn next(socket: &mut Socket) -> Value {
    soon("a change", socket.data()).await["changes"].take()
}

async fn the_feed_has_every_change_and_can_be_replayed(kind: Kind) {
    let (database, server) = started(kind).await;
    let client = &server.client;
    let mut live = client.subscribe(CHANGES, json!({})).await;
    live.start("2", "{ __typename }", Value::Null)
        .await
        .unwrap();
    // Behind the subscription: it stands when this is back.
    live.data().await;
    live.message().await.unwrap();
    client.prepare(2).await;
    client
        .data(
            "mutation { saveForecasts(input: { runs: [{ unit: \"plant:2\", provider: \"p\", resolution: PT1H,
                issuedAt: \"2024-04-30T12:00:00Z\", start: \"2024-05-01T00:00:00Z\", values: [1.5, 2.5] }] }) { position } }",
            Value::Null,
        )
        .await;
    run_sql(
        database.url(),
        "UPDATE unit SET name = 'Two' WHERE unit_number = 2; DELETE FROM forecast_curve;",
    );
    let mut seen = Vec::new();
    for _ in 0..6 {
        seen.push(next(&mut live).await);
    }
    let short: Vec<String> = seen
        .iter()
        .map(|change| {
            let of = |name: &str| change[name].as_str().unwrap_or("-").to_owned();
            format!(
                "{} {} {} {}",
                of("entity"),
                of("operation"),
                of("unit"),
                of("provider")
            )
        })
        .collect();
    assert_eq!(
        short,
        [
            "UNIT INSERT plant:1 -",
            "UNIT INSERT plant:2 -",
            "PROVIDER INSERT - p",
            "FORECAST INSERT plant:2 p",
            "UNIT UPDATE plant:2 -",
            "FORECAST DELETE plant:2 p",
        ]
    );
    assert_eq!(
        seen[3]["forecast"]["points"],
        json!([{ "deliveryStart": "2024-05-01T00:00:00Z", "mwh": 1.5 },
               { "deliveryStart": "2024-05-01T01:00:00Z", "mwh": 2.5 }])
    );
    assert_eq!(seen[0]["forecast"], Value::Null);

    // From any position, in this process and in another.
    let mut others = Vec::new();
    for i in 0..5 {
        let variables = json!({ "after": seen[i]["position"] });
        let mut replay = client.subscribe(CHANGES, variables).await;
        for expect in &seen[i + 1..] {
            let change = next(&mut replay).await;
            // What was written is gone since; what was changed is not.
            assert_eq!(change["position"], expect["position"]);
            assert_eq!(change["entity"], expect["entity"]);
            assert_eq!(change["changedAt"], expect["changedAt"]);
        }
        others.push(replay);
    }
    server.stop().await;
    let server = crate::server::TestServer::start(database.url()).await;
    let variables = json!({ "after": seen[0]["position"] });
    let mut replay = server.client.subscribe(CHANGES, variables).await;
    for expect in &seen[1..] {
        assert_eq!(next(&mut replay).await["position"], expect["position"]);
    }
    server.stop().await;
}

async fn the_feed_is_filtered_by_entity(kind: Kind) {
    let (_database, server) = started(kind).await;
    let client = &server.client;
    let start = client.prepare(1).await;
    let before = {
        let (epoch, number) = start.as_str().unwrap().split_once('.').unwrap();
        format!("{epoch}.{}", number.parse::<u64>().unwrap() - 2)
    };
    let mut providers = client
        .subscribe(
            CHANGES,
            json!({ "entities": ["PROVIDER"], "after": before }),
        )
        .await;
    assert_eq!(next(&mut providers).await["entity"], "PROVIDER");
    let mut both = client
        .subscribe(
            CHANGES,
            json!({ "entities": ["UNIT", "PROVIDER"], "after": before }),
        )
        .await;
    assert_eq!(next(&mut both).await["entity"], "UNIT");
    assert_eq!(next(&mut both).await["entity"], "PROVIDER");
    let mut bad = client
        .subscribe(CHANGES, json!({ "entities": ["X"] }))
        .await;
    let payload = soon("an error", bad.next()).await.unwrap();
    assert_eq!(code(&payload), "BAD_USER_INPUT");
    server.stop().await;
}
