//! What operators look at, and how a server starts and ends.

use std::io::BufRead;
use std::process::Output;

use migration::testing::TestDatabase;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite;

use crate::client::{Client, code};
use crate::server::{Kind, Process, binary, on_both, run_sql, smartpulse, started};
use crate::wait::{eventually, soon};

on_both!(health_says_how_it_is, metrics_are_there, a_stop_is_orderly,);

const SAVE: &str = "mutation($value: Float!) {
    upsertUnits(input: { units: [{ key: \"plant:1\" }] }) { position }
    upsertProviders(input: { providers: [{ key: \"p\" }] }) { position }
    saveForecasts(input: { runs: [{ unit: \"plant:1\", provider: \"p\", resolution: PT1H,
        start: \"2024-05-01T00:00:00Z\", values: [$value] }] }) { position } }";
const READ: &str = "query($day: DateTime!, $end: DateTime!) {
    forecast(unit: \"plant:1\", provider: \"p\", resolution: PT1H, from: $day, to: $end) { values } }";

fn day(day: u8) -> Value {
    json!({ "day": format!("2024-05-{day:02}T00:00:00Z"), "end": format!("2024-05-{day:02}T01:00:00Z") })
}

async fn process(url: &str) -> Process {
    let url = url.to_owned();
    tokio::task::spawn_blocking(move || Process::start(&url))
        .await
        .unwrap()
}

async fn health_says_how_it_is(kind: Kind) {
    let (_database, server) = started(kind).await;
    let client = &server.client;
    assert_eq!(
        client.get_json("/health/live").await,
        (200, json!({ "status": "live" }))
    );
    let report = eventually("the server is ready", async || {
        let (status, report) = client.get_json("/health/ready").await;
        (status == 200).then_some(report)
    })
    .await;
    let head = server.log.applied().to_string();
    let mut workers = report["workers"].as_array().unwrap().clone();
    workers.sort_by_key(|worker| worker["name"].to_string());
    let worker = |name: &str| {
        // It has loaded what it had to.
        let state = if name == "warm-up" {
            "ended"
        } else {
            "running"
        };
        json!({ "name": name, "state": state, "restarts": 0 })
    };
    assert_eq!(
        workers,
        [
            "alerts",
            "api-keys",
            "deliveries-webhook",
            "retention",
            "schedule",
            "sequencer",
            "tail",
            "warm-up"
        ]
        .map(worker)
    );
    let mut rest = report;
    rest.as_object_mut().unwrap().remove("workers");
    assert_eq!(
        rest,
        json!({ "status": "ready", "version": env!("CARGO_PKG_VERSION"),
                "database": { "status": "reachable", "silentSeconds": 0 },
                "warmUp": "done", "tail": { "applied": head, "head": head, "lag": 0 } })
    );
    assert_eq!(client.get("/health").await.0, 200);
    server.stop().await;
}

/// The status that `/health/ready` comes to.
async fn becomes(client: &Client, expect: u16) -> Value {
    eventually("readiness is as expected", async || {
        let (live, _) = client.get("/health/live").await;
        assert_eq!(live, 200, "alive all the time");
        let (status, report) = client.get_json("/health/ready").await;
        (status == expect).then_some(report)
    })
    .await
}

fn name_of(url: &str) -> &str {
    url.rsplit_once('/').unwrap().1
}

/// Nobody can connect to the database under its name, and nobody is connected.
fn take_away(name: &str) {
    run_sql(
        &TestDatabase::postgres_server(),
        &format!(
            "ALTER DATABASE {name} ALLOW_CONNECTIONS false;
             SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}';
             ALTER DATABASE {name} RENAME TO {name}_away;"
        ),
    );
}

fn give_back(name: &str) {
    run_sql(
        &TestDatabase::postgres_server(),
        &format!(
            "ALTER DATABASE {name}_away RENAME TO {name};
             ALTER DATABASE {name} ALLOW_CONNECTIONS true;"
        ),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_may_go_and_come_back() {
    let database = TestDatabase::postgres().await;
    let server = process(database.url()).await;
    let client = &server.client;
    client.data(SAVE, json!({ "value": 1.0 })).await;
    client.data(READ, day(1)).await;
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

    take_away(name_of(database.url()));
    let report = becomes(client, 503).await;
    assert_eq!(report["status"], "database unreachable", "{report}");
    assert_eq!(report["database"]["status"], "unreachable");
    // What is in memory is still answered; what is not says that it can be tried again.
    let warm = client.data(READ, day(1)).await;
    assert_eq!(warm["forecast"]["values"], json!([1.0]));
    let cold = client.graphql(READ, day(2)).await;
    assert_eq!(code(&cold), "UNAVAILABLE", "{cold}");
    assert_eq!(cold["data"], json!({ "forecast": null }));
    let write = client.graphql(SAVE, json!({ "value": 2.0 })).await;
    assert_eq!(
        write["errors"][0]["extensions"]["code"], "UNAVAILABLE",
        "{write}"
    );
    assert!(!write.to_string().contains("smartpulse_test"), "{write}");
    for failed in ["ticks", "reads"] {
        let name = format!("smartpulse_change_log_failed_{failed}_total");
        assert!(client.metric(&name).await >= 2.0, "{failed}");
    }

    give_back(name_of(database.url()));
    let report = becomes(client, 200).await;
    let workers = report["workers"].as_array().unwrap();
    let vital = workers
        .iter()
        .filter(|of| ["sequencer", "tail"].contains(&of["name"].as_str().unwrap()));
    assert!(
        vital
            .map(|of| &of["restarts"])
            .all(|restarts| restarts == 0),
        "{report}"
    );
    assert!(!report.to_string().contains("postgres:"), "{report}");
    // Whoever stayed sees what comes, and it is the same history.
    client.data(SAVE, json!({ "value": 3.0 })).await;
    let change = soon("a change", socket.data()).await;
    assert_eq!(change["forecastChanged"]["points"][0]["mwh"], 3.0);
    let now = client.data(READ, day(1)).await;
    assert_eq!(now["forecast"]["values"], json!([3.0]));
    let status = tokio::task::block_in_place(|| server.terminate());
    assert_eq!(status.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_outlives_its_database() {
    let database = TestDatabase::postgres().await;
    let server = process(database.url()).await;
    run_sql(
        &TestDatabase::postgres_server(),
        &format!("DROP DATABASE {} WITH (FORCE);", name_of(database.url())),
    );
    let report = becomes(&server.client, 503).await;
    assert_eq!(report["status"], "database unreachable", "{report}");
    let answer = server.client.graphql(READ, day(1)).await;
    assert_eq!(code(&answer), "UNAVAILABLE", "{answer}");
    let status = tokio::task::block_in_place(|| server.terminate());
    assert_eq!(status.code(), Some(0));
}

async fn metrics_are_there(kind: Kind) {
    let (_database, server) = started(kind).await;
    let client = &server.client;
    client.data(SAVE, json!({ "value": 1.0 })).await;
    client.data(READ, day(1)).await;
    let hits = client.metric("smartpulse_cache_hits_total").await;
    let misses = client.metric("smartpulse_cache_misses_total").await;
    let requests = client.metric("smartpulse_request_seconds_count").await;
    for _ in 0..10 {
        client.data(READ, day(1)).await;
    }
    // A warm read finds its series and its day in memory, and asks for nothing.
    assert_eq!(
        client.metric("smartpulse_cache_hits_total").await - hits,
        20.0
    );
    assert_eq!(client.metric("smartpulse_cache_misses_total").await, misses);
    assert_eq!(
        client.metric("smartpulse_request_seconds_count").await - requests,
        10.0
    );
    client.graphql("{ nothing }", Value::Null).await;

    let response = client
        .http()
        .get(client.url("/metrics"))
        .send()
        .await
        .unwrap();
    assert_eq!(
        response.headers()["content-type"],
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    );
    let text = response.text().await.unwrap();
    assert!(text.ends_with("# EOF\n"), "{text}");
    for name in [
        "request_seconds_bucket{le=",
        "request_errors_total{code=\"BAD_USER_INPUT\"} 1",
        "worker_restarts_total 0",
        "cache_hits_total{cache=\"latest\"} ",
        "cache_misses_total{cache=\"latest\"} ",
        "cache_joined_total{cache=\"latest\"} ",
        "cache_invalid_total{cache=\"latest\"} ",
        "cache_unkept_total{cache=\"latest\"} ",
        "cache_evicted_total{cache=\"latest\"} ",
        "cache_bytes{cache=\"latest\"} ",
        "cache_entries{cache=\"unit\"} ",
        "change_log_ticks_total ",
        "change_log_tick_seconds_count ",
        "change_log_numbered_total ",
        "change_log_overlooked_total 0",
        "change_log_head 3",
        "change_log_applied 3",
        "change_log_changes_total 3",
        "change_log_lag_seconds_count 3",
        "change_log_resyncs_total 0",
        "hub_subscribers 0",
        "hub_topics 0",
        "hub_delivered_total 0",
        "hub_lagged_total 0",
    ] {
        let start = format!("smartpulse_{name}");
        assert!(
            text.lines().any(|line| line.starts_with(&start)),
            "{start} in\n{text}"
        );
    }
    // Everything counted says what it is.
    for line in text.lines().filter(|line| line.starts_with("# TYPE ")) {
        let name = line.split(' ').nth(2).unwrap();
        assert!(
            text.contains(&format!("# HELP {name} ")),
            "{name} has no help"
        );
    }
    server.stop().await;
}

fn sdl() -> String {
    let output = smartpulse(&["schema"]);
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_schema_is_the_committed_one() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../schema.graphql");
    let committed = std::fs::read_to_string(file).unwrap();
    let printed = sdl();
    assert!(
        printed == committed,
        "schema.graphql is out of date: run `make schema`"
    );
    let (_database, server) = started(Kind::Sqlite).await;
    let (status, served) = server.client.get("/schema.graphql").await;
    assert_eq!(status, 200);
    assert!(served == printed, "the server serves another schema");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_in_the_schema_is_described() {
    let (_database, server) = started(Kind::Sqlite).await;
    let query = "{ __schema { types { name description
        fields(includeDeprecated: true) { name description args { name description } }
        inputFields { name description } enumValues(includeDeprecated: true) { name description } }
        directives { name } } }";
    let mut missing = Vec::new();
    let data = server.client.data(query, Value::Null).await;
    let types = data["__schema"]["types"].as_array().unwrap();
    let name = |of: &Value| of["name"].as_str().unwrap().to_owned();
    let list = |of: &Value| of.as_array().cloned().unwrap_or_default();
    let mut note = |path: String, of: &Value| {
        if of["description"].as_str().is_none_or(str::is_empty) {
            missing.push(path);
        }
    };
    let built_in = ["Boolean", "Float", "ID", "Int", "String"];
    let ours = |of: &&Value| !name(of).starts_with("__") && !built_in.contains(&name(of).as_str());
    for of_type in types.iter().filter(ours) {
        let type_name = name(of_type);
        note(type_name.clone(), of_type);
        for field in list(&of_type["fields"]) {
            let field_name = format!("{type_name}.{}", name(&field));
            note(field_name.clone(), &field);
            for argument in list(&field["args"]) {
                note(format!("{field_name}({})", name(&argument)), &argument);
            }
        }
        for member in list(&of_type["inputFields"])
            .iter()
            .chain(&list(&of_type["enumValues"]))
        {
            note(format!("{type_name}.{}", name(member)), member);
        }
    }
    assert!(types.len() > 30, "{}", types.len());
    assert!(missing.is_empty(), "without a description: {missing:#?}");
    server.stop().await;
}

async fn a_stop_is_orderly(kind: Kind) {
    let database = kind.database().await;
    let server = process(database.url()).await;
    server.client.data(SAVE, json!({ "value": 1.0 })).await;
    let mut sockets = Vec::new();
    for _ in 0..3 {
        let socket = server
            .client
            .subscribe("subscription { forecastChanged { position } }", Value::Null)
            .await;
        sockets.push(socket);
    }
    let client = server.client.clone();
    eventually("subscribers have joined", async || {
        (client.metric("smartpulse_live_operations").await == 3.0).then_some(())
    })
    .await;
    let status = tokio::task::block_in_place(|| server.terminate());
    assert_eq!(status.code(), Some(0), "{status}");
    for mut socket in sockets {
        let end = soon("the socket's end", socket.message()).await;
        assert!(
            matches!(
                end,
                Err(tungstenite::Error::ConnectionClosed
                    | tungstenite::Error::Protocol(_)
                    | tungstenite::Error::Io(_))
            ),
            "{end:?}"
        );
    }
    assert!(
        client
            .try_graphql("{ __typename }", Value::Null)
            .await
            .is_err()
    );
    // It left everything in order: the next one starts from there.
    let server = process(database.url()).await;
    let now = server.client.data(READ, day(1)).await;
    assert_eq!(now["forecast"]["values"], json!([1.0]));
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn nobody_is_let_in_from_outside_by_accident() {
    let folder = tempfile::TempDir::new().unwrap();
    let url = format!("sqlite://{}", folder.path().join("x.db").display());
    for listen in ["0.0.0.0:0", "[::]:0", "192.0.2.1:8080"] {
        let output = smartpulse(&["serve", "--listen", listen, "--database-url", &url]);
        assert_eq!(output.status.code(), Some(1), "{listen}");
        let said = stderr(&output);
        for part in ["error: ", listen, "--allow-open-access", "127.0.0.1"] {
            assert!(said.contains(part), "{part} in {said}");
        }
    }
    assert!(!folder.path().join("x.db").exists());
}

/// An empty database, which goes with this value.
struct Empty(String);

impl Empty {
    fn create() -> Self {
        let server = TestDatabase::postgres_server();
        let name = format!("smartpulse_empty_{}", std::process::id());
        run_sql(&server, &format!("CREATE DATABASE {name};"));
        Self(name)
    }

    fn url(&self) -> String {
        let server = TestDatabase::postgres_server();
        format!("{}/{}", server.rsplit_once('/').unwrap().0, self.0)
    }
}

impl Drop for Empty {
    fn drop(&mut self) {
        let drop = format!("DROP DATABASE IF EXISTS {} WITH (FORCE);", self.0);
        run_sql(&TestDatabase::postgres_server(), &drop);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_is_migrated_when_it_is_told_to() {
    let database = tokio::task::block_in_place(Empty::create);
    let url = database.url();
    let serve = ["serve", "--listen", "127.0.0.1:0", "--database-url", &url];
    let output = smartpulse(&serve);
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    for part in ["pending migrations", "smartpulse migrate"] {
        assert!(said.contains(part), "{part} in {said}");
    }
    let import = ["import", "--database-url", &url, "nothing.csv"];
    assert!(stderr(&smartpulse(&import)).contains("pending migrations"));
    // Twice: the second finds nothing to do.
    for _ in 0..2 {
        let output = smartpulse(&["migrate", "--database-url", &url]);
        assert!(output.status.success(), "{}", stderr(&output));
    }
    let server = process(&url).await;
    server.client.data(SAVE, json!({ "value": 1.0 })).await;
    assert_eq!(becomes(&server.client, 200).await["status"], "ready");
    tokio::task::block_in_place(|| server.kill());
}

#[test]
fn a_password_is_never_printed() {
    const SECRET: &str = "s3cret";
    let urls = [
        format!("postgres://app:{SECRET}@127.0.0.1:1/none"),
        format!("postgres://127.0.0.1:1/none?user=app&password={SECRET}"),
        format!("mysql://app:{SECRET}@127.0.0.1:1/none"),
        format!("postgres:app:{SECRET}@127.0.0.1:1/none"),
    ];
    let commands: [&[&str]; 5] = [
        &["serve"],
        &["migrate"],
        &["import", "nothing.csv"],
        &["backup", "nothing.db"],
        &["serve", "--help"],
    ];
    let check = |url: &str, command: &[&str]| {
        if command == ["serve"] && url.starts_with("postgres://") {
            // It waits for its database, and says so.
            let mut server = binary()
                .args(["serve", "--listen", "127.0.0.1:0", "--database-url", url])
                .stderr(std::process::Stdio::piped())
                .spawn()
                .unwrap();
            let mut lines = std::io::BufReader::new(server.stderr.take().unwrap()).lines();
            let said = lines
                .by_ref()
                .map_while(Result::ok)
                .find(|line| line.contains("waiting for"))
                .unwrap();
            assert!(!said.contains(SECRET), "{said}");
            server.kill().unwrap();
            server.wait().unwrap();
            return;
        }
        let by_flag = smartpulse(&[command, &["--database-url", url]].concat());
        let by_variable = binary()
            .args(command)
            .env("SMARTPULSE_DATABASE_URL", url)
            .output()
            .unwrap();
        for output in [by_flag, by_variable] {
            let said = stderr(&output) + &String::from_utf8_lossy(&output.stdout);
            assert!(!said.is_empty(), "{command:?}");
            assert!(!said.contains(SECRET), "{command:?}: {said}");
            if !command.contains(&"--help") {
                assert_eq!(output.status.code(), Some(1), "{command:?}: {said}");
            }
        }
    };
    // At once: those that look for a server wait for it some seconds.
    std::thread::scope(|scope| {
        for url in &urls {
            for command in commands {
                scope.spawn(move || check(url, command));
            }
        }
    });
}

#[tokio::test]
async fn the_page_comes_out_of_the_binary_and_stays_fresh() {
    let (_database, server) = started(Kind::Sqlite).await;
    let get = |path: &str, known: Option<&str>| {
        let request = server.client.http().get(server.client.url(path));
        match known {
            Some(tag) => request.header("if-none-match", tag),
            None => request,
        }
        .send()
    };
    let page = get("/", None).await.unwrap();
    assert_eq!(page.status(), 200);
    let header = |response: &reqwest::Response, name: &str| {
        response.headers()[name].to_str().unwrap().to_owned()
    };
    assert!(header(&page, "content-security-policy").contains("default-src 'none'"));
    assert_eq!(header(&page, "x-content-type-options"), "nosniff");
    if !page.headers().contains_key("etag") {
        // Built by cargo alone.
        let text = page.text().await.unwrap();
        assert!(
            text.contains("`make build`") && text.contains("Node.js"),
            "{text}"
        );
        return;
    }
    let tag = header(&page, "etag");
    let html = page.text().await.unwrap();
    assert!(html.contains("<title>SmartPulse</title>"), "{html}");
    for known in [&tag, tag.strip_prefix("W/").unwrap(), "\"other\", *", "*"] {
        let expect = if known.contains("other") { 200 } else { 304 };
        assert_eq!(
            get("/", Some(known)).await.unwrap().status(),
            expect,
            "{known}"
        );
    }
    // Beside the page, so that a proxy may have it below a path of its own.
    let script = html
        .split_once("src=\"./")
        .unwrap()
        .1
        .split_once('"')
        .unwrap()
        .0;
    let script = get(&format!("/{script}"), None).await.unwrap();
    assert_eq!(script.status(), 200);
    assert!(header(&script, "cache-control").contains("immutable"));
    assert!(header(&script, "content-type").starts_with("text/javascript"));
    // Browsers look at its address for a newer one, and nowhere else.
    let worker = get("/sw.js", None).await.unwrap();
    assert_eq!(worker.status(), 200);
    assert_eq!(header(&worker, "cache-control"), "no-cache");
    assert!(header(&worker, "content-type").starts_with("text/javascript"));
    assert!(header(&worker, "content-security-policy").contains("default-src 'none'"));
    for nothing in ["/assets/none.js", "/assets/../index.html", "/index.htm"] {
        assert_eq!(get(nothing, None).await.unwrap().status(), 404, "{nothing}");
    }
}
