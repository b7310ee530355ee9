//! What is refused, and how it is said.

use sea_orm::ConnectionTrait;
use serde_json::{Value, json};

use crate::client::{Client, code};
use crate::server::{Kind, TestServer, on_both, started};
use crate::wait::soon;

on_both!(
    errors_tell_nothing_of_the_database,
    text_that_the_database_cannot_keep_is_bad_input,
);

/// A server that these tests may share the kind of: what they refuse never
/// comes to a database.
async fn server() -> (migration::testing::TestDatabase, TestServer) {
    let (database, server) = started(Kind::Sqlite).await;
    server.client.prepare(1).await;
    (database, server)
}

/// A forecast of so many quarter-hours.
fn forecast(alias: &str, periods: i64) -> String {
    let to = time::OffsetDateTime::from_unix_timestamp(periods * 900).unwrap();
    let to = to
        .format(&time::format_description::well_known::Rfc3339)
        .unwrap();
    format!(
        "{alias}: forecast(unit: \"plant:1\", provider: \"p\", resolution: PT15M, from: \"1970-01-01T00:00:00Z\", to: \"{to}\") {{ position }} "
    )
}

fn nested(depth: usize) -> String {
    let open = "parent { ".repeat(depth - 2);
    let close = "} ".repeat(depth - 2);
    format!("{{ unit(key: \"plant:1\") {{ {open} key {close} }} }}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_document_may_not_be_too_complex() {
    let (_database, server) = server().await;
    let client = &server.client;
    let aliases =
        |count: usize| (0..count).fold(String::new(), |all, i| all + &format!("a{i}: __typename "));
    for (what, fits, too_much) in [
        ("depth", nested(15), nested(16)),
        (
            "tokens",
            format!("{{ {} }}", "__typename ".repeat(9_998)),
            format!("{{ {} }}", "__typename ".repeat(9_999)),
        ),
        (
            "aliases",
            format!("{{ {} }}", aliases(100)),
            format!("{{ {} }}", aliases(101)),
        ),
        (
            "aliases in fragments",
            format!("{{ ...F }} fragment F on Query {{ {} }}", aliases(100)),
            format!(
                "{{ ...F z: __typename }} fragment F on Query {{ ... {{ {} }} }}",
                aliases(100)
            ),
        ),
        (
            "points",
            format!("{{ {} }}", forecast("a", 200_000)),
            format!("{{ {} }}", forecast("a", 200_001)),
        ),
        (
            "points together",
            format!("{{ {}{} }}", forecast("a", 100_000), forecast("b", 100_000)),
            format!("{{ {}{} }}", forecast("a", 100_000), forecast("b", 100_001)),
        ),
    ] {
        let answer = client.graphql(&fits, Value::Null).await;
        assert!(answer["errors"].is_null(), "{what}: {answer}");
        let answer = client.graphql(&too_much, Value::Null).await;
        assert_eq!(code(&answer), "TOO_COMPLEX", "{what}: {answer}");
        // The same through a websocket.
        let mut socket = client.subscribe(&too_much, Value::Null).await;
        let payload = socket.next().await.unwrap();
        assert_eq!(code(&payload), "TOO_COMPLEX", "{what}: {payload}");
    }
    let counted = client
        .metric("smartpulse_request_errors_total{code=\"TOO_COMPLEX\"}")
        .await;
    assert_eq!(counted, 6.0);
    server.stop().await;
}

/// Small documents that would cost much if they were followed blindly.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_document_may_not_cost_much() {
    let (_database, server) = server().await;
    let client = &server.client;
    let laughs: String = (0..30)
        .map(|i| format!("fragment F{i} on Query {{ ...F{n} ...F{n} }} ", n = i + 1))
        .collect();
    let lists = format!(
        "{{ units(filter: {{ keys: {}{} }}) {{ nodes {{ key }} }} }}",
        "[".repeat(4_500),
        "]".repeat(4_500)
    );
    let objects = format!(
        "{{ units(filter: {}1{}) {{ nodes {{ key }} }} }}",
        "{ a: ".repeat(2_000),
        "}".repeat(2_000)
    );
    let types = format!(
        "query($a: {}Int{}) {{ __typename }}",
        "[".repeat(4_500),
        "]".repeat(4_500)
    );
    for (what, document) in [
        ("nested selections", nested(3_000)),
        ("nested lists", lists),
        ("nested objects", objects),
        ("nested types", types),
        (
            "fragments that double",
            format!("{{ ...F0 }} {laughs} fragment F30 on Query {{ __typename }}"),
        ),
        (
            "a fragment of itself",
            "{ ...F } fragment F on Query { ...F __typename }".to_owned(),
        ),
        (
            "many directives",
            format!("{{ __typename {} }}", "@skip(if: false) ".repeat(1_600)),
        ),
    ] {
        let answer = soon(what, client.graphql(&document, Value::Null)).await;
        let code = code_of_first(&answer);
        assert!(
            ["TOO_COMPLEX", "BAD_USER_INPUT"].contains(&code),
            "{what}: {answer}"
        );
    }
    client.data("{ __typename }", Value::Null).await;
    server.stop().await;
}

fn code_of_first(answer: &Value) -> &str {
    answer["errors"][0]["extensions"]["code"]
        .as_str()
        .unwrap_or_else(|| panic!("no code: {answer}"))
}

/// A whole request: status, `Allow`, and the answer as JSON.
async fn send(request: reqwest::RequestBuilder) -> (u16, Option<String>, Value) {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let allow = response.headers().get("allow");
    let allow = allow.map(|allow| allow.to_str().unwrap().to_owned());
    let text = response.text().await.unwrap();
    let json = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{status}: {text}"));
    (status, allow, json)
}

fn post(
    client: &Client,
    content_type: &str,
    body: impl Into<reqwest::Body>,
) -> reqwest::RequestBuilder {
    let request = client.http().post(client.url("/graphql"));
    request.header("content-type", content_type).body(body)
}

fn get(client: &Client, parameters: &[(&str, &str)]) -> reqwest::RequestBuilder {
    let mut url = reqwest::Url::parse(&client.url("/graphql")).unwrap();
    url.query_pairs_mut().extend_pairs(parameters);
    client.http().get(url)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_may_not_be_too_large() {
    let database = Kind::Sqlite.database().await;
    let server = TestServer::start_with(database.url(), &["--limit-body-bytes", "1000"]).await;
    let client = &server.client;
    let body = |length: usize| {
        let empty =
            json!({ "query": "{ __typename }", "operationName": null, "pad": "" }).to_string();
        json!({ "query": "{ __typename }", "operationName": null, "pad": "x".repeat(length - empty.len()) })
            .to_string()
    };
    let (status, _, answer) = send(post(client, "application/json", body(1000))).await;
    assert_eq!(
        (status, &answer["data"]["__typename"]),
        (200, &json!("Query"))
    );
    let (status, _, answer) = send(post(client, "application/json", body(1001))).await;
    assert_eq!((status, code(&answer)), (413, "BAD_USER_INPUT"));
    assert!(
        answer["errors"][0]["message"].to_string().contains("1000"),
        "{answer}"
    );
    // One that does not say its length beforehand.
    let chunks = futures_util::stream::iter([Ok::<_, std::io::Error>(body(600)), Ok(body(600))]);
    let request = post(
        client,
        "application/json",
        reqwest::Body::wrap_stream(chunks),
    );
    let (status, _, answer) = send(request).await;
    assert_eq!((status, code(&answer)), (413, "BAD_USER_INPUT"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_says_what_it_is() {
    let (_database, server) = server().await;
    let client = &server.client;
    let good = json!({ "query": "{ viewer { user } }" }).to_string();
    for content_type in ["application/json", "Application/JSON; charset=utf-8"] {
        let (status, _, answer) = send(post(client, content_type, good.clone())).await;
        assert_eq!(
            (status, &answer["errors"]),
            (200, &Value::Null),
            "{content_type}"
        );
    }
    for content_type in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/jsonp",
    ] {
        let (status, _, answer) = send(post(client, content_type, good.clone())).await;
        assert_eq!(
            (status, code(&answer)),
            (415, "BAD_USER_INPUT"),
            "{content_type}"
        );
    }
    let bare = client.http().post(client.url("/graphql")).body(good);
    assert_eq!(send(bare).await.0, 415);
    for body in [
        "",
        "{",
        "[]",
        "null",
        "\"x\"",
        "{\"query\": 1}",
        "{\"query\": \"{ __typename }\", \"variables\": []}",
        "\u{feff}{}",
    ] {
        let (status, _, answer) = send(post(client, "application/json", body)).await;
        assert_eq!(
            (status, code(&answer)),
            (400, "BAD_USER_INPUT"),
            "{body:?}: {answer}"
        );
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_queries_are_sent_by_get() {
    let (_database, server) = server().await;
    let client = &server.client;
    let (status, _, answer) = send(get(
        client,
        &[
            (
                "query",
                "query A($k: UnitKey!) { unit(key: $k) { key } } query B { __typename }",
            ),
            ("variables", "{\"k\": \"plant:1\"}"),
            ("operationName", "A"),
        ],
    ))
    .await;
    assert_eq!(
        (status, answer),
        (200, json!({ "data": { "unit": { "key": "plant:1" } } }))
    );
    let mutation =
        "mutation M { upsertUnits(input: { units: [{ key: \"plant:2\" }] }) { position } }";
    let both = format!("query Q {{ __typename }} {mutation}");
    for parameters in [
        vec![("query", mutation)],
        vec![("query", both.as_str()), ("operationName", "M")],
    ] {
        let (status, allow, answer) = send(get(client, &parameters)).await;
        assert_eq!(
            (status, allow.as_deref()),
            (405, Some("POST")),
            "{parameters:?}"
        );
        assert_eq!(code(&answer), "BAD_USER_INPUT");
    }
    let unit = client
        .data("{ unit(key: \"plant:2\") { key } }", Value::Null)
        .await;
    assert_eq!(unit["unit"], Value::Null);
    let (status, ..) = send(get(
        client,
        &[("query", both.as_str()), ("operationName", "Q")],
    ))
    .await;
    assert_eq!(status, 200);
    // It does not say which: not to be guessed.
    let (status, _, answer) = send(get(client, &[("query", both.as_str())])).await;
    assert_eq!((status, code(&answer)), (200, "BAD_USER_INPUT"));
    for parameters in [
        vec![],
        vec![("query", "{ __typename }"), ("variables", "{")],
    ] {
        let (status, _, answer) = send(get(client, &parameters)).await;
        assert_eq!(
            (status, code(&answer)),
            (400, "BAD_USER_INPUT"),
            "{parameters:?}"
        );
    }
    server.stop().await;
}

/// A page of another origin may ask a browser to open a socket; a program that
/// is no browser, and a page of this server, say so or nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sockets_of_foreign_pages_are_refused() {
    let (_database, server) = server().await;
    let client = &server.client;
    let own = client.url("");
    for (origin, expect) in [
        (own.as_str(), 101),
        ("https://elsewhere.example", 403),
        ("null", 403),
        ("http://127.0.0.1:1", 403),
    ] {
        let request = client.http().get(client.url("/graphql/ws"));
        let response = request
            .header("origin", origin)
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .header("sec-websocket-protocol", "graphql-transport-ws")
            .send()
            .await
            .unwrap();
        assert_eq!(response.status().as_u16(), expect, "{origin}");
        if expect == 403 {
            let answer: Value = response.json().await.unwrap();
            assert_eq!(code(&answer), "BAD_USER_INPUT", "{origin}");
        }
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_error_has_a_code() {
    let (_database, server) = server().await;
    let client = &server.client;
    let range = "resolution: PT1H, from: \"2024-05-01T00:00:00Z\", to: \"2024-05-01T01:00:00Z\"";
    let documents = [
        ("", "BAD_USER_INPUT"),
        ("{", "BAD_USER_INPUT"),
        ("{ nothing }", "BAD_USER_INPUT"),
        ("{ unit }", "BAD_USER_INPUT"),
        ("{ unit(key: 1) { key } }", "BAD_USER_INPUT"),
        ("{ unit(key: \"plant:x\") { key } }", "BAD_USER_INPUT"),
        (
            "query($k: UnitKey!) { unit(key: $k) { key } }",
            "BAD_USER_INPUT",
        ),
        ("{ viewer { user } user: viewer }", "BAD_USER_INPUT"),
        (
            "query A { __typename } query B { __typename }",
            "BAD_USER_INPUT",
        ),
        ("{ node(id: \"x\") { id } }", "BAD_USER_INPUT"),
        (
            "{ units(first: 1, last: 1) { nodes { key } } }",
            "BAD_USER_INPUT",
        ),
        (
            "mutation { upsertUnits(input: { units: [{ key: \"plant:1\", name: \"\" }] }) { position } }",
            "BAD_USER_INPUT",
        ),
        (
            "mutation { saveForecasts(input: { runs: [] }) { position } }",
            "BAD_USER_INPUT",
        ),
    ];
    for (document, expect) in documents {
        let answer = client.graphql(document, Value::Null).await;
        let mut socket = client.subscribe(document, Value::Null).await;
        let payload = socket.next().await.unwrap();
        for answer in [answer, payload] {
            let errors = answer["errors"].as_array();
            let errors = errors.unwrap_or_else(|| panic!("{document}: {answer}"));
            assert!(!errors.is_empty(), "{document}");
            for error in errors {
                assert_eq!(error["extensions"]["code"], expect, "{document}: {error}");
            }
        }
    }
    let unknown =
        format!("{{ forecast(unit: \"plant:1\", provider: \"q\", {range}) {{ values }} }}");
    assert_eq!(
        code(&client.graphql(&unknown, Value::Null).await),
        "NOT_FOUND"
    );
    let variables = json!({ "key": "no key" });
    let answer = client
        .graphql(
            "query($key: UnitKey!) { unit(key: $key) { key } }",
            variables,
        )
        .await;
    assert_eq!(code(&answer), "BAD_USER_INPUT");
    server.stop().await;
}

async fn errors_tell_nothing_of_the_database(kind: Kind) {
    let (_database, server) = started(kind).await;
    let client = &server.client;
    client.prepare(1).await;
    let save = "mutation { saveForecasts(input: { runs: [{ unit: \"plant:1\", provider: \"p\", resolution: PT1H,
        start: \"2024-05-01T00:00:00Z\", values: [1] }] }) { position } }";
    client.data(save, Value::Null).await;
    server
        .log
        .database()
        .writer()
        .execute_unprepared("ALTER TABLE forecast_curve RENAME TO moved_away")
        .await
        .unwrap();
    let read = "{ forecast(unit: \"plant:1\", provider: \"p\", resolution: PT1H,
        from: \"2024-05-01T00:00:00Z\", to: \"2024-05-01T01:00:00Z\", view: { knownAt: \"2030-01-01T00:00:00Z\" }) { values } }";
    for document in [save, read] {
        let answer = client.graphql(document, Value::Null).await;
        assert_eq!(code(&answer), "INTERNAL", "{answer}");
        let text = answer.to_string().to_lowercase();
        for secret in [
            "forecast_curve",
            "moved_away",
            "select ",
            "insert ",
            "sqlx",
            "sql",
            "relation",
            "no such table",
            "postgres",
        ] {
            assert!(!text.contains(secret), "{secret} in {answer}");
        }
    }
    server.stop().await;
}

/// PostgreSQL keeps no NUL in a text. No caller may turn that into a failure
/// of the server.
async fn text_that_the_database_cannot_keep_is_bad_input(kind: Kind) {
    let (_database, server) = started(kind).await;
    let client = &server.client;
    client.prepare(2).await;
    let page = "query($after: String) { units(orderBy: NAME_ASC, after: $after) { pageInfo { endCursor } } }";
    // Either there is nothing of that name, or an error says why there cannot be.
    for (document, variables, expect) in [
        (
            "query($k: String!) { provider(key: $k) { key } }",
            json!({ "k": "a\u{0}" }),
            Ok(json!({ "provider": null })),
        ),
        (
            "query($k: ID!) { node(id: $k) { id } }",
            json!({ "k": "provider:a\u{0}" }),
            Err("BAD_USER_INPUT"),
        ),
        (
            "query($n: String) { units(filter: { nameContains: $n }) { nodes { key } } }",
            json!({ "n": "\u{0}" }),
            Ok(json!({ "units": { "nodes": [] } })),
        ),
        // A cursor that nobody gave: base64 of `["\u0000","plant:1"]`.
        (
            page,
            json!({ "after": "WyJcdTAwMDAiLCJwbGFudDoxIl0" }),
            Err("BAD_USER_INPUT"),
        ),
        (
            "query($c: [String!]) { notifications(filter: { categories: $c }) { edges { cursor } } }",
            json!({ "c": ["\u{0}"] }),
            Ok(json!({ "notifications": { "edges": [] } })),
        ),
        (
            "subscription($p: [String!]) { forecastChanged(providers: $p) { position } }",
            json!({ "p": ["a\u{0}"] }),
            Err("NOT_FOUND"),
        ),
    ] {
        let mut socket = client.subscribe(document, variables.clone()).await;
        let payload = soon(document, socket.next()).await.unwrap();
        match expect {
            Ok(data) => {
                assert_eq!(payload["errors"], Value::Null, "{variables}: {payload}");
                assert_eq!(payload["data"], data, "{variables}");
            }
            Err(expect) => assert_eq!(code(&payload), expect, "{variables}: {payload}"),
        }
    }
    server.stop().await;
}
