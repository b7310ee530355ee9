//! What errors say: what was wrong with what was given, and what is accepted.

use serde_json::{Value, json};

use crate::client::Client;
use crate::server::{Kind, started};

/// The message of the only error of an answer.
#[track_caller]
fn message(answer: &Value) -> &str {
    let errors = answer["errors"].as_array().map(Vec::as_slice);
    match errors {
        Some([error]) => error["message"].as_str().unwrap(),
        _ => panic!("not one error: {answer}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_says_what_is_accepted() {
    let (_database, server) = started(Kind::Sqlite).await;
    let client = &server.client;
    client.prepare(1).await;
    client.save_hour(1).await;
    let day = |from: &str| {
        format!(
            "{{ forecast(unit: \"plant:1\", provider: \"p\", resolution: PT1H, \
             from: \"{from}\", to: \"2026-11-30T00:00:00Z\") {{ values }} }}"
        )
    };
    let of_run = |id: &str| {
        format!(
            "{{ forecast(unit: \"plant:1\", provider: \"p\", resolution: PT1H, \
             from: \"2026-11-29T00:00:00Z\", to: \"2026-11-30T00:00:00Z\", \
             view: {{ runId: \"{id}\" }}) {{ values }} }}"
        )
    };
    let dry_run = |arguments: &str| {
        format!(
            "{{ alertRuleDryRun(input: {{ name: \"\", unit: \"plant:1\", provider: \"p\", resolution: PT1H, \
             condition: {{ late: {{ afterMinutes: 60 }} }} }}, {arguments}) {{ total }} }}"
        )
    };
    for (document, expect) in [
        (
            day("2026-11-29"),
            "expected a date and a time with its offset (RFC 3339), for example 2024-05-01T12:00:00Z",
        ),
        (
            day("9999-12-31T23:59:59-23:59"),
            "expected an instant from year 1 to year 9999, in UTC",
        ),
        (
            day("0001-01-01T00:00:00+23:59"),
            "expected an instant from year 1 to year 9999, in UTC",
        ),
        (
            "{ unit(key: \"plant\") { key } }".into(),
            "expected `type:number`, for example plant:12345",
        ),
        (
            "subscription { forecastChanged(after: \"7\") { position } }".into(),
            "expected a position as the server gave it, for example 5f3a91c2.10482",
        ),
        (
            of_run("5307"),
            "`view.runId`: expected an id such as `run:5307`, as the server gave it, not \"5307\"",
        ),
        (of_run("run:5307"), "there is no run run:5307"),
        (
            "{ node(id: \"5307\") { id } }".into(),
            "expected a global id such as `unit:plant:12345`, `provider:provider-a`, `run:5307` or `notification:17`, not \"5307\"",
        ),
        (
            "{ node(id: \"run:+1\") { id } }".into(),
            "`id`: expected an id such as `run:5307`",
        ),
        (
            "{ alertRule(id: \"1\") { id } }".into(),
            "`id`: expected an id such as `alertRule:5307`",
        ),
        (
            "mutation { revokeApiKey(input: { id: \"1\" }) { apiKey { id } } }".into(),
            "`input.id`: expected an id such as `api-key:5307`",
        ),
        (
            "mutation { markNotificationsRead(input: { ids: [\"notification:1\", \"x\"] }) { position } }".into(),
            "`input.ids[1]`: expected an id such as `notification:5307`, as the server gave it, not \"x\"",
        ),
        (
            dry_run("since: \"2020-01-01T00:00:00Z\""),
            "2 of the given values are not acceptable; the first is name: a name has 1 to 200 characters",
        ),
        (
            dry_run("since: \"2020-01-01T00:00:00Z\"").replace("name: \"\"", "name: \"n\""),
            "since: expected a time at most 31 days before now",
        ),
        (
            "mutation { upsertUnits(input: { units: [{ key: \"plant:1\", name: \"\" }] }) { position } }".into(),
            "units[0].name: a name has 1 to 200 characters; nothing was written",
        ),
    ] {
        let answer = if document.starts_with("subscription") {
            let mut socket = client.subscribe(&document, Value::Null).await;
            socket.next().await.unwrap()
        } else {
            client.graphql(&document, Value::Null).await
        };
        let said = message(&answer);
        assert!(said.contains(expect), "{document}: {said}");
        if document.starts_with('{') {
            assert!(!said.contains("written"), "a query writes nothing: {said}");
        }
    }
    server.stop().await;
}

/// Instants that an offset carries beyond the calendar must not end a request.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_instant_is_beyond_the_calendar() {
    let (_database, server) = started(Kind::Sqlite).await;
    let client = &server.client;
    client.prepare(1).await;
    for query in [
        "query($at: DateTime!) { forecast(unit: \"plant:1\", provider: \"p\", resolution: PT1H, from: $at, to: $at) { values } }",
        "query($at: DateTime!) { forecast(unit: \"plant:1\", provider: \"p\", resolution: PT1H, from: \"2024-05-01T00:00:00Z\", to: \"2024-05-02T00:00:00Z\", view: { knownAt: $at }) { values } }",
        "query($at: DateTime) { unit(key: \"plant:1\") { capacityMw(at: $at) } }",
        "query($at: DateTime) { notifications(filter: { since: $at, until: $at }) { edges { cursor } } }",
        "mutation($at: DateTime) { upsertUnits(input: { units: [{ key: \"plant:1\", capacityMw: 1, capacityValidFrom: $at }] }) { position } }",
        "mutation($at: DateTime) { saveForecasts(input: { runs: [{ unit: \"plant:1\", provider: \"p\", resolution: PT1H, issuedAt: $at, start: \"2024-05-01T00:00:00Z\", values: [1] }] }) { position } }",
        "mutation($at: DateTime) { markAllNotificationsRead(input: { until: $at }) { position } }",
        "mutation($at: DateTime) { createApiKey(input: { name: \"n\", user: \"u\", roles: [PROVIDER], expiresAt: $at }) { secret } }",
    ] {
        for beyond in ["9999-12-31T23:59:59-00:01", "0001-01-01T00:00:00+00:01"] {
            let answer = client.graphql(query, json!({ "at": beyond })).await;
            let said = answer["errors"][0]["message"].as_str();
            let said = said.unwrap_or_else(|| panic!("{query}: {answer}"));
            assert!(said.contains("from year 1 to year 9999"), "{query}: {said}");
            assert_eq!(answer["errors"][0]["extensions"]["code"], "BAD_USER_INPUT");
        }
    }
    server.stop().await;
}

/// Whatever is repeated of a request of a megabyte, it is a line.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_given_is_clipped() {
    let (_database, server) = started(Kind::Sqlite).await;
    let client = &server.client;
    client.prepare(1).await;
    let long = format!("\n{}", "ü".repeat(500_000));
    let range = "resolution: PT1H, from: \"2024-05-01T00:00:00Z\", to: \"2024-05-02T00:00:00Z\"";
    for query in [
        "query($x: String!) { forecast(unit: \"plant:1\", provider: $x, {range}) { values } }",
        "query($x: ID!) { forecast(unit: \"plant:1\", provider: \"p\", {range}, view: { runId: $x }) { values } }",
        "query($x: UnitKey!) { unit(key: $x) { key } }",
        "query($x: ID!) { node(id: $x) { id } }",
        "query($x: DateTime) { unit(key: \"plant:1\") { capacityMw(at: $x) } }",
        "query($x: ID!) { alertRule(id: $x) { id } }",
        "query($x: String!) { mailPreview(template: $x) { html } }",
        "mutation($x: String!) { sendNotification(input: { to: { users: [$x] }, title: \"t\" }) { position } }",
        "mutation($x: String) { upsertUnits(input: { units: [{ key: \"plant:1\", timeZone: $x }] }) { position } }",
        "mutation($x: String!) { saveForecasts(input: { runs: [{ unit: \"plant:1\", provider: $x, resolution: PT1H, start: \"2024-05-01T00:00:00Z\", values: [1] }] }) { position } }",
        "mutation($x: String!) { upsertUsers(input: { users: [{ key: $x }, { key: $x }] }) { users { key } } }",
        "subscription($x: [String!]) { forecastChanged(providers: $x) { position } }",
        "subscription($x: Position) { forecastChanged(after: $x) { position } }",
    ] {
        let query = query.replace("{range}", range);
        let variables = json!({ "x": long });
        let answer = answer(client, &query, variables).await;
        let text = answer.to_string();
        assert!(answer["errors"].is_array(), "{query}: {text:.2000}");
        assert!(text.len() < 4_000, "{query}: {} bytes", text.len());
        let said = answer["errors"][0]["message"].as_str().unwrap();
        assert!(!said.contains(char::is_control), "{query}: {said:?}");
    }
    server.stop().await;
}

async fn answer(client: &Client, query: &str, variables: Value) -> Value {
    if query.starts_with("subscription") {
        let mut socket = client.subscribe(query, variables).await;
        return socket.next().await.unwrap();
    }
    client.graphql(query, variables).await
}
