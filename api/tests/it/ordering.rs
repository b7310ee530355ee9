//! Nothing lost, nothing twice, in order: whoever writes, however they commit.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use domain::Patch;
use domain::change::{self, Position};
use domain::database::Database;
use domain::forecast::{NewRun, Resolution, RunValues, SaveRequest};
use domain::notification::{self, Channel, SendRequest, Severity, Target};
use domain::unit::{self, UnitUpsert};
use futures_util::StreamExt;
use migration::testing::TestDatabase;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sea_orm::{ConnectionTrait, DbBackend, Statement, TransactionTrait};
use serde_json::{Value, json};
use subscriptions::Span;
use subscriptions::change_log::ChangeLogSettings;
use subscriptions::forecast::{ForecastFilter, changed};
use time::OffsetDateTime;
use time::macros::datetime;
use tokio::sync::{Barrier, watch};
use tokio::task::JoinSet;

use crate::client::Client;
use crate::server::{Kind, Process, TestServer, binary, change_log_alone, connect, on_both};

on_both!(
    sixteen_writers_lose_nothing,
    simultaneous_commits_are_numbered_at_once,
    a_killed_server_goes_on_where_it_was,
    a_restore_begins_a_new_epoch,
    a_replay_includes_what_it_repeats,
);

const SAVE: &str = "mutation($runs: [ForecastRunInput!]!, $key: String) {
    saveForecasts(input: { runs: $runs, idempotencyKey: $key }) { runs { id } position } }";
const CHANGED: &str =
    "subscription($after: Position) { forecastChanged(after: $after) { position run { id } } }";

/// Writes of each writer.
const WRITES: usize = 30;
const UNITS: usize = 4;

/// A write that was answered.
struct Acknowledged {
    began: Instant,
    ended: Instant,
    position: u64,
}

fn run_input(unit: usize, day: usize, value: f64) -> Value {
    json!({
        "unit": format!("plant:{unit}"), "provider": "p", "resolution": "PT1H",
        "issuedAt": "2024-01-01T00:00:00Z",
        "start": format!("2024-02-{:02}T00:00:00Z", 1 + day % 28),
        "values": [value, 2.0, 3.0],
    })
}

fn number_of(position: &Value) -> u64 {
    let position: Position = position.as_str().unwrap().parse().unwrap();
    position.number
}

/// What stands in the log: position and run of each forecast change.
async fn truth(db: &Database) -> Vec<(u64, i64)> {
    let rows = db
        .reader()
        .query_all_raw(Statement::from_string(
            db.backend(),
            "SELECT position, run_id FROM change WHERE entity = 'FORECAST' ORDER BY position",
        ))
        .await
        .unwrap();
    rows.iter()
        .map(|row| {
            let position: Option<i64> = row.try_get("", "position").unwrap();
            let position = position.expect("a change without a position");
            (
                position.try_into().unwrap(),
                row.try_get("", "run_id").unwrap(),
            )
        })
        .collect()
}

async fn count(db: &Database, sql: &str) -> i64 {
    let statement = Statement::from_string(db.backend(), sql);
    let row = db.reader().query_one_raw(statement).await.unwrap().unwrap();
    row.try_get_by_index(0).unwrap()
}

/// Whether a tail saw every committed run once, in the order of positions.
fn verify(seen: &[(u64, i64)], committed: &BTreeSet<i64>) -> Result<(), String> {
    let runs: BTreeSet<i64> = seen.iter().map(|(_, run)| *run).collect();
    let lost: Vec<_> = committed.difference(&runs).collect();
    let invented: Vec<_> = runs.difference(committed).collect();
    if !lost.is_empty() || !invented.is_empty() {
        return Err(format!("lost {lost:?}, invented {invented:?}"));
    }
    if runs.len() != seen.len() {
        return Err("a change came twice".into());
    }
    if !seen.is_sorted_by(|a, b| a.0 < b.0) {
        return Err("changes came out of order".into());
    }
    Ok(())
}

/// Everything that was committed, by whoever looks at the tables.
async fn committed_runs(db: &Database) -> BTreeSet<i64> {
    let statement = Statement::from_string(db.backend(), "SELECT id FROM forecast_run");
    let rows = db.reader().query_all_raw(statement).await.unwrap();
    rows.iter()
        .map(|row| row.try_get("", "id").unwrap())
        .collect()
}

/// One run with one version, as plain SQL.
async fn insert_run(db: &impl ConnectionTrait, series: usize, day: usize) {
    let backend = db.get_database_backend();
    let run = db
        .query_one_raw(Statement::from_string(
            backend,
            "INSERT INTO forecast_run (provider_id, issued_at) VALUES (1, '2024-01-02T00:00:00.000000Z') RETURNING id",
        ))
        .await
        .unwrap()
        .unwrap();
    let run: i64 = run.try_get("", "id").unwrap();
    let day = 1 + day % 28;
    db.execute_unprepared(&format!(
        "INSERT INTO forecast_curve (series_id, day, issued_at, run_id, first_period, \"values\") \
         VALUES ({series}, '2024-02-{day:02}', '2024-01-02T00:00:00.000000Z', {run}, 5, '[1,null,2.5]')"
    ))
    .await
    .unwrap();
}

/// Sixteen writers of all sorts; what they were told.
async fn write_everything(kind: Kind, url: &str, server: &TestServer) -> Vec<Acknowledged> {
    // Whoever holds a transaction open waits until so many others were answered.
    const HELD_FOR: usize = 7 * WRITES;
    let (answered, watch_answered) = watch::channel(0usize);
    let answered = Arc::new(answered);
    let mut writers = JoinSet::new();

    for writer in 0..7u64 {
        let client = server.client.clone();
        let answered = Arc::clone(&answered);
        writers.spawn(async move {
            let mut random = StdRng::seed_from_u64(writer);
            let mut done = Vec::new();
            for i in 0..WRITES {
                let runs: Vec<Value> = (0..random.random_range(1..4))
                    .map(|_| run_input(random.random_range(1..=UNITS), i, 1.0))
                    .collect();
                let began = Instant::now();
                let saved = client.data(SAVE, json!({ "runs": runs })).await;
                let position = number_of(&saved["saveForecasts"]["position"]);
                let ended = Instant::now();
                done.push(Acknowledged {
                    began,
                    ended,
                    position,
                });
                answered.send_modify(|count| *count += 1);
            }
            done
        });
    }
    for writer in 7..15u64 {
        let (log, answered) = (server.log.clone(), Arc::clone(&answered));
        let mut watch_answered = watch_answered.clone();
        let url = url.to_owned();
        writers.spawn(async move {
            let db = match kind {
                // SQLite's one writer connection is the server's own queue.
                Kind::Sqlite => log.database().clone(),
                Kind::Postgres => connect(&url).await,
            };
            let mut random = StdRng::seed_from_u64(writer);
            let mut done = Vec::new();
            for i in 0..WRITES {
                let began = Instant::now();
                let txn = db.begin().await.unwrap();
                for _ in 0..random.random_range(1..6) {
                    insert_run(&txn, random.random_range(1..=UNITS), i).await;
                }
                if kind == Kind::Postgres && writer < 9 && i == WRITES / 3 {
                    // Its ids are drawn long before it commits.
                    watch_answered
                        .wait_for(|count| *count >= HELD_FOR)
                        .await
                        .unwrap();
                }
                if random.random_bool(0.2) {
                    txn.rollback().await;
                    continue;
                }
                let receipt = change::commit(txn).await.unwrap();
                let position = log.acknowledge(receipt).await.unwrap().number;
                let ended = Instant::now();
                done.push(Acknowledged {
                    began,
                    ended,
                    position,
                });
                answered.send_modify(|count| *count += 1);
            }
            done
        });
    }
    let url = url.to_owned();
    let plain = tokio::task::spawn_blocking(move || plain_writer(kind, &url));
    let mut done = Vec::new();
    while let Some(writer) = writers.join_next().await {
        done.extend(writer.unwrap());
    }
    plain.await.unwrap();
    done
}

/// Another program: the database's own command line.
fn plain_writer(kind: Kind, url: &str) {
    let mut child = match kind {
        Kind::Sqlite => Command::new("sqlite3")
            .args(["-bail", url.strip_prefix("sqlite://").unwrap()])
            .stdin(Stdio::piped())
            .spawn(),
        Kind::Postgres => Command::new("psql")
            .args(["-q", "-v", "ON_ERROR_STOP=1", url])
            .stdin(Stdio::piped())
            .spawn(),
    }
    .expect("the database's command line is installed");
    let mut script = String::new();
    if kind == Kind::Sqlite {
        script.push_str(".timeout 60000\nPRAGMA foreign_keys = ON;\n");
    }
    for i in 0..WRITES {
        let (series, day) = (1 + i % UNITS, 1 + i % 28);
        let run_id = match kind {
            Kind::Sqlite => "last_insert_rowid()",
            Kind::Postgres => "lastval()",
        };
        let (begin, end) = match (kind, i % 5) {
            (Kind::Sqlite, 4) => ("BEGIN IMMEDIATE", "ROLLBACK"),
            (Kind::Sqlite, _) => ("BEGIN IMMEDIATE", "COMMIT"),
            (Kind::Postgres, 4) => ("BEGIN", "ROLLBACK"),
            (Kind::Postgres, _) => ("BEGIN", "COMMIT"),
        };
        script.push_str(&format!(
            "{begin};\n\
             INSERT INTO forecast_run (provider_id, issued_at) VALUES (1, '2024-01-03T00:00:00.000000Z');\n\
             INSERT INTO forecast_curve SELECT {series}, '2024-02-{day:02}', '2024-01-03T00:00:00.000000Z', {run_id}, 0, '[7]';\n\
             {end};\n"
        ));
    }
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(script.as_bytes()).unwrap();
    drop(stdin);
    assert!(child.wait().unwrap().success());
}

/// A server over a fresh database with units, a provider and a series each.
async fn prepared(kind: Kind) -> (TestDatabase, TestServer, Position) {
    let database = kind.database().await;
    let server = TestServer::start(database.url()).await;
    server.client.prepare(UNITS).await;
    let runs: Vec<Value> = (1..=UNITS).map(|unit| run_input(unit, 0, 0.0)).collect();
    server.client.data(SAVE, json!({ "runs": runs })).await;
    let start = server.log.applied();
    (database, server, start)
}

async fn sixteen_writers_lose_nothing(kind: Kind) {
    let (database, server, start) = prepared(kind).await;
    let before = committed_runs(server.log.database()).await;

    // A long unrelated transaction: with a snapshot, and a number on PostgreSQL.
    let other = connect(database.url()).await;
    let unrelated = other.control().unlimited().begin().await.unwrap();
    unrelated
        .execute_unprepared(match kind {
            Kind::Sqlite => "SELECT count(*) FROM change",
            Kind::Postgres => "SELECT pg_current_xact_id(), count(*) FROM change",
        })
        .await
        .unwrap();

    // One subscriber in the process, one over a socket; both from before the first write.
    let (finished, is_finished) = watch::channel(None::<u64>);
    let mut observers = JoinSet::new();
    let mut live = Box::pin(changed(&server.log, ForecastFilter::default(), Span::Live));
    let mut last = is_finished.clone();
    observers.spawn(async move {
        let mut seen = Vec::new();
        loop {
            tokio::select! {
                event = live.next() => {
                    let event = event.unwrap().unwrap();
                    seen.push((event.position.number, event.run_id));
                }
                end = last.wait_for(|end| end.is_some_and(|end| seen.last().is_some_and(|(at, _)| *at >= end))) => {
                    drop(end);
                    return seen;
                }
            }
        }
    });
    let mut socket = server
        .client
        .subscribe(CHANGED, json!({ "after": start.to_string() }))
        .await;
    let mut last = is_finished.clone();
    observers.spawn(async move {
        let mut seen: Vec<(u64, i64)> = Vec::new();
        loop {
            tokio::select! {
                event = socket.data() => {
                    let event = &event["forecastChanged"];
                    let run = event["run"]["id"].as_str().unwrap().strip_prefix("run:").unwrap();
                    seen.push((number_of(&event["position"]), run.parse().unwrap()));
                }
                end = last.wait_for(|end| end.is_some_and(|end| seen.last().is_some_and(|(at, _)| *at >= end))) => {
                    drop(end);
                    return seen;
                }
            }
        }
    });

    let acknowledged = write_everything(kind, database.url(), &server).await;
    unrelated.rollback().await.unwrap();
    let db = server.log.database();
    // What another program wrote is numbered by the timer.
    let unnumbered = match kind {
        Kind::Sqlite => "SELECT count(*) FROM touched_forecast_curve",
        Kind::Postgres => "SELECT count(*) FROM change WHERE position IS NULL",
    };
    while count(db, unnumbered).await > 0 {
        tokio::task::yield_now().await;
    }
    let log = truth(db).await;
    let committed: BTreeSet<i64> = committed_runs(db)
        .await
        .difference(&before)
        .copied()
        .collect();
    let log: Vec<_> = log
        .into_iter()
        .filter(|(at, _)| *at > start.number)
        .collect();
    finished.send_replace(Some(log.last().unwrap().0));

    verify(&log, &committed).unwrap();
    let contiguous: Vec<u64> = (start.number + 1..).take(log.len()).collect();
    assert_eq!(
        log.iter().map(|(at, _)| *at).collect::<Vec<_>>(),
        contiguous
    );
    while let Some(seen) = observers.join_next().await {
        assert_eq!(
            seen.unwrap(),
            log,
            "a subscriber saw something else than the log"
        );
    }
    keeps_real_time_order(acknowledged);
    server.stop().await;
}

/// A write that began after another was acknowledged has the higher position.
fn keeps_real_time_order(mut writes: Vec<Acknowledged>) {
    let mut by_end: Vec<(Instant, u64)> = writes.iter().map(|w| (w.ended, w.position)).collect();
    by_end.sort();
    writes.sort_by_key(|write| write.began);
    let mut ended = by_end.into_iter().peekable();
    let mut highest = 0;
    for write in writes {
        while let Some((_, position)) = ended.next_if(|(end, _)| *end < write.began) {
            highest = highest.max(position);
        }
        assert!(
            write.position > highest,
            "{} after {highest}",
            write.position
        );
    }
}

/// The test of the test: the tail that everyone writes first, `id > last`,
/// must fail it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tail_by_id_is_found_out() {
    let (database, server, _) = prepared(Kind::Postgres).await;
    let db = connect(database.url()).await;
    let before = committed_runs(&db).await;
    let first = count(&db, "SELECT max(id) FROM change").await;
    let (finished, is_finished) = watch::channel(false);
    let mut naive = JoinSet::new();
    let tail = db.clone();
    naive.spawn(async move {
        let (mut last, mut seen) = (first, Vec::new());
        loop {
            let ended = *is_finished.borrow();
            let rows = tail
                .reader()
                .query_all_raw(Statement::from_sql_and_values(
                    DbBackend::Postgres,
                    "SELECT id, run_id FROM change WHERE id > $1 ORDER BY id",
                    [last.into()],
                ))
                .await
                .unwrap();
            for row in rows {
                last = row.try_get("", "id").unwrap();
                seen.push((
                    u64::try_from(last).unwrap(),
                    row.try_get("", "run_id").unwrap(),
                ));
            }
            if ended {
                return seen;
            }
        }
    });
    write_everything(Kind::Postgres, database.url(), &server).await;
    finished.send_replace(true);
    let seen = naive.join_next().await.unwrap().unwrap();
    let committed = committed_runs(&db)
        .await
        .difference(&before)
        .copied()
        .collect();
    let verdict = verify(&seen, &committed);
    assert!(
        verdict.is_err(),
        "reading by id lost nothing: the test has lost its power"
    );
    server.stop().await;
}

async fn simultaneous_commits_are_numbered_at_once(kind: Kind) {
    const COMMITS: usize = 16;
    let (database, server, _) = prepared(kind).await;
    server.stop().await;
    // No timer helps: signals alone.
    let never = Duration::from_secs(3600);
    let settings = ChangeLogSettings {
        busy_interval: never,
        idle_interval: never,
        scan_interval: never,
        acknowledge_timeout: Duration::from_secs(30),
    };
    let (log, stop, mut workers) = change_log_alone(database.url(), 64, settings).await;
    let barrier = Arc::new(Barrier::new(COMMITS));
    let mut writers = JoinSet::new();
    for i in 0..COMMITS {
        let (log, barrier) = (log.clone(), Arc::clone(&barrier));
        writers.spawn(async move {
            let receipt = match kind {
                Kind::Postgres => {
                    let txn = log.database().begin().await.unwrap();
                    insert_run(&txn, 1 + i % UNITS, i).await;
                    barrier.wait().await;
                    change::commit(txn).await.unwrap()
                }
                Kind::Sqlite => {
                    barrier.wait().await;
                    let txn = log.database().begin().await.unwrap();
                    insert_run(&txn, 1 + i % UNITS, i).await;
                    change::commit(txn).await.unwrap()
                }
            };
            log.acknowledge(receipt).await.unwrap().number
        });
    }
    let mut positions = BTreeSet::new();
    while let Some(position) = writers.join_next().await {
        positions.insert(position.unwrap());
    }
    assert_eq!(positions.len(), COMMITS);
    let left = count(
        log.database(),
        "SELECT count(*) FROM change WHERE position IS NULL",
    )
    .await;
    assert_eq!(left, 0);
    assert_eq!(log.applied().number, *positions.last().unwrap());
    stop.cancel();
    while let Some(worker) = workers.join_next().await {
        worker.unwrap();
    }
}

/// A write that another replica has done a moment ago, and that has no position yet:
/// who does it again is told one that includes it.
async fn a_replay_includes_what_it_repeats(kind: Kind) {
    let (database, server, _) = prepared(kind).await;
    server.stop().await;
    let never = Duration::from_secs(3600);
    let settings = ChangeLogSettings {
        busy_interval: never,
        idle_interval: never,
        scan_interval: never,
        acknowledge_timeout: Duration::from_secs(30),
    };
    // It numbers and applies nothing until it is asked to.
    let (log, stop, mut workers) = change_log_alone(database.url(), 64, settings).await;
    let elsewhere = connect(database.url()).await;
    let now = OffsetDateTime::now_utc();
    let save = SaveRequest {
        runs: vec![NewRun {
            unit: "plant:1".parse().unwrap(),
            provider: "p".parse().unwrap(),
            resolution: Resolution::Hour,
            issued_at: None,
            values: RunValues::From {
                start: datetime!(2024-05-01 00:00 UTC),
                values: vec![Some(1.0)],
            },
        }],
        idempotency_key: Some("once".into()),
    };
    let send = SendRequest {
        to: Target {
            users: vec!["ada".into()],
            ..Target::default()
        },
        title: "Once".into(),
        body: String::new(),
        severity: Severity::Info,
        category: "general".into(),
        data: None,
        link: None,
        channels: vec![Channel::InApp],
        template: None,
        variables: None,
        attachments: Vec::new(),
        not_before: None,
        expires_at: None,
        throttle: None,
        idempotency_key: Some("sent once".into()),
    };
    let rename = UnitUpsert {
        key: "plant:1".parse().unwrap(),
        name: Patch::Set("Renamed".into()),
        time_zone: Patch::Keep,
        parent: Patch::Keep,
        capacity_mw: Patch::Keep,
        capacity_valid_from: None,
    };
    notification::ensure_user(&elsewhere, "ada").await.unwrap();
    for what in ["save", "send", "upsert"] {
        let write = async |db: &Database| match what {
            "save" => {
                let saved = domain::forecast::save(db, "viewer", &save, now)
                    .await
                    .unwrap();
                (saved.run_ids[0], saved.receipt)
            }
            "send" => {
                let sent = notification::send(db, "viewer", &send, now).await.unwrap();
                (sent.notification_id, sent.receipt)
            }
            _ => {
                let receipt = unit::upsert(db, std::slice::from_ref(&rename))
                    .await
                    .unwrap();
                (0, receipt)
            }
        };
        let (first, _) = write(&elsewhere).await;
        let (again, receipt) = write(log.database()).await;
        assert_eq!(again, first, "{what}");
        let told = log.acknowledge(receipt).await.unwrap().number;
        let written = count(log.database(), "SELECT max(position) FROM change").await;
        let unnumbered = count(
            log.database(),
            "SELECT count(*) FROM change WHERE position IS NULL",
        )
        .await;
        assert_eq!(unnumbered, 0, "{what}");
        assert_eq!(told, u64::try_from(written).unwrap(), "{what}");
    }
    let unit = log.forecasts().unit("plant:1".parse().unwrap()).await;
    assert_eq!(unit.unwrap().unwrap().name, "Renamed");
    stop.cancel();
    while let Some(worker) = workers.join_next().await {
        worker.unwrap();
    }
}

/// With a snapshot held open, nothing that a tick leaves behind can be cleaned
/// away; ticks must not grow slower for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_seconds_under_an_open_snapshot_slow_no_tick() {
    const SECONDS: usize = 60;
    const BATCHES_A_SECOND: usize = 20;
    const CHANGES_A_BATCH: usize = 30;
    let (database, server, _) = prepared(Kind::Postgres).await;
    server.stop().await;
    let db = connect(database.url()).await;
    let holder = connect(database.url()).await;
    let held = holder
        .control()
        .unlimited()
        .begin_with_config(Some(sea_orm::IsolationLevel::RepeatableRead), None)
        .await
        .unwrap();
    held.execute_unprepared("SELECT count(*) FROM change")
        .await
        .unwrap();

    db.writer()
        .execute_unprepared("CREATE TABLE probe (n integer)")
        .await
        .unwrap();
    // Beside each tick a commit of one row: the measure of how busy the machine is.
    let (mut ticks, mut probes) = (Vec::new(), Vec::new());
    let mut rhythm =
        tokio::time::interval(Duration::from_secs(1) / u32::try_from(BATCHES_A_SECOND).unwrap());
    for batch in 0..SECONDS * BATCHES_A_SECOND {
        rhythm.tick().await;
        db.writer()
            .execute_unprepared(&format!(
                "WITH r AS (INSERT INTO forecast_run (provider_id, issued_at) \
                            SELECT 1, '2024-01-04T00:00:00Z' FROM generate_series(1, {CHANGES_A_BATCH}) RETURNING id) \
                 INSERT INTO forecast_curve SELECT {}, '2024-02-05', '2024-01-04T00:00:00Z', r.id, 0, '[1]' FROM r",
                1 + batch % UNITS
            ))
            .await
            .unwrap();
        let began = Instant::now();
        let numbered = count(&db, "SELECT numbered FROM change_log_tick('wait')").await;
        ticks.push(began.elapsed());
        assert_eq!(numbered, i64::try_from(CHANGES_A_BATCH).unwrap());
        let began = Instant::now();
        db.writer()
            .execute_unprepared("INSERT INTO probe VALUES (1)")
            .await
            .unwrap();
        probes.push(began.elapsed());
    }
    held.rollback().await.unwrap();
    let median = |ticks: &[Duration]| {
        let mut sorted = ticks.to_vec();
        sorted.sort();
        sorted[sorted.len() / 2]
    };
    // The first ten seconds after a warm-up, and the last ten.
    let window = 10 * BATCHES_A_SECOND;
    let growth = |times: &[Duration]| {
        let start = median(&times[BATCHES_A_SECOND..][..window]);
        let end = median(&times[times.len() - window..]);
        println!("{start:?} at the start, {end:?} at the end");
        end.as_secs_f64() / start.as_secs_f64()
    };
    let (tick, machine) = (growth(&ticks), growth(&probes).max(1.0));
    assert!(
        tick <= 2.0 * machine,
        "ticks took {tick} times as long, the machine {machine}"
    );
}

/// Saves until told to stop, each save again until it is answered.
async fn save_steadily(
    server: watch::Receiver<Client>,
    writer: usize,
    saves: usize,
    done: Arc<AtomicUsize>,
) -> Vec<i64> {
    let mut ids = Vec::new();
    for i in 0..saves {
        let key = format!("{writer}-{i}");
        let variables = json!({ "runs": [run_input(1 + writer % UNITS, i, 1.0)], "key": key });
        let saved = loop {
            let client = server.borrow().clone();
            // A killed server may have saved: the key makes the second try harmless.
            match client.try_graphql(SAVE, variables.clone()).await {
                Ok(answer) if answer["errors"].is_null() => break answer,
                _ => tokio::task::yield_now().await,
            }
        };
        let id = saved["data"]["saveForecasts"]["runs"][0]["id"]
            .as_str()
            .unwrap();
        ids.push(id.strip_prefix("run:").unwrap().parse().unwrap());
        done.fetch_add(1, Ordering::SeqCst);
    }
    ids
}

async fn a_killed_server_goes_on_where_it_was(kind: Kind) {
    const SAVES: usize = 60;
    const WRITERS: usize = 3;
    let database = kind.database().await;
    let url = database.url().to_owned();
    let start = || {
        let url = url.clone();
        async {
            tokio::task::spawn_blocking(move || Process::start(&url))
                .await
                .unwrap()
        }
    };
    let mut process = start().await;
    let position = process.client.prepare(UNITS).await;
    let (server, watch_server) = watch::channel(process.client.clone());
    let done = Arc::new(AtomicUsize::new(0));
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let done = Arc::clone(&done);
        writers.spawn(save_steadily(watch_server.clone(), writer, SAVES, done));
    }
    let mut observer = JoinSet::new();
    let from = position.clone();
    observer.spawn(async move {
        let mut seen: Vec<(u64, i64)> = Vec::new();
        let mut after = from;
        while seen.len() < SAVES * WRITERS {
            let client = watch_server.borrow().clone();
            let Ok(mut socket) = client
                .try_subscribe(CHANGED, json!({ "after": after }))
                .await
            else {
                tokio::task::yield_now().await;
                continue;
            };
            // A closed socket leads to the next server, from the last position seen.
            while seen.len() < SAVES * WRITERS {
                let Ok(payload) = socket.next().await else {
                    break;
                };
                assert!(payload["errors"].is_null(), "{payload}");
                let event = &payload["data"]["forecastChanged"];
                after = event["position"].clone();
                let run = event["run"]["id"]
                    .as_str()
                    .unwrap()
                    .strip_prefix("run:")
                    .unwrap();
                seen.push((number_of(&after), run.parse().unwrap()));
            }
        }
        seen
    });
    // Once killed, once ended in order, each time with saves under way.
    for (round, share) in [(0, 3), (1, 2)] {
        while done.load(Ordering::SeqCst) < SAVES * WRITERS / share {
            tokio::task::yield_now().await;
        }
        if round == 0 {
            tokio::task::block_in_place(|| process.kill());
        } else {
            let status = tokio::task::block_in_place(|| process.terminate());
            assert!(status.success(), "{status}");
        }
        process = start().await;
        server.send_replace(process.client.clone());
    }
    let mut committed = BTreeSet::new();
    while let Some(ids) = writers.join_next().await {
        committed.extend(ids.unwrap());
    }
    assert_eq!(committed.len(), SAVES * WRITERS, "a save was saved twice");
    let seen = observer.join_next().await.unwrap().unwrap();
    verify(&seen, &committed).unwrap();
    tokio::task::block_in_place(|| process.kill());
    let db = connect(database.url()).await;
    let log = truth(&db).await;
    assert_eq!(seen, log);
    db.close().await.unwrap();
}

async fn a_restore_begins_a_new_epoch(kind: Kind) {
    let (database, server, first) = prepared(kind).await;
    let folder = tempfile::TempDir::new().unwrap();
    let copy = folder.path().join("copy");
    let smartpulse = |arguments: &[&str]| {
        let status = binary().args(arguments).status();
        assert!(status.unwrap().success(), "{arguments:?}");
    };
    let shell = |command: &str| {
        let status = Command::new("sh").args(["-ec", command]).status();
        assert!(status.unwrap().success(), "{command}");
    };
    let copy_path = copy.display().to_string();
    match kind {
        Kind::Sqlite => smartpulse(&["backup", "--database-url", database.url(), &copy_path]),
        Kind::Postgres => shell(&format!("pg_dump '{}' > '{copy_path}'", database.url())),
    }
    // A position that the copy does not know.
    let lost = server
        .client
        .data(SAVE, json!({ "runs": [run_input(1, 1, 9.0)] }))
        .await;
    let lost = lost["saveForecasts"]["position"].clone();
    server.stop().await;

    let restored = match kind {
        Kind::Sqlite => {
            let arguments = [
                "restore",
                "--replace",
                "--database-url",
                database.url(),
                &copy_path,
            ];
            smartpulse(&arguments);
            database.url().to_owned()
        }
        Kind::Postgres => {
            let url = format!("{}_restored", database.url());
            shell(&format!(
                "psql -q '{}' -c 'CREATE DATABASE {}' && psql -q -v ON_ERROR_STOP=1 '{url}' < '{copy_path}' > /dev/null",
                TestDatabase::postgres_server(),
                url.rsplit_once('/').unwrap().1
            ));
            url
        }
    };
    let server = TestServer::start(&restored).await;
    let now = server.log.applied();
    assert_ne!(now.epoch, first.epoch);
    for after in [json!(first.to_string()), lost] {
        let mut socket = server
            .client
            .subscribe(CHANGED, json!({ "after": after }))
            .await;
        let payload = socket.next().await.unwrap();
        let error = &payload["errors"][0]["extensions"];
        assert_eq!(error["code"], "POSITION_EXPIRED", "{payload}");
        assert_eq!(error["position"], now.to_string(), "{payload}");
    }
    // The data is that of the copy, and the log goes on from where the error said.
    let mut socket = server
        .client
        .subscribe(CHANGED, json!({ "after": now.to_string() }))
        .await;
    let saved = server
        .client
        .data(SAVE, json!({ "runs": [run_input(1, 1, 5.0)] }))
        .await;
    let event = socket.data().await;
    assert_eq!(
        event["forecastChanged"]["position"],
        saved["saveForecasts"]["position"]
    );
    server.stop().await;
    if kind == Kind::Postgres {
        shell(&format!(
            "psql -q '{}' -c 'DROP DATABASE {} WITH (FORCE)'",
            TestDatabase::postgres_server(),
            restored.rsplit_once('/').unwrap().1
        ));
    }
}
