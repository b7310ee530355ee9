//! Queries and mutations: what is written is what is read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use domain::change::Position;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::client::{Client, code};
use crate::server::{Kind, TestServer, on_both, started};
use crate::wait::soon;

on_both!(
    upserting_units_patches_them,
    bad_units_are_named_and_nothing_is_written,
    upserting_providers_patches_them,
    units_come_in_pages,
    units_are_filtered,
    providers_come_in_pages,
    a_page_that_cannot_be_is_refused,
    everything_with_an_id_is_a_node,
    a_viewer_is_who_it_says,
    views_lay_versions_over_one_another,
    an_unknown_unit_or_provider_empties_only_its_own_field,
    forecasts_come_in_the_order_asked_for,
    points_are_the_same_however_they_are_selected,
    ranges_are_widened_to_whole_periods,
    bad_values_are_named_and_nothing_is_saved,
    a_save_is_all_or_nothing,
    an_idempotency_key_is_answered_again,
    a_twin_waits_for_the_first,
    the_next_read_includes_a_save,
    another_server_reads_up_to_a_position,
);

const UNIT: &str = "query($key: UnitKey!) { unit(key: $key) {
    key type name timeZone parent { key } capacityMw capacityHistory { validFrom capacityMw } } }";
const UPSERT_UNITS: &str = "mutation($units: [UnitInput!]!) {
    upsertUnits(input: { units: $units }) { units { key name } position } }";
const UPSERT_PROVIDERS: &str = "mutation($providers: [ProviderInput!]!) {
    upsertProviders(input: { providers: $providers }) { providers { key name } position } }";
const SAVE: &str = "mutation($runs: [ForecastRunInput!]!, $key: String) {
    saveForecasts(input: { runs: $runs, idempotencyKey: $key }) { runs { id issuedAt } position } }";
const READ: &str = "query($unit: UnitKey!, $provider: String!, $from: DateTime!, $to: DateTime!, $view: ForecastView) {
    forecast(unit: $unit, provider: $provider, resolution: PT1H, from: $from, to: $to, view: $view) {
        from to resolution values position unit { key } provider { key }
        points { deliveryStart deliveryEnd mwh mw issuedAt run { id } } } }";

/// Paths of `extensions.violations` of the only error.
#[track_caller]
fn violations(answer: &Value) -> Vec<&str> {
    let violations = answer["errors"][0]["extensions"]["violations"].as_array();
    violations
        .unwrap_or_else(|| panic!("no violations: {answer}"))
        .iter()
        .map(|violation| {
            assert!(violation["message"].is_string(), "{violation}");
            violation["path"].as_str().unwrap()
        })
        .collect()
}

/// One hourly run of `plant:1` by `p`.
fn run(issued_at: &str, start: &str, values: Value) -> Value {
    json!({ "unit": "plant:1", "provider": "p", "resolution": "PT1H",
            "issuedAt": issued_at, "start": start, "values": values })
}

async fn save(client: &Client, runs: Value) -> Value {
    let mut saved = client.data(SAVE, json!({ "runs": runs })).await;
    saved["saveForecasts"].take()
}

/// The first hours of 2024-05-01 of `plant:1` by `p`.
async fn read(client: &Client, view: Value) -> Value {
    let mut data = client
        .data(
            READ,
            json!({ "unit": "plant:1", "provider": "p", "view": view,
                    "from": "2024-05-01T00:00:00Z", "to": "2024-05-01T06:00:00Z" }),
        )
        .await;
    data["forecast"].take()
}

async fn upserting_units_patches_them(kind: Kind) {
    let (_database, server) = started(kind).await;
    let client = &server.client;
    let unit = async |key: &str| client.data(UNIT, json!({ "key": key })).await["unit"].take();
    let upsert = async |unit: Value| client.data(UPSERT_UNITS, json!({ "units": [unit] })).await;

    assert_eq!(unit("plant:1").await, Value::Null);
    upsert(json!({ "key": "plant:1" })).await;
    let bare = json!({ "key": "plant:1", "type": "PLANT", "name": "plant:1", "timeZone": "UTC",
        "parent": null, "capacityMw": null, "capacityHistory": [] });
    assert_eq!(unit("plant:1").await, bare);

    // A parent may come after its child, in the same call; the answer keeps the order.
    let units = json!([
        { "key": "plant:1", "name": "Ebro", "timeZone": "Europe/Madrid", "parent": "group:7", "capacityMw": 10.5 },
        { "key": "group:7", "name": "North", "parent": "company:3" },
        { "key": "company:3" },
    ]);
    let upserted = client.data(UPSERT_UNITS, json!({ "units": units })).await;
    assert_eq!(
        upserted["upsertUnits"]["units"],
        json!([{ "key": "plant:1", "name": "Ebro" }, { "key": "group:7", "name": "North" },
               { "key": "company:3", "name": "company:3" }])
    );
    upsert(json!({ "key": "plant:1", "capacityMw": 12.0, "capacityValidFrom": "2024-01-01T00:00:00Z" }))
        .await;
    let full = json!({ "key": "plant:1", "type": "PLANT", "name": "Ebro", "timeZone": "Europe/Madrid",
        "parent": { "key": "group:7" }, "capacityMw": 12.0, "capacityHistory": [
            { "validFrom": "1970-01-01T00:00:00Z", "capacityMw": 10.5 },
            { "validFrom": "2024-01-01T00:00:00Z", "capacityMw": 12.0 }] });
    assert_eq!(unit("plant:1").await, full);
    let then = client
        .data(
            "{ unit(key: \"plant:1\") {
                before: capacityMw(at: \"2023-12-31T23:59:59Z\") from: capacityMw(at: \"2024-01-01T00:00:00Z\") } }",
            Value::Null,
        )
        .await;
    assert_eq!(then["unit"], json!({ "before": 10.5, "from": 12.0 }));

    // Absent leaves everything, and is no change.
    let before = server.log.applied();
    let nothing = upsert(json!({ "key": "plant:1" })).await;
    assert_eq!(
        nothing["upsertUnits"]["position"],
        json!(before.to_string())
    );
    assert_eq!(unit("plant:1").await, full);

    // Null clears what can be cleared.
    upsert(json!({ "key": "plant:1", "parent": null, "capacityMw": null })).await;
    let cleared = json!({ "key": "plant:1", "type": "PLANT", "name": "Ebro", "timeZone": "Europe/Madrid",
        "parent": null, "capacityMw": null, "capacityHistory": [] });
    assert_eq!(unit("plant:1").await, cleared);
    server.stop().await;
}

async fn bad_units_are_named_and_nothing_is_written(kind: Kind) {
    let (_database, server) = started(kind).await;
    let client = &server.client;
    client
        .data(
            UPSERT_UNITS,
            json!({ "units": [{ "key": "group:1" }, { "key": "group:2", "parent": "group:1" }] }),
        )
        .await;
    let before = server.log.applied();
    for (units, paths) in [
        (
            json!([
                { "key": "plant:1", "name": null, "timeZone": null },
                { "key": "plant:2", "name": "", "timeZone": "Europe/Nowhere", "capacityMw": -1.0 },
                { "key": "plant:1", "name": "x".repeat(201), "parent": "plant:1" },
                { "key": "plant:3", "capacityValidFrom": "2024-01-01T00:00:00Z" },
                { "key": "plant:4" },
                { "key": "plant:5", "name": "a\u{0}b" },
            ]),
            vec![
                "units[0].name",
                "units[0].timeZone",
                "units[1].name",
                "units[1].timeZone",
                "units[1].capacityMw",
                "units[2].key",
                "units[2].name",
                "units[2].parent",
                "units[3].capacityValidFrom",
                "units[5].name",
            ],
        ),
        (
            json!([{ "key": "plant:4" }, { "key": "plant:5", "parent": "group:9" }]),
            vec!["units[1].parent"],
        ),
        // A circle over a unit that is there already.
        (
            json!([{ "key": "plant:4" }, { "key": "group:1", "parent": "group:2" }]),
            vec!["units[1].parent"],
        ),
    ] {
        let answer = client
            .graphql(UPSERT_UNITS, json!({ "units": units }))
            .await;
        assert_eq!(code(&answer), "BAD_USER_INPUT", "{answer}");
        assert_eq!(violations(&answer), paths, "{answer}");
    }
    let answer = client
        .graphql(UPSERT_UNITS, json!({ "units": [{ "key": "plant:01" }] }))
        .await;
    assert_eq!(code(&answer), "BAD_USER_INPUT");
    let unit = client.data(UNIT, json!({ "key": "plant:4" })).await;
    assert_eq!(unit["unit"], Value::Null);
    assert_eq!(server.log.applied(), before);
    server.stop().await;
}

async fn upserting_providers_patches_them(kind: Kind) {
    let (_database, server) = started(kind).await;
    let client = &server.client;
    let upsert = async |providers: Value| {
        client
            .graphql(UPSERT_PROVIDERS, json!({ "providers": providers }))
            .await
    };
    let upserted = upsert(json!([{ "key": "b" }, { "key": "a", "name": "Meteo" }])).await;
    assert_eq!(
        upserted["data"]["upsertProviders"]["providers"],
        json!([{ "key": "b", "name": "b" }, { "key": "a", "name": "Meteo" }])
    );
    // Absent and null leave the name; it cannot be without one.
    upsert(json!([{ "key": "a" }])).await;
    upsert(json!([{ "key": "a", "name": null }])).await;
    let read = "{ provider(key: \"a\") { name } none: provider(key: \"c\") { name } nor: provider(key: \"No Key\") { name } }";
    assert_eq!(
        client.data(read, Value::Null).await,
        json!({ "provider": { "name": "Meteo" }, "none": null, "nor": null })
    );
    let bad = upsert(json!([{ "key": "c" }, { "key": "Upper" }, { "key": "" }])).await;
    assert_eq!(code(&bad), "BAD_USER_INPUT");
    assert_eq!(violations(&bad), ["providers[1].key", "providers[2].key"]);
    let bad = upsert(
        json!([{ "key": "c" }, { "key": "c", "name": "" }, { "key": "d", "name": "\u{0}" }]),
    )
    .await;
    assert_eq!(code(&bad), "BAD_USER_INPUT");
    assert_eq!(
        violations(&bad),
        ["providers[1].name", "providers[1].key", "providers[2].name"]
    );
    let none = client
        .data("{ provider(key: \"c\") { name } }", Value::Null)
        .await;
    assert_eq!(none["provider"], Value::Null);
    server.stop().await;
}

/// Seven units whose names sort otherwise than their keys, two of them alike.
async fn seven_units(client: &Client) {
    let units = json!([
        { "key": "company:1", "name": "Delta" },
        { "key": "group:2", "name": "Bravo", "parent": "company:1" },
        { "key": "group:10", "name": "Golf 100%", "parent": "company:1" },
        { "key": "plant:1", "name": "Echo", "parent": "group:2" },
        { "key": "plant:2", "name": "Alpha", "parent": "group:2" },
        { "key": "plant:9", "name": "Echo", "parent": "group:10" },
        { "key": "plant:10", "name": "Çeşme_Echo" },
    ]);
    client.data(UPSERT_UNITS, json!({ "units": units })).await;
}

const UNITS: &str = "query($filter: UnitFilter, $orderBy: UnitOrder, $first: Int, $after: String, $last: Int, $before: String) {
    units(filter: $filter, orderBy: $orderBy, first: $first, after: $after, last: $last, before: $before) {
        edges { cursor node { key } } nodes { key }
        pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } }";

/// Every key of a list, read page by page from one end.
async fn walk(client: &Client, query: &str, mut variables: Value, from_end: bool) -> Vec<String> {
    let (size, bound, edge, more) = if from_end {
        ("last", "before", "startCursor", "hasPreviousPage")
    } else {
        ("first", "after", "endCursor", "hasNextPage")
    };
    let back = if from_end {
        "hasNextPage"
    } else {
        "hasPreviousPage"
    };
    variables[size] = json!(2);
    let mut keys: Vec<String> = Vec::new();
    loop {
        let data = client.data(query, variables.clone()).await;
        let page = data.as_object().unwrap().values().next().unwrap();
        let info = &page["pageInfo"];
        let edges = page["edges"].as_array().unwrap();
        let mut of_page: Vec<String> = edges
            .iter()
            .map(|edge| edge["node"]["key"].as_str().unwrap().to_owned())
            .collect();
        assert!((1..=2).contains(&of_page.len()), "{page}");
        assert_eq!(info["startCursor"], edges[0]["cursor"]);
        assert_eq!(info["endCursor"], edges[edges.len() - 1]["cursor"]);
        // It knows that it does not begin at the list's end.
        assert_eq!(info[back], json!(!keys.is_empty()), "{page}");
        if from_end {
            of_page.reverse();
        }
        keys.extend(of_page);
        if info[more] == json!(false) {
            return keys;
        }
        variables[bound] = info[edge].clone();
    }
}

async fn units_come_in_pages(kind: Kind) {
    let (_database, server) = started(kind).await;
    seven_units(&server.client).await;
    let by_key = [
        "company:1",
        "group:2",
        "group:10",
        "plant:1",
        "plant:2",
        "plant:9",
        "plant:10",
    ];
    let by_name = [
        "plant:2",
        "group:2",
        "company:1",
        "plant:1",
        "plant:9",
        "group:10",
        "plant:10",
    ];
    for (order, mut expect) in [
        ("KEY_ASC", by_key),
        ("KEY_DESC", by_key),
        ("NAME_ASC", by_name),
        ("NAME_DESC", by_name),
    ] {
        if order.ends_with("DESC") {
            expect.reverse();
        }
        let variables = json!({ "orderBy": order });
        let all = server.client.data(UNITS, variables.clone()).await;
        let nodes: Vec<&str> = all["units"]["nodes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|node| node["key"].as_str().unwrap())
            .collect();
        if order.starts_with("KEY") || kind == Kind::Sqlite {
            assert_eq!(nodes, expect, "{order}");
        }
        // PostgreSQL sorts a Ç as its collation has it; pages follow whatever order that is.
        let forward = walk(&server.client, UNITS, variables.clone(), false).await;
        assert_eq!(forward, nodes, "{order}");
        let mut backward = walk(&server.client, UNITS, variables, true).await;
        backward.reverse();
        assert_eq!(backward, nodes, "{order}");
    }
    let none = server.client.data(UNITS, json!({ "first": 0 })).await;
    assert_eq!(none["units"]["edges"], json!([]));
    assert_eq!(none["units"]["pageInfo"]["hasNextPage"], json!(true));
    server.stop().await;
}

async fn units_are_filtered(kind: Kind) {
    let (_database, server) = started(kind).await;
    seven_units(&server.client).await;
    let all = 7;
    for (filter, expect) in [
        (Value::Null, all),
        (json!({}), all),
        (
            json!({ "keys": null, "types": null, "parent": null, "nameContains": null }),
            all,
        ),
        (json!({ "keys": [] }), 0),
        (json!({ "types": [] }), 0),
        (json!({ "keys": ["plant:1", "group:2", "plant:99"] }), 2),
        (json!({ "types": ["PLANT", "COMPANY"] }), 5),
        (json!({ "parent": "group:2" }), 2),
        (json!({ "parent": "company:9" }), 0),
        (json!({ "nameContains": "ECHO" }), 3),
        (json!({ "nameContains": "0%" }), 1),
        (json!({ "nameContains": "%" }), 1),
        (json!({ "nameContains": "_" }), 1),
        (json!({ "nameContains": "\\" }), 0),
        (json!({ "nameContains": "Çeşme" }), 1),
        (json!({ "nameContains": "eşM" }), 1),
        (json!({ "nameContains": "ceşme" }), 0),
        (json!({ "nameContains": "a\u{0}" }), 0),
        (json!({ "nameContains": "" }), all),
        (
            json!({ "types": ["PLANT"], "parent": "group:2", "nameContains": "a" }),
            1,
        ),
    ] {
        let page = server
            .client
            .data(UNITS, json!({ "filter": filter, "first": 100 }))
            .await;
        let count = page["units"]["nodes"].as_array().unwrap().len();
        assert_eq!(count, expect, "{filter}: {page}");
    }
    let walked = walk(
        &server.client,
        UNITS,
        json!({ "filter": { "nameContains": "echo" }, "orderBy": "NAME_DESC" }),
        false,
    )
    .await;
    assert_eq!(walked.len(), 3);
    server.stop().await;
}

const PROVIDERS: &str = "query($first: Int, $after: String, $last: Int, $before: String) {
    providers(first: $first, after: $after, last: $last, before: $before) {
        edges { cursor node { key } } pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } }";

async fn providers_come_in_pages(kind: Kind) {
    let (_database, server) = started(kind).await;
    let keys = ["a", "a.b", "b", "c-d", "e", "f", "g"];
    let providers: Vec<Value> = keys.iter().rev().map(|key| json!({ "key": key })).collect();
    server
        .client
        .data(UPSERT_PROVIDERS, json!({ "providers": providers }))
        .await;
    let forward = walk(&server.client, PROVIDERS, json!({}), false).await;
    assert_eq!(forward.len(), keys.len());
    let mut sorted = forward.clone();
    sorted.sort();
    assert_eq!(sorted, keys);
    let mut backward = walk(&server.client, PROVIDERS, json!({}), true).await;
    backward.reverse();
    assert_eq!(backward, forward);
    server.stop().await;
}

async fn a_page_that_cannot_be_is_refused(kind: Kind) {
    let (_database, server) = started(kind).await;
    let client = &server.client;
    seven_units(client).await;
    client.prepare(1).await;
    let providers = client.data(PROVIDERS, json!({})).await;
    let of_providers = providers["providers"]["pageInfo"]["endCursor"].clone();
    for variables in [
        json!({ "first": 1, "last": 1 }),
        json!({ "first": -1 }),
        json!({ "last": -1 }),
        json!({ "first": 501 }),
        json!({ "after": "no cursor" }),
        json!({ "before": "" }),
        json!({ "after": of_providers }),
    ] {
        let answer = client.graphql(UNITS, variables.clone()).await;
        assert_eq!(code(&answer), "BAD_USER_INPUT", "{variables}");
        if variables["after"] != of_providers {
            let answer = client.graphql(PROVIDERS, variables.clone()).await;
            assert_eq!(code(&answer), "BAD_USER_INPUT", "{variables}");
        }
    }
    server.stop().await;
}

async fn everything_with_an_id_is_a_node(kind: Kind) {
    let (_database, server) = started(kind).await;
    let client = &server.client;
    client.prepare(1).await;
    let saved = save(
        client,
        json!([run(
            "2024-04-30T10:00:00Z",
            "2024-05-01T00:00:00Z",
            json!([1.0])
        )]),
    )
    .await;
    let ids = client
        .data(
            "{ unit(key: \"plant:1\") { id } provider(key: \"p\") { id } }",
            Value::Null,
        )
        .await;
    let node = "query($id: ID!) { node(id: $id) { __typename id
        ... on Unit { key } ... on Provider { name } ... on ForecastRun { issuedAt receivedAt } } }";
    let get =
        async |id: &Value| client.graphql(node, json!({ "id": id })).await["data"]["node"].take();
    assert_eq!(
        get(&ids["unit"]["id"]).await,
        json!({ "__typename": "Unit", "id": ids["unit"]["id"], "key": "plant:1" })
    );
    assert_eq!(
        get(&ids["provider"]["id"]).await,
        json!({ "__typename": "Provider", "id": ids["provider"]["id"], "name": "p" })
    );
    let run_id = &saved["runs"][0]["id"];
    let run = get(run_id).await;
    assert_eq!(
        (&run["__typename"], &run["id"]),
        (&json!("ForecastRun"), run_id)
    );
    assert_eq!(run["issuedAt"], "2024-04-30T10:00:00Z");
    assert!(run["receivedAt"].as_str().unwrap() > "2024", "{run}");
    for absent in ["unit:plant:9", "provider:q", "run:999999"] {
        let answer = client.graphql(node, json!({ "id": absent })).await;
        assert_eq!(answer, json!({ "data": { "node": null } }));
    }
    for bad in [
        "",
        "plant:1",
        "unit:plant",
        "provider:No Key",
        "run:x",
        "page:1",
    ] {
        let answer = client.graphql(node, json!({ "id": bad })).await;
        assert_eq!(code(&answer), "BAD_USER_INPUT", "{bad:?}");
    }
    server.stop().await;
}

async fn a_viewer_is_who_it_says(kind: Kind) {
    let (_database, server) = started(kind).await;
    let client = &server.client;
    let viewer = "{ viewer { id user } }";
    let data = client.data(viewer, Value::Null).await;
    assert_eq!(
        data["viewer"],
        json!({ "id": "viewer:local", "user": "local" })
    );
    let with_header = async |name: &str| {
        let request = client.http().post(client.url("/graphql"));
        let request = request
            .header("SmartPulse-User", name)
            .json(&json!({ "query": viewer }));
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        (status, response.json::<Value>().await.unwrap())
    };
    let (_, answer) = with_header(" ada ").await;
    assert_eq!(answer["data"]["viewer"]["user"], "ada");
    let (status, answer) = with_header(&"x".repeat(201)).await;
    assert_eq!((status, code(&answer)), (400, "BAD_USER_INPUT"));

    let of_socket = async |init: Value| {
        let mut socket = client.try_connect(init).await.unwrap();
        socket.start("1", viewer, Value::Null).await.unwrap();
        socket.data().await["viewer"]["user"].take()
    };
    assert_eq!(of_socket(Value::Null).await, "local");
    assert_eq!(of_socket(json!({})).await, "local");
    assert_eq!(
        of_socket(json!({ "SmartPulse-User": "grace" })).await,
        "grace"
    );
    let refused = client
        .try_connect(json!({ "SmartPulse-User": "\u{7}" }))
        .await;
    assert!(refused.is_err(), "a name of control characters is none");
    server.stop().await;
}

async fn views_lay_versions_over_one_another(kind: Kind) {
    let (_database, server) = started(kind).await;
    let client = &server.client;
    client.prepare(1).await;
    // Nobody has written it yet: no values, no error.
    let empty = read(client, Value::Null).await;
    assert_eq!(empty["points"], json!([]));
    assert_eq!(empty["values"], json!([null, null, null, null, null, null]));

    let start = "2024-05-01T00:00:00Z";
    // Late first: the older one that arrives after it displaces nothing.
    let late = save(
        client,
        json!([run(
            "2024-04-30T12:00:00Z",
            "2024-05-01T01:00:00Z",
            json!([21.0, null, 23.0])
        )]),
    )
    .await;
    let early = save(
        client,
        json!([run(
            "2024-04-30T06:00:00Z",
            start,
            json!([10.0, 11.0, 12.0, 13.0, 14.0])
        )]),
    )
    .await;
    let (early_id, late_id) = (&early["runs"][0]["id"], &late["runs"][0]["id"]);
    let latest = read(client, Value::Null).await;
    assert_eq!(
        latest["values"],
        json!([10.0, 21.0, 12.0, 23.0, 14.0, null])
    );
    assert_eq!(latest["points"].as_array().unwrap().len(), 5);
    assert_eq!(
        latest["points"][1],
        json!({ "deliveryStart": "2024-05-01T01:00:00Z", "deliveryEnd": "2024-05-01T02:00:00Z",
                "mwh": 21.0, "mw": 21.0, "issuedAt": "2024-04-30T12:00:00Z", "run": { "id": late_id } })
    );
    assert_eq!(&latest["points"][2]["run"]["id"], early_id);
    assert_eq!(latest["unit"]["key"], "plant:1");
    assert_eq!(latest["provider"]["key"], "p");
    assert_eq!(latest["position"], early["position"]);

    for (known_at, expect) in [
        (
            "2024-04-30T05:59:59.999999Z",
            json!([null, null, null, null, null, null]),
        ),
        (
            "2024-04-30T06:00:00Z",
            json!([10.0, 11.0, 12.0, 13.0, 14.0, null]),
        ),
        (
            "2024-04-30T14:59:59.999999+03:00",
            json!([10.0, 11.0, 12.0, 13.0, 14.0, null]),
        ),
        (
            "2024-04-30T15:00:00+03:00",
            json!([10.0, 21.0, 12.0, 23.0, 14.0, null]),
        ),
    ] {
        let then = read(client, json!({ "knownAt": known_at })).await;
        assert_eq!(then["values"], expect, "{known_at}");
    }
    let of_run = read(client, json!({ "runId": late_id })).await;
    assert_eq!(
        of_run["values"],
        json!([null, 21.0, null, 23.0, null, null])
    );
    // A run that has nothing here is not an unknown one.
    let elsewhere = save(
        client,
        json!([run(
            "2024-04-30T06:00:00Z",
            "2024-07-01T00:00:00Z",
            json!([1.0])
        )]),
    )
    .await;
    let nothing = read(client, json!({ "runId": elsewhere["runs"][0]["id"] })).await;
    assert_eq!(nothing["points"], json!([]));
    for (view, expect) in [
        (json!({ "runId": "run:999999" }), "NOT_FOUND"),
        (json!({ "runId": "nonsense" }), "BAD_USER_INPUT"),
        (json!({}), "BAD_USER_INPUT"),
        (
            json!({ "runId": late_id, "knownAt": start }),
            "BAD_USER_INPUT",
        ),
    ] {
        let variables = json!({ "unit": "plant:1", "provider": "p", "view": view,
            "from": start, "to": "2024-05-01T06:00:00Z" });
        assert_eq!(
            code(&client.graphql(READ, variables).await),
            expect,
            "{view}"
        );
    }
    // Equal issue times: the later run wins.
    let again = save(
        client,
        json!([run(
            "2024-04-30T12:00:00Z",
            "2024-05-01T01:00:00Z",
            json!([31.0])
        )]),
    )
    .await;
    let latest = read(client, Value::Null).await;
    assert_eq!(latest["values"][1], json!(31.0));
    assert_eq!(latest["points"][1]["run"]["id"], again["runs"][0]["id"]);
    server.stop().await;
}

async fn an_unknown_unit_or_provider_empties_only_its_own_field(kind: Kind) {
    let (_database, server) = started(kind).await;
    let client = &server.client;
    client.prepare(1).await;
    save(
        client,
        json!([run(
            "2024-04-30T12:00:00Z",
            "2024-05-01T00:00:00Z",
            json!([5.0])
        )]),
    )
    .await;
    let range = "resolution: PT1H, from: \"2024-05-01T00:00:00Z\", to: \"2024-05-01T01:00:00Z\"";
    let query = format!(
        "{{ known: forecast(unit: \"plant:1\", provider: \"p\", {range}) {{ values }}
            noUnit: forecast(unit: \"plant:2\", provider: \"p\", {range}) {{ values }}
            noProvider: forecast(unit: \"plant:1\", provider: \"q\", {range}) {{ values }}
            noKey: forecast(unit: \"plant:1\", provider: \"No Key\", {range}) {{ values }} }}"
    );
    let answer = client.graphql(&query, Value::Null).await;
    let data = answer["data"].as_object().unwrap();
    assert_eq!(data["known"], json!({ "values": [5.0] }));
    // As keys with null, not as keys that are missing.
    for field in ["noUnit", "noProvider", "noKey"] {
        assert_eq!(data.get(field), Some(&Value::Null), "{answer}");
    }
    let mut paths: Vec<&Value> = Vec::new();
    for error in answer["errors"].as_array().unwrap() {
        assert_eq!(error["extensions"]["code"], "NOT_FOUND", "{error}");
        assert!(error["locations"][0]["line"].is_u64(), "{error}");
        paths.push(&error["path"]);
    }
    paths.sort_by_key(|path| path.to_string());
    assert_eq!(
        paths,
        [
            &json!(["noKey"]),
            &json!(["noProvider"]),
            &json!(["noUnit"])
        ]
    );
    server.stop().await;
}

async fn forecasts_come_in_the_order_asked_for(kind: Kind) {
    let (_database, server) = started(kind).await;
    let client = &server.client;
    client.prepare(3).await;
    let runs: Vec<Value> = (1..=3)
        .map(|n| {
            let mut run = run("2024-04-30T12:00:00Z", "2024-05-01T00:00:00Z", json!([n]));
            run["unit"] = json!(format!("plant:{n}"));
            run
        })
        .collect();
    save(client, json!(runs)).await;
    let selection = |unit: &str, from: &str| {
        json!({ "unit": unit, "provider": "p", "resolution": "PT1H",
                "from": from, "to": "2024-05-01T01:00:00Z" })
    };
    let from = "2024-05-01T00:00:00Z";
    let query =
        "query($s: [ForecastSelection!]!) { forecasts(selections: $s) { unit { key } values } }";
    let selections = [
        selection("plant:3", from),
        selection("plant:9", from),
        selection("plant:1", from),
        selection("plant:2", "2024-05-02T00:00:00Z"),
        selection("plant:2", from),
        selection("plant:3", from),
    ];
    let answer = client.graphql(query, json!({ "s": selections })).await;
    let some = |n: f64| json!({ "unit": { "key": format!("plant:{n}") }, "values": [n] });
    assert_eq!(
        answer["data"]["forecasts"],
        json!([some(3.0), null, some(1.0), null, some(2.0), some(3.0)])
    );
    let mut errors: Vec<(String, &str)> = answer["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| {
            let code = error["extensions"]["code"].as_str().unwrap();
            (error["path"].to_string(), code)
        })
        .collect();
    errors.sort();
    assert_eq!(
        errors,
        [
            (r#"["forecasts",1]"#.to_owned(), "NOT_FOUND"),
            (r#"["forecasts",3]"#.to_owned(), "BAD_USER_INPUT"),
        ]
    );
    assert_eq!(
        client.data(query, json!({ "s": [] })).await["forecasts"],
        json!([])
    );
    let many = vec![selection("plant:1", from); 1001];
    let answer = client.graphql(query, json!({ "s": many })).await;
    assert_eq!(code(&answer), "BAD_USER_INPUT");
    server.stop().await;
}

/// Points of plain fields are written straight from the packed curve; any other
/// selection, such as a run's `receivedAt`, is resolved field by field. Nobody
/// may see a difference.
async fn points_are_the_same_however_they_are_selected(kind: Kind) {
    let (_database, server) = started(kind).await;
    let client = &server.client;
    client.prepare(1).await;
    let quarter_hours = json!({ "unit": "plant:1", "provider": "p", "resolution": "PT15M",
        "issuedAt": "2024-04-30T12:00:00.123456Z", "start": "2024-04-30T23:00:00Z",
        "values": [0.1, null, -2.5, 1e-7, 123456789.125, 0, 285.541656, 1e12, 0.3333333333333333] });
    save(
        client,
        json!([quarter_hours, { "unit": "plant:1", "provider": "p", "resolution": "PT15M",
            "issuedAt": "2024-04-30T13:00:00Z",
            "points": [{ "deliveryStart": "2024-05-01T00:00:00Z", "mwh": 7.25 }] }]),
    )
    .await;
    let selections = [
        "deliveryStart deliveryEnd mwh mw issuedAt run { id issuedAt }",
        "mwh",
        "__typename mwh run { __typename id }",
        "start: deliveryStart energy: mwh r: run { number: id at: issuedAt kind: __typename }",
        "mwh mwh mwh also: mwh",
        "run { id } run { issuedAt } run { id }",
        "r: run { id } r: run { id }",
        "...Plain",
        "...Plain ...More mwh",
        "... on ForecastPoint { mw ... { mwh } run { ...OfRun } }",
        "mwh @skip(if: true) mw @include(if: true) issuedAt",
        "mwh @skip(if: $yes) mw @include(if: $no) issuedAt run @include(if: $yes) { id @skip(if: $yes) issuedAt }",
        "...Plain @include(if: $no) ... @skip(if: $yes) { mw } deliveryStart",
    ];
    // The same field twice at once, as apps do that put their fragments together.
    let twice = [
        ("points { mwh } points { issuedAt }", "mwh issuedAt"),
        ("...Curve points { mw }", "deliveryStart mwh mw"),
        ("...Curve ...Curve", "deliveryStart mwh"),
        (
            "points { run { id } } points { run { issuedAt } }",
            "run { id issuedAt }",
        ),
        ("p: points { mwh } p: points { mw } points { mwh }", "mwh"),
    ];
    let fragments = "
        fragment Plain on ForecastPoint { mwh ...More }
        fragment More on ForecastPoint { deliveryEnd issuedAt }
        fragment OfRun on ForecastRun { id }
        fragment Curve on Forecast { points { deliveryStart mwh } }
        query($yes: Boolean!, $no: Boolean!) { unused: viewer { user @include(if: $yes) @skip(if: $no) }";
    let range = "unit: \"plant:1\", provider: \"p\", resolution: PT15M, from: \"2024-04-30T23:00:00Z\", to: \"2024-05-01T02:00:00Z\"";
    let flags = json!({ "yes": true, "no": false });
    // Every fragment is used somewhere: a document with an unused one is no document.
    let all_used = format!(
        "all: forecast({range}) {{ ...Curve points {{ ...Plain ...More run {{ ...OfRun }} }} }}"
    );
    let points = async |of_forecast: &str, field: &str| {
        let query = format!("{fragments} {all_used} forecast({range}) {{ {of_forecast} }} }}");
        let mut data = client.data(&query, flags.clone()).await;
        let points = data["forecast"][field].take();
        assert_eq!(
            points.as_array().map(Vec::len),
            Some(8),
            "{of_forecast}: {points}"
        );
        points
    };
    let general = async |selection: &str| {
        let mut points = points(
            &format!("points {{ {selection} slow: run {{ receivedAt }} }}"),
            "points",
        )
        .await;
        for point in points.as_array_mut().unwrap() {
            let slow = point.as_object_mut().unwrap().remove("slow");
            assert!(slow.unwrap()["receivedAt"].is_string());
        }
        points
    };
    for selection in selections {
        let fast = points(&format!("points {{ {selection} }}"), "points").await;
        assert_eq!(fast, general(selection).await, "{selection}");
    }
    for (selections, merged) in twice {
        let fast = points(selections, "points").await;
        assert_eq!(fast, general(merged).await, "{selections}");
    }
    let both = points("p: points { mwh } p: points { mw }", "p").await;
    assert_eq!(both, general("mwh mw").await);
    // One half plain, the other not.
    let halves = points("points { mwh } points { run { receivedAt id } }", "points").await;
    let whole = points("points { mwh run { receivedAt id } }", "points").await;
    assert_eq!(halves, whole);
    server.stop().await;
}

async fn ranges_are_widened_to_whole_periods(kind: Kind) {
    let (_database, server) = started(kind).await;
    let client = &server.client;
    client.prepare(1).await;
    save(
        client,
        json!([run(
            "2024-04-30T12:00:00Z",
            "2024-05-01T00:00:00Z",
            json!([0.5, 1.5, null, 3.5])
        )]),
    )
    .await;
    let read = async |from: &str, to: &str| {
        let variables = json!({ "unit": "plant:1", "provider": "p", "from": from, "to": to });
        client.graphql(READ, variables).await
    };
    for (from, to, echo, values) in [
        (
            "2024-05-01T00:59:59.5Z",
            "2024-05-01T04:00:00.000001+02:00",
            ["2024-05-01T00:00:00Z", "2024-05-01T03:00:00Z"],
            json!([0.5, 1.5, null]),
        ),
        (
            "2024-05-01T01:00:00Z",
            "2024-05-01T02:00:00Z",
            ["2024-05-01T01:00:00Z", "2024-05-01T02:00:00Z"],
            json!([1.5]),
        ),
        (
            "2024-05-01T03:15:00Z",
            "2024-05-01T03:30:00Z",
            ["2024-05-01T03:00:00Z", "2024-05-01T04:00:00Z"],
            json!([3.5]),
        ),
        // Over the edges of days, one of them never written.
        (
            "2024-04-30T23:30:00Z",
            "2024-05-01T01:00:00Z",
            ["2024-04-30T23:00:00Z", "2024-05-01T01:00:00Z"],
            json!([null, 0.5]),
        ),
    ] {
        let answer = read(from, to).await;
        let forecast = &answer["data"]["forecast"];
        assert_eq!(
            [&forecast["from"], &forecast["to"]],
            [&json!(echo[0]), &json!(echo[1])],
            "{answer}"
        );
        assert_eq!(forecast["values"], values, "{from} {to}");
    }
    for (from, to) in [
        ("2024-05-01T00:00:00Z", "2024-05-01T00:00:00Z"),
        ("2024-05-01T01:00:00Z", "2024-05-01T00:00:00Z"),
        ("1969-12-31T23:00:00Z", "1970-01-01T01:00:00Z"),
        ("2199-12-31T23:00:00Z", "2200-01-01T01:00:00Z"),
    ] {
        let answer = read(from, to).await;
        assert_eq!(code(&answer), "BAD_USER_INPUT", "{answer}");
        assert_eq!(answer["data"], json!({ "forecast": null }));
    }
    server.stop().await;
}

async fn bad_values_are_named_and_nothing_is_saved(kind: Kind) {
    let (_database, server) = started(kind).await;
    let client = &server.client;
    client.prepare(1).await;
    let before = server.log.applied();
    let base = |more: Value| {
        let mut run = json!({ "unit": "plant:1", "provider": "p", "resolution": "PT1H" });
        run.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        run
    };
    let start = "2024-05-01T00:00:00Z";
    let far = (time::OffsetDateTime::now_utc() + time::Duration::days(2)).unix_timestamp();
    let far = time::OffsetDateTime::from_unix_timestamp(far)
        .unwrap()
        .format(&time::format_description::well_known::Rfc3339)
        .unwrap();
    let runs = json!([
        base(json!({ "start": start, "values": [1.0, 2e12, null, -1e13] })),
        base(json!({ "points": [
            { "deliveryStart": "2024-05-01T00:30:00Z", "mwh": 1.0 },
            { "deliveryStart": start, "mwh": 1.0 },
            { "deliveryStart": "2024-05-01T02:00:00+02:00", "mwh": 1e300 },
            { "deliveryStart": "2200-01-01T00:00:00Z", "mwh": 1.0 }] })),
        base(json!({})),
        base(json!({ "start": start })),
        base(json!({ "values": [1.0] })),
        base(json!({ "points": [], "start": start, "values": [1.0] })),
        base(json!({ "points": [] })),
        base(json!({ "start": start, "values": [null, null] })),
        base(json!({ "start": "2024-05-01T00:00:00.5Z", "values": [1.0], "issuedAt": far })),
        base(
            json!({ "start": "2199-12-31T23:00:00Z", "values": [1.0, 2.0], "issuedAt": "1969-12-31T00:00:00Z" })
        ),
        base(json!({ "start": start, "values": [1.0] })),
    ]);
    let answer = client
        .graphql(SAVE, json!({ "runs": runs, "key": "" }))
        .await;
    assert_eq!(code(&answer), "BAD_USER_INPUT");
    assert_eq!(
        violations(&answer),
        [
            "idempotencyKey",
            "runs[0].values[1]",
            "runs[0].values[3]",
            "runs[1].points[0].deliveryStart",
            "runs[1].points[2].deliveryStart",
            "runs[1].points[2].mwh",
            "runs[1].points[3].deliveryStart",
            "runs[2].points",
            "runs[3].points",
            "runs[4].points",
            "runs[5].points",
            "runs[6].points",
            "runs[7].values",
            "runs[8].issuedAt",
            "runs[8].start",
            "runs[9].issuedAt",
            "runs[9].values",
        ],
        "{answer}"
    );
    let answer = client.graphql(SAVE, json!({ "runs": [] })).await;
    assert_eq!(violations(&answer), ["runs"]);
    // At most 100 of them are named.
    let runs = [base(json!({ "start": start, "values": vec![1e13; 250] }))];
    let answer = client.graphql(SAVE, json!({ "runs": runs })).await;
    let paths = violations(&answer);
    assert_eq!((paths.len(), paths[99]), (100, "runs[0].values[99]"));
    // What PostgreSQL cannot keep in a text is bad input, not a failure.
    let good = base(json!({ "start": start, "values": [1.0] }));
    let answer = client
        .graphql(SAVE, json!({ "runs": [good], "key": "a\u{0}" }))
        .await;
    assert_eq!(code(&answer), "BAD_USER_INPUT", "{answer}");
    assert_eq!(violations(&answer), ["idempotencyKey"]);
    assert_eq!(server.log.applied(), before);
    assert_eq!(read(client, Value::Null).await["points"], json!([]));
    server.stop().await;
}

async fn a_save_is_all_or_nothing(kind: Kind) {
    let (_database, server) = started(kind).await;
    let client = &server.client;
    client.prepare(1).await;
    let good = run("2024-04-30T12:00:00Z", "2024-05-01T00:00:00Z", json!([1.0]));
    let with = |field: &str, value: &str| {
        let mut run = good.clone();
        run[field] = json!(value);
        run
    };
    for (bad, path) in [
        (with("unit", "plant:9"), "runs[1].unit"),
        (with("provider", "q"), "runs[1].provider"),
        (with("provider", "No Key"), "runs[1].provider"),
    ] {
        let answer = client.graphql(SAVE, json!({ "runs": [good, bad] })).await;
        assert_eq!(code(&answer), "NOT_FOUND", "{answer}");
        assert_eq!(violations(&answer), [path]);
        assert_eq!(answer["errors"][0]["path"], json!(["saveForecasts"]));
        assert_eq!(read(client, Value::Null).await["points"], json!([]));
    }
    // Several runs of several months are one save with one position, its last.
    let saved = save(
        client,
        json!([
            good,
            run(
                "2024-04-30T12:00:00Z",
                "2024-05-31T23:00:00Z",
                json!([1.0, 2.0])
            )
        ]),
    )
    .await;
    assert_eq!(saved["runs"].as_array().unwrap().len(), 2);
    assert_eq!(saved["position"], json!(server.log.applied().to_string()));
    // Without an issue time it is issued when it arrives.
    let mut now = run("", "2024-05-01T00:00:00Z", json!([9.0]));
    now.as_object_mut().unwrap().remove("issuedAt");
    let saved = save(client, json!([now])).await;
    let latest = read(client, Value::Null).await;
    assert_eq!(latest["values"][0], json!(9.0));
    assert_eq!(latest["points"][0]["run"]["id"], saved["runs"][0]["id"]);
    server.stop().await;
}

async fn an_idempotency_key_is_answered_again(kind: Kind) {
    let (_database, server) = started(kind).await;
    let client = &server.client;
    client.prepare(1).await;
    let one = run("2024-04-30T12:00:00Z", "2024-05-01T00:00:00Z", json!([1.0]));
    let other = run("2024-04-30T12:00:00Z", "2024-05-01T00:00:00Z", json!([2.0]));
    let save_as = async |user: &str, run: &Value| {
        let request = client.http().post(client.url("/graphql"));
        let body = json!({ "query": SAVE, "variables": { "runs": [run], "key": "k" } });
        let request = request.header("SmartPulse-User", user).json(&body);
        request.send().await.unwrap().json::<Value>().await.unwrap()
    };
    let first = save_as("ada", &one).await;
    let again = save_as("ada", &one).await;
    let id = &first["data"]["saveForecasts"]["runs"][0]["id"];
    assert!(id.is_string(), "{first}");
    assert_eq!(&again["data"]["saveForecasts"]["runs"][0]["id"], id);
    // A replay changes nothing, and is answered with a position that includes the save.
    assert_eq!(
        again["data"]["saveForecasts"]["position"],
        first["data"]["saveForecasts"]["position"]
    );
    let conflict = save_as("ada", &other).await;
    assert_eq!(code(&conflict), "CONFLICT");
    assert_eq!(read(client, Value::Null).await["values"][0], json!(1.0));
    // The key is the viewer's own.
    let of_another = save_as("grace", &other).await;
    assert_ne!(&of_another["data"]["saveForecasts"]["runs"][0]["id"], id);
    assert_eq!(read(client, Value::Null).await["values"][0], json!(2.0));
    // A save that failed leaves its key free.
    let mut unknown = one.clone();
    unknown["unit"] = json!("plant:9");
    assert_eq!(code(&save_as("alan", &unknown).await), "NOT_FOUND");
    assert!(save_as("alan", &one).await["errors"].is_null());
    server.stop().await;
}

async fn a_twin_waits_for_the_first(kind: Kind) {
    let (_database, server) = started(kind).await;
    server.client.prepare(1).await;
    let run = run("2024-04-30T12:00:00Z", "2024-05-01T00:00:00Z", json!([1.0]));
    let mut twins = JoinSet::new();
    for _ in 0..8 {
        let (client, run) = (server.client.clone(), run.clone());
        twins.spawn(async move {
            let saved = client
                .data(SAVE, json!({ "runs": [run], "key": "twin" }))
                .await;
            saved["saveForecasts"]["runs"][0]["id"].to_string()
        });
    }
    let mut ids = twins.join_all().await;
    ids.dedup();
    assert_eq!(ids.len(), 1, "{ids:?}");
    server.stop().await;
}

/// Against a curve that is always in memory, with readers that keep it there.
async fn the_next_read_includes_a_save(kind: Kind) {
    const SAVES: usize = 200;
    let (_database, server) = started(kind).await;
    let client = &server.client;
    client.prepare(1).await;
    read(client, Value::Null).await;
    let finished = Arc::new(AtomicBool::new(false));
    let mut readers = JoinSet::new();
    for _ in 0..2 {
        let (client, finished) = (client.clone(), Arc::clone(&finished));
        readers.spawn(async move {
            let mut last = -1.0;
            while !finished.load(Ordering::SeqCst) {
                let forecast = read(&client, Value::Null).await;
                // It never goes back, either.
                let value = forecast["values"][0].as_f64().unwrap_or(-1.0);
                assert!(value >= last, "{value} after {last}");
                last = value;
            }
        });
    }
    for i in 0..SAVES {
        let run = run("2024-04-30T12:00:00Z", "2024-05-01T00:00:00Z", json!([i]));
        let saved = save(client, json!([run])).await;
        let forecast = read(client, Value::Null).await;
        assert_eq!(forecast["values"][0].as_f64(), Some(i as f64), "{forecast}");
        let number = |position: &Value| {
            let position: Position = position.as_str().unwrap().parse().unwrap();
            position.number
        };
        assert!(
            number(&forecast["position"]) >= number(&saved["position"]),
            "{forecast} after {saved}"
        );
    }
    finished.store(true, Ordering::SeqCst);
    readers.join_all().await;
    server.stop().await;
}

async fn another_server_reads_up_to_a_position(kind: Kind) {
    let (database, server) = started(kind).await;
    let other = TestServer::start(database.url()).await;
    server.client.prepare(1).await;
    for i in 0..20 {
        // In its memory before the save.
        if i > 0 {
            read(&other.client, Value::Null).await;
        }
        let run = run("2024-04-30T12:00:00Z", "2024-05-01T00:00:00Z", json!([i]));
        let saved = save(&server.client, json!([run])).await;
        let position: Position = saved["position"].as_str().unwrap().parse().unwrap();
        soon("the other server", other.log.reached(position))
            .await
            .unwrap();
        let forecast = read(&other.client, Value::Null).await;
        assert_eq!(forecast["values"][0].as_f64(), Some(f64::from(i)));
    }
    other.stop().await;
    server.stop().await;
}
