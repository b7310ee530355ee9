//! What is answered before there is a database.

use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::{graphql, health};
use crate::error::{ApiError, ErrorCode};

/// How long one of these connections may last.
const PATIENCE: Duration = Duration::from_secs(10);
/// Connections at once: files are also needed to reach the database.
const MOST: usize = 256;
/// Where nothing can be accepted just now.
const PAUSE: Duration = Duration::from_millis(100);

/// Answers probes that the process lives, and all else that it is not ready, one
/// request a connection. Never ends by itself; dropped, it leaves the listener as
/// it was.
pub(crate) async fn wait(listener: &TcpListener) {
    let router = Router::new()
        .route("/health", get(health::live))
        .route("/health/live", get(health::live))
        .fallback(not_yet);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < MOST => match accepted {
                Ok((stream, _)) => {
                    let serving = http1::Builder::new()
                        .timer(TokioTimer::new())
                        .keep_alive(false)
                        .serve_connection(
                            TokioIo::new(stream),
                            TowerToHyperService::new(router.clone()),
                        );
                    connections.spawn(async move { drop(timeout(PATIENCE, serving).await) });
                }
                Err(_) => sleep(PAUSE).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn not_yet() -> Response {
    let error = ApiError::new(
        ErrorCode::Unavailable,
        "this replica waits for its database: try again, or ask another",
    );
    graphql::refuse(StatusCode::SERVICE_UNAVAILABLE, error)
}
