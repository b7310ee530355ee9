//! Notifications leave the server over every channel: once, and none is lost.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use domain::database::Database;
use migration::testing::TestDatabase;
use sea_orm::{ConnectionTrait, Statement};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::client::{Client, code};
use crate::notifications::{create_users, data, send};
use crate::server::{Kind, Process, TestServer, connect, on_both, run_sql, smartpulse};
use crate::smtp::Smtp;
use crate::wait::eventually;

on_both!(
    a_webhook_is_signed_tried_again_and_given_up,
    mails_come_as_they_are_written,
    a_mail_server_that_is_away_is_left_alone,
    browsers_get_what_only_they_can_read,
    devices_get_theirs_through_firebase,
    a_killed_server_loses_no_webhook_and_sends_none_as_another,
    a_killed_server_sends_no_mail_twice,
);

/// What cannot be used is said at the start, with its place.
#[test]
fn a_template_that_cannot_be_used_ends_the_start() {
    let folder = TempDir::new().unwrap();
    let template = folder.path().join("broken");
    std::fs::create_dir(&template).unwrap();
    for (name, text) in [
        ("template.toml", "default_locale = \"en\"\n"),
        ("en.subject.txt", "{{ title }}"),
        ("en.txt", "fine\n{% if title %}"),
        ("en.html", "<p>fine</p>"),
    ] {
        std::fs::write(template.join(name), text).unwrap();
    }
    let database = format!("sqlite://{}", folder.path().join("x.db").display());
    let templates = folder.path().to_str().unwrap();
    let ended = |more: &[&str]| {
        let line = [
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--database-url",
            &database,
        ];
        let output = smartpulse(&[&line[..], more].concat());
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    let why = ended(&["--mail-templates", templates]);
    assert!(why.contains("en.txt, line 2"), "{why}");
    std::fs::write(template.join("en.txt"), "{{ nobody_gives_this }}").unwrap();
    let why = ended(&["--mail-templates", templates]);
    assert!(
        why.contains("en.txt") && why.contains("nobody_gives_this"),
        "{why}"
    );
    let why = ended(&["--smtp-url", "smtp://user:hidden@host"]);
    assert!(
        why.contains("--mail-from") && !why.contains("hidden"),
        "{why}"
    );
    let why = ended(&["--web-push-contact", "somebody"]);
    assert!(why.contains("--web-push-contact"), "{why}");
    let why = ended(&["--fcm-service-account", "/nowhere.json"]);
    assert!(why.contains("/nowhere.json"), "{why}");
}

/// A stand-in for whoever is called: keeps what comes, and answers as it is told.
struct Receiver {
    address: SocketAddr,
    calls: Arc<Mutex<Calls>>,
    _server: JoinSet<()>,
}

#[derive(Default)]
struct Calls {
    received: Vec<Call>,
    /// Statuses for the next calls to a path; then 204.
    answers: HashMap<String, Vec<u16>>,
}

#[derive(Debug, Clone)]
struct Call {
    path: String,
    headers: HeaderMap,
    body: Bytes,
}

impl Call {
    fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }
}

impl Receiver {
    async fn start() -> Self {
        let calls = Arc::new(Mutex::new(Calls::default()));
        let router = Router::new()
            .route("/{path}", post(receive))
            .with_state(Arc::clone(&calls));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            address,
            calls,
            _server: server,
        }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    fn answer(&self, path: &str, statuses: &[u16]) {
        let mut calls = self.calls.lock().unwrap();
        calls.answers.insert(path.to_owned(), statuses.to_vec());
    }

    fn calls(&self, path: &str) -> Vec<Call> {
        let calls = self.calls.lock().unwrap();
        let to = calls.received.iter().filter(|call| call.path == path);
        to.cloned().collect()
    }
}

async fn receive(
    State(calls): State<Arc<Mutex<Calls>>>,
    Path(path): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, [(&'static str, &'static str); 1]) {
    let mut calls = calls.lock().unwrap();
    let next = calls.answers.get_mut(&path).filter(|left| !left.is_empty());
    let status = next.map_or(204, |left| left.remove(0));
    calls.received.push(Call {
        path,
        headers,
        body,
    });
    let status = StatusCode::from_u16(status).unwrap();
    (status, [("location", "/elsewhere")])
}

const PRIVATE: &str = "--allow-private-addresses";

/// State and answer or error of each delivery of a user, the oldest first.
async fn deliveries(client: &Client, user: &str) -> Vec<Value> {
    let query =
        "query($user: String) { deliveries(first: 100, filter: { user: $user }) { edges { node {
        id channel state attempts nextAttemptAt finishedAt answer lastError } } } }";
    let answer = client.data(query, json!({ "user": user })).await;
    let edges = answer["deliveries"]["edges"].as_array().unwrap();
    edges
        .iter()
        .rev()
        .map(|edge| edge["node"].clone())
        .collect()
}

/// Waits until the last delivery of a user is in a state.
async fn until_last(client: &Client, user: &str, state: &str) -> Value {
    eventually(
        &format!("the last delivery of {user} is {state}"),
        async || {
            let last = deliveries(client, user).await.pop()?;
            (last["state"] == state).then_some(last)
        },
    )
    .await
}

async fn register_webhook(client: &Client, user: &str, url: &str) -> (Value, String) {
    let register = "mutation($url: String!) { registerWebhook(input: { url: $url }) { endpoint { id } secret } }";
    let registered = data(client, user, register, json!({ "url": url })).await;
    let registered = &registered["registerWebhook"];
    let secret = registered["secret"].as_str().unwrap().to_owned();
    (registered["endpoint"]["id"].clone(), secret)
}

async fn a_webhook_is_signed_tried_again_and_given_up(kind: Kind) {
    let database = kind.database().await;
    let server = TestServer::start_with(database.url(), &[PRIVATE]).await;
    let client = &server.client;
    let receiver = Receiver::start().await;
    let (endpoint, secret) = register_webhook(client, "ada", &receiver.url("hook")).await;
    let hook = json!({ "channels": ["WEBHOOK"], "body": "by 12 MWh", "data": { "mwh": 12 } });

    receiver.answer("hook", &[503]);
    send(client, &["ada"], hook.clone()).await;
    let sent = until_last(client, "ada", "SENT").await;
    assert_eq!(sent["attempts"], 2);
    let calls = receiver.calls("hook");
    assert_eq!(calls.len(), 2);
    assert_eq!(calls[0].header("webhook-id"), calls[1].header("webhook-id"));
    let verifier = standardwebhooks::Webhook::new(&secret).unwrap();
    for call in &calls {
        verifier.verify(&call.body, &call.headers).unwrap();
    }
    let body: Value = serde_json::from_slice(&calls[0].body).unwrap();
    assert_eq!(body["data"]["title"], "Wind is up");
    assert_eq!(body["data"]["data"], json!({ "mwh": 12 }));

    // With another secret, both sign until the next.
    let rotate = "mutation($id: ID!) { rotateWebhookSecret(input: { id: $id }) { secret } }";
    let rotated = data(client, "ada", rotate, json!({ "id": endpoint })).await;
    send(client, &["ada"], hook.clone()).await;
    until_last(client, "ada", "SENT").await;
    eventually("it is called a third time", async || {
        (receiver.calls("hook").len() == 3).then_some(())
    })
    .await;
    let call = receiver.calls("hook").pop().unwrap();
    for secret in [
        &secret,
        rotated["rotateWebhookSecret"]["secret"].as_str().unwrap(),
    ] {
        let verifier = standardwebhooks::Webhook::new(secret).unwrap();
        verifier.verify(&call.body, &call.headers).unwrap();
    }

    // A redirect leads nowhere.
    receiver.answer("hook", &[302]);
    send(client, &["ada"], hook.clone()).await;
    let failed = until_last(client, "ada", "FAILED").await;
    assert_ne!(failed["nextAttemptAt"], Value::Null);
    assert_eq!(receiver.calls("elsewhere").len(), 0);
    let retry =
        "mutation($id: ID!) { retryDelivery(input: { id: $id }) { delivery { state attempts } } }";
    client.data(retry, json!({ "id": failed["id"] })).await;
    until_last(client, "ada", "SENT").await;
    let again = client.graphql(retry, json!({ "id": failed["id"] })).await;
    assert_eq!(
        code(&again),
        "CONFLICT",
        "what was sent is never sent again"
    );

    // Gone is gone.
    receiver.answer("hook", &[410]);
    send(client, &["ada"], hook.clone()).await;
    until_last(client, "ada", "DEAD").await;
    let endpoints = data(
        client,
        "ada",
        "{ endpoints { disabledAt disabledReason } }",
        json!({}),
    )
    .await;
    assert_ne!(endpoints["endpoints"][0]["disabledAt"], Value::Null);
    let count = deliveries(client, "ada").await.len();
    send(client, &["ada"], hook).await;
    assert_eq!(
        deliveries(client, "ada").await.len(),
        count,
        "nothing goes there any more"
    );
    assert!(
        client
            .metric("smartpulse_delivery_attempts_total{channel=\"WEBHOOK\",outcome=\"SENT\"}")
            .await
            >= 3.0
    );
}

async fn mails_come_as_they_are_written(kind: Kind) {
    let database = kind.database().await;
    let smtp = Smtp::start(&[]);
    let templates = TempDir::new().unwrap();
    let folder = templates.path().join("revision");
    std::fs::create_dir(&folder).unwrap();
    for (name, text) in [
        (
            "template.toml",
            "default_locale = \"en\"\n[variables.plant]\n",
        ),
        ("en.subject.txt", "{{ plant }} was revised"),
        (
            "en.html",
            "<p>Hello {{ user.name }}: <b>{{ plant }}</b></p><a href=\"{{ unsubscribe_url }}\">no more</a>",
        ),
        (
            "en.txt",
            "Hello {{ user.name }}: {{ plant }}\n{{ unsubscribe_url }}\n",
        ),
    ] {
        std::fs::write(folder.join(name), text).unwrap();
    }
    let (url, folder) = (smtp.url(), templates.path().to_str().unwrap().to_owned());
    let more = [
        "--smtp-url",
        &url,
        "--mail-from",
        "SmartPulse <pulse@example.org>",
        "--mail-templates",
        &folder,
    ];
    let server = TestServer::start_with(database.url(), &more).await;
    let client = &server.client;
    create_users(client, &["ada"]).await;
    let missing = json!({ "input": { "to": { "users": ["ada"] }, "title": "T", "channels": ["EMAIL"], "template": "revision" } });
    let mutation = "mutation($input: SendNotificationInput!) { sendNotification(input: $input) { recipients } }";
    let answer = client.graphql(mutation, missing).await;
    assert_eq!(code(&answer), "BAD_USER_INPUT");
    assert!(
        answer["errors"][0]["message"]
            .as_str()
            .unwrap()
            .contains("plant"),
        "{answer}"
    );

    let mail = json!({
        "channels": ["IN_APP", "EMAIL"], "template": "revision", "category": "alert",
        "variables": { "plant": "Çeşme <RES>" },
        "attachments": [{ "fileName": "curve.csv", "mediaType": "text/csv", "contentBase64": "YSxiCg==" }] });
    send(client, &["ada"], mail.clone()).await;
    let sent = until_last(client, "ada", "SENT").await;
    assert_eq!(sent["channel"], "EMAIL");
    let mails = smtp.mails().await;
    assert_eq!(mails.len(), 1);
    assert_eq!(mails[0].subject, "Çeşme <RES> was revised");
    assert!(
        mails[0].html.contains("<b>Çeşme &lt;RES&gt;</b>"),
        "{}",
        mails[0].html
    );
    assert_eq!(mails[0].attachments.len(), 1);
    let preview = client
        .data(
            "query($variables: JSON) { mailTemplates { name variables { name required } }
                mailPreview(template: \"revision\", variables: $variables) { subject } }",
            json!({ "variables": { "plant": "X" } }),
        )
        .await;
    assert_eq!(preview["mailPreview"]["subject"], "X was revised");

    // The link in it ends them, and nothing else.
    let text = &mails[0].text;
    let link = text
        .lines()
        .find(|line| line.contains("/unsubscribe?"))
        .unwrap()
        .trim();
    let path = &link[link.find("/unsubscribe?").unwrap()..];
    assert_eq!(client.get(path).await.0, 200);
    let post = client
        .http()
        .post(client.url(path))
        .body("List-Unsubscribe=One-Click");
    assert_eq!(post.send().await.unwrap().status(), 200);
    send(client, &["ada"], mail.clone()).await;
    let last = deliveries(client, "ada").await.pop().unwrap();
    assert_eq!(last["state"], "SUPPRESSED", "{last}");
    let unread = data(client, "ada", "{ unreadCount }", json!({})).await;
    assert_eq!(unread["unreadCount"], 2, "the list has it");
    let mut other = mail;
    other["category"] = json!("report");
    send(client, &["ada"], other).await;
    until_last(client, "ada", "SENT").await;
    assert_eq!(smtp.mails().await.len(), 2);
}

async fn a_mail_server_that_is_away_is_left_alone(kind: Kind) {
    let database = kind.database().await;
    // Nobody listens where somebody just did.
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("smtp://{}", gone.local_addr().unwrap());
    drop(gone);
    let more = ["--smtp-url", &url, "--mail-from", "pulse@example.org"];
    let server = TestServer::start_with(database.url(), &more).await;
    let client = &server.client;
    let mail = json!({ "channels": ["EMAIL"] });
    for user in ["a", "b", "c", "d", "e"] {
        create_users(client, &[user]).await;
        send(client, &[user], mail.clone()).await;
        let failed = until_last(client, user, "FAILED").await;
        assert_eq!(failed["attempts"], 1);
    }
    create_users(client, &["f"]).await;
    send(client, &["f"], mail).await;
    let waits = eventually("the sixth waits", async || {
        let last = deliveries(client, "f").await.pop()?;
        last["lastError"].is_string().then_some(last)
    })
    .await;
    assert_eq!(
        (&waits["state"], &waits["attempts"]),
        (&json!("QUEUED"), &json!(0))
    );
    assert!(
        waits["lastError"].as_str().unwrap().contains("left alone"),
        "{waits}"
    );
    assert!(client.metric("smartpulse_delivery_breakers_open").await >= 1.0);
}

async fn browsers_get_what_only_they_can_read(kind: Kind) {
    let database = kind.database().await;
    let more = ["--web-push-contact", "mailto:ops@example.org", PRIVATE];
    let server = TestServer::start_with(database.url(), &more).await;
    let client = &server.client;
    let receiver = Receiver::start().await;
    // A browser's keys, as RFC 8291 has them for its example.
    let input = json!({ "endpoint": receiver.url("push"), "auth": "BTBZMqHH6r4Tts7J_aSIgg",
        "p256dh": "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4" });
    let register = "mutation($input: RegisterWebPushInput!) { registerWebPush(input: $input) { endpoint { id } } }";
    data(client, "ada", register, json!({ "input": input })).await;
    receiver.answer("push", &[201]);
    let push = json!({ "channels": ["WEB_PUSH"], "severity": "CRITICAL", "body": "a secret" });
    send(client, &["ada"], push.clone()).await;
    until_last(client, "ada", "SENT").await;
    let call = receiver.calls("push").pop().unwrap();
    assert_eq!(call.header("content-encoding"), "aes128gcm");
    assert_eq!(call.header("urgency"), "high");
    assert!(call.header("authorization").starts_with("vapid t="));
    assert!(!String::from_utf8_lossy(&call.body).contains("secret"));
    receiver.answer("push", &[410]);
    send(client, &["ada"], push).await;
    until_last(client, "ada", "DEAD").await;
    let endpoints = data(client, "ada", "{ endpoints { disabledAt } }", json!({})).await;
    assert_ne!(endpoints["endpoints"][0]["disabledAt"], Value::Null);
    // The browser comes back with what it has.
    data(client, "ada", register, json!({ "input": input })).await;
    let endpoints = data(client, "ada", "{ endpoints { disabledAt } }", json!({})).await;
    assert_eq!(
        endpoints["endpoints"],
        json!([{ "disabledAt": Value::Null }])
    );
}

async fn devices_get_theirs_through_firebase(kind: Kind) {
    use wiremock::matchers::{body_partial_json, header, method, path};
    use wiremock::{Mock, MockServer, ResponseTemplate};
    let google = MockServer::start().await;
    let token = json!({ "access_token": "ya29.token", "expires_in": 3599, "token_type": "Bearer" });
    Mock::given(path("/token"))
        .respond_with(ResponseTemplate::new(200).set_body_json(token))
        .mount(&google)
        .await;
    let gone = json!({ "error": { "code": 404, "message": "Requested entity was not found.", "status": "NOT_FOUND",
        "details": [{ "@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": "UNREGISTERED" }] } });
    Mock::given(body_partial_json(
        json!({ "message": { "token": "uninstalled" } }),
    ))
    .respond_with(ResponseTemplate::new(404).set_body_json(gone))
    .mount(&google)
    .await;
    Mock::given(method("POST"))
        .and(path("/v1/projects/pulse-test/messages:send"))
        .and(header("authorization", "Bearer ya29.token"))
        .and(body_partial_json(json!({ "message": { "token": "device-1", "notification": { "title": "Wind is up" } } })))
        .respond_with(ResponseTemplate::new(200).set_body_json(json!({ "name": "projects/pulse-test/messages/7" })))
        .mount(&google)
        .await;
    let folder = TempDir::new().unwrap();
    let key_file = folder.path().join("account.json");
    let account = json!({ "type": "service_account", "project_id": "pulse-test", "private_key_id": "k",
        "private_key": include_str!("../../src/delivery/fcm/test_key.pem"),
        "client_email": "push@pulse-test.example", "token_uri": format!("{}/token", google.uri()) });
    std::fs::write(&key_file, account.to_string()).unwrap();
    let (key_file, base) = (key_file.to_str().unwrap().to_owned(), google.uri());
    let more = [
        "--fcm-service-account",
        &key_file,
        "--fcm-url",
        &base,
        PRIVATE,
    ];
    let database = kind.database().await;
    let server = TestServer::start_with(database.url(), &more).await;
    let client = &server.client;
    let register = "mutation($token: String!) { registerDevice(input: { token: $token }) { endpoint { id } } }";
    data(client, "ada", register, json!({ "token": "device-1" })).await;
    data(client, "bob", register, json!({ "token": "uninstalled" })).await;
    send(client, &["ada", "bob"], json!({ "channels": ["FCM"] })).await;
    let sent = until_last(client, "ada", "SENT").await;
    assert!(
        sent["answer"].as_str().unwrap().contains("messages/7"),
        "{sent}"
    );
    until_last(client, "bob", "DEAD").await;
    let endpoints = data(client, "bob", "{ endpoints { disabledAt } }", json!({})).await;
    assert_ne!(endpoints["endpoints"][0]["disabledAt"], Value::Null);
    let tokens = google.received_requests().await.unwrap();
    let tokens = tokens
        .iter()
        .filter(|request| request.url.path() == "/token");
    assert_eq!(tokens.count(), 1, "one token serves all");
}

const MANY: usize = 1000;

/// `MANY` users, and an endpoint of each at one address.
fn many_users(database: &TestDatabase, channel: &str, address: &str, secret: &str) {
    let numbers = if database.url().starts_with("sqlite") {
        format!(
            "(WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {MANY}) SELECT n FROM n)"
        )
    } else {
        format!("(SELECT generate_series(1, {MANY}) AS n)")
    };
    run_sql(
        database.url(),
        &format!(
            "INSERT INTO user_account (key, name) SELECT 'user-' || n, 'User ' || n FROM {numbers} AS numbers;
             INSERT INTO endpoint (user_id, channel, address, secret, created_at)
             SELECT id, '{channel}', replace('{address}', '$', key), '{secret}', '2026-01-01T00:00:00.000000Z' FROM user_account;
             INSERT INTO user_group (key, name) VALUES ('all', 'All');
             INSERT INTO user_group_member (group_id, user_id) SELECT 1, id FROM user_account;"
        ),
    );
}

/// How many deliveries are in a state.
async fn count(db: &Database, state: &str) -> usize {
    let row = db.reader().query_one_raw(Statement::from_sql_and_values(
        db.backend(),
        "SELECT count(*) AS count FROM delivery WHERE state = $1",
        [state.into()],
    ));
    let count: i64 = row.await.unwrap().unwrap().try_get("", "count").unwrap();
    usize::try_from(count).unwrap()
}

/// Waits until a fifth of all is sent, and no longer.
async fn until_in_the_middle(db: &Database) {
    eventually("a part is sent", async || {
        (count(db, "SENT").await >= MANY / 5).then_some(())
    })
    .await;
}

async fn a_killed_server_loses_no_webhook_and_sends_none_as_another(kind: Kind) {
    let database = kind.database().await;
    let receiver = Receiver::start().await;
    let secret = r#"{"secrets":["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]}"#;
    let args = [PRIVATE, "--delivery-lease-seconds", "2"];
    let process = Process::start_with(database.url(), &args);
    many_users(&database, "WEBHOOK", &receiver.url("hook"), secret);
    let to_all = json!({ "to": { "groups": ["all"] }, "channels": ["WEBHOOK"] });
    let sent = send(&process.client, &[], to_all).await;
    assert_eq!(sent["recipients"], MANY);
    let db = connect(database.url()).await;
    until_in_the_middle(&db).await;
    process.kill();
    assert!(count(&db, "SENT").await < MANY, "in the middle");
    let _heir = Process::start_with(database.url(), &args);
    eventually("all are sent", async || {
        (count(&db, "SENT").await == MANY).then_some(())
    })
    .await;
    let mut ids: HashMap<String, Vec<Bytes>> = HashMap::new();
    for call in receiver.calls("hook") {
        let id = call.header("webhook-id").to_owned();
        ids.entry(id).or_default().push(call.body);
    }
    assert_eq!(ids.len(), MANY, "each came");
    for (id, bodies) in ids {
        // What was on the wire when the server was killed comes again, as itself.
        assert!(
            bodies.len() <= 2 && bodies.iter().all(|body| *body == bodies[0]),
            "{id}"
        );
    }
}

async fn a_killed_server_sends_no_mail_twice(kind: Kind) {
    let database = kind.database().await;
    let smtp = Smtp::start(&[]);
    let url = smtp.url();
    let args = [
        "--smtp-url",
        &url,
        "--mail-from",
        "pulse@example.org",
        "--delivery-lease-seconds",
        "2",
    ];
    let process = Process::start_with(database.url(), &args);
    many_users(&database, "EMAIL", "$@example.org", "{}");
    let to_all = json!({ "to": { "groups": ["all"] }, "channels": ["EMAIL"] });
    send(&process.client, &[], to_all).await;
    let db = connect(database.url()).await;
    until_in_the_middle(&db).await;
    process.kill();
    assert!(count(&db, "SENT").await < MANY, "in the middle");
    let heir = Process::start_with(database.url(), &args);
    let unknown = eventually("all are sent or unknown", async || {
        let unknown = count(&db, "UNKNOWN").await;
        (count(&db, "SENT").await + unknown == MANY).then_some(unknown)
    })
    .await;
    assert!(unknown <= 50, "only what was on the wire: {unknown}");
    let mails = smtp.mails().await;
    let mut ids: Vec<&str> = mails.iter().map(|mail| mail.message_id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), mails.len(), "none came twice");
    // None is lost: who decides that they may come twice gets them all.
    let retry = "mutation { retryDeliveries(input: { unknown: true }) { retried } }";
    let retried = heir.client.data(retry, json!({})).await;
    assert_eq!(retried["retryDeliveries"]["retried"], unknown);
    eventually("all are sent", async || {
        (count(&db, "SENT").await == MANY).then_some(())
    })
    .await;
    let mails = smtp.mails().await;
    let mut ids: Vec<&str> = mails.iter().map(|mail| mail.message_id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), MANY, "each came");
}
