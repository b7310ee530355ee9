//! Websocket clients that cost next to nothing: what they receive is counted by
//! its frames' headers, and looked into only by those who are asked to.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;

/// Many sockets, each in a task of its own; gone when it is dropped.
pub(crate) struct Sockets {
    counted: Arc<Counted>,
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct Counted {
    messages: AtomicU64,
    /// The message that a measurement begins with, and the one that ends it.
    begins: AtomicU64,
    wanted: AtomicU64,
    reached: Notify,
    first: Mutex<Option<Instant>>,
    looked_into: Mutex<Vec<(Instant, String)>>,
}

impl Sockets {
    /// Opens sockets; `subscribe` has the payload of each one's subscription, if
    /// the server is one that takes any. Every `sample`th is looked into.
    pub(crate) async fn open(
        address: SocketAddr,
        count: usize,
        sample: usize,
        subscribe: impl Fn(usize) -> Option<String>,
    ) -> Self {
        let counted = Arc::new(Counted::default());
        let opening = Arc::new(Semaphore::new(64));
        let mut tasks = JoinSet::new();
        let (opened, mut all_opened) = tokio::sync::mpsc::unbounded_channel();
        for i in 0..count {
            let payload = subscribe(i);
            let (counted, opening, opened) =
                (Arc::clone(&counted), Arc::clone(&opening), opened.clone());
            tasks.spawn(async move {
                let permit = opening.acquire_owned().await.expect("open");
                let mut stream = connect(address).await;
                if let Some(payload) = payload {
                    send(&mut stream, r#"{"type":"connection_init"}"#).await;
                    read_message(&mut stream).await;
                    let subscribe =
                        format!(r#"{{"type":"subscribe","id":"{i}","payload":{payload}}}"#);
                    send(&mut stream, &subscribe).await;
                }
                drop(permit);
                opened.send(()).expect("somebody waits");
                count_messages(stream, &counted, i % sample == sample - 1).await;
            });
        }
        for _ in 0..count {
            all_opened.recv().await.expect("opened");
        }
        Self {
            counted,
            _tasks: tasks,
        }
    }

    /// How long it takes from the first message until there are so many; what
    /// causes them is done meanwhile.
    pub(crate) async fn receive(&self, messages: u64, cause: impl Future<Output = ()>) -> f64 {
        let counted = &self.counted;
        let before = counted.messages.load(Ordering::SeqCst);
        let wanted = before + messages;
        counted.begins.store(before + 1, Ordering::SeqCst);
        counted.wanted.store(wanted, Ordering::SeqCst);
        let reached = async {
            loop {
                let notified = counted.reached.notified();
                if counted.messages.load(Ordering::SeqCst) >= wanted {
                    return Instant::now();
                }
                notified.await;
            }
        };
        let ((), last) = tokio::join!(cause, reached);
        let first = counted.first.lock().expect("a first message");
        (last - first).as_secs_f64()
    }

    /// The messages looked into so far, with the time of each.
    pub(crate) fn take_samples(&self) -> Vec<(Instant, String)> {
        std::mem::take(&mut self.counted.looked_into.lock())
    }

    pub(crate) fn messages(&self) -> u64 {
        self.counted.messages.load(Ordering::SeqCst)
    }
}

async fn connect(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    stream.set_nodelay(true).expect("a socket");
    let request = format!(
        "GET /graphql/ws HTTP/1.1\r\nhost: {address}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         sec-websocket-protocol: graphql-transport-ws\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("an answer"));
    }
    assert!(
        head.starts_with(b"HTTP/1.1 101"),
        "{}",
        String::from_utf8_lossy(&head)
    );
    stream
}

/// A text frame, masked with zeros.
async fn send(stream: &mut TcpStream, text: &str) {
    let mut frame = vec![0x81];
    match u8::try_from(text.len()) {
        Ok(short) if short < 126 => frame.push(0x80 | short),
        _ => {
            frame.push(0x80 | 126);
            frame.extend(
                u16::try_from(text.len())
                    .expect("a short message")
                    .to_be_bytes(),
            );
        }
    }
    frame.extend([0; 4]);
    frame.extend(text.as_bytes());
    stream.write_all(&frame).await.expect("sent");
}

async fn read_message(stream: &mut TcpStream) {
    let mut head = [0; 2];
    stream.read_exact(&mut head).await.expect("a frame");
    let mut body = vec![0; usize::from(head[1])];
    stream.read_exact(&mut body).await.expect("a frame");
}

/// Counts text frames until the connection ends.
async fn count_messages(mut stream: TcpStream, counted: &Counted, look: bool) {
    let mut buffer = Vec::with_capacity(16 << 10);
    // Bytes of a body that are still to come, where nobody looks into it.
    let mut skip = 0;
    loop {
        if stream.read_buf(&mut buffer).await.unwrap_or(0) == 0 {
            return;
        }
        let mut at = 0;
        loop {
            let passed = skip.min(buffer.len() - at);
            at += passed;
            skip -= passed;
            let rest = &buffer[at..];
            let (head, body) = match rest {
                [_, len, ..] if *len < 126 => (2, usize::from(*len)),
                [_, 126, a, b, ..] => (4, usize::from(u16::from_be_bytes([*a, *b]))),
                [_, 127, len @ ..] if len.len() >= 8 => {
                    let len = len[..8].try_into().expect("eight bytes");
                    (
                        10,
                        usize::try_from(u64::from_be_bytes(len)).expect("a length"),
                    )
                }
                _ => break,
            };
            if look && rest.len() < head + body {
                break;
            }
            if rest[0] == 0x81 {
                if look {
                    let text = String::from_utf8_lossy(&rest[head..head + body]).into_owned();
                    counted.looked_into.lock().push((Instant::now(), text));
                }
                count(counted);
            }
            at += head;
            skip = body;
        }
        buffer.drain(..at);
    }
}

fn count(counted: &Counted) {
    let now = counted.messages.fetch_add(1, Ordering::SeqCst) + 1;
    if now == counted.begins.load(Ordering::SeqCst) {
        *counted.first.lock() = Some(Instant::now());
    }
    if now >= counted.wanted.load(Ordering::SeqCst) {
        counted.reached.notify_waiters();
    }
}
