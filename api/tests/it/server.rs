//! Servers to test against: in this process, or a process of its own.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use domain::cache::{CacheSettings, Clock};
use domain::database::{Database, DatabaseSettings};
use domain::forecast::{Forecasts, ForecastsSettings};
use migration::testing::TestDatabase;
use smartpulse::app::App;
use smartpulse::config::ServeArgs;
use subscriptions::Budget;
use subscriptions::change_log::{self, ChangeLog, ChangeLogMetrics, ChangeLogSettings};
use subscriptions::hub::{Hub, HubMetrics};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::client::Client;

/// The two databases that every promise holds on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Sqlite,
    Postgres,
}

impl Kind {
    pub(crate) async fn database(self) -> TestDatabase {
        match self {
            Self::Sqlite => TestDatabase::sqlite().await,
            Self::Postgres => TestDatabase::postgres().await,
        }
    }
}

/// Expands a test of both databases into one of each.
macro_rules! on_both {
    ($($(#[$attr:meta])* $name:ident),+ $(,)?) => {$(
        mod $name {
            use crate::server::Kind;
            $(#[$attr])*
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                super::$name(Kind::Sqlite).await;
            }
            $(#[$attr])*
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                super::$name(Kind::Postgres).await;
            }
        }
    )+};
}
pub(crate) use on_both;

/// The options of `serve`, as the command line gives them.
pub(crate) fn serve_args(url: &str, more: &[&str]) -> ServeArgs {
    let line = ["serve", "--listen", "127.0.0.1:0", "--database-url", url];
    smartpulse::cli::serve_args(line.into_iter().chain(more.iter().copied()))
}

/// A server over a database of its own.
pub(crate) async fn started(kind: Kind) -> (TestDatabase, TestServer) {
    let database = kind.database().await;
    let server = TestServer::start(database.url()).await;
    (database, server)
}

/// What another program writes: a script for the database's own command line.
pub(crate) fn run_sql(url: &str, script: &str) {
    let mut command = match url.strip_prefix("sqlite://") {
        Some(file) => {
            let mut command = Command::new("sqlite3");
            command.args(["-bail", "-cmd", ".timeout 60000"]).arg(file);
            command
        }
        None => {
            let mut command = Command::new("psql");
            command.args(["-q", "-v", "ON_ERROR_STOP=1", url]);
            command
        }
    };
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("the database's command line is installed");
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(script.as_bytes()).unwrap();
    drop(stdin);
    assert!(child.wait().unwrap().success(), "{script}");
}

/// The binary, without what the environment may say to it: that could name
/// somebody's own database.
pub(crate) fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_smartpulse"));
    without_variables(&mut command);
    command
}

pub(crate) fn without_variables(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SMARTPULSE_") {
            command.env_remove(name);
        }
    }
}

/// One run of the binary to its end.
pub(crate) fn smartpulse(arguments: &[&str]) -> std::process::Output {
    binary().args(arguments).output().unwrap()
}

pub(crate) async fn connect(url: &str) -> Database {
    Database::connect(&DatabaseSettings {
        url: url.to_owned(),
        max_connections: 24,
        acquire_timeout: Duration::from_secs(30),
        statement_timeout: Duration::from_secs(20),
        create_if_missing: false,
    })
    .await
    .unwrap()
}

/// A change log and its workers over a database, with no server around them.
pub(crate) async fn change_log_alone(
    url: &str,
    queue: usize,
    log_settings: ChangeLogSettings,
) -> (ChangeLog, CancellationToken, JoinSet<()>) {
    let db = connect(url).await;
    let head = change_log::boot(&db).await.unwrap();
    let cache = CacheSettings {
        budget_bytes: 1 << 20,
        time_to_live: Duration::from_secs(60),
    };
    let settings = ForecastsSettings {
        latest: cache,
        history: cache,
        reference: cache,
    };
    let log = ChangeLog::new(
        db.clone(),
        Forecasts::new(&db, Arc::new(Clock::new(head)), settings),
        Hub::new(head, queue, Budget::new(usize::MAX), HubMetrics::default()),
        log_settings,
        ChangeLogMetrics::default(),
    );
    let stop = CancellationToken::new();
    let mut workers = JoinSet::new();
    let (sequencer, tail) = (log.sequencer(), log.tail());
    let (first, second) = (stop.clone(), stop.clone());
    workers.spawn(async move { sequencer.run(first).await.unwrap() });
    workers.spawn(async move { tail.run(second).await.unwrap() });
    (log, stop, workers)
}

/// A whole server within the test's process, on a port of its own.
pub(crate) struct TestServer {
    pub(crate) log: ChangeLog,
    pub(crate) client: Client,
    stop: Option<oneshot::Sender<()>>,
    task: JoinSet<()>,
}

impl TestServer {
    pub(crate) async fn start(url: &str) -> Self {
        Self::start_with(url, &[]).await
    }

    pub(crate) async fn start_with(url: &str, more: &[&str]) -> Self {
        let app = App::build(connect(url).await, &serve_args(url, more))
            .await
            .unwrap();
        let log = app.change_log().clone();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let mut task = JoinSet::new();
        task.spawn(async move {
            app.run(listener, async {
                drop(stopped.await);
            })
            .await
            .unwrap();
        });
        Self {
            log,
            client: Client::new(address),
            stop: Some(stop),
            task,
        }
    }

    pub(crate) async fn stop(mut self) {
        drop(self.stop.take());
        while let Some(ended) = self.task.join_next().await {
            ended.unwrap();
        }
    }
}

/// The real binary, running `serve` or `demo`.
pub(crate) struct Process {
    child: Child,
    pub(crate) client: Client,
}

impl Process {
    /// Starts it and waits until it says that it is ready.
    pub(crate) fn start(url: &str) -> Self {
        Self::start_with(url, &[])
    }

    pub(crate) fn start_with(url: &str, more: &[&str]) -> Self {
        let mut command = binary();
        command.args(["serve", "--database-url", url]).args(more);
        Self::launch(&mut command, "127.0.0.1:0")
    }

    /// The same where it may open only so many files.
    pub(crate) fn start_with_files(url: &str, files: u32) -> Self {
        let mut command = Command::new("sh");
        without_variables(&mut command);
        command
            .args(["-c", &format!("ulimit -n {files}; exec \"$0\" \"$@\"")])
            .args([
                env!("CARGO_BIN_EXE_smartpulse"),
                "serve",
                "--database-url",
                url,
            ]);
        Self::launch(&mut command, "127.0.0.1:0")
    }

    /// The same where other machines can reach it.
    pub(crate) fn start_everywhere(url: &str, more: &[&str]) -> Self {
        let mut command = binary();
        command.args(["serve", "--database-url", url]).args(more);
        Self::launch(&mut command, "0.0.0.0:0")
    }

    /// The same in a folder, with what is built in.
    pub(crate) fn start_in(folder: &Path, arguments: &[&str]) -> Self {
        Self::launch(binary().args(arguments).current_dir(folder), "127.0.0.1:0")
    }

    fn launch(command: &mut Command, listen: &str) -> Self {
        let mut child = command
            .args(["--listen", listen, "--log-format", "json"])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (told, address) = std::sync::mpsc::channel();
        // Reads on for as long as it lives, so that its log never blocks it.
        std::thread::spawn(move || {
            let mut address = None;
            for line in lines.map_while(Result::ok) {
                let Ok(event) = serde_json::from_str::<serde_json::Value>(&line) else {
                    eprintln!("smartpulse: {line}");
                    continue;
                };
                if event["level"] == "ERROR" {
                    eprintln!("smartpulse: {line}");
                }
                if let Some(found) = event["address"].as_str() {
                    address = found
                        .strip_prefix("http://")
                        .unwrap()
                        .parse::<SocketAddr>()
                        .ok();
                }
                if event["message"] == "ready" {
                    told.send(address.unwrap()).unwrap_or_default();
                }
            }
        });
        let address = address
            .recv_timeout(Duration::from_secs(30))
            .expect("the server says that it is ready");
        Self {
            child,
            client: Client::new(address),
        }
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Ctrl-C, and how it ended.
    pub(crate) fn terminate(mut self) -> std::process::ExitStatus {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status().unwrap();
        assert!(sent.success());
        self.child.wait().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
