//! What stands between a server and its database, and can fall silent.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// A TCP proxy. Frozen, it keeps every connection and passes nothing on: what an
/// address looks like whose host is gone without a word.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    /// Connections begun before this count are silent for good.
    era: watch::Sender<u64>,
    frozen: Arc<AtomicBool>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// Listens at `address` and leads to the server of a database's URL.
    pub(crate) async fn start(listener: TcpListener, url: &str) -> Self {
        let upstream: SocketAddr = {
            let (_, rest) = url.rsplit_once('@').unwrap();
            rest.split('/').next().unwrap().parse().unwrap()
        };
        let address = listener.local_addr().unwrap();
        let era = watch::Sender::new(0);
        let frozen = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        let (eras, is_frozen) = (era.clone(), Arc::clone(&frozen));
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            let mut kept = Vec::new();
            while let Ok((client, _)) = listener.accept().await {
                if is_frozen.load(Ordering::SeqCst) {
                    kept.push(client);
                    continue;
                }
                connections.spawn(pass_on(client, upstream, eras.subscribe()));
            }
        });
        Self {
            address,
            era,
            frozen,
            _tasks: tasks,
        }
    }

    /// The database's URL by way of this proxy.
    pub(crate) fn url(&self, url: &str) -> String {
        let (user, rest) = url.rsplit_once('@').unwrap();
        let (_, name) = rest.split_once('/').unwrap();
        format!("{user}@{}/{name}", self.address)
    }

    /// From now on nothing passes, and nobody is told.
    pub(crate) fn freeze(&self) {
        self.frozen.store(true, Ordering::SeqCst);
        self.era.send_modify(|era| *era += 1);
    }

    /// New connections pass again; those of before stay silent.
    pub(crate) fn thaw(&self) {
        self.frozen.store(false, Ordering::SeqCst);
    }
}

async fn pass_on(mut client: TcpStream, upstream: SocketAddr, mut era: watch::Receiver<u64>) {
    let Ok(mut server) = TcpStream::connect(upstream).await else {
        return;
    };
    let (mut up, mut down) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    loop {
        tokio::select! {
            biased;
            _ = era.changed() => std::future::pending::<()>().await,
            read = client.read(&mut up) => match read {
                Ok(0) | Err(_) => return,
                Ok(n) => if server.write_all(&up[..n]).await.is_err() { return },
            },
            read = server.read(&mut down) => match read {
                Ok(0) | Err(_) => return,
                Ok(n) => if client.write_all(&down[..n]).await.is_err() { return },
            },
        }
    }
}
