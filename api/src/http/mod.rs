//! The HTTP surface: routes, and what stands before all of them.

mod compression;
mod graphql;
mod health;
mod host;
mod metrics;
mod playground;
mod unsubscribe;
mod waiting;

pub(crate) use graphql::refuse;
pub(crate) use health::Health;
pub(crate) use metrics::Metrics;
pub(crate) use playground::is_built as has_playground;
pub(crate) use waiting::wait;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware::{from_fn_with_state, map_request, map_response};
use axum::routing::get;
use tower_http::catch_panic::CatchPanicLayer;

use crate::auth::Authenticator;
use crate::delivery::Channels;
use crate::drain::Drain;
use crate::graphql::Limits;
use crate::graphql::executor::Executor;
use crate::websocket::{self, SocketSettings};

/// What handlers share.
pub(crate) struct Shared {
    pub(crate) executor: Executor,
    pub(crate) auth: Authenticator,
    /// Only those requests are answered that mean this machine.
    pub(crate) only_local_hosts: bool,
    pub(crate) limits: Limits,
    pub(crate) health: Health,
    pub(crate) metrics: Metrics,
    pub(crate) channels: Channels,
    pub(crate) sdl: String,
    /// Ends connections that do not end by themselves.
    pub(crate) drain: Drain,
    pub(crate) sockets: SocketSettings,
    /// How often an HTTP stream says that it is there.
    pub(crate) heartbeat: Duration,
}

/// Everything the server answers.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/graphql", get(graphql::get).post(graphql::post))
        .route("/schema.graphql", get(schema))
        .route("/metrics", get(metrics::text))
        .layer(compression::layer())
        .layer(map_response(compression::in_turns))
        .layer(map_request(compression::allow_plain))
        .merge(playground::router())
        .route("/graphql/ws", get(websocket::upgrade))
        .route("/unsubscribe", get(unsubscribe::ask).post(unsubscribe::end))
        .layer(from_fn_with_state(Arc::clone(&shared), host::check))
        // Probes say whatever host they like, and learn nothing.
        .route("/health", get(health::live))
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready))
        .layer(CatchPanicLayer::custom(graphql::panicked))
        .with_state(shared)
}

async fn schema(
    axum::extract::State(shared): axum::extract::State<Arc<Shared>>,
) -> impl axum::response::IntoResponse {
    (
        [("content-type", "text/plain; charset=utf-8")],
        shared.sdl.clone(),
    )
}
