//! The HTTP surface: routes, and what stands before all of them.

mod graphql;
mod health;
mod metrics;
mod playground;

pub(crate) use health::Health;
pub(crate) use metrics::Metrics;
pub(crate) use playground::is_built as has_playground;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::get;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_http::catch_panic::CatchPanicLayer;

use crate::graphql::document::Documents;
use crate::graphql::{Limits, SmartPulseSchema};

/// What handlers share.
pub(crate) struct Shared {
    pub(crate) schema: SmartPulseSchema,
    pub(crate) documents: Documents,
    pub(crate) limits: Limits,
    pub(crate) health: Health,
    pub(crate) metrics: Metrics,
    pub(crate) sdl: String,
    /// Ends websockets, which an HTTP server's own shutdown does not wait for.
    pub(crate) stop: CancellationToken,
    pub(crate) sockets: TaskTracker,
}

/// Everything the server answers.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    let body_bytes = shared.limits.body_bytes;
    Router::new()
        .merge(playground::router())
        .route("/graphql", get(graphql::get).post(graphql::post))
        .route("/graphql/ws", get(graphql::websocket))
        .route("/schema.graphql", get(schema))
        .route("/health", get(health::ready))
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready))
        .route("/metrics", get(metrics::text))
        .layer(DefaultBodyLimit::max(body_bytes))
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
