//! Alert rules as their owners meet them: made over GraphQL, told live.

use std::time::Duration;

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::auth::{answer, data, required, token_of};
use crate::client::{Client, Socket, code};
use crate::server::{Kind, TestServer, on_both, started};
use crate::wait::soon;

on_both!(
    a_rule_tells_what_it_would_have_told,
    two_replicas_tell_once,
    a_rule_is_its_owners,
    bad_rules_are_refused_and_say_why,
);

const RULE: &str = "id owner name resolution severity channels throttleSeconds mutedUntil enabled firings
    unit { key } provider { key } to { users groups topics }
    condition { __typename
        ... on RevisionCondition { hours minMwh minPercent requires percentOf measure direction accumulateMinutes }
        ... on ThresholdCondition { hours side limit quantity hysteresis }
        ... on LateCondition { afterMinutes completeHours } }";

const ARRIVED: &str = "subscription { notificationChanged { kind
    notification { sender title body severity category link data } } }";

fn create() -> String {
    format!(
        "mutation($input: CreateAlertRuleInput!) {{ createAlertRule(input: $input) {{ rule {{ {RULE} }} }} }}"
    )
}

/// A rule on revisions of at least 20 MWh in the next day.
fn rule(unit: &str) -> Value {
    json!({
        "name": "Big moves",
        "unit": unit,
        "provider": "p",
        "resolution": "PT1H",
        "condition": { "revision": { "hours": 24, "minMwh": 20 } },
    })
}

fn text(at: OffsetDateTime) -> String {
    at.format(&Rfc3339).unwrap()
}

/// Saves the same value for each hour of the next two days, and of this one.
async fn save(client: &Client, unit: &str, mwh: f64) {
    let now = OffsetDateTime::now_utc();
    let hour = now.unix_timestamp().div_euclid(3600) * 3600;
    client
        .data(
            "mutation($input: SaveForecastsInput!) { saveForecasts(input: $input) { position } }",
            json!({ "input": { "runs": [{
                "unit": unit,
                "provider": "p",
                "resolution": "PT1H",
                "start": text(OffsetDateTime::from_unix_timestamp(hour).unwrap()),
                "values": vec![mwh; 50],
            }] } }),
        )
        .await;
}

async fn arrived(socket: &mut Socket) -> Value {
    let mut change = soon("a notification", socket.data()).await["notificationChanged"].take();
    assert_eq!(change["kind"], "ARRIVED", "{change}");
    change["notification"].take()
}

/// Subscribed, and sure to be.
async fn listen(client: &Client) -> Socket {
    let mut socket = client.subscribe(ARRIVED, Value::Null).await;
    socket
        .start("2", "{ __typename }", Value::Null)
        .await
        .unwrap();
    socket.data().await;
    socket.message().await.unwrap();
    socket
}

async fn a_rule_tells_what_it_would_have_told(kind: Kind) {
    let (_database, server) = started(kind).await;
    let client = &server.client;
    client.prepare(2).await;
    client
        .data(
            "mutation { upsertUnits(input: { units: [{ key: \"group:1\", name: \"Kayseri\" },
                { key: \"plant:1\", parent: \"group:1\" }, { key: \"plant:2\", parent: \"group:1\" }] }) { position } }",
            Value::Null,
        )
        .await;
    let since = text(OffsetDateTime::now_utc() - Duration::from_secs(3600));
    let mut socket = listen(client).await;
    save(client, "plant:1", 10.0).await;
    save(client, "plant:2", 10.0).await;
    let made = client
        .data(&create(), json!({ "input": rule("group:1") }))
        .await;
    let made = &made["createAlertRule"]["rule"];
    assert_eq!(
        *made,
        json!({
            "id": made["id"],
            "owner": "local",
            "name": "Big moves",
            "resolution": "PT1H",
            "severity": "WARNING",
            "channels": ["IN_APP"],
            "throttleSeconds": null,
            "mutedUntil": null,
            "enabled": true,
            "firings": 0,
            "unit": { "key": "group:1" },
            "provider": { "key": "p" },
            "to": { "users": ["local"], "groups": [], "topics": [] },
            "condition": {
                "__typename": "RevisionCondition",
                "hours": 24,
                "minMwh": 20.0,
                "minPercent": null,
                "requires": "ALL",
                "percentOf": "BEFORE",
                "measure": "NET",
                "direction": "BOTH",
                "accumulateMinutes": 0,
            },
        })
    );
    let mut told = Vec::new();
    for (unit, mwh) in [("plant:2", 4.0), ("plant:1", 14.5)] {
        save(client, unit, mwh).await;
        // What comes within milliseconds is judged as one: each waits its turn.
        told.push(arrived(&mut socket).await);
    }
    // Too little.
    save(client, "plant:1", 14.4).await;
    let number = made["id"].as_str().unwrap().strip_prefix("alertRule:");
    assert_eq!(told[0]["sender"], format!("alert:{}", number.unwrap()));
    assert_eq!(
        told[0]["title"],
        "Kayseri: forecast down 144 MWh (-30 %) in the next 24 h"
    );
    assert_eq!(
        told[1]["title"],
        "Kayseri: forecast up 108 MWh (+32 %) in the next 24 h"
    );
    assert_eq!(
        (&told[0]["severity"], &told[0]["category"], &told[0]["link"]),
        (
            &json!("WARNING"),
            &json!("alert"),
            &json!("/?unit=group:1&provider=p&resolution=PT1H")
        )
    );
    let reason = &told[0]["data"];
    for (name, expect) in [
        ("rule", made["id"].clone()),
        ("kind", json!("REVISION")),
        ("unit", json!("group:1")),
        ("before", json!(480.0)),
        ("after", json!(336.0)),
        ("changeMwh", json!(-144.0)),
    ] {
        assert_eq!(reason[name], expect, "{name} of {reason}");
    }
    for name in ["from", "to", "runId", "issuedAt", "position"] {
        assert!(reason[name].is_string(), "{name} of {reason}");
    }
    let rules = client
        .data(
            "{ alertRules(first: 5) { nodes { firings lastFiredAt } pageInfo { hasNextPage } } }",
            Value::Null,
        )
        .await;
    assert_eq!(rules["alertRules"]["nodes"][0]["firings"], 2);
    assert!(rules["alertRules"]["nodes"][0]["lastFiredAt"].is_string());

    let dry = client
        .data(
            "query($input: CreateAlertRuleInput!, $since: DateTime!) {
                alertRuleDryRun(input: $input, since: $since) { total firings { at reason before after data } } }",
            json!({ "input": rule("group:1"), "since": since }),
        )
        .await;
    let dry = &dry["alertRuleDryRun"];
    assert_eq!(dry["total"], 2, "{dry}");
    for (would, told) in dry["firings"].as_array().unwrap().iter().zip(&told) {
        let title = format!("Kayseri: {}", would["reason"].as_str().unwrap());
        assert_eq!(told["title"], title);
        assert_eq!(told["data"]["before"], would["before"]);
        assert_eq!(told["data"]["after"], would["after"]);
        assert_eq!(told["data"]["runId"], would["data"]["runId"]);
    }

    // Muted, it says nothing; its own id is all that can come next.
    let muted = client
        .data(
            "mutation($id: ID!, $until: DateTime) {
                muteAlertRule(input: { id: $id, until: $until }) { rule { mutedUntil } } }",
            json!({ "id": made["id"], "until": "2100-01-01T00:00:00Z" }),
        )
        .await;
    assert_eq!(
        muted["muteAlertRule"]["rule"]["mutedUntil"],
        "2100-01-01T00:00:00Z"
    );
    let other = json!({ "input": {
        "name": "Low",
        "unit": "plant:1",
        "provider": "p",
        "resolution": "PT1H",
        "severity": "CRITICAL",
        "condition": { "threshold": { "hours": 6, "side": "BELOW", "limit": 2, "quantity": "MW", "hysteresis": 1 } },
    } });
    client.data(&create(), other).await;
    save(client, "plant:1", 0.5).await;
    let low = arrived(&mut socket).await;
    assert_eq!(
        (&low["title"], &low["severity"]),
        (
            &json!("plant:1: forecast falls below 2 MW in the next 6 h"),
            &json!("CRITICAL")
        )
    );
    let gone = client
        .data(
            "mutation($id: ID!) { deleteAlertRule(input: { id: $id }) { id } }",
            json!({ "id": made["id"] }),
        )
        .await;
    assert_eq!(gone["deleteAlertRule"]["id"], made["id"]);
    server.stop().await;
}

async fn two_replicas_tell_once(kind: Kind) {
    let (database, server) = started(kind).await;
    // On SQLite, too, nothing but the database is between them.
    let second = TestServer::start(database.url()).await;
    server.client.prepare(1).await;
    let client = &server.client;
    let mut socket = listen(&second.client).await;
    save(client, "plant:1", 10.0).await;
    client
        .data(&create(), json!({ "input": rule("plant:1") }))
        .await;
    const ROUNDS: usize = 8;
    for round in 0..ROUNDS {
        let mwh = if round % 2 == 0 { 5.0 } else { 10.0 };
        let by = if round % 3 == 0 {
            &second.client
        } else {
            client
        };
        save(by, "plant:1", mwh).await;
        let told = arrived(&mut socket).await;
        let expect = if round % 2 == 0 { -120.0 } else { 120.0 };
        assert_eq!(told["data"]["changeMwh"], expect, "round {round}");
    }
    let seen = second
        .client
        .data(
            "{ unreadCount alertRules { nodes { firings } } }",
            Value::Null,
        )
        .await;
    assert_eq!(
        seen,
        json!({ "unreadCount": ROUNDS, "alertRules": { "nodes": [{ "firings": ROUNDS }] } })
    );
    server.stop().await;
    second.stop().await;
}

async fn a_rule_is_its_owners(kind: Kind) {
    let (_database, server) = required(kind, &[]).await;
    let client = &server.client;
    let [admin, ada, bob, sender] = [
        ("root", "ADMIN"),
        ("ada", ""),
        ("bob", ""),
        ("sue", "SENDER"),
    ]
    .map(|(user, role)| match role {
        "" => token_of(user, &[]),
        role => token_of(user, &[role]),
    });
    data(
        client,
        &admin,
        "mutation { upsertUnits(input: { units: [{ key: \"plant:1\" }] }) { position }
            upsertProviders(input: { providers: [{ key: \"p\" }] }) { position }
            upsertUsers(input: { users: [{ key: \"ada\" }, { key: \"bob\" }] }) { users { key } } }",
        Value::Null,
    )
    .await;
    let create = create();
    let to = |to: Value| {
        let mut input = rule("plant:1");
        input["to"] = to;
        json!({ "input": input })
    };
    // Oneself anybody may have told; others only who may send.
    for (token, target, expect) in [
        (&ada, json!(null), None),
        (&ada, json!({ "users": ["ada"] }), None),
        (&ada, json!({ "users": ["ada", "bob"] }), Some("FORBIDDEN")),
        (&ada, json!({ "topics": ["wind"] }), Some("FORBIDDEN")),
        (&ada, json!({ "groups": ["all"] }), Some("FORBIDDEN")),
        (
            &sender,
            json!({ "users": ["bob"], "topics": ["wind"] }),
            None,
        ),
        (&sender, json!({ "users": ["nobody"] }), Some("NOT_FOUND")),
        (&sender, json!({ "groups": ["all"] }), Some("NOT_FOUND")),
    ] {
        let answer = answer(client, token, &create, to(target.clone())).await;
        match expect {
            Some(expect) => assert_eq!(code(&answer), expect, "{target}"),
            None => assert_eq!(answer["errors"], Value::Null, "{answer}"),
        }
    }
    let list = "{ alertRules { nodes { id owner } } }";
    let owners = async |token: &str| {
        let rules = data(client, token, list, Value::Null).await;
        let nodes = rules["alertRules"]["nodes"].as_array().unwrap().clone();
        let owner = |rule: &Value| rule["owner"].as_str().unwrap().to_owned();
        let id = nodes.first().map(|rule| rule["id"].clone());
        (nodes.iter().map(owner).collect::<Vec<_>>(), id)
    };
    assert_eq!(owners(&bob).await.0.len(), 0);
    assert_eq!(owners(&admin).await.0, ["ada", "ada", "sue"]);
    let (all, id) = owners(&ada).await;
    assert_eq!(all, ["ada", "ada"]);
    let id = json!({ "id": id.unwrap(), "until": "2100-01-01T00:00:00Z" });
    let get = "query($id: ID!) { alertRule(id: $id) { owner } }";
    let changes = [
        "mutation($id: ID!) { updateAlertRule(input: { id: $id, name: \"Mine\" }) { rule { name } } }",
        "mutation($id: ID!, $until: DateTime) { muteAlertRule(input: { id: $id, until: $until }) { rule { name } } }",
        "mutation($id: ID!) { deleteAlertRule(input: { id: $id }) { id } }",
    ];
    for (token, may) in [
        (&bob, false),
        (&sender, false),
        (&ada, true),
        (&admin, true),
    ] {
        let seen = data(client, token, get, id.clone()).await;
        assert_eq!(seen["alertRule"].is_object(), may);
        for change in &changes[..2] {
            let answer = answer(client, token, change, id.clone()).await;
            match may {
                true => assert_eq!(answer["errors"], Value::Null, "{answer}"),
                false => assert_eq!(code(&answer), "NOT_FOUND", "{change}"),
            }
        }
    }
    let others = "mutation($id: ID!) { updateAlertRule(input: { id: $id, to: { users: [\"bob\"] } }) { rule { name } } }";
    assert_eq!(
        code(&answer(client, &ada, others, id.clone()).await),
        "FORBIDDEN"
    );
    assert_eq!(
        code(&answer(client, &bob, changes[2], id.clone()).await),
        "NOT_FOUND"
    );
    data(client, &admin, changes[2], id.clone()).await;
    let seen = data(client, &ada, get, id).await;
    assert_eq!(seen["alertRule"], Value::Null);
    server.stop().await;
}

async fn bad_rules_are_refused_and_say_why(kind: Kind) {
    let (_database, server) = started(kind).await;
    let client = &server.client;
    client.prepare(1).await;
    let create = create();
    let with = |name: &str, value: Value| {
        let mut input = rule("plant:1");
        input[name] = value;
        input
    };
    for (input, expect, path) in [
        (with("unit", json!("plant:9")), "NOT_FOUND", "unit"),
        (with("provider", json!("nobody")), "NOT_FOUND", "provider"),
        (with("provider", json!("No Key")), "NOT_FOUND", "provider"),
        (with("name", json!("")), "BAD_USER_INPUT", "name"),
        (with("channels", json!([])), "BAD_USER_INPUT", "channels"),
        (
            with("throttleSeconds", json!(0)),
            "BAD_USER_INPUT",
            "throttleSeconds",
        ),
        (
            with("condition", json!({ "revision": { "hours": 24 } })),
            "BAD_USER_INPUT",
            "condition.revision",
        ),
        (
            with("condition", json!({ "late": { "afterMinutes": 0 } })),
            "BAD_USER_INPUT",
            "condition.late.afterMinutes",
        ),
        (
            with(
                "condition",
                json!({ "threshold": { "hours": 200, "side": "ABOVE", "limit": 1 } }),
            ),
            "BAD_USER_INPUT",
            "condition.threshold.hours",
        ),
    ] {
        let answer = client
            .graphql(&create, json!({ "input": input.clone() }))
            .await;
        assert_eq!(code(&answer), expect, "{input}");
        let violation = &answer["errors"][0]["extensions"]["violations"][0];
        assert_eq!(violation["path"], path, "{answer}");
    }
    for input in [
        with("condition", json!({})),
        with(
            "condition",
            json!({ "late": { "afterMinutes": 5 }, "revision": { "hours": 1, "minMwh": 1 } }),
        ),
        with("condition", json!({ "late": { "afterMinutes": -5 } })),
    ] {
        let answer = client.graphql(&create, json!({ "input": input })).await;
        assert_eq!(code(&answer), "BAD_USER_INPUT");
    }
    let answer = client
        .graphql(
            &create,
            json!({ "input": with("channels", json!(["EMAIL"])) }),
        )
        .await;
    assert_eq!(code(&answer), "UNAVAILABLE", "mail is not set up");
    let answer = client
        .graphql(
            "query($input: CreateAlertRuleInput!) {
                alertRuleDryRun(input: $input, since: \"2020-01-01T00:00:00Z\") { total } }",
            json!({ "input": rule("plant:1") }),
        )
        .await;
    assert_eq!(code(&answer), "BAD_USER_INPUT", "years");
    let rules = client
        .data("{ alertRules { nodes { id } } }", Value::Null)
        .await;
    assert_eq!(rules["alertRules"]["nodes"], json!([]));
    for id in ["alertRule:1", "alertRule:x", "unit:plant:1"] {
        let answer = client
            .graphql(
                "mutation($id: ID!) { deleteAlertRule(input: { id: $id }) { id } }",
                json!({ "id": id }),
            )
            .await;
        let expect = match id {
            "alertRule:1" => "NOT_FOUND",
            _ => "BAD_USER_INPUT",
        };
        assert_eq!(code(&answer), expect, "{id}");
    }
    server.stop().await;
}
