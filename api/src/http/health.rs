//! Is it alive, is it ready.
//!
//! Both are answered from memory: a probe costs the database nothing, and needs
//! no connection that traffic could have taken. Why something is wrong is in the
//! log; whoever asks here may be a stranger.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use subscriptions::change_log::ChangeLog;
use subscriptions::fanout::Fanout;

use super::Shared;
use crate::supervisor::{WorkerState, WorkerStatus, Workers};

/// Sequencer and tail ask the database at least once a second. If one of them had
/// no answer for so long, this replica serves the past.
const LONGEST_SILENCE: Duration = Duration::from_secs(5);
/// A tail further behind than this serves the past.
const MOST_LAG: u64 = 10_000;
/// Workers without which nothing can be written or seen.
const VITAL: [&str; 2] = ["sequencer", "tail"];
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
    database: DatabaseReport,
    /// Absent where no Redis is wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    redis: Option<RedisReport>,
    warm_up: &'static str,
    tail: TailReport,
    workers: Vec<WorkerStatus>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DatabaseReport {
    status: &'static str,
    /// How long ago it last answered, in whole seconds.
    silent_seconds: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TailReport {
    /// The last position this replica has applied.
    applied: String,
    /// The log's head, as this replica last saw it.
    head: String,
    /// Changes between the two.
    lag: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RedisReport {
    status: &'static str,
    /// How long it has been so.
    seconds: u64,
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
        }
    }
}

/// `GET /health` and `/health/live`: the process answers. Orchestrators restart
/// what does not; a restart mends no database, so it plays no part here.
pub(super) async fn live() -> Json<serde_json::Value> {
    Json(serde_json::json!({ "status": "live" }))
}

/// `GET /health/ready`: requests can be answered, from the present.
pub(super) async fn ready(State(shared): State<Arc<Shared>>) -> (StatusCode, Json<Report>) {
    let health = &shared.health;
    let silence = health.log.silence();
    let is_silent = silence > LONGEST_SILENCE;
    let (applied, head) = (health.log.applied(), health.log.head());
    let lag = if head.epoch == applied.epoch {
        head.number.saturating_sub(applied.number)
    } else {
        u64::MAX
    };
    let workers = health.workers.status();
    let has_stopped = |of: fn(&&WorkerStatus) -> bool| {
        let mut of = workers.iter().filter(of);
        of.any(|worker| worker.state == WorkerState::Restarting)
    };
    let warm = health.warm.load(Ordering::SeqCst);
    let redis = health.fanout.as_ref().map(RedisReport::of);
    let is_without_redis = (redis.as_ref()).is_some_and(|redis| redis.status != CONNECTED);
    let status = if health.stopping.load(Ordering::SeqCst) {
        "stopping"
    } else if is_silent {
        "database unreachable"
    } else if lag > MOST_LAG {
        "catching up"
    } else if !warm {
        "warming up"
    } else if has_stopped(|worker| VITAL.contains(&worker.name)) {
        "worker down"
    } else if is_without_redis || has_stopped(|worker| !VITAL.contains(&worker.name)) {
        // Slower, or some deliveries wait: what is asked is answered.
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
        database: DatabaseReport {
            status: if is_silent {
                "unreachable"
            } else {
                "reachable"
            },
            silent_seconds: silence.as_secs(),
        },
        redis,
        warm_up: if warm { "done" } else { "running" },
        tail: TailReport {
            applied: applied.to_string(),
            head: head.to_string(),
            lag,
        },
        workers,
    };
    (code, Json(report))
}
