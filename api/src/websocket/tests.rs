//! The rules of the protocol, each over a line in memory. Time stands still but
//! for who waits for it.

mod fuzz;

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message};
use futures_util::{Sink, Stream};
use migration::testing::TestDatabase;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_util::sync::{PollSendError, PollSender};

use super::session::{Session, SocketSettings};
use crate::app::App;
use crate::auth::Refusal;
use crate::database;
use crate::drain::Drain;
use crate::graphql::executor::Executor;
use crate::viewer::Viewer;

const SETTINGS: SocketSettings = SocketSettings {
    init_timeout: Duration::from_secs(3),
    ping_interval: Duration::from_secs(20),
    write_timeout: Duration::from_secs(10),
    operations: 3,
    running: 2,
    message_bytes: 4096,
};

/// The server's end of a line in memory.
struct Line {
    incoming: mpsc::UnboundedReceiver<Message>,
    outgoing: PollSender<Message>,
}

impl Stream for Line {
    type Item = Result<Message, PollSendError<Message>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.incoming.poll_recv(cx).map(|message| message.map(Ok))
    }
}

impl Sink<Message> for Line {
    type Error = PollSendError<Message>;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(ready!(self.outgoing.poll_reserve(cx)))
    }

    fn start_send(mut self: Pin<&mut Self>, message: Message) -> Result<(), Self::Error> {
        self.outgoing.send_item(message)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }
}

/// A server of connections in memory.
struct Server {
    executor: Executor,
    drain: Drain,
    sessions: JoinSet<()>,
    _database: TestDatabase,
}

/// The client's end of a line.
struct Client {
    out: mpsc::UnboundedSender<Message>,
    back: mpsc::Receiver<Message>,
}

impl Server {
    async fn start() -> Self {
        let database = TestDatabase::sqlite().await;
        let line = ["serve", "--database-url", database.url()];
        let args = crate::cli::serve_args(line);
        let db = database::open(&args.database).await.unwrap();
        let app = App::build(db, &args).await.unwrap();
        // Not before: a database takes its own time.
        tokio::time::pause();
        Self {
            executor: app.executor().clone(),
            drain: Drain::new(Duration::from_secs(5)),
            sessions: JoinSet::new(),
            _database: database,
        }
    }

    fn connect(&mut self) -> Client {
        self.connect_with(64, |_| async { Ok(Viewer::named(None).unwrap()) })
    }

    /// A client that takes up to `capacity` messages without reading them.
    fn connect_with<F>(
        &mut self,
        capacity: usize,
        authenticate: impl Fn(Option<Map<String, Value>>) -> F + Send + Sync + 'static,
    ) -> Client
    where
        F: Future<Output = Result<Viewer, Refusal>> + Send + 'static,
    {
        let (out, incoming) = mpsc::unbounded_channel();
        let (outgoing, back) = mpsc::channel(capacity);
        let line = Line {
            incoming,
            outgoing: PollSender::new(outgoing),
        };
        let session = Session::new(line, self.executor.clone(), SETTINGS, authenticate);
        let drain = self.drain.clone();
        let held = drain.hold();
        self.sessions.spawn(async move {
            session.serve(&drain).await;
            drop(held);
        });
        Client { out, back }
    }
}

impl Client {
    fn say(&self, message: Value) {
        self.say_text(message.to_string());
    }

    fn say_text(&self, text: impl Into<String>) {
        self.out.send(Message::Text(text.into().into())).unwrap();
    }

    /// The next message, within an hour of a clock that does not tick.
    async fn message(&mut self) -> Message {
        timeout(Duration::from_secs(3600), self.back.recv())
            .await
            .expect("a message")
            .expect("an open line")
    }

    async fn hear(&mut self) -> Value {
        match self.message().await {
            Message::Text(text) => serde_json::from_str(&text).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    async fn init(mut self) -> Self {
        self.say(json!({ "type": "connection_init" }));
        assert_eq!(self.hear().await, json!({ "type": "connection_ack" }));
        self
    }

    fn subscribe(&self, id: &str, query: &str) {
        self.say(json!({ "type": "subscribe", "id": id, "payload": { "query": query } }));
    }

    /// The code and reason of the close that comes next.
    async fn closed(&mut self) -> (u16, String) {
        match self.message().await {
            Message::Close(Some(CloseFrame { code, reason })) => (code, reason.to_string()),
            other => panic!("{other:?}"),
        }
    }
}

const EVERYTHING: &str = "subscription { changes { position } }";

#[tokio::test]
async fn who_does_not_begin_in_time_is_closed() {
    let mut server = Server::start().await;
    let mut client = server.connect();
    let began = Instant::now();
    // A ping is allowed before, and is no beginning.
    client.say(json!({ "type": "ping", "payload": { "a": [1] } }));
    assert_eq!(
        client.hear().await,
        json!({ "type": "pong", "payload": { "a": [1] } })
    );
    let closed = client.closed().await;
    assert_eq!(closed, (4408, "Connection initialisation timeout".into()));
    assert_eq!(began.elapsed().as_secs(), SETTINGS.init_timeout.as_secs());
}

#[tokio::test]
async fn what_breaks_a_rule_closes_the_connection_with_its_code() {
    let mut server = Server::start().await;
    let mut client = server.connect();
    client.subscribe("1", EVERYTHING);
    assert_eq!(client.closed().await, (4401, "Unauthorized".into()));

    let mut client = server.connect().init().await;
    client.say(json!({ "type": "connection_init" }));
    let closed = client.closed().await;
    assert_eq!(closed, (4429, "Too many initialisation requests".into()));

    let mut client = server.connect().init().await;
    client.subscribe("é\"1", EVERYTHING);
    client.subscribe("é\"1", EVERYTHING);
    let closed = client.closed().await;
    assert_eq!(closed, (4409, "Subscriber for é\"1 already exists".into()));

    let long = format!("{{\"type\":\"{}\"}}", "x".repeat(500));
    for text in ["", "{", "{}", "[]", r#"{"type":"connection_ack"}"#, &long] {
        for begun in [false, true] {
            let mut client = server.connect();
            if begun {
                client = client.init().await;
            }
            client.say_text(text);
            let (code, reason) = client.closed().await;
            assert_eq!(code, 4400, "{text}");
            assert!(reason.starts_with("Invalid message: "), "{reason}");
            assert!(reason.len() <= 123, "{reason}");
        }
    }
    let mut client = server.connect();
    client.out.send(Message::Binary(vec![1, 2].into())).unwrap();
    assert_eq!(client.closed().await.0, 4400);
}

#[tokio::test]
async fn an_id_may_be_used_again_when_its_operation_is_over() {
    let mut server = Server::start().await;
    let mut client = server.connect().init().await;
    for _ in 0..2 {
        client.subscribe("1", "{ __typename }");
        assert_eq!(
            client.hear().await,
            json!({ "type": "next", "id": "1", "payload": { "data": { "__typename": "Query" } } })
        );
        assert_eq!(
            client.hear().await,
            json!({ "type": "complete", "id": "1" })
        );
    }
    client.subscribe("1", EVERYTHING);
    client.say(json!({ "type": "complete", "id": "1" }));
    client.subscribe("1", "{ nothing }");
    let error = client.hear().await;
    assert_eq!(
        (&error["type"], &error["id"]),
        (&json!("error"), &json!("1"))
    );
    assert_eq!(error["payload"][0]["extensions"]["code"], "BAD_USER_INPUT");
    // Nothing comes of what is not there, neither an answer nor a close.
    client.say(json!({ "type": "complete", "id": "never" }));
    client.subscribe("1", "{ __typename }");
    assert_eq!(client.hear().await["type"], "next");
}

#[tokio::test]
async fn operations_are_limited_and_the_rest_goes_on() {
    let mut server = Server::start().await;
    let mut client = server.connect().init().await;
    for id in ["1", "2", "3", "4"] {
        client.subscribe(id, EVERYTHING);
    }
    let error = client.hear().await;
    assert_eq!(
        (&error["type"], &error["id"]),
        (&json!("error"), &json!("4"))
    );
    assert_eq!(error["payload"][0]["extensions"]["code"], "RATE_LIMITED");
    client.say(json!({ "type": "complete", "id": "2" }));
    client.subscribe("4", "{ __typename }");
    assert_eq!(client.hear().await["type"], "next");
    let metrics = server.executor.metrics().cohorts.clone();
    assert_eq!((metrics.members.get(), metrics.cohorts.get()), (2, 1));
    // With the line, what it had goes.
    drop(client);
    server.sessions.join_next().await.unwrap().unwrap();
    assert_eq!((metrics.members.get(), metrics.cohorts.get()), (0, 0));
}

#[tokio::test]
async fn a_subscription_has_one_field_through_whatever_fragments() {
    let mut server = Server::start().await;
    // A foreign position is looked up in the database, which takes its own time.
    tokio::time::resume();
    let mut client = server.connect().init().await;
    for query in [
        "subscription { changes { position } more: changes { position } }",
        "subscription { ...F } fragment F on Subscription { changes { position } ...G } fragment G on Subscription { changes { position } }",
        "subscription { ...F } fragment F on Subscription { ...F }",
    ] {
        client.subscribe("1", query);
        let error = client.hear().await;
        assert_eq!(error["type"], "error", "{query}");
        assert_eq!(error["payload"][0]["extensions"]["code"], "BAD_USER_INPUT");
    }
    // One in a fragment is one, and `after` is found there, too.
    client.subscribe(
        "1",
        "subscription { ...F } fragment F on Subscription { changes(after: \"00000000.1\") { position } }",
    );
    let result = client.hear().await;
    assert_eq!(result["type"], "next", "{result}");
    let error = &result["payload"]["errors"][0];
    assert_eq!(error["extensions"]["code"], "POSITION_EXPIRED");
    assert_eq!(client.hear().await["type"], "complete");
}

#[tokio::test]
async fn a_client_that_says_nothing_is_let_go() {
    let mut server = Server::start().await;
    let mut client = server.connect().init().await;
    client.subscribe("1", EVERYTHING);
    // As long as it answers, it stays.
    for _ in 0..3 {
        assert_eq!(client.hear().await, json!({ "type": "ping" }));
        client.say(json!({ "type": "pong" }));
    }
    let began = Instant::now();
    assert_eq!(client.hear().await, json!({ "type": "ping" }));
    assert!(client.back.recv().await.is_none());
    assert_eq!(began.elapsed().as_secs(), 40);
    assert_eq!(server.executor.metrics().stalled.get(), 1);
    // One whose library answers for it stays, too.
    let mut client = server.connect().init().await;
    for _ in 0..3 {
        assert_eq!(client.hear().await, json!({ "type": "ping" }));
        client.out.send(Message::Pong(Vec::new().into())).unwrap();
    }
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_let_go() {
    let mut server = Server::start().await;
    let client = server.connect_with(1, |_| async { Ok(Viewer::named(None).unwrap()) });
    client.say(json!({ "type": "connection_init" }));
    client.subscribe("1", EVERYTHING);
    client.say(json!({ "type": "ping" }));
    let began = Instant::now();
    server.sessions.join_next().await.unwrap().unwrap();
    assert_eq!(began.elapsed().as_secs(), 10);
    assert_eq!(server.executor.metrics().stalled.get(), 1);
    assert_eq!(server.executor.metrics().cohorts.members.get(), 0);
}

#[tokio::test]
async fn who_is_not_let_in_is_told_and_who_was_is_until_it_expires() {
    let mut server = Server::start().await;
    let authenticate = async |init: Option<Map<String, Value>>| match init {
        Some(init) if init.get("token") == Some(&json!("right")) => {
            let mut viewer = Viewer::named(None).unwrap();
            viewer.expires_at = Some(Instant::now() + Duration::from_secs(30));
            Ok(viewer)
        }
        _ => Err(Refusal::Invalid(String::from("the token is wrong"))),
    };
    let authenticate = move |init| authenticate(init);
    let mut client = server.connect_with(64, authenticate);
    client.say(json!({ "type": "connection_init", "payload": { "token": "wrong" } }));
    let closed = client.closed().await;
    assert_eq!(closed, (4403, "Forbidden: the token is wrong".into()));

    let mut client = server.connect_with(64, authenticate);
    let began = Instant::now();
    client.say(json!({ "type": "connection_init", "payload": { "token": "right" } }));
    assert_eq!(client.hear().await["type"], "connection_ack");
    assert_eq!(client.hear().await["type"], "ping");
    client.say(json!({ "type": "pong" }));
    assert_eq!(client.closed().await.0, 4403);
    assert_eq!(began.elapsed().as_secs(), 30);
}

#[tokio::test]
async fn a_stop_sends_all_away_within_its_window_and_says_where_they_are() {
    let mut server = Server::start().await;
    let mut clients = Vec::new();
    for _ in 0..50 {
        let client = server.connect().init().await;
        client.subscribe("1", EVERYTHING);
        // Behind the subscription: it stands when this is back.
        client.subscribe("2", "{ __typename }");
        clients.push(client);
    }
    for client in &mut clients {
        assert_eq!(client.hear().await["type"], "next");
        assert_eq!(client.hear().await["type"], "complete");
    }
    let began = Instant::now();
    server.drain.begin();
    let mut leaving = JoinSet::new();
    for mut client in clients {
        leaving.spawn(async move {
            let (code, reason) = client.closed().await;
            assert_eq!(code, 1012);
            assert!(reason.starts_with("Service restart at "), "{reason}");
            Instant::now()
        });
    }
    let left: Vec<Instant> = leaving.join_all().await;
    let span = *left.iter().max().unwrap() - *left.iter().min().unwrap();
    // 50 connections have half a second, and are spread over it.
    assert!(span > Duration::from_millis(200), "{span:?}");
    assert!(began.elapsed() < Duration::from_secs(1));
    server.drain.done().await;
    assert_eq!(server.executor.metrics().drained.get(), 50);
}

#[tokio::test]
async fn who_it_is_may_take_until_the_beginning_is_over() {
    let mut server = Server::start().await;
    let after = |seconds: u64| {
        move |_| async move {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            Ok(Viewer::named(None).unwrap())
        }
    };
    // What comes meanwhile waits, and is answered to whom it turns out to be.
    let mut client = server.connect_with(64, after(2));
    client.say(json!({ "type": "connection_init" }));
    client.subscribe("1", "{ __typename }");
    for expect in ["connection_ack", "next", "complete"] {
        assert_eq!(client.hear().await["type"], expect);
    }
    let mut client = server.connect_with(64, after(60));
    let began = Instant::now();
    client.say(json!({ "type": "connection_init" }));
    let closed = client.closed().await;
    assert_eq!(closed, (4408, "Connection initialisation timeout".into()));
    assert_eq!(began.elapsed().as_secs(), SETTINGS.init_timeout.as_secs());
}

/// Those that wait for a position are executed, and others wait for them.
#[tokio::test]
async fn only_so_many_operations_are_executed_at_once_and_the_others_in_order() {
    let mut server = Server::start().await;
    let mut client = server.connect().init().await;
    client.subscribe("0", "{ position }");
    let position = client.hear().await["payload"]["data"]["position"].clone();
    assert_eq!(client.hear().await["type"], "complete");
    let epoch = position.as_str().unwrap().split_once('.').unwrap().0;
    let began = Instant::now();
    for id in ["1", "2"] {
        let payload = json!({ "query": "{ position }",
            "extensions": { "minPosition": format!("{epoch}.1000000") } });
        client.say(json!({ "type": "subscribe", "id": id, "payload": payload }));
    }
    client.subscribe("3", "{ __typename }");
    let mut answered = Vec::new();
    while answered.len() < 3 {
        let message = client.hear().await;
        if message["type"] != "complete" {
            answered.push((message["id"].clone(), began.elapsed().as_secs()));
        }
    }
    answered[..2].sort_by_key(|(id, _)| id.to_string());
    assert_eq!(
        answered,
        [(json!("1"), 5), (json!("2"), 5), (json!("3"), 5)]
    );

    // What its client has ended makes room.
    let payload = json!({ "query": "{ position }",
        "extensions": { "minPosition": format!("{epoch}.1000000") } });
    for id in ["1", "2"] {
        client.say(json!({ "type": "subscribe", "id": id, "payload": payload }));
    }
    client.subscribe("3", "{ __typename }");
    let began = Instant::now();
    client.say(json!({ "type": "complete", "id": "1" }));
    let message = client.hear().await;
    assert_eq!(
        (&message["id"], began.elapsed().as_secs()),
        (&json!("3"), 0)
    );
}

/// Thousands of connections wait at the same time: what each holds is small.
#[tokio::test]
async fn a_connection_is_small() {
    let server = Server::start().await;
    let (_out, incoming) = mpsc::unbounded_channel();
    let (outgoing, _back) = mpsc::channel(1);
    let line = Line {
        incoming,
        outgoing: PollSender::new(outgoing),
    };
    let of_line = size_of_val(&line);
    let session = Session::new(line, server.executor.clone(), SETTINGS, |_| async {
        Ok(Viewer::named(None).unwrap())
    });
    let serving = size_of_val(&session.serve(&server.drain));
    assert!(serving - of_line < 1536, "{serving} bytes");
}
