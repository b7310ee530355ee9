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
use subscriptions::fanout::Fanout;
use tokio::time::timeout;

use super::Shared;
use crate::supervisor::{WorkerStatus, Workers};

/// A database that does not answer within this is not there.
const PATIENCE: Duration = Duration::from_secs(2);
/// A tail further behind than this serves the past.
const MOST_LAG: u64 = 10_000;
const CONNECTED: &str = "connected";
const READY: &str = "ready";
const DEGRADED: &str = "degraded";

/// What readiness is judged by.
pub(crate) struct Health {
    pub(crate) log: ChangeLog,
    pub(crate) fanout: Option<Fanout>,
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
    /// Absent where no Redis is wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    redis: Option<RedisReport>,
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

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RedisReport {
    status: &'static str,
    /// How long it has been so.
    seconds: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
}

impl RedisReport {
    fn of(fanout: &Fanout) -> Self {
        let link = fanout.link();
        Self {
            status: if link.connected {
                CONNECTED
            } else {
                "unreachable"
            },
            seconds: link.since.elapsed().as_secs(),
            last_error: link.last_error,
        }
    }
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
    let redis = health.fanout.as_ref().map(RedisReport::of);
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
    } else if redis
        .as_ref()
        .is_some_and(|redis| redis.status != CONNECTED)
    {
        // Slower, but right: requests may come.
        DEGRADED
    } else {
        READY
    };
    let code = if [READY, DEGRADED].contains(&status) {
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
        redis,
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
