//! A Redis of its own for each test, which may take it away.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::wait::eventually;

pub(crate) struct Redis {
    folder: TempDir,
    server: Option<Child>,
}

impl Redis {
    pub(crate) async fn start() -> Self {
        let mut redis = Self {
            folder: TempDir::new().unwrap(),
            server: None,
        };
        redis.start_again().await;
        redis
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("redis.sock")
    }

    pub(crate) fn url(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// At the same address as before, with nothing in it.
    pub(crate) async fn start_again(&mut self) {
        let mut command = Command::new("redis-server");
        command
            .args(["--port", "0", "--save", "", "--appendonly", "no"])
            .arg("--unixsocket")
            .arg(self.socket())
            .arg("--dir")
            .arg(self.folder.path())
            .stdout(Stdio::null());
        let server = command.spawn().expect("redis-server is installed");
        self.server = Some(server);
        let socket = self.socket();
        eventually("Redis answers", async || {
            std::os::unix::net::UnixStream::connect(&socket).ok()
        })
        .await;
    }

    pub(crate) fn stop(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill().unwrap();
            server.wait().unwrap();
        }
    }

    /// It keeps its connections and answers nothing, until it is woken.
    pub(crate) fn freeze(&self) {
        self.signal("-STOP");
    }

    pub(crate) fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let pid = self.server.as_ref().unwrap().id().to_string();
        let sent = Command::new("kill").args([signal, &pid]).status().unwrap();
        assert!(sent.success());
    }

    /// What somebody else publishes on a channel.
    pub(crate) fn publish(&self, channel: &str, messages: &[String]) {
        let mut client = Command::new("redis-cli")
            .arg("-s")
            .arg(self.socket())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-cli is installed");
        let mut stdin = client.stdin.take().unwrap();
        for message in messages {
            let quoted = message.replace('\\', "\\\\").replace('"', "\\\"");
            writeln!(stdin, "PUBLISH {channel} \"{quoted}\"").unwrap();
        }
        drop(stdin);
        assert!(client.wait().unwrap().success());
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.stop();
    }
}
