//! A real SMTP server to send to, in a process of its own: `server.mjs`.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use serde::Deserialize;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Where it lies. `npm ci` in there brings what it needs.
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/smtp");

/// A running server. Dropping it ends it.
pub(crate) struct Smtp {
    process: Child,
    ports: Ports,
}

#[derive(Deserialize)]
struct Ports {
    smtp: u16,
    http: u16,
}

/// A mail as a mail program would show it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ReceivedMail {
    pub(crate) envelope: Value,
    pub(crate) from: Value,
    pub(crate) to: Value,
    pub(crate) subject: String,
    pub(crate) message_id: String,
    pub(crate) text: String,
    pub(crate) html: String,
    /// Unfolded but not decoded, by the name in small letters.
    pub(crate) headers: Value,
    pub(crate) attachments: Vec<Value>,
    pub(crate) raw: String,
}

impl Smtp {
    /// With flags such as `--starttls`.
    pub(crate) fn start(flags: &[&str]) -> Self {
        let mut process = Command::new("node")
            .arg("server.mjs")
            .args(flags)
            .current_dir(FOLDER)
            // It ends with this pipe, also when the test is killed.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Node.js is installed");
        let mut line = String::new();
        let stdout = process.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        let ports = serde_json::from_str(&line)
            .unwrap_or_else(|_| panic!("no SMTP server: has `npm ci` been run in {FOLDER}?"));
        Self { process, ports }
    }

    pub(crate) fn port(&self) -> u16 {
        self.ports.smtp
    }

    pub(crate) fn url(&self) -> String {
        format!("smtp://127.0.0.1:{}", self.ports.smtp)
    }

    /// What it received, oldest first.
    pub(crate) async fn mails(&self) -> Vec<ReceivedMail> {
        serde_json::from_value(self.ask("GET", "mails", "").await).unwrap()
    }

    /// How many connections were made to it.
    pub(crate) async fn connections(&self) -> u64 {
        self.ask("GET", "connections", "").await.as_u64().unwrap()
    }

    /// Breaks the open ones, without a word.
    pub(crate) async fn break_connections(&self) {
        self.ask("DELETE", "connections", "").await;
    }

    /// Makes it misbehave, as `server.mjs` tells.
    pub(crate) async fn behave(&self, behaviour: Value) {
        self.ask("POST", "behaviour", &behaviour.to_string()).await;
    }

    /// One request over a connection of its own, which HTTP 1.0 ends with the answer.
    async fn ask(&self, method: &str, path: &str, body: &str) -> Value {
        let length = body.len();
        let request =
            format!("{method} /{path} HTTP/1.0\r\nContent-Length: {length}\r\n\r\n{body}");
        let address = ("127.0.0.1", self.ports.http);
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{method} {path}: {head}");
        serde_json::from_str(body).unwrap()
    }
}

impl Drop for Smtp {
    fn drop(&mut self) {
        // It may have ended by itself, which is as good.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
