//! What connections are held to: clients that are slow, silent, or too many.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, interval};

use crate::client::Client;
use crate::server::{Kind, Process, TestServer};
use crate::wait::{eventually, soon};

const LIMITS: [&str; 10] = [
    "--http-head-seconds=1",
    "--http-idle-seconds=3",
    "--http-body-seconds=3",
    "--http-body-progress-seconds=1",
    "--live-ping-seconds=1",
    "--http-connections=20000",
    "--http-connections-per-address=1",
    "--live-drain-seconds=1",
    "--live-init-seconds=10",
    "--live-write-seconds=15",
];
const IDLE: Duration = Duration::from_secs(3);

async fn started() -> (migration::testing::TestDatabase, TestServer) {
    let database = Kind::Sqlite.database().await;
    let server = TestServer::start_with(database.url(), &LIMITS).await;
    (database, server)
}

async fn connected(client: &Client) -> TcpStream {
    TcpStream::connect(client.address()).await.unwrap()
}

/// Sends `begin`, then `rest` byte by byte, until the server closes; what it said.
async fn trickle(client: &Client, begin: &str, rest: &str) -> String {
    let (mut reading, mut writing) = connected(client).await.into_split();
    writing.write_all(begin.as_bytes()).await.unwrap();
    let sending = async {
        let mut pace = interval(Duration::from_millis(100));
        for byte in rest.bytes() {
            pace.tick().await;
            if writing.write_all(&[byte]).await.is_err() {
                break;
            }
        }
        std::future::pending::<()>().await;
    };
    let mut said = Vec::new();
    let reading = async {
        // A close with bytes that nobody read is a reset.
        drop(reading.read_to_end(&mut said).await);
    };
    tokio::select! {
        () = soon("the server to close", reading) => {}
        () = sending => unreachable!("it never ends"),
    }
    String::from_utf8(said).unwrap()
}

/// Sends a whole request and reads its answer, which is short.
async fn ask(stream: &mut TcpStream) -> Option<String> {
    let request = b"GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n";
    stream.write_all(request).await.ok()?;
    let mut said = vec![0; 4096];
    let length = soon("an answer", stream.read(&mut said)).await.ok()?;
    said.truncate(length);
    let said = String::from_utf8(said).unwrap();
    said.starts_with("HTTP/1.1 200").then_some(said)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_head_of_a_request_must_come_in_time() {
    let (_database, server) = started().await;
    let client = &server.client;
    let head = "GET /health/live HTTP/1.1\r\nhost: localhost\r\nx-padding: ";
    let endless = "x".repeat(1_000);
    let (silent, half, slow, preface) = tokio::join!(
        trickle(client, "", ""),
        trickle(client, head, ""),
        trickle(client, head, &endless),
        // As HTTP/2 begins.
        trickle(client, "PRI * HT", ""),
    );
    assert_eq!([silent, half, slow, preface], [""; 4].map(String::from));
    let overdue = client.metric("smartpulse_connections_overdue_total").await;
    assert_eq!(overdue, 4.0);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_is_kept_for_a_while_between_requests() {
    let (_database, server) = started().await;
    let mut stream = connected(&server.client).await;
    ask(&mut stream).await.expect("an answer");
    let answered = Instant::now();
    let mut rest = Vec::new();
    let closed = soon("the close", stream.read_to_end(&mut rest)).await;
    assert_eq!(closed.unwrap(), 0);
    let kept = answered.elapsed();
    assert!(kept > IDLE - Duration::from_millis(200), "{kept:?}");

    // The second request is held to the time of the first.
    let mut stream = connected(&server.client).await;
    ask(&mut stream).await.expect("an answer");
    let began = Instant::now();
    stream.write_all(b"GET /health").await.unwrap();
    drop(soon("the close", stream.read_to_end(&mut rest)).await);
    let took = began.elapsed();
    assert!(took < IDLE - Duration::from_millis(200), "{took:?}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_must_come_in_time() {
    let (_database, server) = started().await;
    let client = &server.client;
    let head = "POST /graphql HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";
    let whole = format!("{head}content-length: 1000\r\n\r\n{{\"query\":");
    let chunked = format!("{head}transfer-encoding: chunked\r\n\r\n9\r\n{{\"query\":\r\n");
    let endless = " ".repeat(1_000);
    let (stopped, slow, in_chunks) = tokio::join!(
        trickle(client, &whole, ""),
        trickle(client, &whole, &endless),
        trickle(client, &chunked, ""),
    );
    for said in [stopped, slow, in_chunks] {
        assert!(said.starts_with("HTTP/1.1 408 "), "{said}");
        let (_, body) = said.split_once("\r\n\r\n").unwrap();
        let answer: Value = serde_json::from_str(body).unwrap();
        assert_eq!(answer["errors"][0]["extensions"]["code"], "BAD_USER_INPUT");
        let message = answer["errors"][0]["message"].as_str().unwrap();
        assert!(message.contains("in time"), "{message}");
    }
    eventually("nothing is held", async || {
        // The one that asks.
        (client.metric("smartpulse_connections_open").await == 1.0).then_some(())
    })
    .await;
    server.stop().await;
}

/// A websocket and a stream are silent for longer than any request may be.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_live_outlives_the_limits_of_requests() {
    let (_database, server) = started().await;
    let client = &server.client;
    client.prepare(1).await;
    let changes = "subscription { forecastChanged { position } }";
    let mut socket = client.try_connect(Value::Null).await.unwrap();
    let mut stream = client
        .event_stream(changes, Value::Null, None)
        .await
        .unwrap();
    // A ping and a heartbeat each second.
    for _ in 0..=IDLE.as_secs() {
        let message = soon("a ping", socket.message()).await.unwrap();
        assert_eq!(message["type"], "ping");
        socket.send(json!({ "type": "pong" })).await.unwrap();
        soon("a heartbeat", stream.block()).await.expect("a block");
    }
    socket
        .start("1", "{ __typename }", Value::Null)
        .await
        .unwrap();
    assert_eq!(socket.data().await["__typename"], "Query");
    client.save_hour(1).await;
    soon("a change", stream.result()).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_are_only_so_many_connections() {
    let database = Kind::Sqlite.database().await;
    let server = TestServer::start_with(database.url(), &["--http-connections=4"]).await;
    let client = &server.client;
    // The client of the tests holds one, and a websocket is one, too.
    client.data("{ __typename }", Value::Null).await;
    let _socket = client.try_connect(Value::Null).await.unwrap();
    let (mut first, mut second) = (connected(client).await, connected(client).await);
    ask(&mut first).await.expect("an answer");
    ask(&mut second).await.expect("an answer");
    let mut third = connected(client).await;
    // One more is answered once, and only what a probe asks.
    let probed = ask(&mut third).await.expect("an answer to a probe");
    assert!(probed.contains("connection: close"), "{probed}");
    assert_eq!(ask(&mut third).await, None);
    // Over a connection that is there: the client might open another.
    let scrape = b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n";
    first.write_all(scrape).await.unwrap();
    let mut metrics = String::new();
    while !metrics.contains("# EOF") {
        let mut part = [0; 4096];
        let read = soon("metrics", first.read(&mut part)).await.unwrap();
        assert!(read > 0, "{metrics}");
        metrics += std::str::from_utf8(&part[..read]).unwrap();
    }
    for line in [
        "smartpulse_connections_open 4",
        "smartpulse_connections_refused_total 1",
    ] {
        assert!(
            metrics.lines().any(|found| found == line),
            "{line}: {metrics}"
        );
    }
    let mut other = connected(client).await;
    let request = b"GET /schema.graphql HTTP/1.1\r\nhost: localhost\r\n\r\n";
    other.write_all(request).await.unwrap();
    let mut said = Vec::new();
    soon("an end", other.read_to_end(&mut said)).await.unwrap();
    assert!(said.starts_with(b"HTTP/1.1 503 "), "{said:?}");
    drop(first);
    eventually("there is room again", async || {
        ask(&mut connected(client).await).await
    })
    .await;
    server.stop().await;
}

/// Connections are files. When there are no more, some are refused, and the
/// server goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_leaves_the_server_its_files() {
    let database = Kind::Sqlite.database().await;
    let url = database.url().to_owned();
    let start = move || Process::start_with_files(&url, 80);
    let server = tokio::task::spawn_blocking(start).await.unwrap();
    let mut flood = Vec::new();
    for _ in 0..200 {
        flood.push(connected(&server.client).await);
    }
    // It has taken what it takes: these answer, and what is in the database is
    // still read and written.
    let mut answered = 0;
    for stream in &mut flood {
        let answer = ask(stream).await;
        answered += usize::from(answer.is_some_and(|answer| !answer.contains("connection: close")));
    }
    assert_eq!(answered, 40);
    drop(flood);
    eventually("there is room again", async || {
        ask(&mut connected(&server.client).await).await
    })
    .await;
    server.client.prepare(1).await;
    server.client.save_hour(1).await;
    tokio::task::block_in_place(|| server.kill());
}

/// Else the next request would be sent where the rest of the body is expected.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_ends_with_a_body_that_was_not_taken() {
    let database = Kind::Sqlite.database().await;
    let options = ["--auth=required", "--limit-body-bytes=1000"];
    let server = TestServer::start_with(database.url(), &options).await;
    let head = "POST /graphql HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";
    for (body, closes) in [
        ("content-length: 2\r\n\r\n", true),
        ("content-length: 0\r\n\r\n", false),
    ] {
        let mut stream = connected(&server.client).await;
        let request = format!("{head}{body}");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut said = vec![0; 4096];
        let length = soon("an answer", stream.read(&mut said)).await.unwrap();
        let said = String::from_utf8_lossy(&said[..length]).to_lowercase();
        assert!(said.starts_with("http/1.1 401 "), "{said}");
        assert_eq!(said.contains("connection: close"), closes, "{said}");
    }
    server.stop().await;
}
