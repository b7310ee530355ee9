//! Two replicas that tell one another of changes over Redis; and what happens
//! when it is away, or says what is not so.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use migration::testing::TestDatabase;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::client::{Client, Socket};
use crate::notifications::{create_users, data, send};
use crate::redis::Redis;
use crate::server::{Kind, TestServer, run_sql};
use crate::wait::{eventually, soon};

const CHANGED: &str = "subscription { forecastChanged { position points { mwh } } }";
const APPLIED: &str = "smartpulse_fanout_changes_applied_total";
const WAKE_UPS: &str = "smartpulse_fanout_messages_wake_ups_total";
const CONTRADICTED: &str = "smartpulse_fanout_contradicted_total";

/// Two replicas on one database, and a subscriber of the second.
struct Pair {
    _database: TestDatabase,
    first: TestServer,
    second: TestServer,
    socket: Socket,
    /// The last change there was.
    last: u64,
    epoch: String,
}

fn number(position: &str) -> u64 {
    position.split_once('.').unwrap().1.parse().unwrap()
}

async fn is_connected(client: &Client) {
    eventually("Redis is connected", async || {
        (client.metric("smartpulse_fanout_connected").await > 0.0).then_some(())
    })
    .await;
}

/// Waits until a metric is at least so much.
async fn counts(client: &Client, name: &str, least: f64) {
    eventually(name, async || {
        (client.metric(name).await >= least).then_some(())
    })
    .await;
}

impl Pair {
    async fn start(redis: &Redis, more: &[&str]) -> Self {
        let pair = Self::start_apart(redis, more).await;
        is_connected(&pair.first.client).await;
        is_connected(&pair.second.client).await;
        pair
    }

    /// Without waiting for Redis.
    async fn start_apart(redis: &Redis, more: &[&str]) -> Self {
        let database = Kind::Postgres.database().await;
        let url = redis.url();
        let options = [&["--redis-url", url.as_str()], more].concat();
        let first = TestServer::start_with(database.url(), &options).await;
        let second = TestServer::start_with(database.url(), &options).await;
        let position = first.client.prepare(1).await;
        let position = position.as_str().unwrap();
        // The first write of a series is more than one change.
        let saved = first.client.save_hour(0).await;
        eventually("the second replica is there", async || {
            (second.log.applied().to_string() == saved).then_some(())
        })
        .await;
        let socket = second.client.subscribe(CHANGED, Value::Null).await;
        eventually("the subscription stands", async || {
            let operations = second.client.metric("smartpulse_live_operations").await;
            (operations > 0.0).then_some(())
        })
        .await;
        Self {
            _database: database,
            first,
            second,
            socket,
            last: number(&saved),
            epoch: position.split_once('.').unwrap().0.to_owned(),
        }
    }

    fn channel(&self) -> String {
        format!("smartpulse:{}:changes", self.epoch)
    }

    /// Saves on the first replica; the second's subscriber must be told just that.
    async fn save_and_see(&mut self, mwh: u32) {
        let saved = number(&self.first.client.save_hour(mwh).await);
        assert_eq!(saved, self.last + 1);
        self.sees(saved, f64::from(mwh)).await;
    }

    /// The very next change comes, once.
    async fn sees(&mut self, position: u64, mwh: f64) {
        let change = soon("a change", self.socket.data()).await;
        let change = &change["forecastChanged"];
        assert_eq!(number(change["position"].as_str().unwrap()), position);
        assert_eq!(change["points"], json!([{ "mwh": mwh }]));
        self.last = position;
    }

    async fn stop(self) {
        drop(self.socket);
        self.first.stop().await;
        self.second.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_reaches_the_other_replica_as_it_was_told() {
    let redis = Redis::start().await;
    let mut pair = Pair::start(&redis, &[]).await;
    for mwh in 1..=20 {
        pair.save_and_see(mwh).await;
    }
    // The other way round, too; and who writes on both gets what was written.
    let (first, second) = (pair.first.client.clone(), pair.second.client.clone());
    assert!(second.metric(APPLIED).await > 0.0);
    let position = second.save_hour(77).await;
    pair.sees(number(&position), 77.0).await;
    let value = "{ forecast(unit: \"plant:1\", provider: \"p\", resolution: PT1H,
        from: \"2024-05-01T00:00:00Z\", to: \"2024-05-01T01:00:00Z\") { values position } }";
    let request = first.http().post(first.url("/graphql"));
    let request = request.header("smartpulse-min-position", &position);
    let answer = request.json(&json!({ "query": value })).send().await;
    let answer: Value = answer.unwrap().json().await.unwrap();
    let forecast = &answer["data"]["forecast"];
    assert_eq!(forecast["values"], json!([77.0]), "{answer}");
    let told = number(forecast["position"].as_str().unwrap());
    assert!(told >= number(&position), "{answer}");
    counts(&first, "smartpulse_fanout_messages_published_total", 1.0).await;
    // Its own words come back to it.
    counts(&first, "smartpulse_fanout_messages_ignored_total", 1.0).await;
    for client in [&first, &second] {
        assert_eq!(client.metric(CONTRADICTED).await, 0.0);
        let (status, report) = client.get_json("/health/ready").await;
        assert_eq!((status, &report["status"]), (200, &json!("ready")));
        assert_eq!(report["redis"]["status"], "connected");
    }
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_live_curve_says_that_it_includes_what_was_told() {
    let redis = Redis::start().await;
    let pair = Pair::start(&redis, &[]).await;
    let live = "subscription { forecastLive(unit: \"plant:1\", provider: \"p\", resolution: PT1H,
        from: \"2024-05-01T00:00:00Z\", to: \"2024-05-01T01:00:00Z\") { forecast { values position } } }";
    let mut socket = pair.second.client.subscribe(live, Value::Null).await;
    soon("the state", socket.data()).await;
    for mwh in 1..=20 {
        let saved = pair.first.client.save_hour(mwh).await;
        let state = soon("a state", socket.data()).await;
        let forecast = &state["forecastLive"]["forecast"];
        assert_eq!(forecast["values"], json!([f64::from(mwh)]));
        let position = forecast["position"].as_str().unwrap();
        assert!(number(position) >= number(&saved), "{state}");
    }
    assert!(pair.second.client.metric(APPLIED).await > 0.0);
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_alone_wakes_the_other_replica() {
    let redis = Redis::start().await;
    let mut pair = Pair::start(&redis, &["--redis-message-bytes", "0"]).await;
    for mwh in 1..=20 {
        pair.save_and_see(mwh).await;
    }
    let second = &pair.second.client;
    assert!(second.metric(WAKE_UPS).await > 0.0);
    assert_eq!(second.metric(APPLIED).await, 0.0);
    pair.stop().await;
}

/// Redis goes and comes back under a writer that never stops: the subscriber of
/// the other replica sees all of it, in order and once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_redis_everything_still_arrives_and_nothing_twice_after() {
    let mut redis = Redis::start().await;
    let mut pair = Pair::start(&redis, &[]).await;
    let (client, done) = (pair.first.client.clone(), Arc::new(AtomicBool::new(false)));
    let mut writer = JoinSet::new();
    let stop = Arc::clone(&done);
    writer.spawn(async move {
        let mut mwh = 0;
        while !stop.load(Ordering::SeqCst) {
            mwh += 1;
            client.save_hour(mwh).await;
        }
        mwh
    });
    let start = pair.last;
    let mut seen = 0;
    let mut see = async |pair: &mut Pair, count: u32| {
        for _ in 0..count {
            seen += 1;
            pair.sees(start + u64::from(seen), f64::from(seen)).await;
        }
        seen
    };
    see(&mut pair, 50).await;
    redis.stop();
    see(&mut pair, 100).await;
    let second = pair.second.client.clone();
    eventually("the loss of Redis is noticed", async || {
        let (status, report) = second.get_json("/health/ready").await;
        assert_eq!(status, 200, "{report}");
        (report["status"] == "degraded").then(|| {
            assert_eq!(report["redis"]["status"], "unreachable");
            assert!(report["redis"]["seconds"].is_u64(), "{report}");
        })
    })
    .await;
    see(&mut pair, 50).await;
    let before = second.metric(APPLIED).await;
    redis.start_again().await;
    for client in [&pair.first.client, &second] {
        counts(client, "smartpulse_fanout_reconnects_total", 1.0).await;
        is_connected(client).await;
    }
    let mut seen = see(&mut pair, 50).await;
    while second.metric(APPLIED).await <= before {
        seen = see(&mut pair, 20).await;
    }
    done.store(true, Ordering::SeqCst);
    let written = writer.join_next().await.unwrap().unwrap();
    see(&mut pair, written - seen).await;
    assert_eq!(second.metric(CONTRADICTED).await, 0.0);
    pair.stop().await;
}

/// What is sent on one replica is with a subscriber of the other: through Redis,
/// through the log while it is away, and once when it is back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn notifications_reach_the_other_replica_with_and_without_redis() {
    let mut redis = Redis::start().await;
    let pair = Pair::start(&redis, &[]).await;
    let (first, second) = (pair.first.client.clone(), pair.second.client.clone());
    create_users(&first, &["ada", "bob"]).await;
    let changed = "subscription($after: Position) { notificationChanged(after: $after) {
        kind notification { title } unreadCount } }";
    let after = second.data("{ position }", Value::Null).await["position"].clone();
    let init = json!({ "SmartPulse-User": "ada" });
    let mut ada = second.try_connect(init).await.unwrap();
    ada.start("1", changed, json!({ "after": after }))
        .await
        .unwrap();
    let mut sent = 0;
    // To her alone, and to her among others.
    let mut exchange = async |times: u32| {
        for _ in 0..times {
            for users in [&["ada"][..], &["ada", "bob"]] {
                sent += 1;
                let title = json!({ "title": format!("number {sent}") });
                send(&first, users, title).await;
            }
            for number in [sent - 1, sent] {
                let change = soon("a notification", ada.data()).await["notificationChanged"].take();
                let title = format!("number {number}");
                assert_eq!(change["kind"], "ARRIVED");
                assert_eq!(change["notification"]["title"], title, "in order and once");
            }
        }
    };
    exchange(10).await;
    let told = second.metric(APPLIED).await;
    assert!(told > 0.0, "Redis brought some");
    redis.stop();
    exchange(3).await;
    redis.start_again().await;
    for client in [&first, &second] {
        is_connected(client).await;
    }
    let before = second.metric(APPLIED).await;
    while second.metric(APPLIED).await <= before {
        exchange(1).await;
    }
    // Nothing more is to come: what the next change tells is the last of all.
    let mark = "mutation { markAllNotificationsRead { unreadCount } }";
    data(&first, "ada", mark, Value::Null).await;
    let change = soon("what was read", ada.data()).await;
    let change = &change["notificationChanged"];
    assert_eq!(
        (&change["kind"], &change["unreadCount"]),
        (&json!("READ"), &json!(0))
    );
    pair.stop().await;
}

/// A Redis that hangs is worse than one that is gone: connections stay open.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_hangs_holds_nobody_up() {
    let redis = Redis::start().await;
    let mut pair = Pair::start(&redis, &[]).await;
    redis.freeze();
    // Far more than there would be time for, if each waited for an answer.
    for mwh in 0..100 {
        pair.first.client.save_hour(mwh).await;
    }
    for mwh in 0..100 {
        let next = pair.last + 1;
        pair.sees(next, f64::from(mwh)).await;
    }
    eventually("it is given up", async || {
        let connected = pair
            .first
            .client
            .metric("smartpulse_fanout_connected")
            .await;
        (connected == 0.0).then_some(())
    })
    .await;
    redis.thaw();
    is_connected(&pair.first.client).await;
    is_connected(&pair.second.client).await;
    pair.save_and_see(7).await;
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_starts_without_redis() {
    let mut redis = Redis::start().await;
    redis.stop();
    let mut pair = Pair::start_apart(&redis, &[]).await;
    pair.save_and_see(1).await;
    let (status, report) = pair.first.client.get_json("/health/ready").await;
    assert_eq!((status, &report["status"]), (200, &json!("degraded")));
    redis.start_again().await;
    is_connected(&pair.first.client).await;
    is_connected(&pair.second.client).await;
    for mwh in 0..10 {
        pair.save_and_see(mwh).await;
    }
    assert!(pair.second.client.metric(APPLIED).await > 0.0);
    pair.stop().await;
}

fn rogue(head: &str, changes: &[Value]) -> String {
    json!({ "v": 1, "from": "rogue", "head": head, "changes": changes }).to_string()
}

fn renamed(position: &str) -> Value {
    json!([{ "position": position, "operation": "update", "changed_at": "2024-05-01T00:00:00Z",
        "subject": { "unit": "plant:1" } }, null])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_go_on_only_wakes() {
    let redis = Redis::start().await;
    let mut pair = Pair::start(&redis, &[]).await;
    let (epoch, last) = (pair.epoch.clone(), pair.last);
    let second = pair.second.client.clone();
    let at = |epoch: &str, number: u64| format!("{epoch}.{number}");
    let messages = [
        "garbage".to_owned(),
        r#"{"v":2,"from":"x","head":"tomorrow"}"#.to_owned(),
        // A gap; another history; one that voids everything; what is known.
        rogue(&at(&epoch, last + 5), &[renamed(&at(&epoch, last + 5))]),
        rogue(&at("00000001", 9), &[renamed(&at("00000001", 9))]),
        rogue(
            &at(&epoch, last + 1),
            &[
                json!([{ "position": at(&epoch, last + 1), "operation": "resync",
                "changed_at": "2024-05-01T00:00:00Z", "subject": "everything" }, null]),
            ],
        ),
        rogue(&at(&epoch, last), &[renamed(&at(&epoch, last))]),
    ];
    let (wake_ups, ignored) = (
        second.metric(WAKE_UPS).await,
        "smartpulse_fanout_messages_ignored_total",
    );
    let known = second.metric(ignored).await;
    let applied = second.metric(APPLIED).await;
    redis.publish(&pair.channel(), &messages);
    counts(&second, WAKE_UPS, wake_ups + 4.0).await;
    counts(&second, ignored, known + 1.0).await;
    assert_eq!(second.metric(APPLIED).await, applied);
    assert_eq!(pair.second.log.applied().number, last);
    for mwh in 0..10 {
        pair.save_and_see(mwh).await;
    }
    assert_eq!(second.metric(CONTRADICTED).await, 0.0);
    pair.stop().await;
}

/// As when two databases were given one name: what the other's replicas say
/// might be believed, and must not last.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_is_not_in_the_log_is_found_out() {
    let redis = Redis::start().await;
    let mut pair = Pair::start(&redis, &[]).await;
    let next = format!("{}.{}", pair.epoch, pair.last + 1);
    redis.publish(&pair.channel(), &[rogue(&next, &[renamed(&next)])]);
    let payload = soon("the end", pair.socket.next()).await.unwrap();
    let error = &payload["errors"][0]["extensions"];
    assert_eq!(error["code"], "RESYNC_REQUIRED", "{payload}");
    let second = pair.second.client.clone();
    counts(&second, CONTRADICTED, 1.0).await;
    assert_eq!(pair.second.log.applied().number, pair.last);
    // Whoever subscribes again gets what really comes next.
    pair.socket = second
        .subscribe(
            "subscription($after: Position) { forecastChanged(after: $after) { position points { mwh } } }",
            json!({ "after": format!("{}.{}", pair.epoch, pair.last) }),
        )
        .await;
    for mwh in 0..10 {
        pair.save_and_see(mwh).await;
    }
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_holds_nobody_up() {
    const FLOOD: usize = 20_000;
    let redis = Arc::new(Redis::start().await);
    let mut pair = Pair::start(&redis, &[]).await;
    let far = format!("{}.{}", pair.epoch, pair.last + 1_000_000);
    let messages: Vec<String> = (0..FLOOD)
        .map(|i| match i % 2 {
            0 => "x".repeat(1000),
            _ => rogue(&far, &[renamed(&far)]),
        })
        .collect();
    let mut flood = JoinSet::new();
    let (channel, from) = (pair.channel(), Arc::clone(&redis));
    flood.spawn_blocking(move || from.publish(&channel, &messages));
    for mwh in 0..50 {
        pair.save_and_see(mwh).await;
    }
    flood.join_next().await.unwrap().unwrap();
    pair.save_and_see(50).await;
    let second = &pair.second.client;
    eventually("all of it has come", async || {
        let received = second
            .metric("smartpulse_fanout_messages_received_total")
            .await;
        let overflowed = second
            .metric("smartpulse_fanout_messages_overflowed_total")
            .await;
        (received + overflowed >= FLOOD as f64).then_some(())
    })
    .await;
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_history_is_told_elsewhere() {
    let redis = Redis::start().await;
    let mut pair = Pair::start(&redis, &[]).await;
    // As a restored database looks to its first tick.
    run_sql(pair._database.url(), "UPDATE tick SET history = 'another';");
    eventually("both are in the new history", async || {
        let epoch = |server: &TestServer| server.log.applied().epoch.to_string();
        let (first, second) = (epoch(&pair.first), epoch(&pair.second));
        (first == second && first != pair.epoch).then_some(())
    })
    .await;
    pair.socket = pair.second.client.subscribe(CHANGED, Value::Null).await;
    let second = pair.second.client.clone();
    eventually("the subscription stands", async || {
        (second.metric("smartpulse_live_operations").await > 0.0).then_some(())
    })
    .await;
    let before = second.metric(APPLIED).await;
    pair.last = pair.first.log.applied().number;
    let mut mwh = 0;
    while second.metric(APPLIED).await <= before {
        pair.save_and_see(mwh).await;
        mwh += 1;
    }
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_embedded_database_needs_no_redis() {
    let database = Kind::Sqlite.database().await;
    let options = ["--redis-url", "redis://127.0.0.1:1"];
    let server = TestServer::start_with(database.url(), &options).await;
    server.client.prepare(1).await;
    let report = eventually("the server is ready", async || {
        let (status, report) = server.client.get_json("/health/ready").await;
        (status == 200).then_some(report)
    })
    .await;
    assert_eq!(report["status"], "ready");
    assert_eq!(report["redis"], Value::Null);
    server.stop().await;
}
