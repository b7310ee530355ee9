//! Server processes and the CPU time they take.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A server in a process of its own.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    /// From its start until it said that it was ready.
    pub(crate) ready_after: Duration,
}

impl Server {
    /// The real binary on a database.
    pub(crate) fn smartpulse(url: &str) -> Self {
        Self::smartpulse_with(url, &[])
    }

    /// The same with more options.
    pub(crate) fn smartpulse_with(url: &str, more: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_smartpulse"));
        command.args([
            "serve",
            "--migrate",
            "--listen",
            "127.0.0.1:0",
            "--log-format",
            "json",
            // The load's sockets answer no pings.
            "--live-ping-seconds",
            "86400",
        ]);
        command.args(["--database-url", url]).args(more);
        Self::start(command)
    }

    /// This program's own bare axum server, answering `body`.
    pub(crate) fn bare(body: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.args(["bare-server", body]);
        Self::start(command)
    }

    /// This program's own bare axum server that sends to every websocket.
    pub(crate) fn bare_broadcast() -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.arg("bare-broadcast");
        Self::start(command)
    }

    /// Memory that it takes now, in bytes.
    pub(crate) fn resident_bytes(&self) -> f64 {
        self.status("VmRSS:")
    }

    fn status(&self, name: &str) -> f64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).expect("the server runs");
        let line = status.lines().find(|line| line.starts_with(name));
        let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
        kib.expect("a number") * 1024.0
    }

    /// The most that it has taken, in bytes.
    pub(crate) fn peak_resident_bytes(&self) -> f64 {
        self.status("VmHWM:")
    }

    fn start(mut command: Command) -> Self {
        let began = Instant::now();
        let mut child = command
            .stderr(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let (told, hear) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut address = None;
            for line in lines.map_while(Result::ok) {
                let Ok(event) = serde_json::from_str::<serde_json::Value>(&line) else {
                    eprintln!("{line}");
                    continue;
                };
                if event["level"] == "ERROR" {
                    eprintln!("{line}");
                }
                if let Some(found) = event["address"].as_str() {
                    address = found.trim_start_matches("http://").parse().ok();
                }
                if event["message"] == "ready" {
                    let _ = told.send(address.expect("the address comes first"));
                }
            }
        });
        let address = hear
            .recv_timeout(Duration::from_secs(60))
            .expect("the server says that it is ready");
        Self {
            child,
            address,
            ready_after: began.elapsed(),
        }
    }

    /// CPU time of all its threads since its start, in seconds.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        let path = format!("/proc/{}/schedstat", self.child.id());
        let tasks = format!("/proc/{}/task", self.child.id());
        let of = |path: &str| -> u64 {
            std::fs::read_to_string(path)
                .ok()
                .and_then(|text| text.split(' ').next()?.parse().ok())
                .unwrap_or(0)
        };
        let all: u64 = std::fs::read_dir(tasks)
            .map(|tasks| {
                tasks
                    .flatten()
                    .map(|task| of(&task.path().join("schedstat").display().to_string()))
                    .sum()
            })
            .unwrap_or_else(|_| of(&path));
        all as f64 / 1e9
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
