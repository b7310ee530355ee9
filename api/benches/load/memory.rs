//! The most memory that the server takes under requests that ask for much.

use futures_util::{SinkExt, StreamExt};
use migration::testing::TestDatabase;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;

use crate::http::{SAVE, post, prepare};
use crate::process::Server;
use crate::report::{line, section};

const YEARS: &str = "from: \"2021-01-01T00:00:00Z\", to: \"2026-01-01T00:00:00Z\"";

/// A server with five years of quarter-hours in memory.
async fn server(database: &TestDatabase) -> (Server, reqwest::Client) {
    let server = Server::smartpulse(database.url());
    let client = reqwest::Client::new();
    prepare(&client, server.address, 1).await;
    for year in 2021..2026 {
        let values: Vec<f64> = (0..365 * 96).map(|i| f64::from(i % 977) * 0.125).collect();
        let run = json!({ "unit": "plant:1", "provider": "p", "resolution": "PT15M",
                          "start": format!("{year}-01-01T00:00:00Z"), "values": values });
        let body = json!({ "query": SAVE, "variables": { "runs": [run] } });
        let saved = post(&client, server.address, body.to_string()).await;
        assert!(saved["errors"].is_null(), "{saved}");
    }
    (server, client)
}

/// What is told of a server before and at its most, in MiB.
fn tell(what: &str, server: &Server, before: f64) {
    let mib = |bytes: f64| bytes / f64::from(1 << 20);
    let peak = server.peak_resident_bytes();
    line(
        what,
        &format!(
            "{:.0} MiB at rest, {:.0} MiB at most",
            mib(before),
            mib(peak)
        ),
    );
}

pub(crate) async fn run() {
    section("memory of the server under requests that ask for much, SQLite");
    wide_aliases().await;
    large_variables().await;
    heavy_subscriptions().await;
}

async fn wide_aliases() {
    let database = TestDatabase::sqlite().await;
    let (server, client) = server(&database).await;
    let aliases: String = (0..24).map(|i| format!("a{i}: values ")).collect();
    let query = format!(
        "{{ forecast(unit: \"plant:1\", provider: \"p\", resolution: PT15M, {YEARS}) {{ {aliases} }} }}"
    );
    let before = server.resident_bytes();
    let mut requests = JoinSet::new();
    for _ in 0..20 {
        let (client, address) = (client.clone(), server.address);
        let body = json!({ "query": query }).to_string();
        requests.spawn(async move {
            let answer = post(&client, address, body).await;
            assert!(answer["errors"].is_null(), "{}", answer["errors"]);
        });
    }
    while let Some(done) = requests.join_next().await {
        done.expect("a request");
    }
    tell("20 answers of some 20 MB at once", &server, before);
}

async fn large_variables() {
    let database = TestDatabase::sqlite().await;
    let (server, client) = server(&database).await;
    let before = server.resident_bytes();
    let values: Vec<Value> = (0..900_000).map(|i| json!(i % 10)).collect();
    let body = json!({ "query": "query($v: JSON) { mailPreview(variables: $v) { subject } }",
                       "variables": { "v": { "list": values } } })
    .to_string();
    let mut requests = JoinSet::new();
    for _ in 0..10 {
        let (client, address, body) = (client.clone(), server.address, body.clone());
        requests.spawn(async move { drop(post(&client, address, body).await) });
    }
    while let Some(done) = requests.join_next().await {
        done.expect("a request");
    }
    tell("10 requests with 900,000 values at once", &server, before);
}

async fn heavy_subscriptions() {
    let database = TestDatabase::sqlite().await;
    let (server, client) = server(&database).await;
    let before = server.resident_bytes();
    let url = format!("ws://{}/graphql/ws", server.address);
    let mut request =
        tokio_tungstenite::tungstenite::client::IntoClientRequest::into_client_request(url)
            .expect("an address");
    request.headers_mut().insert(
        "sec-websocket-protocol",
        "graphql-transport-ws".parse().expect("a header"),
    );
    let (mut socket, _) = tokio_tungstenite::connect_async(request)
        .await
        .expect("a socket");
    let say = |message: Value| Message::text(message.to_string());
    socket
        .send(say(json!({ "type": "connection_init" })))
        .await
        .expect("sent");
    for i in 0..100 {
        let query = format!(
            "subscription {{ forecastLive(unit: \"plant:1\", provider: \"p\", resolution: PT15M, {YEARS}) {{ a{i}: position forecast {{ values }} }} }}"
        );
        let subscribe =
            json!({ "type": "subscribe", "id": i.to_string(), "payload": { "query": query } });
        socket.send(say(subscribe)).await.expect("sent");
    }
    // The first state of each, and one change of all.
    let mut states = 0;
    while states < 100 {
        let message = socket.next().await.expect("a message").expect("a message");
        let text = message.to_text().expect("text");
        assert!(
            !text.contains("\"errors\"") && !text.contains("\"error\""),
            "{}",
            &text[..300.min(text.len())]
        );
        states += usize::from(text.contains("\"next\""));
    }
    let run = json!({ "unit": "plant:1", "provider": "p", "resolution": "PT15M",
                      "start": "2024-01-01T00:00:00Z", "values": [1.0] });
    let body = json!({ "query": SAVE, "variables": { "runs": [run] } });
    post(&client, server.address, body.to_string()).await;
    while states < 200 {
        let message = socket.next().await.expect("a message").expect("a message");
        states += usize::from(message.to_text().expect("text").contains("\"next\""));
    }
    tell(
        "100 different curves of five years live on one socket",
        &server,
        before,
    );
}
