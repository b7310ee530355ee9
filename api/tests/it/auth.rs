//! Who is let in, and what they may do: over every transport.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use migration::testing::TestDatabase;
use serde_json::{Value, json};

use crate::client::{Client, EventStream, SAVE_HOUR, Socket, code};
use crate::server::{Kind, Process, TestServer, on_both, run_sql, smartpulse};
use crate::wait::{eventually, soon};

on_both!(
    a_token_says_who_it_is,
    a_token_that_does_not_hold_is_refused,
    a_key_lets_in_until_it_is_revoked_or_expires,
    roles_say_what_may_be_changed,
    keys_are_for_administrators,
    every_transport_asks,
    connections_end_when_what_let_them_in_does,
    the_first_key_comes_from_the_command_line,
);

const SECRET: &str = "a-secret-of-the-tests-that-is-long-enough";
const VIEWER: &str = "{ viewer { id user roles companies } }";

fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    now.as_secs()
}

fn signed(algorithm: Algorithm, secret: &str, claims: &Value) -> String {
    let key = EncodingKey::from_secret(secret.as_bytes());
    encode(&Header::new(algorithm), claims, &key).unwrap()
}

fn token(claims: Value) -> String {
    signed(Algorithm::HS256, SECRET, &claims)
}

/// A token of somebody with these roles.
pub(crate) fn token_of(user: &str, roles: &[&str]) -> String {
    token(json!({ "sub": user, "roles": roles, "exp": now() + 600 }))
}

pub(crate) async fn required(kind: Kind, more: &[&str]) -> (TestDatabase, TestServer) {
    let database = kind.database().await;
    let options = [&["--auth-jwt-secret", SECRET], more].concat();
    let server = TestServer::start_with(database.url(), &options).await;
    (database, server)
}

/// The status, the challenge and the body of an answer to what is sent with a
/// bearer token, if any.
async fn asked(
    client: &Client,
    bearer: Option<&str>,
    query: &str,
    variables: Value,
) -> (u16, Option<String>, Value) {
    let body = json!({ "query": query, "variables": variables });
    let mut request = client.http().post(client.url("/graphql")).json(&body);
    if let Some(bearer) = bearer {
        request = request.header("authorization", format!("Bearer {bearer}"));
    }
    let response = request.send().await.unwrap();
    let challenge = response.headers().get("www-authenticate");
    let challenge = challenge.map(|value| value.to_str().unwrap().to_owned());
    let status = response.status().as_u16();
    (status, challenge, response.json().await.unwrap())
}

pub(crate) async fn answer(client: &Client, bearer: &str, query: &str, variables: Value) -> Value {
    asked(client, Some(bearer), query, variables).await.2
}

/// The data of an answer that must have no errors.
pub(crate) async fn data(client: &Client, bearer: &str, query: &str, variables: Value) -> Value {
    let mut answer = answer(client, bearer, query, variables).await;
    assert_eq!(answer["errors"], Value::Null, "{answer}");
    answer["data"].take()
}

async fn assert_refused(client: &Client, bearer: &str, why: &str) {
    let (status, challenge, answer) = asked(client, Some(bearer), VIEWER, Value::Null).await;
    assert_eq!((status, code(&answer)), (401, "UNAUTHENTICATED"), "{why}");
    let challenge = challenge.unwrap();
    assert_eq!(challenge, "Bearer error=\"invalid_token\"", "{why}");
    let message = answer["errors"][0]["message"].as_str().unwrap();
    assert!(message.contains(why), "{message}, not {why}");
    // Nothing of the token is told back.
    assert!(!answer.to_string().contains(bearer), "{answer}");
}

async fn a_token_says_who_it_is(kind: Kind) {
    let (_database, server) = required(kind, &[]).await;
    let client = &server.client;
    let claims = json!({
        "sub": "ada",
        "roles": ["SENDER", "PROVIDER", "OWNER"],
        "companies": ["company:7"],
        "exp": now() + 60,
        // As of a clock that is a little ahead.
        "nbf": now() + 10,
        "else": { "anything": 1 },
    });
    let viewer = data(client, &token(claims), VIEWER, Value::Null).await;
    assert_eq!(
        viewer["viewer"],
        json!({
            "id": "viewer:ada",
            "user": "ada",
            "roles": ["PROVIDER", "SENDER"],
            "companies": ["company:7"],
        })
    );
    let least = token(json!({ "sub": "ada", "exp": now() + 60 }));
    let viewer = data(client, &least, VIEWER, Value::Null).await;
    assert_eq!(viewer["viewer"]["roles"], json!([]));
    // The name that an open server believes counts for nothing.
    let request = client.http().post(client.url("/graphql"));
    let request = request
        .header("SmartPulse-User", "eve")
        .bearer_auth(&least)
        .json(&json!({ "query": VIEWER }));
    let answer: Value = request.send().await.unwrap().json().await.unwrap();
    assert_eq!(answer["data"]["viewer"]["user"], "ada");
    server.stop().await;
}

async fn a_token_that_does_not_hold_is_refused(kind: Kind) {
    let (_database, server) = required(
        kind,
        &[
            "--auth-jwt-issuer",
            "issuer",
            "--auth-jwt-audience",
            "pulse",
        ],
    )
    .await;
    let client = &server.client;
    let claims = json!({ "sub": "ada", "iss": "issuer", "aud": ["x", "pulse"], "exp": now() + 60 });
    data(client, &token(claims.clone()), VIEWER, Value::Null).await;
    let with = |name: &str, value: Value| {
        let mut claims = claims.clone();
        match value {
            Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
            value => claims[name] = value,
        }
        token(claims)
    };
    for (token, why) in [
        (with("exp", Value::Null), "has no `exp`"),
        // Without leeway: a connection could not begin that ends at once.
        (with("exp", json!(now() - 1)), "expired"),
        (with("exp", json!(now() - 600)), "expired"),
        (with("exp", json!("later")), "`exp`"),
        (with("nbf", json!(now() + 600)), "does not hold yet"),
        (with("iss", json!("other")), "another issuer"),
        (with("iss", Value::Null), "has no `iss`"),
        (with("aud", json!("other")), "another audience"),
        (with("aud", Value::Null), "has no `aud`"),
        (with("sub", Value::Null), "has no `sub`"),
        (with("sub", json!("")), "not a user"),
        (with("sub", json!("a\nb")), "not a user"),
        (with("sub", json!("x".repeat(201))), "not a user"),
        (with("roles", json!("ADMIN")), "not valid"),
        (with("companies", json!(["plant:1"])), "company"),
        (with("companies", json!(["mine"])), "not valid"),
        (signed(Algorithm::HS512, SECRET, &claims), "not valid"),
        (
            signed(Algorithm::HS256, &"x".repeat(40), &claims),
            "not valid",
        ),
        (String::from("nonsense"), "not valid"),
        (String::from("a.b.c"), "not valid"),
        (String::from("sp_nonsense"), "no such API key"),
    ] {
        assert_refused(client, &token, why).await;
    }
    // Whoever makes a token must not say how it is to be checked.
    let valid = token(claims.clone());
    let (signed_part, _) = valid.rsplit_once('.').unwrap();
    let payload = signed_part.split_once('.').unwrap().1;
    for header in [
        // {"alg":"none","typ":"JWT"} and {"alg":"RS256","typ":"JWT"}
        "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0",
        "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9",
    ] {
        for signature in ["", "AAAA"] {
            let token = format!("{header}.{payload}.{signature}");
            assert_refused(client, &token, "not valid").await;
        }
    }
    server.stop().await;
}

const CREATE: &str = "mutation($input: CreateApiKeyInput!) { createApiKey(input: $input) {
    apiKey { id name user roles companies prefix createdAt expiresAt revokedAt lastUsedAt } secret } }";
const REVOKE: &str =
    "mutation($id: ID!) { revokeApiKey(input: { id: $id }) { apiKey { id revokedAt } } }";

/// A new key's id and secret.
async fn new_key(client: &Client, admin: &str, input: Value) -> (String, String) {
    let created = data(client, admin, CREATE, json!({ "input": input })).await;
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let created = &created["createApiKey"];
    (text(&created["apiKey"]["id"]), text(&created["secret"]))
}

async fn a_key_lets_in_until_it_is_revoked_or_expires(kind: Kind) {
    let (database, server) = required(kind, &[]).await;
    let client = &server.client;
    let admin = token_of("root", &["ADMIN"]);
    let input = json!({ "name": "Feed", "user": "feed", "roles": ["PROVIDER"], "companies": ["company:1"] });
    let (id, secret) = new_key(client, &admin, input).await;
    assert!(secret.starts_with("sp_") && secret.len() > 40, "{secret}");
    let viewer = data(client, &secret, VIEWER, Value::Null).await;
    assert_eq!(
        viewer["viewer"],
        json!({ "id": "viewer:feed", "user": "feed", "roles": ["PROVIDER"], "companies": ["company:1"] })
    );
    // Neither one that is almost it, nor its hash.
    let mut other = secret.clone();
    let last = if other.pop() == Some('A') { 'B' } else { 'A' };
    other.push(last);
    assert_refused(client, &other, "no such API key").await;
    assert_refused(client, &secret[..secret.len() - 1], "no such API key").await;

    // Revoked here, it is refused at once, although it was just used.
    let revoked = data(client, &admin, REVOKE, json!({ "id": id })).await;
    assert!(revoked["revokeApiKey"]["apiKey"]["revokedAt"].is_string());
    assert_refused(client, &secret, "revoked").await;

    // Revoked elsewhere, soon.
    let input = json!({ "name": "Other", "user": "feed", "roles": [] });
    let (_, secret) = new_key(client, &admin, input).await;
    data(client, &secret, VIEWER, Value::Null).await;
    let revoke = "UPDATE api_key SET revoked_at = created_at;";
    run_sql(database.url(), revoke);
    eventually("the key is refused", async || {
        let status = asked(client, Some(&secret), VIEWER, Value::Null).await.0;
        (status == 401).then_some(())
    })
    .await;

    let expires_at = time::OffsetDateTime::now_utc() + Duration::from_secs(2);
    let expires_at = expires_at
        .format(&time::format_description::well_known::Rfc3339)
        .unwrap();
    let input = json!({ "name": "Short", "user": "feed", "roles": [], "expiresAt": expires_at });
    let (_, secret) = new_key(client, &admin, input).await;
    data(client, &secret, VIEWER, Value::Null).await;
    eventually("the key expires", async || {
        let status = asked(client, Some(&secret), VIEWER, Value::Null).await.0;
        (status == 401).then_some(())
    })
    .await;
    assert_refused(client, &secret, "expired").await;
    server.stop().await;
}

async fn roles_say_what_may_be_changed(kind: Kind) {
    let (_database, server) = required(kind, &[]).await;
    let client = &server.client;
    let units = "mutation { upsertUnits(input: { units: [{ key: \"plant:1\" }] }) { position } }";
    let providers =
        "mutation { upsertProviders(input: { providers: [{ key: \"p\" }] }) { position } }";
    let changes = [
        (units, Value::Null),
        (providers, Value::Null),
        (SAVE_HOUR, json!({ "mwh": [1.0] })),
    ];
    let position = "{ position }";
    for roles in [&[][..], &["SENDER"], &["OWNER"]] {
        let token = token_of("ada", roles);
        let before = data(client, &token, position, Value::Null).await;
        for (change, variables) in &changes {
            let answer = answer(client, &token, change, variables.clone()).await;
            assert_eq!(code(&answer), "FORBIDDEN", "{answer}");
        }
        let after = data(client, &token, position, Value::Null).await;
        assert_eq!(before, after);
    }
    for roles in [&["PROVIDER"][..], &["ADMIN"]] {
        let token = token_of("ada", roles);
        for (change, variables) in &changes {
            data(client, &token, change, variables.clone()).await;
        }
    }
    // Whoever is let in may read.
    let read =
        "{ units { nodes { key } } forecast(unit: \"plant:1\", provider: \"p\", resolution: PT1H,
        from: \"2024-05-01T00:00:00Z\", to: \"2024-05-01T01:00:00Z\") { values } }";
    let read = data(client, &token_of("ada", &[]), read, Value::Null).await;
    assert_eq!(read["forecast"]["values"], json!([1.0]));
    server.stop().await;
}

async fn keys_are_for_administrators(kind: Kind) {
    let (_database, server) = required(kind, &[]).await;
    let client = &server.client;
    let list = "query($first: Int, $after: String) { apiKeys(first: $first, after: $after) {
        nodes { id name lastUsedAt } pageInfo { hasNextPage endCursor } } }";
    let input = json!({ "name": "N", "user": "u", "roles": ["ADMIN"] });
    for roles in [&[][..], &["PROVIDER", "SENDER"]] {
        let token = token_of("ada", roles);
        for (query, variables) in [
            (list, Value::Null),
            (CREATE, json!({ "input": input })),
            (REVOKE, json!({ "id": "api-key:1" })),
        ] {
            let answer = answer(client, &token, query, variables).await;
            assert_eq!(code(&answer), "FORBIDDEN", "{answer}");
        }
    }
    let admin = token_of("root", &["ADMIN"]);
    let bad = json!({ "name": "", "user": "a\nb", "roles": [], "companies": ["plant:1"],
        "expiresAt": "2020-01-01T00:00:00Z" });
    let refused = answer(client, &admin, CREATE, json!({ "input": bad })).await;
    assert_eq!(code(&refused), "BAD_USER_INPUT");
    let violations = &refused["errors"][0]["extensions"]["violations"];
    assert_eq!(violations.as_array().map(Vec::len), Some(4), "{refused}");
    for (id, expect) in [
        ("api-key:77", "NOT_FOUND"),
        ("unit:plant:1", "BAD_USER_INPUT"),
        ("api-key:x", "BAD_USER_INPUT"),
    ] {
        let refused = answer(client, &admin, REVOKE, json!({ "id": id })).await;
        assert_eq!(code(&refused), expect, "{id}");
    }
    for name in ["A", "B", "C"] {
        let input = json!({ "name": name, "user": "u", "roles": ["ADMIN"] });
        let (_, secret) = new_key(client, &admin, input).await;
        // An administrator's key is one, too.
        let listed = data(client, &secret, list, json!({ "first": 10 })).await;
        assert!(!listed.to_string().contains(&secret[9..]), "{listed}");
    }
    let first = data(client, &admin, list, json!({ "first": 2 })).await;
    let page = &first["apiKeys"]["pageInfo"];
    assert_eq!(page["hasNextPage"], true);
    let rest = json!({ "after": page["endCursor"] });
    let rest = data(client, &admin, list, rest).await;
    let names = |page: &Value| {
        let nodes = page["apiKeys"]["nodes"].as_array().unwrap().clone();
        nodes.iter().map(|n| n["name"].clone()).collect::<Vec<_>>()
    };
    assert_eq!([names(&first), names(&rest)].concat(), ["A", "B", "C"]);
    server.stop().await;
}

const CHANGES: &str = "subscription { changes { position } }";

async fn stream(client: &Client, accept: &str, bearer: Option<&str>) -> reqwest::Response {
    let request = client.http().post(client.url("/graphql"));
    let mut request = request
        .header("accept", accept)
        .json(&json!({ "query": CHANGES }));
    if let Some(bearer) = bearer {
        request = request.bearer_auth(bearer);
    }
    request.send().await.unwrap()
}

async fn opened(client: &Client, header: Option<&str>, init: Value) -> Socket {
    let mut socket = client
        .open_socket_as(Some("graphql-transport-ws"), header)
        .await
        .unwrap();
    let init = json!({ "type": "connection_init", "payload": init });
    socket.send(init).await.unwrap();
    socket
}

async fn every_transport_asks(kind: Kind) {
    let (_database, server) = required(kind, &[]).await;
    let client = &server.client;
    let good = token_of("ada", &[]);
    // Without anything: the same in each form that a client accepts.
    for accept in [
        "application/json",
        "application/graphql-response+json",
        "text/event-stream",
        "multipart/mixed",
    ] {
        let response = stream(client, accept, None).await;
        assert_eq!(response.status(), 401, "{accept}");
        assert_eq!(response.headers()["www-authenticate"], "Bearer");
        let media = if accept.contains("graphql-response") {
            "application/graphql-response+json; charset=utf-8"
        } else {
            "application/json; charset=utf-8"
        };
        assert_eq!(response.headers()["content-type"], media, "{accept}");
        let body: Value = response.json().await.unwrap();
        assert_eq!(code(&body), "UNAUTHENTICATED");
        // Data, if only none, would say that something was executed.
        assert_eq!(body.as_object().unwrap().len(), 1, "{body}");
    }
    assert!(client.metric("smartpulse_request_errors_total").await >= 4.0);
    let (status, _) = client.get("/graphql?query=%7B__typename%7D").await;
    assert_eq!(status, 401);
    // Nothing is taken from the address.
    let path = format!(
        "/graphql?query=%7B__typename%7D&access_token={good}&Authorization=Bearer%20{good}"
    );
    assert_eq!(client.get(&path).await.0, 401);
    for accept in ["text/event-stream", "multipart/mixed"] {
        let response = stream(client, accept, Some(&good)).await;
        assert_eq!(response.status(), 200, "{accept}");
    }
    for header in ["Basic YTpi", "Bearer", &good, ""] {
        let request = client.http().post(client.url("/graphql"));
        let request = request
            .header("authorization", header)
            .json(&json!({ "query": VIEWER }));
        assert_eq!(request.send().await.unwrap().status(), 401, "{header}");
    }

    let bearer = format!("Bearer {good}");
    for (header, init) in [
        (Some(bearer.as_str()), Value::Null),
        (None, json!({ "Authorization": bearer })),
        (None, json!({ "authorization": bearer })),
        (Some("Bearer wrong"), json!({ "Authorization": bearer })),
    ] {
        let mut socket = opened(client, header, init).await;
        socket.start("1", VIEWER, Value::Null).await.unwrap();
        let ack = socket.message().await.unwrap();
        assert_eq!(ack["type"], "connection_ack");
        assert_eq!(socket.data().await["viewer"]["user"], "ada");
    }
    for (header, init) in [
        (None, Value::Null),
        (None, json!({ "SmartPulse-User": "ada" })),
        (None, json!({ "Authorization": "Bearer wrong" })),
        (None, json!({ "Authorization": good })),
        (None, json!({ "Authorization": 7 })),
        (Some("Bearer wrong"), Value::Null),
        (Some(&bearer), json!({ "Authorization": "Bearer wrong" })),
    ] {
        let mut socket = opened(client, header, init).await;
        let (code, reason) = soon("a close", socket.closed()).await.unwrap();
        assert_eq!(code, 4403, "{reason}");
        assert!(reason.starts_with("Forbidden: "), "{reason}");
    }
    // Who subscribes before saying who it is, is as ever.
    let ws = Some("graphql-transport-ws");
    let mut socket = client.open_socket_as(ws, Some(&bearer)).await.unwrap();
    socket.start("1", CHANGES, Value::Null).await.unwrap();
    assert_eq!(soon("a close", socket.closed()).await.unwrap().0, 4401);

    // What tells nothing of anybody's data is open.
    for path in ["/", "/health/live", "/metrics", "/schema.graphql"] {
        assert_eq!(client.get(path).await.0, 200, "{path}");
    }
    server.stop().await;
}

async fn connections_end_when_what_let_them_in_does(kind: Kind) {
    let (_database, server) = required(kind, &[]).await;
    let client = &server.client;
    let short = token(json!({ "sub": "ada", "exp": now() + 3 }));
    let short = format!("Bearer {short}");
    let mut socket = opened(client, None, json!({ "Authorization": short })).await;
    let bearer = short.strip_prefix("Bearer ");
    let mut events = EventStream::of(stream(client, "text/event-stream", bearer).await);
    let (code, reason) = soon("a close", socket.closed()).await.unwrap();
    assert_eq!(code, 4403, "{reason}");
    assert!(reason.contains("expired"), "{reason}");
    assert_eq!(soon("the end", events.event()).await, None);

    let admin = token_of("root", &["ADMIN"]);
    let input = json!({ "name": "N", "user": "u", "roles": [] });
    let (id, secret) = new_key(client, &admin, input).await;
    let bearer = format!("Bearer {secret}");
    let mut socket = opened(client, Some(&bearer), Value::Null).await;
    assert_eq!(socket.message().await.unwrap()["type"], "connection_ack");
    let mut events = EventStream::of(stream(client, "text/event-stream", Some(&secret)).await);
    data(client, &admin, REVOKE, json!({ "id": id })).await;
    let (code, reason) = soon("a close", socket.closed()).await.unwrap();
    assert_eq!(code, 4403, "{reason}");
    assert!(reason.contains("revoked"), "{reason}");
    assert_eq!(soon("the end", events.event()).await, None);
    server.stop().await;
}

async fn the_first_key_comes_from_the_command_line(kind: Kind) {
    let database = kind.database().await;
    let run = |arguments: &[&str]| {
        let database = ["--database-url", database.url()];
        let line = [&["api-key"], arguments, &database].concat();
        let output = smartpulse(&line);
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (
            output.status.success(),
            text(&output.stdout),
            text(&output.stderr),
        )
    };
    let create = [
        "create", "--user", "ops", "--name", "First", "--role", "ADMIN",
    ];
    let (created, secret, note) = run(&[&create[..], &["--expires-in", "90d"]].concat());
    assert!(created, "{note}");
    // A script takes what is printed as it is.
    let secret = secret.trim_end();
    assert!(!note.contains(secret) && note.contains("First"), "{note}");
    let server = Process::start_with(database.url(), &["--auth", "required"]);
    let client = &server.client;
    let viewer = data(client, secret, VIEWER, Value::Null).await;
    assert_eq!(viewer["viewer"]["user"], "ops");
    assert_eq!(viewer["viewer"]["roles"], json!(["ADMIN"]));
    assert_eq!(asked(client, None, VIEWER, Value::Null).await.0, 401);
    // Without a secret for them, no token is taken.
    assert_refused(client, &token_of("ada", &["ADMIN"]), "tokens are not taken").await;

    let (_, listed, _) = run(&["list"]);
    let (number, line) = listed.split_once("  ").unwrap();
    assert!(line.contains("First") && line.contains("expires"), "{line}");
    assert!(!listed.contains(secret), "{listed}");
    let (revoked, told, _) = run(&["revoke", number]);
    assert!(revoked && told.contains("revoked"), "{told}");
    eventually("the key is refused", async || {
        let status = asked(client, Some(secret), VIEWER, Value::Null).await.0;
        (status == 401).then_some(())
    })
    .await;
    // Uses are written down when the server stops, if not before.
    assert!(server.terminate().success());
    let (_, listed, _) = run(&["list"]);
    assert!(listed.contains("last used"), "{listed}");

    for (line, expect) in [
        (&["revoke", "77"][..], "there is no API key 77"),
        (
            &["create", "--user", "", "--name", "n"],
            "a user has 1 to 200",
        ),
        (
            &["create", "--user", "u", "--name", "n", "--role", "admin"],
            "a role is ADMIN, PROVIDER or SENDER",
        ),
        (
            &[
                "create",
                "--user",
                "u",
                "--name",
                "n",
                "--expires-in",
                "soon",
            ],
            "give a span such as 12h",
        ),
    ] {
        let (done, _, why) = run(line);
        assert!(!done && why.contains(expect), "{why}");
    }
}

/// An open server on this machine is not open to every page of a browser.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_server_answers_only_to_its_own_name() {
    let (_database, server) = crate::server::started(Kind::Sqlite).await;
    let client = &server.client;
    let port = client.address().port();
    let as_host = async |host: &str, path: &str| {
        let request = client.http().get(client.url(path)).header("host", host);
        request.send().await.unwrap().status().as_u16()
    };
    let query = "/graphql?query=%7B__typename%7D";
    for host in ["localhost", "127.0.0.1", "[::1]:80", "LOCALHOST:1"] {
        assert_eq!(as_host(host, query).await, 200, "{host}");
    }
    let rebound = format!("rebound.example:{port}");
    for path in [query, "/", "/metrics", "/schema.graphql", "/graphql/ws"] {
        assert_eq!(as_host(&rebound, path).await, 421, "{path}");
    }
    assert_eq!(as_host(&rebound, "/health/live").await, 200);
    server.stop().await;

    for options in [&["--allow-open-access"][..], &["--auth-jwt-secret", SECRET]] {
        let database = Kind::Sqlite.database().await;
        let server = TestServer::start_with(database.url(), options).await;
        let client = &server.client;
        let request = client.http().get(client.url("/schema.graphql"));
        let request = request.header("host", "behind-a-proxy.example");
        assert_eq!(request.send().await.unwrap().status(), 200);
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beyond_this_machine_everybody_is_asked() {
    let database = Kind::Sqlite.database().await;
    let everywhere = [
        "serve",
        "--listen",
        "0.0.0.0:0",
        "--database-url",
        database.url(),
    ];
    let refused = |more: &[&str], expect: &[&str]| {
        let output = smartpulse(&[&everywhere[..], more].concat());
        let why = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{why}");
        for expect in expect {
            assert!(why.contains(expect), "{why}");
        }
        assert!(!why.contains("hidden"), "{why}");
    };
    let both = ["--auth required", "--allow-open-access"];
    refused(&[], &both);
    refused(&["--auth", "open"], &both);
    let short = ["--auth-jwt-secret", "hidden"];
    refused(&short, &["fewer than 32 bytes"]);
    let contradiction = ["--auth", "open", "--auth-jwt-secret", &"hidden".repeat(9)];
    refused(&contradiction, &["leave out one of them"]);
    refused(
        &["--auth", "required", "--auth-jwt-audience", "pulse"],
        &["no use without --auth-jwt-secret"],
    );
    let server = Process::start_everywhere(database.url(), &["--auth", "required"]);
    assert_eq!(server.client.get("/health/ready").await.0, 200);
    let status = asked(&server.client, None, VIEWER, Value::Null).await.0;
    assert_eq!(status, 401);
}
