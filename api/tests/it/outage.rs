//! Databases that fall silent, stand still, change sides or fill up, and what the
//! real binary makes of it.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use migration::testing::TestDatabase;
use serde_json::{Value, json};
use tempfile::TempDir;
use time::format_description::well_known::Rfc3339;
use time::macros::datetime;
use tokio::net::TcpListener;

use crate::client::{Client, code};
use crate::proxy::Proxy;
use crate::server::{Process, TestServer, binary, run_sql, smartpulse};
use crate::wait::{eventually, soon};

const DECLARE: &str = "mutation {
    upsertUnits(input: { units: [{ key: \"plant:1\" }] }) { position }
    upsertProviders(input: { providers: [{ key: \"p\" }] }) { position } }";
const SAVE: &str = "mutation($value: Float!) {
    saveForecasts(input: { runs: [{ unit: \"plant:1\", provider: \"p\", resolution: PT1H,
        start: \"2024-05-01T00:00:00Z\", values: [$value] }] }) { position } }";
const READ: &str = "{ forecast(unit: \"plant:1\", provider: \"p\", resolution: PT1H,
    from: \"2024-05-01T00:00:00Z\", to: \"2024-05-01T01:00:00Z\") { values } }";

async fn process(url: &str, more: &[&str]) -> Process {
    let url = url.to_owned();
    let more: Vec<String> = more.iter().map(ToString::to_string).collect();
    tokio::task::spawn_blocking(move || {
        let more: Vec<&str> = more.iter().map(String::as_str).collect();
        Process::start_with(&url, &more)
    })
    .await
    .unwrap()
}

async fn becomes(client: &Client, expect: u16) -> Value {
    eventually("readiness is as expected", async || {
        assert_eq!(client.get("/health/live").await.0, 200);
        assert_eq!(client.get("/health").await.0, 200);
        let (status, report) = client.get_json("/health/ready").await;
        (status == expect).then_some(report)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_falls_silent_is_noticed_and_left() {
    let database = TestDatabase::postgres().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::start(listener, database.url()).await;
    let limits = ["--database-statement-seconds", "3"];
    let server = process(&proxy.url(database.url()), &limits).await;
    let client = &server.client;
    client.data(DECLARE, Value::Null).await;
    client.data(SAVE, json!({ "value": 1.0 })).await;
    client.data(READ, Value::Null).await;
    let mut socket = client
        .subscribe(
            "subscription { forecastChanged { points { mwh } } }",
            Value::Null,
        )
        .await;
    eventually("the subscriber has joined", async || {
        (client.metric("smartpulse_live_operations").await == 1.0).then_some(())
    })
    .await;

    proxy.freeze();
    let refused = soon("an answer", client.graphql(SAVE, json!({ "value": 2.0 }))).await;
    let told = code(&refused);
    assert!(["TIMEOUT", "UNAVAILABLE"].contains(&told), "{refused}");
    let report = becomes(client, 503).await;
    assert_eq!(report["status"], "database unreachable", "{report}");
    let warm = client.data(READ, Value::Null).await;
    assert_eq!(
        warm["forecast"]["values"],
        json!([1.0]),
        "memory still answers"
    );
    for worker in report["workers"].as_array().unwrap() {
        if ["sequencer", "tail"].contains(&worker["name"].as_str().unwrap()) {
            assert_eq!(worker["restarts"], 0, "{report}");
        }
    }

    proxy.thaw();
    becomes(client, 200).await;
    eventually("a save is acknowledged", async || {
        let answer = client.graphql(SAVE, json!({ "value": 3.0 })).await;
        answer["errors"].is_null().then_some(())
    })
    .await;
    let change = eventually("the subscriber sees it", async || {
        let change = soon("a change", socket.data()).await;
        (change["forecastChanged"]["points"][0]["mwh"] == 3.0).then_some(change)
    })
    .await;
    drop(change);

    proxy.freeze();
    let stopping = Instant::now();
    let status = tokio::task::block_in_place(|| server.terminate());
    assert_eq!(status.code(), Some(0));
    assert!(
        stopping.elapsed() < Duration::from_secs(45),
        "{:?}",
        stopping.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_started_without_its_database_waits_for_it() {
    let database = TestDatabase::postgres().await;
    let place = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (_, name) = database.url().rsplit_once('/').unwrap();
    let address = place.local_addr().unwrap();
    let url = format!("postgres://postgres@{address}/{name}");
    drop(place);
    // A port that is known before the server is ready.
    let listen = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let mut child = binary()
        .args([
            "serve",
            "--database-url",
            &url,
            "--listen",
            &listen.to_string(),
        ])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let client = Client::new(listen);
    eventually("it listens", async || {
        tokio::net::TcpStream::connect(listen).await.ok()
    })
    .await;
    assert_eq!(client.get("/health").await.0, 200);
    assert_eq!(client.get("/health/live").await.0, 200);
    let (status, waiting) = client.get_json("/health/ready").await;
    assert_eq!((status, code(&waiting)), (503, "UNAVAILABLE"), "{waiting}");
    let place = TcpListener::bind(address).await.unwrap();
    let _proxy = Proxy::start(place, database.url()).await;
    eventually("it is ready", async || {
        (client.get("/health/ready").await.0 == 200).then_some(())
    })
    .await;
    client.data(DECLARE, Value::Null).await;
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_that_somebody_holds_is_waited_for() {
    let database = TestDatabase::postgres().await;
    let server = process(database.url(), &[]).await;
    let client = &server.client;
    client.data(DECLARE, Value::Null).await;
    let holder = crate::server::connect(database.url()).await;
    let held = holder.begin().await.unwrap();
    sea_orm::ConnectionTrait::execute_unprepared(
        &held,
        "SELECT pg_advisory_xact_lock(hashtext('smartpulse'), hashtext('change_log'))",
    )
    .await
    .unwrap();
    let save = client.graphql(SAVE, json!({ "value": 1.0 }));
    let release = async {
        // Ticks have given up their turn meanwhile: each waits for 2 s.
        eventually("a tick gave up", async || {
            (client
                .metric("smartpulse_change_log_failed_ticks_total")
                .await
                >= 1.0)
                .then_some(())
        })
        .await;
        held.rollback().await;
    };
    let (saved, ()) = tokio::join!(save, release);
    assert!(saved["errors"].is_null(), "{saved}");
    assert_eq!(client.metric("smartpulse_worker_restarts_total").await, 0.0);
    server.kill();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_that_take_too_long_are_given_up() {
    let database = TestDatabase::postgres().await;
    let server = process(database.url(), &["--database-statement-seconds", "1"]).await;
    server.client.data(DECLARE, Value::Null).await;
    // Whoever reads forecasts waits for this.
    let holder = crate::server::connect(database.url()).await;
    let held = holder.begin().await.unwrap();
    sea_orm::ConnectionTrait::execute_unprepared(
        &held,
        "LOCK TABLE series IN ACCESS EXCLUSIVE MODE",
    )
    .await
    .unwrap();
    let answer = server.client.graphql(READ, Value::Null).await;
    assert_eq!(code(&answer), "TIMEOUT", "{answer}");
    held.rollback().await;
    server.kill();
}

#[test]
fn many_that_migrate_at_once_do_it_once() {
    let server = TestDatabase::postgres_server();
    let name = format!("smartpulse_test_migrate_{}", std::process::id());
    run_sql(&server, &format!("CREATE DATABASE {name};"));
    let (base, _) = server.rsplit_once('/').unwrap();
    let url = format!("{base}/{name}");
    let servers: Vec<_> = (0..5)
        .map(|_| {
            let url = url.clone();
            std::thread::spawn(move || Process::start_with(&url, &["--migrate"]))
        })
        .collect();
    for server in servers {
        server.join().expect("each starts").kill();
    }
    run_sql(&server, &format!("DROP DATABASE {name} WITH (FORCE);"));
}

fn in_folder(folder: &Path, arguments: &[&str]) -> (bool, String) {
    let output = binary()
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap();
    (
        output.status.success(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_embedded_database_has_one_owner() {
    let folder = TempDir::new().unwrap();
    let at = folder.path().to_owned();
    let server = tokio::task::spawn_blocking(move || Process::start_in(&at, &["serve"]))
        .await
        .unwrap();
    server.client.data(DECLARE, Value::Null).await;
    server.client.data(SAVE, json!({ "value": 1.0 })).await;
    // What only reads and writes rows works beside it.
    std::fs::write(
        folder.path().join("a.csv"),
        "unit,provider,resolution,delivery_start,mwh\nplant:1,p,PT1H,2024-05-01T01:00:00Z,2\n",
    )
    .unwrap();
    for beside in [
        &["backup", "copy.db"][..],
        &["import", "a.csv"],
        &["api-key", "list"],
    ] {
        let (done, text) = in_folder(folder.path(), beside);
        assert!(done, "{beside:?}: {text}");
    }
    for owner in [
        &["restore", "copy.db", "--replace"][..],
        &["migrate"],
        &["serve", "--listen", "127.0.0.1:0"],
    ] {
        let (done, text) = in_folder(folder.path(), owner);
        assert!(!done, "{owner:?} beside a server");
        assert!(
            text.contains("in use by smartpulse serve (process "),
            "{owner:?}: {text}"
        );
    }
    server.client.data(SAVE, json!({ "value": 3.0 })).await;
    server.kill();
    // A killed owner is none.
    let at = folder.path().to_owned();
    let server = tokio::task::spawn_blocking(move || Process::start_in(&at, &["serve"]))
        .await
        .unwrap();
    let read = server.client.data(READ, Value::Null).await;
    assert_eq!(read["forecast"]["values"], json!([3.0]));
    server.kill();
    // Nor does a restore pull the file from under any other program.
    let database = folder.path().join("data/smartpulse.db");
    let mut shell = Command::new("sqlite3")
        .arg(&database)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = shell.stdin.take().unwrap();
    std::io::Write::write_all(&mut input, b"SELECT count(*) FROM unit;\n").unwrap();
    let mut line = String::new();
    let mut output = std::io::BufReader::new(shell.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut output, &mut line).unwrap();
    let restore = ["restore", "copy.db", "--replace"];
    let (done, text) = in_folder(folder.path(), &restore);
    assert!(!done && text.contains("another program has"), "{text}");
    drop(input);
    shell.wait().unwrap();
    let (done, text) = in_folder(folder.path(), &restore);
    assert!(done, "{text}");
}

/// A small filesystem, where the tests may make one.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn new(kib: u32) -> Option<Self> {
        let folder = TempDir::new().unwrap();
        let options = format!("size={kib}k");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "smartpulse-test"])
            .arg(folder.path())
            .stderr(Stdio::null())
            .status();
        mounted
            .is_ok_and(|status| status.success())
            .then(|| Self(folder))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(
            Command::new("umount")
                .arg("--lazy")
                .arg(self.0.path())
                .status(),
        );
    }
}

/// A year's run, as a table for `smartpulse import`.
fn a_year() -> String {
    let begin = datetime!(2023-01-01 00:00 UTC);
    let mut table = String::from("unit,provider,resolution,issued_at,delivery_start,mwh\n");
    for hour in 0..8760 {
        let start = (begin + time::Duration::hours(hour))
            .format(&Rfc3339)
            .unwrap();
        let mwh = f64::from(i32::try_from(hour).unwrap()) / 7.0;
        table += &format!("plant:1,p,PT1H,2022-12-31T00:00:00Z,{start},{mwh:.6}\n");
    }
    table
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_on_a_full_disk() {
    let Some(disk) = SmallDisk::new(8192) else {
        eprintln!("skipped: only root can mount a small filesystem");
        return;
    };
    let folder = disk.0.path().to_owned();
    let at = folder.clone();
    let server = tokio::task::spawn_blocking(move || Process::start_in(&at, &["serve"]))
        .await
        .unwrap();
    let client = &server.client;
    client.data(DECLARE, Value::Null).await;
    let ballast = folder.join("ballast");
    let save = async |value: u32| {
        let query = "mutation($values: [Float!]!) { saveForecasts(input: { runs: [{ unit: \"plant:1\",
            provider: \"p\", resolution: PT1H, start: \"2024-05-01T00:00:00Z\", values: $values }] }) { position } }";
        let values = vec![f64::from(value) + 0.123_456; 2000];
        client.graphql(query, json!({ "values": values })).await
    };
    // Read from elsewhere: a year of hours.
    let elsewhere = TempDir::new().unwrap();
    let file = elsewhere.path().join("year.csv");
    std::fs::write(&file, a_year()).unwrap();
    let import = async || {
        let (folder, file) = (folder.clone(), file.to_str().unwrap().to_owned());
        let import = move || in_folder(&folder, &["import", &file]);
        tokio::task::spawn_blocking(import).await.unwrap()
    };
    let (mut acknowledged, mut refused) = (0, 0);
    for round in 0..4 {
        // Whatever is left is taken.
        Command::new("dd")
            .args(["if=/dev/zero", "bs=4096"])
            .arg(format!("of={}", ballast.display()))
            .stderr(Stdio::null())
            .status()
            .unwrap();
        for i in 0..6 {
            let value = round * 100 + i;
            let answer = save(value).await;
            if answer["errors"].is_null() {
                acknowledged += 1;
            } else {
                assert_eq!(code(&answer), "UNAVAILABLE", "{answer}");
                refused += 1;
            }
        }
        let (imported, text) = import().await;
        assert!(!imported && text.contains("full"), "{text}");
        std::fs::remove_file(&ballast).unwrap();
        let (imported, text) = import().await;
        assert!(imported, "with room again: {text}");
        acknowledged += 1;
        let value = round * 100 + 50;
        let answer = save(value).await;
        assert!(answer["errors"].is_null(), "with room again: {answer}");
        acknowledged += 1;
        assert_eq!(client.get("/health/ready").await.0, 200);
    }
    assert!(refused > 0, "the disk was never full");
    server.kill();
    let at = folder.clone();
    let server = tokio::task::spawn_blocking(move || Process::start_in(&at, &["serve"]))
        .await
        .unwrap();
    let read = server.client.data(READ, Value::Null).await;
    assert_eq!(read["forecast"]["values"], json!([350.123_456]));
    server.kill();
    let runs = Command::new("sqlite3")
        .arg(folder.join("data/smartpulse.db"))
        .arg("SELECT count(*) FROM forecast_run")
        .output()
        .unwrap();
    let runs = String::from_utf8(runs.stdout).unwrap();
    assert_eq!(runs.trim(), acknowledged.to_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_newer_replica_writes_passes_through() {
    let database = TestDatabase::postgres().await;
    let server = TestServer::start(database.url()).await;
    server.client.data(DECLARE, Value::Null).await;
    let mut socket = server
        .client
        .subscribe(
            "subscription { changes { entity operation unit } }",
            Value::Null,
        )
        .await;
    eventually("the subscriber has joined", async || {
        (server.client.metric("smartpulse_live_operations").await == 1.0).then_some(())
    })
    .await;
    run_sql(
        database.url(),
        "ALTER TABLE change DROP CONSTRAINT change_entity_check;
         INSERT INTO change (entity, operation, unit_type, unit_number) VALUES ('ACTUAL', 'INSERT', 'PLANT', 1);",
    );
    let change = soon("a change", socket.data()).await;
    assert_eq!(
        change["changes"],
        json!({ "entity": "OTHER", "operation": "INSERT", "unit": null })
    );
    // The log goes on behind it.
    server.client.data(SAVE, json!({ "value": 1.0 })).await;
    let change = soon("a change", socket.data()).await;
    assert_eq!(change["changes"]["entity"], "FORECAST");
    server.stop().await;
}

#[test]
fn a_command_fails_at_once_without_its_database() {
    let output = smartpulse(&[
        "migrate",
        "--database-url",
        "postgres://postgres@127.0.0.1:1/x",
    ]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("cannot connect to the database"), "{text}");
}

#[test]
fn a_pooler_that_shares_sessions_is_refused_with_what_to_set() {
    let database = tokio::runtime::Runtime::new()
        .unwrap()
        .block_on(TestDatabase::postgres());
    let (server, name) = database.url().rsplit_once('/').unwrap();
    let (_, port) = server.rsplit_once(':').unwrap();
    let folder = TempDir::new().unwrap();
    let start = |mode: &str, ignored: &str, listen: u16| {
        let file = folder.path().join(format!("{mode}{listen}.ini"));
        let text = format!(
            "[databases]\n{name} = host=127.0.0.1 port={port} user=postgres dbname={name}\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {listen}\nauth_type = any\n\
             pool_mode = {mode}\n{ignored}\n"
        );
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new("pgbouncer");
        command
            .arg(&file)
            .stderr(Stdio::null())
            .stdout(Stdio::null());
        if Command::new("id").arg("-u").output().unwrap().stdout == b"0\n" {
            // It does not run as root.
            Command::new("chmod")
                .args(["-R", "a+rX"])
                .arg(folder.path())
                .status()
                .unwrap();
            command.args(["-u", "nobody"]);
        }
        command.spawn()
    };
    let migrate = |listen: u16| {
        // It takes a moment until the pooler listens.
        let deadline = Instant::now() + crate::wait::DEADLINE;
        while std::net::TcpStream::connect(("127.0.0.1", listen)).is_err() {
            assert!(Instant::now() < deadline, "the pooler does not listen");
            std::thread::yield_now();
        }
        let url = format!("postgres://postgres@127.0.0.1:{listen}/{name}");
        let output = smartpulse(&["migrate", "--database-url", &url]);
        (
            output.status.success(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let free = || {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let ignore = "ignore_startup_parameters = extra_float_digits,options";
    for (mode, ignored, fits) in [
        ("transaction", "", false),
        ("transaction", ignore, false),
        ("session", ignore, true),
    ] {
        let listen = free();
        let Ok(mut pooler) = start(mode, ignored, listen) else {
            eprintln!("skipped: pgbouncer is not installed");
            return;
        };
        let (done, text) = migrate(listen);
        pooler.kill().unwrap();
        pooler.wait().unwrap();
        assert_eq!(done, fits, "{mode} {ignored}: {text}");
        assert!(
            fits || text.contains("pool_mode = session"),
            "{mode} {ignored}: {text}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_under_load_is_told_apart_whatever_language_the_server_speaks() {
    let database = TestDatabase::postgres().await;
    let name = database.url().rsplit_once('/').unwrap().1;
    let admin = crate::server::connect(&TestDatabase::postgres_server()).await;
    let speak = |language: &str| format!("ALTER DATABASE {name} SET lc_messages = '{language}'");
    let german = speak("de_DE.UTF-8");
    let german = sea_orm::ConnectionTrait::execute_unprepared(admin.writer(), &german);
    if german.await.is_err() {
        eprintln!("de_DE.UTF-8 is not installed: the server speaks its own language");
    }
    let server = process(database.url(), &[]).await;
    let client = &server.client;
    client.data(DECLARE, Value::Null).await;
    let (mut answered, mut failed) = (0, 0);
    for round in 0..60 {
        let terminate = async {
            let terminate = format!(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
            );
            sea_orm::ConnectionTrait::execute_unprepared(admin.writer(), &terminate)
                .await
                .unwrap();
        };
        let list = || client.graphql("{ units(first: 1) { nodes { key } } }", Value::Null);
        let save = client.graphql(SAVE, json!({ "value": f64::from(round) }));
        let (first, second, third, saved, ()) =
            tokio::join!(list(), list(), list(), save, terminate);
        for answer in [first, second, third, saved] {
            if answer["errors"].is_null() {
                answered += 1;
            } else {
                failed += 1;
                assert_eq!(code(&answer), "UNAVAILABLE", "{answer}");
            }
        }
    }
    assert!(
        answered > 0 && failed > 0,
        "{answered} answered, {failed} failed"
    );
    server.kill();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mutation_goes_on_when_its_client_has_gone() {
    let database = TestDatabase::postgres().await;
    let server = process(database.url(), &["--limit-operation-seconds", "1"]).await;
    let client = &server.client;
    client.data(DECLARE, Value::Null).await;
    let holder = crate::server::connect(database.url()).await;
    let waiting = async |count: i64| {
        eventually("statements wait for the lock", async || {
            let row = sea_orm::ConnectionTrait::query_one_raw(
                holder.reader(),
                sea_orm::Statement::from_string(
                    sea_orm::DbBackend::Postgres,
                    "SELECT count(*) AS n FROM pg_stat_activity \
                     WHERE datname = current_database() AND wait_event_type = 'Lock'",
                ),
            )
            .await
            .unwrap()
            .unwrap();
            (row.try_get::<i64>("", "n").unwrap() == count).then_some(())
        })
        .await;
    };
    let lock = "LOCK TABLE series IN ACCESS EXCLUSIVE MODE";
    let held = holder.begin().await.unwrap();
    sea_orm::ConnectionTrait::execute_unprepared(&held, lock)
        .await
        .unwrap();
    {
        let mut save = std::pin::pin!(client.graphql(SAVE, json!({ "value": 1.0 })));
        tokio::select! {
            answer = &mut save => panic!("{answer}"),
            () = waiting(1) => {}
        }
        // Here its connection is closed.
    }
    let query = client.graphql(READ, Value::Null).await;
    assert_eq!(code(&query), "TIMEOUT", "{query}");
    let mutation = client.graphql(SAVE, json!({ "value": 2.0 })).await;
    assert_eq!(code(&mutation), "TIMEOUT", "{mutation}");
    let told = mutation["errors"][0]["message"].as_str().unwrap();
    assert!(told.contains("idempotencyKey"), "{told}");
    held.rollback().await;
    let runs = "{ changes: position forecast(unit: \"plant:1\", provider: \"p\", resolution: PT1H,
        from: \"2024-05-01T00:00:00Z\", to: \"2024-05-01T01:00:00Z\") { points { mwh } } }";
    eventually("both are carried out", async || {
        let answer = client.graphql(runs, Value::Null).await;
        (answer["data"]["forecast"]["points"][0]["mwh"] == 2.0).then_some(())
    })
    .await;
    let saved = sea_orm::ConnectionTrait::query_one_raw(
        holder.reader(),
        sea_orm::Statement::from_string(
            sea_orm::DbBackend::Postgres,
            "SELECT (SELECT count(*) FROM forecast_run) AS runs, (SELECT count(*) FROM pg_stat_activity \
             WHERE datname = current_database() AND state LIKE 'idle in transaction%') AS idle",
        ),
    )
    .await
    .unwrap()
    .unwrap();
    assert_eq!(saved.try_get::<i64>("", "runs").unwrap(), 2);
    assert_eq!(saved.try_get::<i64>("", "idle").unwrap(), 0);
    server.kill();
}
