//! How requests and answers are written: encodings, character sets, and requests
//! without an operation.

use std::io::{Read, Write};

use async_compression::tokio::write::BrotliEncoder;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use migration::testing::TestDatabase;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, VARY};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::client::{Client, code};
use crate::server::{Kind, TestServer};
use crate::wait::soon;

const LIMIT: usize = 4096;

async fn started() -> (TestDatabase, TestServer) {
    let database = Kind::Sqlite.database().await;
    let server = TestServer::start_with(database.url(), &["--limit-body-bytes=4096"]).await;
    (database, server)
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

async fn brotli(text: &[u8]) -> Vec<u8> {
    let mut encoder = BrotliEncoder::new(Vec::new());
    encoder.write_all(text).await.unwrap();
    encoder.shutdown().await.unwrap();
    encoder.into_inner()
}

/// A request of so many bytes.
fn request(length: usize) -> String {
    let empty = json!({ "query": "{ __typename }", "operationName": null, "pad": "" }).to_string();
    let pad = "x".repeat(length - empty.len());
    json!({ "query": "{ __typename }", "operationName": null, "pad": pad }).to_string()
}

async fn send(client: &Client, headers: &[(&str, &str)], body: Vec<u8>) -> (u16, HeaderMap, Value) {
    let mut request = client.http().post(client.url("/graphql")).body(body);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = soon("an answer", request.send()).await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let text = response.text().await.unwrap();
    let json = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{status}: {text}"));
    (status, headers, json)
}

/// A JSON body in a content encoding.
async fn post(client: &Client, encoding: &str, body: Vec<u8>) -> (u16, Value) {
    let headers = [
        ("content-type", "application/json"),
        ("content-encoding", encoding),
    ];
    let (status, _, answer) = send(client, &headers, body).await;
    (status, answer)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compressed_body_is_inflated_within_the_limit() {
    let (_database, server) = started().await;
    let client = &server.client;
    for length in [200, LIMIT] {
        let text = request(length).into_bytes();
        for (encoding, body) in [
            ("gzip", gzip(&text)),
            ("GZIP", gzip(&text)),
            // Several members are one text.
            ("x-gzip", [gzip(&text[..100]), gzip(&text[100..])].concat()),
            ("br", brotli(&text).await),
            ("identity", text.clone()),
        ] {
            let (status, answer) = post(client, encoding, body).await;
            assert_eq!(status, 200, "{encoding}: {answer}");
            assert_eq!(answer["data"]["__typename"], "Query", "{encoding}");
        }
    }
    let text = request(LIMIT + 1).into_bytes();
    for (encoding, body) in [
        ("gzip", gzip(&text)),
        ("br", brotli(&text).await),
        // What inflates to little must not be much either.
        ("gzip", gzip(b"").repeat(LIMIT)),
        ("identity", text),
    ] {
        let (status, answer) = post(client, encoding, body).await;
        assert_eq!(
            (status, code(&answer)),
            (413, "BAD_USER_INPUT"),
            "{encoding}"
        );
        let message = answer["errors"][0]["message"].to_string();
        assert!(message.contains("4096"), "{message}");
    }
    // The client sends on, and still gets its answer, on a connection that is kept.
    for _ in 0..20 {
        let (status, answer) = post(client, "identity", request(2 * LIMIT).into_bytes()).await;
        assert_eq!((status, code(&answer)), (413, "BAD_USER_INPUT"));
    }
    server.stop().await;
}

/// It would be 64 GiB.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bomb_does_not_go_off() {
    let database = Kind::Sqlite.database().await;
    let server = TestServer::start(database.url()).await;
    let mebibyte = gzip(&vec![b' '; 1 << 20]);
    let bomb = mebibyte.repeat((12 << 20) / mebibyte.len());
    let (status, answer) = post(&server.client, "gzip", bomb).await;
    assert_eq!((status, code(&answer)), (413, "BAD_USER_INPUT"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_encoding_that_does_not_fit_is_refused() {
    let (_database, server) = started().await;
    let client = &server.client;
    let text = request(200).into_bytes();
    let cut = gzip(&text)[..50].to_vec();
    for (encoding, body, status, part) in [
        ("gzip", text.clone(), 400, "not gzip"),
        ("gzip", cut, 400, "not gzip"),
        (
            "br",
            [brotli(&text).await, b"more".to_vec()].concat(),
            400,
            "not br",
        ),
        ("br", vec![0xff; 200], 400, "not br"),
        ("deflate", text.clone(), 415, "gzip or br"),
        ("gzip, br", text.clone(), 415, "gzip or br"),
    ] {
        let (got, answer) = post(client, encoding, body).await;
        assert_eq!(
            (got, code(&answer)),
            (status, "BAD_USER_INPUT"),
            "{encoding}"
        );
        let message = answer["errors"][0]["message"].to_string();
        assert!(message.contains(part), "{message}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_is_utf_8() {
    let (_database, server) = started().await;
    let client = &server.client;
    let text = request(200);
    let with_mark = format!("\u{feff}{text}");
    for (content_type, body) in [
        ("application/json", &text),
        ("application/json;charset=UTF-8", &text),
        ("application/json; profile=x; Charset=\"utf-8\"", &text),
        ("application/json; charset=utf8", &with_mark),
        ("application/json", &with_mark),
    ] {
        let headers = [("content-type", content_type)];
        let (status, _, answer) = send(client, &headers, body.clone().into_bytes()).await;
        assert_eq!(status, 200, "{content_type}: {answer}");
        assert_eq!(answer["data"]["__typename"], "Query", "{content_type}");
    }
    let utf_16: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (content_type, body) in [
        ("application/json; charset=utf-16", utf_16),
        (
            "application/json; charset=utf-16",
            text.clone().into_bytes(),
        ),
        ("application/json;Charset=\"ISO-8859-1\"", text.into_bytes()),
    ] {
        let headers = [("content-type", content_type)];
        let (status, _, answer) = send(client, &headers, body).await;
        assert_eq!(
            (status, code(&answer)),
            (415, "BAD_USER_INPUT"),
            "{content_type}"
        );
        let message = answer["errors"][0]["message"].to_string();
        assert!(message.contains("application/json in UTF-8"), "{message}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_answers_are_compressed_for_who_takes_it() {
    let (_database, server) = started().await;
    let client = &server.client;
    client.prepare(1).await;
    let ask = async |periods: u32, accept: &str, encoding: Option<&str>| {
        let to = format!("2024-{:02}-01T00:00:00Z", 5 + periods);
        let query = format!(
            "{{ forecast(unit: \"plant:1\", provider: \"p\", resolution: PT1H,
                from: \"2024-05-01T00:00:00Z\", to: \"{to}\") {{ values }} }}"
        );
        let request = client.http().post(client.url("/graphql"));
        let mut request = request
            .json(&json!({ "query": query }))
            .header("accept", accept);
        if let Some(encoding) = encoding {
            request = request.header("accept-encoding", encoding);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        let headers = response.headers().clone();
        (headers, response.bytes().await.unwrap())
    };
    let json = "application/json";
    let (headers, plain) = ask(2, json, None).await;
    assert!(plain.len() > 5_000 && !headers.contains_key(CONTENT_ENCODING));
    let vary = |headers: &HeaderMap| {
        let all = headers.get_all(VARY).iter();
        let all: Vec<_> = all.map(|value| value.to_str().unwrap()).collect();
        all.join(", ")
    };
    // A cache in between must not give it to who would take it compressed.
    assert_eq!(vary(&headers), "accept, accept-encoding");

    let (headers, packed) = ask(2, json, Some("gzip")).await;
    assert_eq!(headers[CONTENT_ENCODING], "gzip");
    assert_eq!(vary(&headers), "accept, accept-encoding");
    assert!(packed.len() * 5 < plain.len(), "{} bytes", packed.len());
    let mut unpacked = Vec::new();
    GzDecoder::new(&packed[..])
        .read_to_end(&mut unpacked)
        .unwrap();
    assert_eq!(unpacked, plain);

    let (headers, _) = ask(2, json, Some("gzip;q=0.5, br")).await;
    assert_eq!(headers[CONTENT_ENCODING], "br");
    let (headers, small) = ask(0, json, Some("gzip, br")).await;
    assert!(!headers.contains_key(CONTENT_ENCODING), "{}", small.len());
    let (headers, _) = ask(2, "text/event-stream", Some("gzip, br")).await;
    assert!(!headers.contains_key(CONTENT_ENCODING));
    assert_eq!(headers[CONTENT_TYPE], "text/event-stream; charset=utf-8");
    server.stop().await;
}

/// Apollo Client and urql send the operation itself on these words.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hash_in_place_of_an_operation_is_not_supported() {
    let (_database, server) = started().await;
    let client = &server.client;
    let hash = json!({ "persistedQuery": { "version": 1, "sha256Hash": "ab12" } });
    let not_supported = json!([{ "message": "PersistedQueryNotSupported",
        "extensions": { "code": "PERSISTED_QUERY_NOT_SUPPORTED" } }]);
    let body = json!({ "operationName": "A", "variables": { "a": 1 }, "extensions": hash });
    for (accept, status) in [
        ("application/json", 200),
        ("application/graphql-response+json", 400),
    ] {
        let headers = [("content-type", "application/json"), ("accept", accept)];
        let (got, _, answer) = send(client, &headers, body.to_string().into_bytes()).await;
        assert_eq!(
            (got, &answer["errors"]),
            (status, &not_supported),
            "{accept}"
        );
        assert_eq!(answer.get("data"), None);

        let mut url = reqwest::Url::parse(&client.url("/graphql")).unwrap();
        url.query_pairs_mut()
            .append_pair("extensions", &hash.to_string());
        let request = client.http().get(url).header("accept", accept);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), status, "{accept}");
        let answer: Value = response.json().await.unwrap();
        assert_eq!(answer["errors"], not_supported, "{accept}");
    }
    let mut socket = client.try_connect(Value::Null).await.unwrap();
    for id in ["1", "1"] {
        let message = json!({ "type": "subscribe", "id": id, "payload": body });
        socket.send(message).await.unwrap();
        let answer = socket.message().await.unwrap();
        assert_eq!(
            answer,
            json!({ "type": "error", "id": id, "payload": not_supported })
        );
    }
    // With the operation, the hash says nothing.
    let both = json!({ "query": "{ __typename }", "extensions": hash });
    let headers = [("content-type", "application/json")];
    let (status, _, answer) = send(client, &headers, both.to_string().into_bytes()).await;
    assert_eq!(
        (status, answer),
        (200, json!({ "data": { "__typename": "Query" } }))
    );
    // Without either there is no request.
    for nothing in [
        json!({}),
        json!({ "extensions": {} }),
        json!({ "extensions": { "persistedQuery": 1 } }),
    ] {
        let (status, _, answer) = send(client, &headers, nothing.to_string().into_bytes()).await;
        assert_eq!(
            (status, code(&answer)),
            (400, "BAD_USER_INPUT"),
            "{nothing}"
        );
    }
    server.stop().await;
}

/// What has been carried out must not be answered with 406.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_plain_where_no_encoding_suits() {
    let (_database, server) = started().await;
    let client = &server.client;
    for accepted in ["zstd, *;q=0", "identity;q=0", "identity; q=0.0, zstd"] {
        let body = json!({ "query": "mutation { upsertUnits(input: { units: [{ key: \"plant:1\" }] }) { position } }" });
        let request = client.http().post(client.url("/graphql")).json(&body);
        let response = request.header("accept-encoding", accepted).send().await;
        let response = response.unwrap();
        assert_eq!(response.status(), 200, "{accepted}");
        assert!(response.headers().get("content-encoding").is_none());
        let answer: serde_json::Value = response.json().await.unwrap();
        assert!(
            answer["data"]["upsertUnits"]["position"].is_string(),
            "{answer}"
        );
    }
    server.stop().await;
}
