//! Is it alive, is it ready.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use domain::change;
use serde::Serialize;
use subscriptions::change_log::ChangeLog;
use tokio::time::timeout;

use super::Shared;
use crate::supervisor::{WorkerStatus, Workers};

/// A database that does not answer within this is not there.
const PATIENCE: Duration = Duration::from_secs(2);
/// A tail further behind than this serves the past.
const MOST_LAG: u64 = 10_000;

/// What readiness is judged by.
pub(crate) struct Health {
    pub(crate) log: ChangeLog,
    pub(crate) workers: Workers,
    pub(crate) warm: Arc<AtomicBool>,
    pub(crate) stopping: Arc<AtomicBool>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    status: &'static str,
    version: &'static str,
    database: &'static str,
    warm_up: &'static str,
    tail: TailReport,
    workers: Vec<WorkerStatus>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TailReport {
    /// The last position this replica has applied.
    applied: String,
    /// The log's head, when the database answers.
    head: Option<String>,
    /// Changes between the two.
    lag: Option<u64>,
}

/// `GET /health/live`: the process answers.
pub(super) async fn live() -> Json<serde_json::Value> {
    Json(serde_json::json!({ "status": "live" }))
}

/// `GET /health/ready`: requests can be answered, from the present.
pub(super) async fn ready(State(shared): State<Arc<Shared>>) -> (StatusCode, Json<Report>) {
    let health = &shared.health;
    let head = timeout(PATIENCE, change::read_head(health.log.database().reader()))
        .await
        .ok()
        .and_then(Result::ok);
    let applied = health.log.applied();
    let lag = head
        .filter(|head| head.epoch == applied.epoch)
        .map(|head| head.number.saturating_sub(applied.number));
    let workers = health.workers.status();
    let warm = health.warm.load(Ordering::SeqCst);
    let status = if health.stopping.load(Ordering::SeqCst) {
        "stopping"
    } else if head.is_none() {
        "database unreachable"
    } else if lag.is_none_or(|lag| lag > MOST_LAG) {
        "catching up"
    } else if !warm {
        "warming up"
    } else if workers.iter().any(|worker| !worker.running) {
        "worker down"
    } else {
        "ready"
    };
    let code = if status == "ready" {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let report = Report {
        status,
        version: env!("CARGO_PKG_VERSION"),
        database: if head.is_some() {
            "reachable"
        } else {
            "unreachable"
        },
        warm_up: if warm { "done" } else { "running" },
        tail: TailReport {
            applied: applied.to_string(),
            head: head.map(|head| head.to_string()),
            lag,
        },
        workers,
    };
    (code, Json(report))
}
