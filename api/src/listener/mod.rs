//! Accepting connections, and holding each to its limits: a client that is slow,
//! silent or one of too many must not keep others out.

mod activity;
mod line;
mod request_body;
mod slots;

pub(crate) use request_body::BodyError;
pub(crate) use slots::Networks;

use std::convert::Infallible;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tower::Service;

use activity::Activity;
use line::Line;
use request_body::TimedBody;
use slots::Slots;

/// The limits of connections.
#[derive(Debug, Clone)]
pub(crate) struct ConnectionSettings {
    /// The time that the head of a request may take.
    pub(crate) head: Duration,
    /// The time that a connection is kept between two requests.
    pub(crate) idle: Duration,
    /// The time that the body of a request may take.
    pub(crate) body: Duration,
    /// The time that the next part of a body may take.
    pub(crate) body_progress: Duration,
    /// The time that a client may take nothing of what is written to it.
    pub(crate) write: Duration,
    /// Connections at once.
    pub(crate) most: usize,
    /// Connections at once from one address.
    pub(crate) most_per_address: usize,
    /// Addresses of proxies, which connect for many clients.
    pub(crate) proxies: Networks,
}

/// What the listener counts.
#[derive(Debug, Clone, Default)]
pub(crate) struct ConnectionMetrics {
    /// Connections now.
    pub(crate) open: Gauge,
    /// Connections that were closed at once because there were too many.
    pub(crate) refused: Counter,
    /// Connections whose next request did not come in time.
    pub(crate) overdue: Counter,
}

/// Open files that are kept for the database and other peers.
const RESERVED_FILES: u64 = 256;
/// How long accepting rests after the system refused a connection: most likely
/// no file is free, and the next attempt would fail, too.
const REST: Duration = Duration::from_millis(100);
/// Bytes of the head of a request, and of what is read and written at once.
const BUFFER_BYTES: usize = 64 << 10;
/// Connections beyond the most, whose one request is answered if it is a probe's:
/// an orchestrator restarts what does not answer, and would end all the others.
const PROBES: usize = 32;
/// How long such a connection may last.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

impl ConnectionSettings {
    /// The same within the files that the process may open: a connection is one.
    pub(crate) fn within(self, files: u64) -> Self {
        let reserved = RESERVED_FILES.min(files / 2);
        let most = usize::try_from(files - reserved).unwrap_or(usize::MAX);
        if most < self.most {
            tracing::info!(
                connections = most,
                files,
                "the limit of open files also limits connections"
            );
        }
        Self {
            most: self.most.min(most).max(1),
            ..self
        }
    }
}

/// Accepts connections and serves them.
pub(crate) struct Listener {
    inner: TcpListener,
    settings: Arc<ConnectionSettings>,
    metrics: ConnectionMetrics,
    slots: Slots,
}

impl Listener {
    pub(crate) fn new(
        inner: TcpListener,
        settings: ConnectionSettings,
        metrics: ConnectionMetrics,
    ) -> Self {
        Self {
            inner,
            slots: Slots::new(&settings, metrics.open.clone()),
            settings: Arc::new(settings),
            metrics,
        }
    }

    /// Serves until `stop` completes, then until each connection has answered
    /// what it was asked. Dropping the future ends them all.
    pub(crate) async fn serve(self, router: Router, stop: impl Future<Output = ()>) {
        let router = router.with_state(());
        let stopping = CancellationToken::new();
        let mut connections = JoinSet::new();
        // They are files, too.
        let probes = PROBES.min(self.settings.most / 8).max(1);
        let probes = Arc::new(Semaphore::new(probes));
        let mut stop = pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => break,
                (stream, address) = accept(&self.inner) => {
                    let Some(slot) = self.slots.take(address.ip()) else {
                        self.metrics.refused.inc();
                        tracing::debug!(%address, "a connection was refused: there are too many");
                        if let Ok(permit) = Arc::clone(&probes).try_acquire_owned() {
                            let probe = answer_probe(stream, router.clone());
                            connections.spawn(async move {
                                drop(timeout(PROBE_TIMEOUT, probe).await);
                                drop(permit);
                            });
                        }
                        continue;
                    };
                    let connection = Connection {
                        router: router.clone(),
                        settings: Arc::clone(&self.settings),
                        metrics: self.metrics.clone(),
                        stopping: stopping.clone(),
                    };
                    let activity = Arc::new(Activity::new());
                    let line = Line::new(stream, self.settings.write, Arc::clone(&activity), slot);
                    connections.spawn(connection.serve(line, activity));
                }
                Some(_) = connections.join_next() => {}
            }
        }
        drop(self.inner);
        stopping.cancel();
        while connections.join_next().await.is_some() {}
    }
}

/// The next connection, whatever becomes of others.
async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((stream, address)) => {
                // Live results are small, and must not wait for more to be sent.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(
                        error = &error as &dyn std::error::Error,
                        "a connection has delays"
                    );
                }
                return (stream, address);
            }
            Err(error) if concerns_one_connection(&error) => {}
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "no connection could be accepted"
                );
                sleep(REST).await;
            }
        }
    }
}

/// Whether it was the client that gave up before it was accepted.
fn concerns_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionRefused | ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset
    )
}

/// One connection.
struct Connection {
    router: Router,
    settings: Arc<ConnectionSettings>,
    metrics: ConnectionMetrics,
    stopping: CancellationToken,
}

impl Connection {
    async fn serve(self, line: Line, activity: Arc<Activity>) {
        let settings = &self.settings;
        let service = service_fn(|request: hyper::Request<Incoming>| {
            let answering = activity.begin();
            let (parts, body) = request.into_parts();
            let body = TimedBody::new(body, settings);
            let taken = body.taken();
            let answer = self
                .router
                .clone()
                .call(Request::from_parts(parts, Body::new(body)));
            async move {
                let mut response = answer.await?;
                if taken.is_some_and(|taken| !taken.is_whole()) {
                    // The rest may come where the next request would begin.
                    let close = HeaderValue::from_static("close");
                    response.headers_mut().insert(header::CONNECTION, close);
                }
                Ok::<_, Infallible>(response.map(|body| answering.of(body)))
            }
        });
        // The deadlines are those of `Activity`: the library has one for the head and
        // the time before it.
        let connection = http1::Builder::new()
            .header_read_timeout(None)
            .max_buf_size(BUFFER_BYTES)
            .serve_connection(TokioIo::new(line), service)
            .with_upgrades();
        let overdue = activity.overdue(settings.head, settings.idle);
        let (mut connection, mut overdue) = (pin!(connection), pin!(overdue));
        let mut leaving = false;
        loop {
            tokio::select! {
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::trace!(error = &error as &dyn std::error::Error, "a connection broke");
                    }
                    return;
                }
                () = &mut overdue => {
                    self.metrics.overdue.inc();
                    return;
                }
                () = self.stopping.cancelled(), if !leaving => {
                    connection.as_mut().graceful_shutdown();
                    leaving = true;
                }
            }
        }
    }
}

/// Serves the one request of a connection beyond the most.
async fn answer_probe(stream: TcpStream, router: Router) -> hyper::Result<()> {
    let service = service_fn(|request: hyper::Request<Incoming>| {
        let mut router = router.clone();
        let is_probe = request.uri().path().starts_with("/health");
        async move {
            if is_probe {
                return router.call(request.map(Body::new)).await;
            }
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            Ok::<_, Infallible>(response)
        }
    });
    http1::Builder::new()
        .header_read_timeout(None)
        .max_buf_size(BUFFER_BYTES)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_concerns_one_connection_does_not_rest() {
        const EMFILE: i32 = 24;
        for (error, concerns_one) in [
            (io::Error::from(ErrorKind::ConnectionAborted), true),
            (io::Error::from(ErrorKind::ConnectionReset), true),
            (io::Error::from_raw_os_error(EMFILE), false),
            (io::Error::from(ErrorKind::OutOfMemory), false),
        ] {
            assert_eq!(concerns_one_connection(&error), concerns_one, "{error}");
        }
    }

    #[test]
    fn connections_leave_files_for_the_database() {
        for (files, wanted, most) in [
            (1 << 20, 20_000, 20_000),
            (1024, 20_000, 768),
            (64, 20_000, 32),
            (64, 10, 10),
            (0, 10, 1),
        ] {
            let settings = ConnectionSettings {
                most: wanted,
                ..settings()
            };
            assert_eq!(settings.within(files).most, most, "{files} files");
        }
    }

    fn settings() -> ConnectionSettings {
        ConnectionSettings {
            head: Duration::from_secs(1),
            idle: Duration::from_secs(1),
            body: Duration::from_secs(1),
            body_progress: Duration::from_secs(1),
            write: Duration::from_secs(1),
            most: 1,
            most_per_address: 1,
            proxies: Networks::default(),
        }
    }
}
