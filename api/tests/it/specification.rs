//! GraphQL by the letter of its specification: what a request means does not
//! depend on what executes it.

use serde_json::{Value, json};

use crate::client::{Client, code};
use crate::server::{Kind, TestServer, on_both, started};
use crate::wait::soon;

on_both!(
    an_absent_variable_changes_nothing,
    a_directive_goes_by_the_default_of_its_variable,
    fields_under_one_key_are_one_field,
);

/// The text of an answer.
async fn text(client: &Client, query: &str, variables: Value) -> String {
    let body = json!({ "query": query, "variables": variables });
    let request = client.http().post(client.url("/graphql")).json(&body);
    request.send().await.unwrap().text().await.unwrap()
}

/// Errors, and nothing that would say that anything was executed.
#[track_caller]
fn assert_refused<'a>(answer: &'a Value, what: &str) -> &'a str {
    assert!(answer.get("data").is_none(), "{what}: {answer}");
    assert_eq!(
        answer["errors"][0]["extensions"]["code"], "BAD_USER_INPUT",
        "{what}: {answer}"
    );
    answer["errors"][0]["message"].as_str().unwrap()
}

async fn server() -> (migration::testing::TestDatabase, TestServer) {
    let (database, server) = started(Kind::Sqlite).await;
    server.client.prepare(2).await;
    (database, server)
}

async fn an_absent_variable_changes_nothing(kind: Kind) {
    let (_database, server) = started(kind).await;
    let client = &server.client;
    let upsert = "mutation($mw: Float, $parent: UnitKey, $email: String, $locale: String) {
        upsertUnits(input: { units: [{ key: \"plant:1\", capacityMw: $mw, parent: $parent }] }) { position }
        upsertUsers(input: { users: [{ key: \"ada\", email: $email, locale: $locale }] }) { users { key } } }";
    let read =
        "{ unit(key: \"plant:1\") { capacityMw parent { key } } users { nodes { email locale } } }";
    client
        .data(
            "mutation { upsertUnits(input: { units: [{ key: \"group:1\" }] }) { position } }",
            Value::Null,
        )
        .await;
    let all =
        json!({ "mw": 12.5, "parent": "group:1", "email": "ada@example.com", "locale": "tr" });
    client.data(upsert, all).await;
    let before = client.data(read, Value::Null).await;
    assert_eq!(
        before,
        json!({ "unit": { "capacityMw": 12.5, "parent": { "key": "group:1" } },
                "users": { "nodes": [{ "email": "ada@example.com", "locale": "tr" }] } })
    );
    for absent in [Value::Null, json!({}), json!({ "other": null })] {
        client.data(upsert, absent).await;
        assert_eq!(client.data(read, Value::Null).await, before);
    }
    let nulls = json!({ "mw": null, "parent": null, "email": null, "locale": null });
    client.data(upsert, nulls).await;
    assert_eq!(
        client.data(read, Value::Null).await,
        json!({ "unit": { "capacityMw": null, "parent": null },
                "users": { "nodes": [{ "email": null, "locale": null }] } })
    );
    server.stop().await;
}

async fn a_directive_goes_by_the_default_of_its_variable(kind: Kind) {
    let (_database, server) = started(kind).await;
    let client = &server.client;
    let query = "query($s: Boolean = true, $i: Boolean! = false) {
        viewer { user } position @skip(if: $s) unreadCount @include(if: $i) }";
    let keys = async |variables: Value| {
        let data = client.data(query, variables).await;
        let keys = data.as_object().unwrap().keys().cloned();
        keys.collect::<Vec<String>>().join(" ")
    };
    assert_eq!(keys(Value::Null).await, "viewer");
    assert_eq!(keys(json!({ "s": false })).await, "position viewer");
    assert_eq!(
        keys(json!({ "s": false, "i": true })).await,
        "position unreadCount viewer"
    );
    let save = "mutation($s: Boolean = true) {
        upsertUnits(input: { units: [{ key: \"plant:9\" }] }) @skip(if: $s) { position } }";
    assert_eq!(client.data(save, Value::Null).await, json!({}));
    let unit = "{ unit(key: \"plant:9\") { key } }";
    assert_eq!(
        client.data(unit, Value::Null).await,
        json!({ "unit": null })
    );
    let required = "query($s: Boolean!) { position @skip(if: $s) }";
    for (query, variables) in [
        (required, Value::Null),
        (required, json!({ "s": null })),
        (required, json!({ "s": "true" })),
        (query, json!({ "s": null })),
    ] {
        let answer = client.graphql(query, variables.clone()).await;
        let message = assert_refused(&answer, &variables.to_string());
        assert!(message.starts_with("$s: "), "{message}");
    }
    server.stop().await;
}

async fn fields_under_one_key_are_one_field(kind: Kind) {
    let (_database, server) = started(kind).await;
    let client = &server.client;
    client.prepare(1).await;
    let viewer = client.data("{ viewer { user } }", Value::Null).await;
    let user = &viewer["viewer"]["user"];
    client
        .data(
            "mutation($key: String!) { upsertUsers(input: { users: [{ key: $key }] }) { users { key } } }",
            json!({ "key": user }),
        )
        .await;
    let send = "sendNotification(input: { to: { users: [$user] }, title: \"once\" })";
    let query = format!(
        "mutation($user: String!) {{ a: {send} {{ position }} ...F a: {send} {{ __typename }} }}
         fragment F on Mutation {{ a: {send} {{ position __typename }} }}"
    );
    let sent = client.data(&query, json!({ "user": user })).await;
    assert_eq!(sent["a"].as_object().unwrap().len(), 2, "{sent}");
    let listed = client
        .data("{ notifications { nodes { title } } }", Value::Null)
        .await;
    assert_eq!(
        listed["notifications"]["nodes"],
        json!([{ "title": "once" }])
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_absent_argument_has_its_default() {
    let (_database, server) = server().await;
    let client = &server.client;
    let preview = "query($f: String, $t: String! = \"Given\") { mailPreview(template: $f, title: $t) { subject } }";
    let without = "{ mailPreview(title: \"Given\") { subject } }";
    let expect = client.data(without, Value::Null).await;
    assert_eq!(client.data(preview, Value::Null).await, expect);
    assert_eq!(client.data(preview, json!({ "f": "plain" })).await, expect);
    // Null is not absent, and the argument takes none: that is the field's error.
    let answer = client.graphql(preview, json!({ "f": null })).await;
    assert_eq!(answer["data"], Value::Null, "{answer}");
    assert_eq!(code(&answer), "BAD_USER_INPUT");
    assert_eq!(answer["errors"][0]["path"], json!(["mailPreview"]));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_valid_is_not_executed() {
    let (_database, server) = server().await;
    let client = &server.client;
    for invalid in [
        // Conflicting selections, also below equal fields and across fragments.
        "{ a: position a: unreadCount }",
        "{ viewer { a: user } viewer { a: roles } }",
        "{ units { nodes { a: key } } ...F } fragment F on Query { units { nodes { a: name } } }",
        "{ a: unit(key: \"plant:1\") { key } a: unit(key: \"plant:2\") { key } }",
        "{ node(id: \"x\") { ... on Unit { a: name } ... on Provider { a: id } } }",
        "{ a: units(filter: { keys: [] }) { nodes { key } } a: units(filter: { keys: [\"plant:2\"] }) { nodes { key } } }",
        "{ a: units(filter: { keys: [] }) { nodes { key } } a: units(filter: { keys: [\"plant:2\"] }) @skip(if: true) { nodes { key } } }",
        // Keys that an object has twice, wherever it stands.
        "{ units(filter: { nameContains: \"A\", nameContains: \"B\" }) { nodes { key } } }",
        "mutation { upsertUnits(input: { units: [{ key: \"plant:77\", name: \"A\", name: \"B\" }] }) { position } }",
        "query($f: UnitFilter = { parent: \"group:1\", parent: \"group:2\" }) { units(filter: $f) { nodes { key } } }",
        "{ mailPreview(variables: { a: [{ b: 1, b: 2 }] }) { subject } }",
        // Variables that nobody declares, below values of any kind.
        "{ mailPreview(variables: { a: $nope }) { subject } }",
        "query A($nope: JSON) { ...F } query B { ...F } fragment F on Query { mailPreview(variables: { a: [$nope] }) { subject } }",
        // Directives are looked at wherever they stand.
        "{ __typename @nothing }",
        "{ __typename @skip }",
        "{ ... @defer { position } }",
        "{ position @skip(if: true) @skip(if: false) }",
        // Literals of every scalar.
        "{ unit(key: 5) { key } }",
        "{ unit(key: \"plant\") { key } }",
        "{ unit(key: null) { key } }",
        "{ unit(key: \"plant:1\") { capacityMw(at: \"2026-11-29\") } }",
        "{ units(first: 3000000000) { nodes { key } } }",
        "{ units(first: \"1\") { nodes { key } } }",
        "{ units(filter: { keys: [\"plant:1\", 7] }) { nodes { key } } }",
        "query($k: UnitKey = 5) { unit(key: $k) { key } }",
        "subscription { changes(after: \"nowhere\") { position } }",
        "{ units(filter: { nothing: 1 }) { nodes { key } } }",
        "{ units(orderBy: SIDEWAYS) { nodes { key } } }",
        "{ units(orderBy: \"KEY_ASC\") { nodes { key } } }",
        // Exactly one.
        "{ forecast(unit: \"plant:1\", provider: \"p\", resolution: PT1H, from: \"2024-01-01T00:00:00Z\", to: \"2024-01-02T00:00:00Z\", view: {}) { position } }",
        "{ forecast(unit: \"plant:1\", provider: \"p\", resolution: PT1H, from: \"2024-01-01T00:00:00Z\", to: \"2024-01-02T00:00:00Z\", view: { runId: \"run:1\", knownAt: \"2024-01-01T00:00:00Z\" }) { position } }",
        "{ forecast(unit: \"plant:1\", provider: \"p\", resolution: PT1H, from: \"2024-01-01T00:00:00Z\", to: \"2024-01-02T00:00:00Z\", view: { runId: null }) { position } }",
        // What is declared is used, and what is used is declared.
        "query($k: UnitKey) { position }",
        "{ unit(key: $k) { key } }",
        "query($k: UnitKey) { unit(key: $k) { key } }",
        "query($k: UnitKey = null) { unit(key: $k) { key } }",
        "query($k: UnitKey! = null) { unit(key: $k) { key } }",
        "query($k: String!) { unit(key: $k) { key } }",
        "query($k: Nothing) { unit(key: $k) { key } }",
        "{ position } fragment F on Query { position }",
        "{ ...F } fragment F on Query { ...F }",
        // Selections where there is something to select, and only there.
        "{ viewer }",
        "{ viewer {} }",
        "{ position { nothing } }",
        "{}",
        "",
        "query A { position } query A { position }",
        "query A { position } { position }",
        "subscription { a: changes { position } b: changes { position } }",
        "subscription { __typename }",
        "subscription { changes @include(if: true) { position } }",
        "type T { f: Int }",
    ] {
        let answer = client.graphql(invalid, Value::Null).await;
        let message = assert_refused(&answer, invalid);
        assert!(message.len() < 1000, "{invalid}: {message}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_newest_edition_is_read() {
    let (_database, server) = server().await;
    let client = &server.client;
    let name = async |literal: &str| {
        let save = format!(
            "mutation {{ upsertUnits(input: {{ units: [{{ key: \"plant:1\", name: {literal} }}] }}) {{ units {{ name }} }} }}"
        );
        client.data(&save, Value::Null).await["upsertUnits"]["units"][0]["name"].take()
    };
    for (literal, expect) in [
        (r#""\ud83d\udca8""#, "\u{1F4A8}"),
        (r#""\u{1F4A8}""#, "\u{1F4A8}"),
        (r#""\u0041\"\/""#, "A\"/"),
        (
            r#""""  a "quoted" \""" block  """"#,
            "  a \"quoted\" \"\"\" block  ",
        ),
    ] {
        assert_eq!(name(literal).await, expect, "{literal}");
    }
    for lone in [r#""\ud83d""#, r#""\u{110000}""#, r#""\x""#] {
        let query = format!("{{ provider(key: {lone}) {{ key }} }}");
        assert_refused(&client.graphql(&query, Value::Null).await, lone);
    }
    for query in [
        "\u{feff}{ position }",
        "\"Where the log is.\" query Where { position }",
        "\"\"\"Where\nthe log is.\"\"\" query Where(\"Unused\" $s: Boolean! = false) { position @skip(if: $s) }",
        "\"A part.\" fragment F on Query { position } query { ...F }",
    ] {
        let data = client.data(query, Value::Null).await;
        assert!(data["position"].is_string(), "{query}: {data}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_field_is_null_or_its_parent_is() {
    let (_database, server) = server().await;
    let client = &server.client;
    let none = "forecast(unit: \"plant:9\", provider: \"p\", resolution: PT1H, from: \"2024-05-01T00:00:00Z\", to: \"2024-05-01T01:00:00Z\")";
    for (query, data, paths) in [
        (
            "{ units(first: -1) { nodes { key } } position }".to_owned(),
            "null",
            json!([["units"]]),
        ),
        (
            format!(
                "{{ __typename gone: {none} {{ position }} unit(key: \"plant:1\") {{ key }} }}"
            ),
            r#"{"__typename":"Query","gone":null,"unit":{"key":"plant:1"}}"#,
            json!([["gone"]]),
        ),
        (
            format!("{{ gone: {none} {{ position }} }}"),
            r#"{"gone":null}"#,
            json!([["gone"]]),
        ),
    ] {
        let text = text(client, &query, Value::Null).await;
        let answer: Value = serde_json::from_str(&text).unwrap();
        assert!(
            text.starts_with(&format!("{{\"data\":{data},")),
            "{query}: {text}"
        );
        let errors = answer["errors"].as_array().unwrap().iter();
        let found: Vec<&Value> = errors.map(|error| &error["path"]).collect();
        assert_eq!(json!(found), paths, "{text}");
    }
    // The same over a websocket: a result, and not an error of the request.
    let mut socket = client
        .subscribe(
            "{ units(first: -1) { nodes { key } } position }",
            Value::Null,
        )
        .await;
    let payload = socket.next().await.unwrap();
    assert_eq!(payload.get("data"), Some(&Value::Null), "{payload}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_stand_in_the_order_of_the_document() {
    let (_database, server) = server().await;
    let client = &server.client;
    for (query, expect) in [
        (
            "{ b: unit(key: \"plant:1\") { name key } units(first: 1) { nodes { name key } } a: __typename }",
            r#"{"data":{"b":{"name":"plant:1","key":"plant:1"},"units":{"nodes":[{"name":"plant:1","key":"plant:1"}]},"a":"Query"}}"#,
        ),
        (
            "{ unit(key: \"plant:1\") { key ...F name } } fragment F on Unit { parent { key } name key type }",
            r#"{"data":{"unit":{"key":"plant:1","parent":null,"name":"plant:1","type":"PLANT"}}}"#,
        ),
        // All that is selected is skipped: there still is the object.
        (
            "{ unit(key: \"plant:1\") { key @skip(if: true) } none: unit(key: \"plant:9\") { key @skip(if: true) } }",
            r#"{"data":{"unit":{},"none":null}}"#,
        ),
        ("{ position @skip(if: true) }", r#"{"data":{}}"#),
        (
            "{ units { nodes { ... on Unit @include(if: false) { key } } } }",
            r#"{"data":{"units":{"nodes":[{},{}]}}}"#,
        ),
        (
            "query($id: ID!) { node(id: $id) { ... on Provider { key } ...N ... on Unit { name } } } fragment N on Node { __typename id }",
            r#"{"data":{"node":{"__typename":"Unit","id":"unit:plant:1","name":"plant:1"}}}"#,
        ),
        (
            "query($id: ID!) { node(id: $id) { ... on Provider { key } } }",
            r#"{"data":{"node":{}}}"#,
        ),
        (
            "query($id: ID!) { node(id: $id) { ... on Unit { parent { key } } } }",
            r#"{"data":{"node":{"parent":null}}}"#,
        ),
    ] {
        assert_eq!(
            text(client, query, json!({ "id": "unit:plant:1" })).await,
            expect,
            "{query}"
        );
    }
    client.save_hour(1).await;
    let points = text(
        client,
        "{ forecast(unit: \"plant:1\", provider: \"p\", resolution: PT1H, from: \"2024-05-01T00:00:00Z\", to: \"2024-05-01T01:00:00Z\") {
            values points { mwh @skip(if: true) } all: points { mwh deliveryStart } resolved: points { mwh run { id receivedAt @skip(if: true) } } } }",
        Value::Null,
    )
    .await;
    assert!(
        points.starts_with(
            r#"{"data":{"forecast":{"values":[1.0],"points":[{}],"all":[{"mwh":1.0,"deliveryStart":"2024-05-01T00:00:00Z"}],"resolved":[{"mwh":1.0,"run":{"id":"run:"#
        ),
        "{points}"
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn variables_are_coerced_to_their_types() {
    let (_database, server) = server().await;
    let client = &server.client;
    let units = "query($filter: UnitFilter, $first: Int) { units(filter: $filter, first: $first) { nodes { key } } }";
    for (variables, count) in [
        (json!({}), 2),
        (json!({ "first": 1 }), 1),
        // One value where a list is expected is a list of it.
        (json!({ "filter": { "keys": "plant:1" } }), 1),
        (json!({ "filter": { "types": "COMPANY" } }), 0),
        // What nobody declared does not count.
        (json!({ "first": 1, "nothing": { "at": "all" } }), 1),
    ] {
        let data = client.data(units, variables.clone()).await;
        let nodes = data["units"]["nodes"].as_array().unwrap();
        assert_eq!(nodes.len(), count, "{variables}");
    }
    let by_number = "query($id: ID!) { node(id: $id) { id } }";
    let answer = client.graphql(by_number, json!({ "id": 7 })).await;
    assert_eq!(answer["data"], json!({ "node": null }), "{answer}");
    let save = "mutation($input: UpsertUnitsInput!) { upsertUnits(input: $input) { position } }";
    let long = "x".repeat(1 << 20);
    let unit = |field: &str, value: Value| json!({ "input": { "units": [{ "key": "plant:1", field: value }] } });
    for (query, variables, path, says) in [
        (
            save,
            unit("capacityMw", json!("12")),
            "$input.units[0].capacityMw",
            "a number",
        ),
        (
            save,
            unit("capacityMw", json!(long)),
            "$input.units[0].capacityMw",
            "a number",
        ),
        (
            save,
            unit("capacityMw", json!([1])),
            "$input.units[0].capacityMw",
            "a list",
        ),
        (
            save,
            unit("key", json!("plant")),
            "$input.units[0].key",
            "for example plant:12345",
        ),
        (
            save,
            unit("key", Value::Null),
            "$input.units[0].key",
            "UnitKey!",
        ),
        (
            save,
            unit("capacityValidFrom", json!("2026-11-29")),
            "$input.units[0].capacityValidFrom",
            "2024-05-01T12:00:00Z",
        ),
        (
            save,
            unit(&long, json!(1)),
            "$input.units[0].xxx",
            "UnitInput has no field",
        ),
        (
            save,
            json!({ "input": { "units": [{ "name": "x" }] } }),
            "$input.units[0]",
            "the field key (UnitKey!) is missing",
        ),
        (save, json!({ "input": 1 }), "$input", "UpsertUnitsInput"),
        (save, json!({}), "$input", "missing"),
        (save, json!({ "input": null }), "$input", "not null"),
        (units, json!({ "first": 1.5 }), "$first", "whole number"),
        (
            units,
            json!({ "first": 3_000_000_000_u32 }),
            "$first",
            "whole number",
        ),
        (
            units,
            json!({ "filter": { "types": ["PLANT", "SUN"] } }),
            "$filter.types[1]",
            "COMPANY, GROUP, PLANT",
        ),
        (by_number, json!({ "id": 1.5 }), "$id", "an id"),
    ] {
        let answer = client.graphql(query, variables).await;
        let message = assert_refused(&answer, path);
        assert!(message.starts_with(path), "{path}: {message}");
        assert!(message.contains(says), "{path}: {message}");
        assert!(
            answer.to_string().len() < 2000,
            "{path}: {}",
            answer.to_string().len()
        );
        let violation = &answer["errors"][0]["extensions"]["violations"][0]["path"];
        assert!(violation.as_str().unwrap().starts_with(path), "{answer}");
    }
    let view = "query($view: ForecastView) { forecast(unit: \"plant:1\", provider: \"p\", resolution: PT1H, from: \"2024-01-01T00:00:00Z\", to: \"2024-01-02T00:00:00Z\", view: $view) { position } }";
    for (given, fits) in [
        (json!(null), true),
        (json!({ "knownAt": "2024-01-01T00:00:00Z" }), true),
        (json!({}), false),
        (json!({ "runId": null }), false),
        (
            json!({ "runId": "run:1", "knownAt": "2024-01-01T00:00:00Z" }),
            false,
        ),
        (
            json!({ "runId": null, "knownAt": "2024-01-01T00:00:00Z" }),
            false,
        ),
    ] {
        let answer = client.graphql(view, json!({ "view": given })).await;
        if fits {
            assert_eq!(answer["errors"], Value::Null, "{answer}");
        } else {
            let message = assert_refused(&answer, &given.to_string());
            assert!(
                message.contains("exactly one of the fields knownAt, runId"),
                "{message}"
            );
        }
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_in_a_request_passes_for_something_else() {
    let (_database, server) = server().await;
    let client = &server.client;
    const TOKEN: &str = "$serde_json::private::RawValue";
    let preview = "query($v: JSON) { mailPreview(variables: $v) { subject } }";
    for variables in [
        json!({ "v": { TOKEN: "{}" } }),
        json!({ "v": { "a": [{ TOKEN: "{}" }] } }),
        json!({ "v": {}, TOKEN: 1 }),
        json!({ "other": { "$serde_json::private::Number": "1" } }),
    ] {
        let answer = client.graphql(preview, variables.clone()).await;
        let message = assert_refused(&answer, &variables.to_string());
        assert!(message.contains("reserved"), "{message}");
        let mut socket = client.subscribe(preview, variables.clone()).await;
        assert_refused(&socket.next().await.unwrap(), &variables.to_string());
    }
    let many = json!({ "other": vec![0; 1_000_001] });
    let answer = client.graphql("{ position }", many).await;
    assert_eq!(code(&answer), "TOO_COMPLEX", "{answer}");
    let fits = json!({ "other": vec![0; 999_000] });
    client.data("{ position }", fits).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn introspection_has_limits_of_its_own() {
    let database = Kind::Sqlite.database().await;
    let server = TestServer::start_with(database.url(), &["--limit-depth", "2"]).await;
    let client = &server.client;
    // As GraphiQL asks.
    let of_type = (0..9).fold("kind name".to_owned(), |below, _| {
        format!("kind name ofType {{ {below} }}")
    });
    let query = format!(
        "query Introspection($deprecated: Boolean = true) {{ position __schema {{
            description queryType {{ name kind }} mutationType {{ name }} subscriptionType {{ name }}
            types {{ ...FullType }}
            directives {{ name description isRepeatable locations args(includeDeprecated: $deprecated) {{ ...InputValue }} }} }} }}
        fragment FullType on __Type {{ kind name description specifiedByURL isOneOf
            fields(includeDeprecated: $deprecated) {{ name description args(includeDeprecated: $deprecated) {{ ...InputValue }}
                type {{ ...TypeRef }} isDeprecated deprecationReason }}
            inputFields(includeDeprecated: $deprecated) {{ ...InputValue }}
            interfaces {{ ...TypeRef }}
            enumValues(includeDeprecated: $deprecated) {{ name description isDeprecated deprecationReason }}
            possibleTypes {{ ...TypeRef }} }}
        fragment InputValue on __InputValue {{ name description type {{ ...TypeRef }} defaultValue isDeprecated deprecationReason }}
        fragment TypeRef on __Type {{ {of_type} }}"
    )
    .replace("inputFields(includeDeprecated: $deprecated)", "inputFields(includeDeprecated: true)");
    let data = client.data(&query, Value::Null).await;
    assert!(data["position"].is_string(), "{data}");
    let types = data["__schema"]["types"].as_array().unwrap();
    let of = |name: &str| types.iter().find(|ty| ty["name"] == name).unwrap();
    assert_eq!(of("ForecastView")["isOneOf"], true);
    assert_eq!(
        of("DateTime")["specifiedByURL"],
        "https://datatracker.ietf.org/doc/html/rfc3339"
    );
    assert_eq!(of("Unit")["interfaces"][0]["name"], "Node");
    let (_, sdl) = client.get("/schema.graphql").await;
    assert!(sdl.contains("scalar DateTime @specifiedBy(url:"), "{sdl}");
    let round = |levels: usize| {
        let open = "fields { type { ".repeat(levels);
        format!(
            "{{ __type(name: \"Position\") {{ {open} name {} }} }}",
            "} } ".repeat(levels)
        )
    };
    client.data(&round(4), Value::Null).await;
    let answer = client.graphql(&round(5), Value::Null).await;
    assert_eq!(code(&answer), "TOO_COMPLEX", "{answer}");
    // What is not introspection has the limit that was set.
    let answer = client
        .graphql("{ units { nodes { key } } }", Value::Null)
        .await;
    assert_eq!(code(&answer), "TOO_COMPLEX", "{answer}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_weighs_too_much_is_not_made() {
    let (_database, server) = server().await;
    let client = &server.client;
    let wide = |count: usize, years: usize| {
        let aliases: String = (0..count).map(|i| format!("a{i}: values ")).collect();
        format!(
            "{{ forecast(unit: \"plant:1\", provider: \"p\", resolution: PT15M, from: \"2020-01-01T00:00:00Z\", to: \"{}-01-01T00:00:00Z\") {{ {aliases} }} }}",
            2020 + years
        )
    };
    let answer = client.graphql(&wide(90, 5), Value::Null).await;
    assert_eq!(code(&answer), "TOO_COMPLEX", "{answer}");
    assert!(answer.get("data").is_none(), "{answer}");
    let message = answer["errors"][0]["message"].as_str().unwrap();
    assert!(
        message.contains("at most 67108864 are allowed"),
        "{message}"
    );
    let mut socket = client.subscribe(&wide(90, 5), Value::Null).await;
    assert_eq!(code(&socket.next().await.unwrap()), "TOO_COMPLEX");
    client.data(&wide(2, 5), Value::Null).await;
    // What it costs is told to who asks, by a header or in the request.
    let body = json!({ "query": wide(1, 1) });
    let request = client.http().post(client.url("/graphql")).json(&body);
    let request = request.header("smartpulse-cost", "1");
    let answer: Value = request.send().await.unwrap().json().await.unwrap();
    let told = &answer["extensions"]["cost"];
    let text = answer["data"].to_string().len() as u64;
    let cost = told["bytes"].as_u64().unwrap();
    assert!(
        (text / 2..text * 4).contains(&cost),
        "{text} bytes cost {cost}"
    );
    assert_eq!(told["limit"], 67_108_864);
    let body = json!({ "query": "{ position }", "extensions": { "cost": true } });
    let request = client.http().post(client.url("/graphql")).json(&body);
    let answer: Value = request.send().await.unwrap().json().await.unwrap();
    assert!(answer["extensions"]["cost"]["bytes"].is_u64(), "{answer}");
    let untold = client.graphql("{ position }", Value::Null).await;
    assert_eq!(untold["extensions"], Value::Null);
    server.stop().await;
}

/// The chain of a fragment of `Query` within the next, each of so many selections
/// in one another.
fn chain(fragments: usize, levels: usize) -> String {
    let (open, close) = ("... { ".repeat(levels), "} ".repeat(levels));
    let links = (0..fragments).map(|i| {
        let next = i + 1;
        format!("fragment A{i} on Query {{ {open} ...A{next} {close} }} ")
    });
    let links: String = links.collect();
    format!("{{ ...A0 }} {links} fragment A{fragments} on Query {{ position }}")
}

/// Fragments that spread each other in so many ways that following them all takes
/// time without end.
fn round_and_round(n: usize) -> String {
    let links = (1..n).map(|i| {
        let (before, next) = (i - 1, i + 1);
        format!(
            "fragment C{i} on Unit {{ z: parent {{ ...C{before} }} a: parent {{ ...E{i} }} b: parent {{ ...E{i} }} }}
             fragment E{i} on Unit {{ a: parent {{ ...C{next} }} b: parent {{ ...C{next} }} }} "
        )
    });
    let links: String = links.collect();
    format!(
        "{{ unit(key: \"plant:1\") {{ ...C{n} }} }}
         fragment C0 on Unit {{ a: parent {{ ...C0 ...C1 }} b: parent {{ ...C0 }} }}
         {links} fragment C{n} on Unit {{ z: parent {{ ...C{} }} key }}",
        n - 1
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_documents_are_refused_at_once() {
    let (_database, server) = server().await;
    let client = &server.client;
    for (what, document, refusal) in [
        ("a chain of deep fragments", chain(80, 60), "TOO_COMPLEX"),
        ("a chain of many fragments", chain(900, 0), "TOO_COMPLEX"),
        (
            "fragments in a circle",
            round_and_round(12),
            "BAD_USER_INPUT",
        ),
        (
            "a long text",
            format!("{{ unit(key: \"{}\") {{ key }} }}", "x".repeat(256 << 10)),
            "TOO_COMPLEX",
        ),
        (
            "a long comment",
            format!("{{ position }} # {}", "x".repeat(256 << 10)),
            "TOO_COMPLEX",
        ),
    ] {
        let answer = soon(what, client.graphql(&document, Value::Null)).await;
        assert_eq!(code(&answer), refusal, "{what}: {answer}");
        assert!(answer.get("data").is_none(), "{what}: {answer}");
    }
    let answer = client.graphql(&round_and_round(2), Value::Null).await;
    let message = assert_refused(&answer, "a circle");
    assert!(message.contains("is a part of itself"), "{message}");
    let data = client.data(&chain(30, 4), Value::Null).await;
    assert!(data["position"].is_string(), "{data}");
    server.stop().await;
}

/// What a list that input decides, and a variable that many use, may cost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_variables_are_answered_or_refused() {
    let (_database, server) = server().await;
    let client = &server.client;
    let keys: Vec<String> = (1..=40_000).map(|i| format!("plant:{i}")).collect();
    let query = "query($k: [UnitKey!]) { units(filter: { keys: $k }) { nodes { key } } }";
    let data = client.data(query, json!({ "k": keys })).await;
    assert!(data["units"]["nodes"].is_array(), "{data}");
    let aliases: String = (0..99)
        .map(|i| format!("a{i}: notifications(filter: {{ categories: $k }}) {{ nodes {{ id }} }} "))
        .collect();
    let many = format!("query($k: [String!]) {{ {aliases} }}");
    let answer = client.graphql(&many, json!({ "k": keys })).await;
    assert_eq!(code(&answer), "TOO_COMPLEX", "{answer}");
    // A long text is copied for each use, too.
    let uses = "$t ".repeat(5_000);
    for query in [
        format!(
            "query($t: String!) {{ notifications(filter: {{ categories: [{uses}] }}) {{ nodes {{ id }} }} }}"
        ),
        format!("query($t: JSON) {{ mailPreview(variables: {{ a: [{uses}] }}) {{ subject }} }}"),
    ] {
        let answer = client
            .graphql(&query, json!({ "t": "t".repeat(1 << 20) }))
            .await;
        assert_eq!(code(&answer), "TOO_COMPLEX", "{answer}");
    }
    // Many operations that declare none of many variables.
    let names: String = (0..2_000).map(|i| format!("$v{i} ")).collect();
    let operations: String = (0..300)
        .map(|i| format!("query A{i} {{ ...F }} "))
        .collect();
    let fragment = format!(
        "fragment F on Query {{ mailPreview(variables: {{ a: [{names}] }}) {{ subject }} }}"
    );
    let answer = client
        .graphql(&format!("{operations}{fragment}"), Value::Null)
        .await;
    let errors = answer["errors"].as_array().unwrap();
    assert!((1..=20).contains(&errors.len()), "{}", errors.len());
    assert!(
        errors[0]["message"]
            .as_str()
            .unwrap()
            .contains("is not declared"),
        "{}",
        errors[0]
    );
    // Of much input that is wrong, a few errors are told.
    let unknown: serde_json::Map<String, Value> =
        (0..100_000).map(|i| (format!("k{i}"), json!(0))).collect();
    let query = "mutation($input: UpsertUnitsInput!) { upsertUnits(input: $input) { position } }";
    let answer = soon(
        "an answer",
        client.graphql(query, json!({ "input": unknown })),
    )
    .await;
    assert_eq!(answer["errors"].as_array().unwrap().len(), 20);
    // Extensions that nobody reads are passed over.
    let body = json!({ "query": "{ position }", "extensions": { "x": [[0], { "y": 1.5 }], "minPosition": null } });
    let request = client.http().post(client.url("/graphql")).json(&body);
    let answer: Value = request.send().await.unwrap().json().await.unwrap();
    assert!(answer["data"]["position"].is_string(), "{answer}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn introspection_is_weighed_and_its_errors_are_told() {
    let (_database, server) = server().await;
    let client = &server.client;
    let repeated = |name: &str, count: usize, below: &str| -> String {
        (0..count).map(|i| format!("{name}{i}: {below} ")).collect()
    };
    let wide = format!(
        "{{ {} }} fragment F on __Type {{ {} }} fragment X on __Field {{ {} }}",
        repeated("s", 22, "__schema { types { ...F } }"),
        repeated("f", 22, "fields { ...X }"),
        repeated("x", 20, "description"),
    );
    let answer = soon("an answer", client.graphql(&wide, Value::Null)).await;
    assert_eq!(code(&answer), "TOO_COMPLEX", "{answer}");
    let standard = "{ __schema { types { ...T } directives { name args { ...V } } } }
        fragment T on __Type { kind name description fields(includeDeprecated: true) { name description
            args { ...V } type { ...R } } inputFields { ...V } interfaces { ...R }
            enumValues(includeDeprecated: true) { name description } possibleTypes { ...R } }
        fragment V on __InputValue { name description type { ...R } defaultValue }
        fragment R on __Type { kind name ofType { kind name ofType { kind name ofType { kind name } } } }";
    let body = json!({ "query": standard, "extensions": { "cost": true } });
    let request = client.http().post(client.url("/graphql")).json(&body);
    let answer: Value = request.send().await.unwrap().json().await.unwrap();
    let text = answer["data"].to_string().len() as u64;
    let cost = answer["extensions"]["cost"]["bytes"].as_u64().unwrap();
    assert!(
        (text / 2..text * 40).contains(&cost),
        "{text} bytes cost {cost}"
    );
    // It fails like any other field.
    let query = "query($d: Boolean = true) { __type(name: \"Unit\") { fields(includeDeprecated: $d) { name } } }";
    let answer = client.graphql(query, json!({ "d": null })).await;
    assert_eq!(
        answer["data"],
        json!({ "__type": { "fields": null } }),
        "{answer}"
    );
    assert_eq!(code(&answer), "BAD_USER_INPUT", "{answer}");
    assert_eq!(answer["errors"][0]["path"], json!(["__type", "fields"]));
    let query = "query($d: Boolean = true) { position __schema { directives(includeDeprecated: $d) { name } } }";
    let answer = client.graphql(query, json!({ "d": null })).await;
    assert_eq!(answer["data"], Value::Null, "{answer}");
    assert_eq!(code(&answer), "BAD_USER_INPUT", "{answer}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_stops_at_its_limit() {
    let database = Kind::Sqlite.database().await;
    let server = TestServer::start_with(database.url(), &["--limit-answer-bytes=1000000"]).await;
    let client = &server.client;
    let texts: String = (0..90).map(|i| format!("a{i}: text ")).collect();
    let query = format!("query($t: String!) {{ mailPreview(title: $t, body: $t) {{ {texts} }} }}");
    let answer = client
        .graphql(&query, json!({ "t": "x".repeat(10_000) }))
        .await;
    assert_eq!(code(&answer), "TOO_COMPLEX", "{answer}");
    assert!(answer.get("data").is_none(), "{answer}");
    let answer = client.graphql(&query, json!({ "t": "x" })).await;
    assert!(answer["data"]["mailPreview"].is_object(), "{answer}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directive_decides_for_its_own_operation() {
    let (_database, server) = server().await;
    let document = "query A($s: Boolean!) { position @skip(if: $s) }
        query B($s: UnitKey) { units(filter: { parent: $s }) { nodes { key } } }";
    let body = json!({ "query": document, "operationName": "B", "variables": { "s": null } });
    let client = &server.client;
    let request = client.http().post(client.url("/graphql")).json(&body);
    let answer: Value = request.send().await.unwrap().json().await.unwrap();
    assert!(answer["data"]["units"]["nodes"].is_array(), "{answer}");
    server.stop().await;
}
