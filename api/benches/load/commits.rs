//! What positions cost a writer, and how fast a change is on a screen.

use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::database::{Database, DatabaseSettings};
use domain::forecast::{self, NewRun, Resolution, RunValues, SaveRequest};
use futures_util::{FutureExt, SinkExt, StreamExt};
use migration::testing::TestDatabase;
use serde_json::{Value, json};
use smartpulse::app::App;
use subscriptions::change_log::ChangeLog;
use time::OffsetDateTime;
use time::macros::datetime;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::http::{SAVE, post, prepare, run_of};
use crate::report::{line, median, quantile, section};

const WRITERS: usize = 16;
const ROUNDS: usize = 3;

pub(crate) async fn connect(url: &str) -> Database {
    Database::connect(&DatabaseSettings {
        url: url.to_owned(),
        max_connections: 24,
        acquire_timeout: Duration::from_secs(30),
        statement_timeout: Duration::from_secs(20),
        create_if_missing: true,
    })
    .await
    .expect("a database")
}

/// A server in this process, so that writers can commit without it.
async fn server(url: &str) -> (ChangeLog, std::net::SocketAddr, JoinSet<()>) {
    let line = ["serve", "--database-url", url, "--listen", "127.0.0.1:0"];
    let args = smartpulse::cli::serve_args(line);
    let app = App::build(connect(url).await, &args).await.expect("an app");
    let log = app.change_log().clone();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let mut task = JoinSet::new();
    task.spawn(async move {
        app.run(listener, std::future::pending())
            .await
            .expect("serving");
    });
    (log, address, task)
}

fn request(writer: usize) -> SaveRequest {
    SaveRequest {
        runs: vec![NewRun {
            unit: format!("plant:{}", writer + 1).parse().expect("a key"),
            provider: "p".parse().expect("a key"),
            resolution: Resolution::Hour,
            issued_at: Some(datetime!(2026-01-01 06:00 UTC)),
            values: RunValues::From {
                start: datetime!(2026-06-01 00:00 UTC),
                values: vec![Some(1.5); 24],
            },
        }],
        idempotency_key: None,
    }
}

/// Commits a second of sixteen writers, each waiting for its own or not.
async fn commits_a_second(log: &ChangeLog, commits: usize, acknowledged: bool) -> f64 {
    let began = Instant::now();
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let log = log.clone();
        writers.spawn(async move {
            let request = request(writer);
            for _ in 0..commits / WRITERS {
                let now = OffsetDateTime::now_utc();
                let saved = forecast::save(log.database(), "bench", &request, now).await;
                let receipt = saved.expect("a save").receipt;
                if acknowledged {
                    log.acknowledge(receipt).await.expect("a position");
                }
            }
        });
    }
    while let Some(done) = writers.join_next().await {
        done.expect("a writer");
    }
    commits as f64 / began.elapsed().as_secs_f64()
}

pub(crate) async fn run() {
    for (name, database, commits) in [
        ("PostgreSQL", TestDatabase::postgres().await, 4800),
        ("SQLite", TestDatabase::sqlite().await, 1600),
    ] {
        section(&format!("commits on {name}"));
        // Without a sequencer and tail: the same transactions, triggers included.
        let alone = {
            let (log, address, mut task) = server(database.url()).await;
            prepare(&reqwest::Client::new(), address, WRITERS).await;
            task.abort_all();
            while task.join_next().await.is_some() {}
            log
        };
        commits_a_second(&alone, commits / 4, false).await;
        let mut without = Vec::new();
        for _ in 0..ROUNDS {
            without.push(commits_a_second(&alone, commits, false).await);
        }
        drop(alone);
        let (log, address, _task) = server(database.url()).await;
        let mut with = Vec::new();
        for _ in 0..ROUNDS {
            with.push(commits_a_second(&log, commits, true).await);
        }
        let (with, without) = (median(&mut with), median(&mut without));
        line(
            &format!("{WRITERS} writers, a save of 24 values each"),
            &format!(
                "{with:.0} commits/s acknowledged with their position, {without:.0} without sequencer: ratio {:.2} (limit 0.6)",
                with / without
            ),
        );

        let mut waits = Vec::new();
        for _ in 0..400 {
            let now = OffsetDateTime::now_utc();
            let saved = forecast::save(log.database(), "bench", &request(0), now).await;
            let receipt = saved.expect("a save").receipt;
            let began = Instant::now();
            log.acknowledge(receipt).await.expect("a position");
            waits.push(began.elapsed());
        }
        line(
            "commit to acknowledged position, one writer",
            &format!(
                "median {:.2?}, p99 {:.2?}",
                quantile(&mut waits, 0.5),
                quantile(&mut waits, 0.99)
            ),
        );
        let mut frames = frames(address, address, 300, Duration::ZERO).await;
        line(
            "commit to websocket frame, one change on an idle server",
            &format!(
                "median {:.2?}, p99 {:.2?}",
                quantile(&mut frames, 0.5),
                quantile(&mut frames, 0.99)
            ),
        );
    }
}

/// From the database's time of each change, saved at one server, until the
/// other's frame is here. Between two saves there is a pause, of up to twice so
/// long.
pub(crate) async fn frames(
    writer: std::net::SocketAddr,
    reader: std::net::SocketAddr,
    count: usize,
    pause: Duration,
) -> Vec<Duration> {
    let mut request = format!("ws://{reader}/graphql/ws")
        .into_client_request()
        .expect("a request");
    let protocol = "graphql-transport-ws".parse().expect("a header");
    request
        .headers_mut()
        .insert("sec-websocket-protocol", protocol);
    let (mut socket, _) = tokio_tungstenite::connect_async(request)
        .await
        .expect("a socket");
    let query = "subscription { forecastChanged(units: [\"plant:1\"]) { position changedAt points { deliveryStart mwh } } }";
    for message in [
        json!({ "type": "connection_init" }),
        json!({ "type": "subscribe", "id": "1", "payload": { "query": query } }),
    ] {
        socket
            .send(Message::text(message.to_string()))
            .await
            .expect("sent");
    }
    let client = Arc::new(reqwest::Client::new());
    let mut latencies = Vec::new();
    socket.next().await.expect("an ack").expect("an ack");
    // Answered behind the subscribe: the subscription stands when this is back.
    let body =
        json!({ "query": SAVE, "variables": { "runs": [run_of(1, "2026-01-01T06:00:00Z", 5.0)] } })
            .to_string();
    while latencies.len() < count {
        // So that no rhythm of a server's meets ours.
        tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..2.0))).await;
        // One that came late must not be taken for the next.
        while let Some(Some(Ok(_))) = socket.next().now_or_never() {}
        let saving = post(&client, writer, body.clone());
        let frame = tokio::time::timeout(Duration::from_secs(2), socket.next());
        let (_, frame) = tokio::join!(saving, async {
            let frame = frame.await;
            (OffsetDateTime::now_utc(), frame)
        });
        let (arrived, Ok(Some(Ok(Message::Text(text))))) = frame else {
            continue;
        };
        let frame: Value = serde_json::from_str(&text).expect("JSON");
        let changed = frame["payload"]["data"]["forecastChanged"]["changedAt"]
            .as_str()
            .expect("a time");
        let changed =
            OffsetDateTime::parse(changed, &time::format_description::well_known::Rfc3339)
                .expect("a time");
        latencies.push((arrived - changed).unsigned_abs());
    }
    latencies
}
