//! Notifications to many users at once, the count of what is unread, and mails.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use domain::database::{Database, DatabaseSettings};
use migration::testing::TestDatabase;
use sea_orm::{ConnectionTrait, Statement};
use serde_json::{Value, json};

use crate::http::post;
use crate::process::Server;
use crate::report::{line, median, section};

const USERS: usize = 10_000;
const MAILS: i64 = 10_000;
const ROUNDS: usize = 5;
const SEND: &str =
    "mutation($input: SendNotificationInput!) { sendNotification(input: $input) { recipients } }";

pub(crate) async fn run(wants: impl Fn(&str) -> bool) {
    if wants("notifications") {
        section("10,000 notifications to 10,000 users in one mutation");
        for (name, database) in [
            ("PostgreSQL", TestDatabase::postgres().await),
            ("SQLite", TestDatabase::sqlite().await),
        ] {
            to_many(name, &database).await;
        }
    }
    if wants("mails") {
        section("10,000 mails to a local SMTP server (Node.js, its own process)");
        for (name, database) in [
            ("PostgreSQL", TestDatabase::postgres().await),
            ("SQLite", TestDatabase::sqlite().await),
        ] {
            mails(name, &database).await;
        }
    }
}

async fn connect(database: &TestDatabase) -> Database {
    let settings = DatabaseSettings {
        url: database.url().to_owned(),
        max_connections: 2,
        acquire_timeout: Duration::from_secs(60),
        statement_timeout: Duration::from_secs(20),
        create_if_missing: false,
    };
    Database::connect(&settings).await.expect("the database")
}

async fn sql(db: &Database, text: &str) {
    let statement = Statement::from_string(db.backend(), text);
    db.writer()
        .execute_raw(statement)
        .await
        .expect("the statement");
}

/// Users `user-1` and so on, all in the group `all`, with a mail address each.
async fn create_users(db: &Database) {
    let numbers = match db.backend() {
        sea_orm::DbBackend::Sqlite => format!(
            "(WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {USERS}) SELECT n FROM n)"
        ),
        _ => format!("(SELECT generate_series(1, {USERS}) AS n)"),
    };
    for text in [
        format!(
            "INSERT INTO user_account (key, name) SELECT 'user-' || n, 'User' FROM {numbers} AS numbers"
        ),
        "INSERT INTO endpoint (user_id, channel, address, created_at) \
         SELECT id, 'EMAIL', key || '@example.org', '2026-01-01T00:00:00.000000Z' FROM user_account"
            .into(),
        "INSERT INTO user_group (key, name) VALUES ('all', 'All')".into(),
        "INSERT INTO user_group_member (group_id, user_id) SELECT 1, id FROM user_account".into(),
    ] {
        sql(db, &text).await;
    }
}

async fn ask(
    client: &reqwest::Client,
    address: SocketAddr,
    query: &str,
    variables: Value,
) -> Value {
    let body = json!({ "query": query, "variables": variables });
    let answer = post(client, address, body.to_string()).await;
    assert!(answer["errors"].is_null(), "{answer}");
    answer
}

async fn to_many(name: &str, database: &TestDatabase) {
    let client = reqwest::Client::new();
    let server = Server::smartpulse(database.url());
    let db = connect(database).await;
    create_users(&db).await;
    // Every connection has seen a small statement: what is planned for one row must
    // not serve ten thousand.
    let one = json!({ "input": { "to": { "users": ["user-1"] }, "title": "One" } });
    let mark = "mutation { markAllNotificationsRead { unreadCount } }";
    for _ in 0..20 {
        ask(&client, server.address, SEND, one.clone()).await;
        let marks = (0..32).map(|_| {
            let request = client
                .post(format!("http://{}/graphql", server.address))
                .header("smartpulse-user", "user-1")
                .json(&json!({ "query": mark }));
            async move { request.send().await.expect("marked") }
        });
        futures_util::future::join_all(marks).await;
    }
    let keys: Vec<String> = (1..=USERS).map(|n| format!("user-{n}")).collect();
    for (what, to) in [
        ("a group", json!({ "groups": ["all"] })),
        ("users by their keys", json!({ "users": keys })),
    ] {
        let input = json!({ "to": to, "title": "Wind is up", "body": "by 12 MWh" });
        let mut times = Vec::new();
        for _ in 0..ROUNDS {
            let began = Instant::now();
            let variables = json!({ "input": input });
            let sent = ask(&client, server.address, SEND, variables).await;
            times.push(began.elapsed().as_secs_f64());
            assert_eq!(sent["data"]["sendNotification"]["recipients"], USERS);
        }
        line(
            &format!("{name}, {what}"),
            &format!("{:.2} s (limit 2 s)", median(&mut times)),
        );
    }
    // One user has a hundred thousand more.
    let many = "INSERT INTO notification (sender, title, body, severity, category, channels, created_at) \
        SELECT 's', 't', 'b', 'INFO', 'c', '[]', created_at FROM notification, (SELECT id FROM user_account LIMIT 10000) u";
    sql(&db, many).await;
    let have = "INSERT INTO notification_recipient (notification_id, user_id, arrived_at) \
        SELECT id, 1, created_at FROM notification n WHERE NOT EXISTS \
        (SELECT 1 FROM notification_recipient r WHERE r.notification_id = n.id AND r.user_id = 1)";
    sql(&db, have).await;
    let mut medians = Vec::new();
    for user in ["user-2", "user-1"] {
        let mut times = Vec::new();
        let mut count = 0;
        for _ in 0..200 {
            let began = Instant::now();
            let request = client
                .post(format!("http://{}/graphql", server.address))
                .header("smartpulse-user", user)
                .json(&json!({ "query": "{ unreadCount }" }));
            let answer: Value = request
                .send()
                .await
                .expect("sent")
                .json()
                .await
                .expect("JSON");
            times.push(began.elapsed().as_secs_f64() * 1000.0);
            count = answer["data"]["unreadCount"].as_i64().expect("a count");
        }
        medians.push((count, median(&mut times)));
    }
    line(
        &format!("{name}, `unreadCount`"),
        &format!(
            "{:.2} ms with {} unread, {:.2} ms with {}",
            medians[0].1, medians[0].0, medians[1].1, medians[1].0
        ),
    );
}

/// The SMTP server of the tests.
struct Smtp {
    process: Child,
    port: u64,
}

impl Smtp {
    fn start() -> Self {
        let mut process = Command::new("node")
            .arg("server.mjs")
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/smtp"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Node.js is installed");
        let mut ports = String::new();
        let stdout = process.stdout.take().expect("piped");
        BufReader::new(stdout)
            .read_line(&mut ports)
            .expect("its ports");
        let ports: Value =
            serde_json::from_str(&ports).expect("`npm ci` was run in api/tests/smtp");
        Self {
            process,
            port: ports["smtp"].as_u64().expect("a port"),
        }
    }
}

impl Drop for Smtp {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

async fn mails(name: &str, database: &TestDatabase) {
    let client = reqwest::Client::new();
    let smtp = Smtp::start();
    let url = format!("smtp://127.0.0.1:{}", smtp.port);
    let server = Server::smartpulse_with(
        database.url(),
        &["--smtp-url", &url, "--mail-from", "pulse@example.org"],
    );
    let db = connect(database).await;
    create_users(&db).await;
    let input =
        json!({ "to": { "groups": ["all"] }, "title": "Wind is up", "channels": ["EMAIL"] });
    let sent = ask(&client, server.address, SEND, json!({ "input": input })).await;
    let began = Instant::now();
    assert_eq!(sent["data"]["sendNotification"]["recipients"], USERS);
    loop {
        let row = db
            .reader()
            .query_one_raw(Statement::from_string(
                db.backend(),
                "SELECT count(*) AS sent FROM delivery WHERE state = 'SENT'",
            ))
            .await
            .expect("the count")
            .expect("a row");
        let count: i64 = row.try_get("", "sent").expect("a number");
        if count == MAILS {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let seconds = began.elapsed().as_secs_f64();
    line(
        name,
        &format!(
            "{:.0} mails/s, written down as sent (limit 1,000); {:.1} s of CPU",
            MAILS as f64 / seconds,
            server.cpu_seconds()
        ),
    );
}
