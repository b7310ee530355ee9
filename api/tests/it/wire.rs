//! The wire: forms of an answer, streams over HTTP, and what a websocket is
//! closed for, over real connections. The rules in detail are tested in memory,
//! and by npm's clients in `interop`.

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::client::{Client, code};
use crate::server::{Kind, Process, TestServer, on_both, run_sql, started};
use crate::wait::{eventually, soon};

on_both!(
    an_event_stream_goes_on_after_the_last_event_id,
    equal_subscriptions_share_one_execution_over_all_transports,
    every_payload_says_how_fresh_it_is,
    an_event_of_what_is_gone_is_told_with_its_error,
);

const CHANGED: &str =
    "subscription($after: Position) { forecastChanged(after: $after) { position points { mwh } } }";
async fn operations(client: &Client, count: u32) {
    eventually("subscriptions stand", async || {
        let now = client.metric("smartpulse_live_operations").await;
        (now == f64::from(count)).then_some(())
    })
    .await;
}

async fn an_event_stream_goes_on_after_the_last_event_id(kind: Kind) {
    let (_database, server) = started(kind).await;
    let client = &server.client;
    let start = client.prepare(1).await;
    let first = client.save_hour(1).await;
    let variables = json!({ "after": start });
    let mut stream = client
        .event_stream(CHANGED, variables.clone(), None)
        .await
        .unwrap();
    let headers = stream.response().headers();
    assert_eq!(headers["content-type"], "text/event-stream; charset=utf-8");
    assert_eq!(headers["cache-control"], "no-cache, no-transform");
    let event = soon("an event", stream.event()).await.unwrap();
    assert_eq!(event.event.as_deref(), Some("next"));
    assert_eq!(event.id.as_deref(), Some(first.as_str()));
    let second = client.save_hour(2).await;
    let event = soon("an event", stream.event()).await.unwrap();
    assert_eq!(event.id.as_deref(), Some(second.as_str()));
    drop(stream);
    operations(client, 0).await;
    let (third, fourth) = (client.save_hour(3).await, client.save_hour(4).await);
    // Over what the document says, which is where it once began.
    let mut stream = client
        .event_stream(CHANGED, variables.clone(), Some(&second))
        .await
        .unwrap();
    for expect in [third, fourth] {
        let event = soon("an event", stream.event()).await.unwrap();
        assert_eq!(event.id, Some(expect));
    }
    // What fails comes as an event, then the end.
    let mut stream = client
        .event_stream(CHANGED, variables, Some("00000000.1"))
        .await
        .unwrap();
    assert_eq!(code(&stream.result().await), "POSITION_EXPIRED");
    let end = stream.event().await.unwrap();
    assert_eq!(end.event.as_deref(), Some("complete"));
    assert_eq!(stream.block().await, None);
    server.stop().await;
}

async fn equal_subscriptions_share_one_execution_over_all_transports(kind: Kind) {
    let (_database, server) = started(kind).await;
    let client = &server.client;
    let start = client.prepare(1).await;
    client.save_hour(1).await;
    let mut now = client.subscribe(CHANGED, json!({})).await;
    // Laid out otherwise, with a variable that nobody declared, from another
    // position, by another transport: the same.
    let otherwise = CHANGED
        .replace('(', " (\n")
        .replace("position", "# where\n position,");
    let mut later = client
        .subscribe(&otherwise, json!({ "after": start, "other": 1 }))
        .await;
    let mut stream = client
        .event_stream(CHANGED, json!({ "after": null }), None)
        .await
        .unwrap();
    assert_eq!(
        later.data().await["forecastChanged"]["points"][0]["mwh"],
        1.0
    );
    operations(client, 3).await;
    assert_eq!(client.metric("smartpulse_live_cohorts").await, 1.0);
    let made = client.metric("smartpulse_live_frames_total").await;
    client.save_hour(2).await;
    let mut texts = Vec::new();
    for socket in [&mut now, &mut later] {
        texts.push(soon("a change", socket.next()).await.unwrap());
    }
    texts.push(soon("a change", stream.result()).await);
    // Equal to the last byte of what was made once.
    assert_eq!(texts[0], texts[1]);
    assert_eq!(texts[0], texts[2]);
    assert_eq!(
        client.metric("smartpulse_live_frames_total").await,
        made + 1.0
    );
    server.stop().await;
}

async fn every_payload_says_how_fresh_it_is(kind: Kind) {
    let (_database, server) = started(kind).await;
    let client = &server.client;
    let start = client.prepare(1).await;
    let saved = client.save_hour(1).await;
    let mut socket = client.subscribe(CHANGED, json!({ "after": start })).await;
    let payload = soon("a change", socket.next()).await.unwrap();
    let extensions = payload["extensions"].as_object().unwrap();
    assert_eq!(extensions["position"], json!(saved));
    let instant = |name: &str| {
        let text = extensions[name].as_str().unwrap();
        time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).unwrap()
    };
    assert!(instant("committedAt") <= instant("sentAt"));
    assert!(instant("sentAt") <= time::OffsetDateTime::now_utc());
    assert_eq!(extensions.len(), 3, "{payload}");
    server.stop().await;
}

/// Else nobody could ever go on past it.
async fn an_event_of_what_is_gone_is_told_with_its_error(kind: Kind) {
    let (database, server) = started(kind).await;
    let client = &server.client;
    let start = client.prepare(1).await;
    let saved = client.save_hour(1).await;
    run_sql(
        database.url(),
        "DELETE FROM forecast_curve; DELETE FROM series; DELETE FROM unit;",
    );
    // Plain SQL is seen within a second.
    eventually("the unit is gone", async || {
        let data = client.data("{ unit(key: \"plant:1\") { key } }", Value::Null);
        data.await["unit"].is_null().then_some(())
    })
    .await;
    let query = "subscription($after: Position) { forecastChanged(after: $after) { operation unit { name } } }";
    let mut socket = client.subscribe(query, json!({ "after": start })).await;
    let payload = soon("an event", socket.next()).await.unwrap();
    assert_eq!(code(&payload), "NOT_FOUND");
    assert_eq!(
        payload["data"],
        json!({ "forecastChanged": { "operation": "INSERT", "unit": null } })
    );
    assert_eq!(
        payload["errors"][0]["path"],
        json!(["forecastChanged", "unit"])
    );
    assert_eq!(payload["extensions"]["position"], json!(saved));
    // The stream goes on, to what ends it.
    loop {
        let payload = soon("an event", socket.next()).await.unwrap();
        match code(&payload) {
            "NOT_FOUND" => {}
            end => {
                assert_eq!(end, "RESYNC_REQUIRED");
                break;
            }
        }
    }
    server.stop().await;
}

/// A request, its accepted form, and what it is answered with.
async fn answer(client: &Client, accept: Option<&str>, query: &str) -> (u16, String, String) {
    let mut request = client.http().post(client.url("/graphql"));
    if let Some(accept) = accept {
        request = request.header("accept", accept);
    }
    let response = request
        .json(&json!({ "query": query }))
        .send()
        .await
        .unwrap();
    let form = response.headers()["content-type"]
        .to_str()
        .unwrap()
        .to_owned();
    (
        response.status().as_u16(),
        form,
        response.text().await.unwrap(),
    )
}

#[tokio::test]
async fn an_answer_takes_the_form_that_is_accepted() {
    let (_database, server) = started(Kind::Sqlite).await;
    let client = &server.client;
    const JSON: &str = "application/json; charset=utf-8";
    const GRAPHQL: &str = "application/graphql-response+json; charset=utf-8";
    for (accept, query, status, form, starts) in [
        (None, "{ __typename }", 200, JSON, r#"{"data":{"#),
        (
            Some("application/graphql-response+json"),
            "{ __typename }",
            200,
            GRAPHQL,
            r#"{"data":{"#,
        ),
        (
            Some("application/graphql-response+json"),
            "{",
            400,
            GRAPHQL,
            r#"{"errors":["#,
        ),
        (Some("application/json"), "{", 200, JSON, r#"{"errors":["#),
        (
            Some("application/graphql-response+json"),
            "{ nothing }",
            400,
            GRAPHQL,
            r#"{"errors":["#,
        ),
        (
            Some("text/html"),
            "{ __typename }",
            406,
            JSON,
            r#"{"errors":["#,
        ),
        (
            Some("application/json"),
            "subscription { changes { position } }",
            406,
            JSON,
            r#"{"errors":["#,
        ),
        (
            Some("text/event-stream"),
            "{ __typename }",
            200,
            "text/event-stream; charset=utf-8",
            "retry: 1000\n\nevent: next\ndata: {\"data\":",
        ),
        (
            Some("text/event-stream"),
            "{ nothing }",
            200,
            "text/event-stream; charset=utf-8",
            "retry: 1000\n\nevent: next\ndata: {\"errors\":",
        ),
    ] {
        let (got, of, text) = answer(client, accept, query).await;
        assert_eq!(
            (got, of.as_str()),
            (status, form),
            "{accept:?} {query} {text}"
        );
        assert!(text.starts_with(starts), "{accept:?} {query} {text}");
        if form.starts_with("text/event-stream") {
            assert!(text.ends_with("\n\nevent: complete\ndata:\n\n"), "{text}");
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn a_part_of_a_multipart_answer_ends_with_its_boundary() {
    let (_database, server) = started(Kind::Sqlite).await;
    let client = &server.client;
    let start = client.prepare(1).await;
    client.save_hour(1).await;
    let mut response = client
        .http()
        .post(client.url("/graphql"))
        .header("accept", "multipart/mixed;subscriptionSpec=1.0")
        .json(&json!({ "query": CHANGED, "variables": { "after": start } }))
        .send()
        .await
        .unwrap();
    assert_eq!(
        response.headers()["content-type"],
        "multipart/mixed;boundary=\"graphql\";subscriptionSpec=1.0"
    );
    let mut text = String::new();
    while text.matches("--graphql").count() < 2 {
        let chunk = soon("a part", response.chunk()).await.unwrap().unwrap();
        text.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    let part =
        text.strip_prefix("--graphql\r\ncontent-type: application/json; charset=utf-8\r\n\r\n");
    let body = part.unwrap().strip_suffix("\r\n--graphql").unwrap();
    let body: Value = serde_json::from_str(body).unwrap();
    assert_eq!(
        body["payload"]["data"]["forecastChanged"]["points"][0]["mwh"],
        1.0
    );
    let (status, _, text) = answer(
        client,
        Some("multipart/mixed;subscriptionSpec=1.0"),
        "subscription { forecastChanged(after: \"00000000.1\") { position } }",
    )
    .await;
    assert_eq!(status, 200);
    assert!(
        text.contains("POSITION_EXPIRED") && text.ends_with("\r\n--graphql--\r\n"),
        "{text}"
    );
    server.stop().await;
}

#[tokio::test]
async fn a_quiet_stream_says_that_it_is_there_and_where_it_is() {
    let database = Kind::Sqlite.database().await;
    let server = TestServer::start_with(database.url(), &["--live-ping-seconds", "1"]).await;
    let client = &server.client;
    let start = client.prepare(1).await;
    let mut stream = client.event_stream(CHANGED, json!({}), None).await.unwrap();
    let begin = soon("a retry time", stream.block()).await.unwrap();
    assert_eq!(begin.data, None);
    let heartbeat = soon("a heartbeat", stream.block()).await.unwrap();
    assert_eq!(heartbeat.data, None);
    assert_eq!(heartbeat.id.as_deref(), start.as_str());
    server.stop().await;
}

#[tokio::test]
async fn a_real_socket_is_closed_with_its_code() {
    let database = Kind::Sqlite.database().await;
    let server = TestServer::start_with(
        database.url(),
        &["--live-init-seconds", "1", "--live-message-bytes", "2000"],
    )
    .await;
    let client = &server.client;
    let ws = Some("graphql-transport-ws");
    // Nothing offered: nothing that this server speaks.
    let mut socket = client.open_socket(None).await.unwrap();
    let closed = soon("a close", socket.closed()).await.unwrap();
    assert_eq!(closed, (4406, "Subprotocol not acceptable".into()));
    let mut socket = client.open_socket(ws).await.unwrap();
    assert_eq!(soon("a close", socket.closed()).await.unwrap().0, 4408);
    let mut socket = client.open_socket(ws).await.unwrap();
    socket
        .start("1", "{ __typename }", Value::Null)
        .await
        .unwrap();
    assert_eq!(soon("a close", socket.closed()).await.unwrap().0, 4401);
    let mut socket = client.try_connect(Value::Null).await.unwrap();
    socket
        .send(json!({ "type": "connection_init" }))
        .await
        .unwrap();
    assert_eq!(soon("a close", socket.closed()).await.unwrap().0, 4429);
    let mut socket = client.try_connect(Value::Null).await.unwrap();
    socket
        .send(json!({ "type": "x".repeat(300) }))
        .await
        .unwrap();
    let (code, reason) = soon("a close", socket.closed()).await.unwrap();
    assert_eq!((code, reason.len() <= 123), (4400, true), "{reason}");
    let mut socket = client.try_connect(Value::Null).await.unwrap();
    let query = "subscription { changes { position } }";
    socket.start("1", query, Value::Null).await.unwrap();
    socket.start("1", query, Value::Null).await.unwrap();
    assert_eq!(soon("a close", socket.closed()).await.unwrap().0, 4409);
    let mut socket = client.try_connect(Value::Null).await.unwrap();
    let long = json!({ "type": "ping", "payload": { "a": "x".repeat(3000) } });
    socket.send(long).await.unwrap();
    assert_eq!(soon("a close", socket.closed()).await.unwrap().0, 1009);
    let mut socket = client.open_socket(ws).await.unwrap();
    socket
        .send(json!({ "type": "connection_init", "payload": { "SmartPulse-User": "" } }))
        .await
        .unwrap();
    assert_eq!(soon("a close", socket.closed()).await.unwrap().0, 4403);
    server.stop().await;
}

/// A request that never ends holds up a stop, but not for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_does_not_wait_for_ever() {
    let database = Kind::Sqlite.database().await;
    let server = Process::start_with(
        database.url(),
        &["--live-drain-seconds", "0", "--live-write-seconds", "600"],
    );
    let client = server.client.clone();
    let start = client.prepare(1).await;
    // A body of which nothing comes, and a stream that nobody reads.
    let mut line = TcpStream::connect(client.address()).await.unwrap();
    let head = "POST /graphql HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{";
    line.write_all(head.as_bytes()).await.unwrap();
    let stream = client
        .event_stream(CHANGED, json!({ "after": start }), None)
        .await
        .unwrap();
    operations(&client, 1).await;
    // More than a connection takes that nobody reads: months of quarter hours.
    let month = json!({ "unit": "plant:1", "provider": "p", "resolution": "PT15M",
        "start": "2024-05-01T00:00:00Z", "values": vec![1; 31 * 96] });
    let save = "mutation($runs: [ForecastRunInput!]!) { saveForecasts(input: { runs: $runs }) { position } }";
    client.data(save, json!({ "runs": vec![month; 300] })).await;
    let (mut last, mut same) = (0.0, 0);
    eventually("nothing more is taken", async || {
        let now = client
            .metric("smartpulse_live_frames_delivered_total")
            .await;
        same = if now == last && now > 0.0 {
            same + 1
        } else {
            0
        };
        last = now;
        (same == 20).then_some(())
    })
    .await;
    assert!(last < 300.0, "all was taken");
    let ended = tokio::task::spawn_blocking(move || server.terminate());
    assert!(soon("the exit", ended).await.unwrap().success());
    drop((line, stream));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_sends_sockets_away_to_come_back() {
    let database = Kind::Sqlite.database().await;
    let server = Process::start(database.url());
    let client = server.client.clone();
    let start = client.prepare(1).await;
    let mut socket = client.subscribe(CHANGED, json!({ "after": start })).await;
    let mut stream = client
        .event_stream(CHANGED, json!({ "after": start }), None)
        .await
        .unwrap();
    let saved = client.save_hour(1).await;
    soon("a change", socket.data()).await;
    soon("a change", stream.result()).await;
    let ended = tokio::task::spawn_blocking(move || server.terminate());
    let closed = soon("a close", socket.closed()).await.unwrap();
    assert_eq!(closed, (1012, format!("Service restart at {saved}")));
    // A stream ends without having been completed.
    assert_eq!(soon("the end", stream.event()).await, None);
    assert!(soon("the exit", ended).await.unwrap().success());
}
