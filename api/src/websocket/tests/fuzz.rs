//! Whatever a client says: the server never panics, answers by the protocol, and
//! lets go of everything in the end.
//!
//! Runs for a moment, or `SMARTPULSE_FUZZ_SECONDS`; the seed of a sequence that
//! fails is printed, and replayed as `SMARTPULSE_FUZZ_SEED`.

use std::collections::HashSet;
use std::time::Duration;

use axum::extract::ws::Message;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use serde_json::Value;

use super::{Client, Server};

/// Pieces that messages are made of: right ones, and some that nearly are.
const PIECES: [&str; 32] = [
    r#"{"type":"connection_init"}"#,
    r#"{"type":"connection_init","payload":{"SmartPulse-User":"u"}}"#,
    r#"{"type":"connection_init","payload":{"SmartPulse-User":7}}"#,
    r#"{"type":"ping"}"#,
    r#"{"type":"ping","payload":{"a":[null,1e300,"\ud83d\ude00"]}}"#,
    r#"{"type":"pong"}"#,
    r#"{"type":"complete","id":"1"}"#,
    r#"{"type":"complete","id":"2"}"#,
    r#"{"type":"complete","id":"\u0000"}"#,
    r#"{"type":"subscribe","id":"1","payload":{"query":"{ __typename }"}}"#,
    r#"{"type":"subscribe","id":"2","payload":{"query":"subscription { changes { position } }"}}"#,
    r#"{"type":"subscribe","id":"1","payload":{"query":"subscription($a: Position) { changes(after: $a) { position } }","variables":{"a":"00000000.1"}}}"#,
    r#"{"type":"subscribe","id":"3","payload":{"query":"subscription { changes(after: 7) { position } }"}}"#,
    r#"{"type":"subscribe","id":"3","payload":{"query":"subscription { ...F } fragment F on Subscription { ...F }"}}"#,
    r#"{"type":"subscribe","id":"3","payload":{"query":"subscription { a: changes { position } b: changes { position } }"}}"#,
    r#"{"type":"subscribe","id":"3","payload":{"query":"subscription { changes(after: {a: [1, $b]}) { position } }"}}"#,
    r#"{"type":"subscribe","id":"4","payload":{"query":"mutation { upsertProviders(input: { providers: [{ key: \"p\" }] }) { position } }"}}"#,
    r#"{"type":"subscribe","id":"5","payload":{"query":"query A { __typename } query B { __typename }","operationName":"B"}}"#,
    r#"{"type":"subscribe","id":"5","payload":{"query":"query A { __typename } query B { __typename }"}}"#,
    r#"{"type":"subscribe","id":"6","payload":{"query":"{ __typename }","extensions":{"minPosition":"x"}}}"#,
    r#"{"type":"subscribe","id":"6","payload":{"query":"{ __typename }","extensions":{"minPosition":"00000000.1"}}}"#,
    r#"{"type":"subscribe","id":"7","payload":{"query":"{ forecast(unit: \"plant:1\", provider: \"é\", resolution: PT1H, from: \"2024-01-01T00:00:00Z\", to: \"2300-01-01T00:00:00Z\") { values } }"}}"#,
    r#"{"type":"subscribe","id":"8","payload":{"query":"subscription { forecastLive(unit: \"plant:1\", provider: \"p\", resolution: PT1H, from: \"2024-01-01T00:00:00Z\", to: \"2024-01-02T00:00:00Z\", maxRate: 0.0000001, delta: POINTS, minDelta: 1e308) { position } }"}}"#,
    r#"{"type":"subscribe","id":"9","payload":{"query":"{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{"}}"#,
    r#"{"type":"subscribe","id":"9","payload":{"query":"\"\"\" \\ é"}}"#,
    r#"{"type":"subscribe","id":"9","payload":{"query":"é… { é }"}}"#,
    r#"{"type":"subscribe","id":"9","payload":{"query":"subscription { changes #\r(entities: [])\n { position } }"}}"#,
    r#"{"type":"subscribe","id":"9","payload":{"query":"{ a(b: [\"\"\"x\" [[[[[[[[[[ ...F...G...H 1...2"}}"#,
    r#"{"type":"subscribe","id":"","payload":{}}"#,
    r#"{"type":"connection_ack"}"#,
    "",
    "null",
];

fn given(name: &str) -> Option<u64> {
    #[expect(clippy::disallowed_methods, reason = "how long, and what to replay")]
    let value = std::env::var(name).ok();
    value.map(|text| text.parse().expect("a number"))
}

/// A message: a piece, mostly as it stands, sometimes with bytes that are not
/// its own.
fn message(random: &mut StdRng) -> Message {
    let piece = PIECES.choose(random).copied().unwrap_or_default();
    if random.random_range(0..100) == 0 {
        return match random.random_range(0..3) {
            0 => Message::Binary(piece.as_bytes().to_vec().into()),
            1 => Message::Ping(vec![1].into()),
            _ => Message::Pong(Vec::new().into()),
        };
    }
    let mut bytes = piece.as_bytes().to_vec();
    if random.random_range(0..6) == 0 {
        for _ in 0..random.random_range(1..4) {
            let at = random.random_range(0..=bytes.len());
            match random.random_range(0..4) {
                0 if at < bytes.len() => {
                    bytes.remove(at);
                }
                1 => bytes.insert(at, *b"{}[]\",:$!. a1\\\0".choose(random).unwrap()),
                2 => bytes.truncate(at),
                _ => {
                    let other = PIECES.choose(random).copied().unwrap_or_default();
                    bytes.splice(at..at, other.bytes().take(20));
                }
            }
        }
    }
    Message::Text(String::from_utf8_lossy(&bytes).into_owned().into())
}

/// What a client knows of its operations by what it said.
#[derive(Default)]
struct Known {
    acknowledged: bool,
    /// Ids that were ever asked for.
    asked: HashSet<String>,
}

impl Known {
    fn say(&mut self, message: &Message) {
        if let Message::Text(text) = message
            && let Ok(message) = serde_json::from_str::<Value>(text)
            && message["type"] == "subscribe"
            && let Some(id) = message["id"].as_str()
        {
            self.asked.insert(id.to_owned());
        }
    }

    /// Holds an answer to the protocol. False at a close, after which nothing comes.
    fn hear(&mut self, message: &Message) -> bool {
        const CODES: [u16; 5] = [4400, 4401, 4403, 4409, 4429];
        let text = match message {
            Message::Close(Some(frame)) => {
                assert!(CODES.contains(&frame.code), "{frame:?}");
                assert!(frame.reason.len() <= 123, "{frame:?}");
                return false;
            }
            Message::Text(text) => text,
            other => panic!("{other:?}"),
        };
        let message: Value = serde_json::from_str(text).expect("JSON");
        match message["type"].as_str() {
            Some("connection_ack") => {
                assert!(!self.acknowledged);
                self.acknowledged = true;
            }
            Some("pong") => {}
            Some(of @ ("next" | "error" | "complete")) => {
                assert!(self.acknowledged, "{text}");
                let id = message["id"].as_str().expect("an id");
                assert!(self.asked.contains(id), "{text}");
                match of {
                    "next" => assert!(message["payload"].is_object(), "{text}"),
                    "error" => {
                        let errors = message["payload"].as_array().expect("a list");
                        assert!(!errors.is_empty(), "{text}");
                        for error in errors {
                            assert!(error["extensions"]["code"].is_string(), "{text}");
                        }
                    }
                    _ => assert_eq!(message.get("payload"), None, "{text}"),
                }
            }
            _ => panic!("{text}"),
        }
        true
    }
}

async fn sequence(server: &mut Server, random: &mut StdRng) {
    let mut client: Client = server.connect();
    let mut known = Known::default();
    let begin = Message::Text(PIECES[0].into());
    let first = (random.random_range(0..5) > 0).then_some(begin);
    let count = random.random_range(0..30);
    let messages: Vec<Message> = first
        .into_iter()
        .chain((0..count).map(|_| message(random)))
        .collect();
    for message in messages {
        known.say(&message);
        if client.out.send(message).is_err() {
            break;
        }
        while let Ok(message) = client.back.try_recv() {
            if !known.hear(&message) {
                break;
            }
        }
        if random.random_range(0..3) == 0 {
            tokio::task::yield_now().await;
        }
    }
    // All that it has to say, until it is done or closes.
    drop(client.out);
    while let Some(message) = client.back.recv().await {
        if !known.hear(&message) {
            break;
        }
    }
    drop(client.back);
    server
        .sessions
        .join_next()
        .await
        .unwrap()
        .expect("no panic");
}

#[tokio::test]
async fn whatever_a_client_says_is_answered_by_the_protocol() {
    let mut server = Server::start().await;
    tokio::time::resume();
    let seconds = given("SMARTPULSE_FUZZ_SECONDS").unwrap_or(2);
    let end = std::time::Instant::now() + Duration::from_secs(seconds);
    let replay = given("SMARTPULSE_FUZZ_SEED");
    let mut sequences = 0u64;
    while std::time::Instant::now() < end {
        let seed = replay.unwrap_or_else(rand::random);
        println!("SMARTPULSE_FUZZ_SEED={seed}");
        sequence(&mut server, &mut StdRng::seed_from_u64(seed)).await;
        sequences += 1;
        if replay.is_some() {
            break;
        }
    }
    println!("{sequences} sequences");
    let metrics = &server.executor.metrics().cohorts;
    assert_eq!((metrics.members.get(), metrics.cohorts.get()), (0, 0));
}
