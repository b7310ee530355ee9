//! The one place that starts workers, and starts them again when they fail.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use rand::RngExt;
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// The first delay before a restart; it doubles with each failure in a row.
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(10);
/// A worker that has run this long was healthy.
const HEALTHY: Duration = Duration::from_secs(60);

/// How the workers are, for `/health/ready`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Workers {
    statuses: Arc<Mutex<Vec<WorkerStatus>>>,
    pub(crate) restarts: Counter,
}

/// How one worker is. Why it failed is in the log, not for strangers.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WorkerStatus {
    pub(crate) name: &'static str,
    pub(crate) state: WorkerState,
    restarts: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum WorkerState {
    Running,
    /// It failed, and is started again after a delay.
    Restarting,
    /// It has done what it was started for.
    Ended,
}

impl Workers {
    pub(crate) fn status(&self) -> Vec<WorkerStatus> {
        self.statuses.lock().clone()
    }

    fn update(&self, name: &'static str, change: impl FnOnce(&mut WorkerStatus)) {
        let mut statuses = self.statuses.lock();
        if let Some(status) = statuses.iter_mut().find(|status| status.name == name) {
            change(status);
        }
    }
}

/// Runs workers until it is told to stop.
pub(crate) struct Supervisor {
    workers: Workers,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Supervisor {
    pub(crate) fn new(workers: Workers, stop: CancellationToken) -> Self {
        Self {
            workers,
            stop,
            tasks: JoinSet::new(),
        }
    }

    /// Starts a worker. `make` is called for each start: a worker that failed
    /// leaves nothing behind. One that ends well is not started again.
    pub(crate) fn start<F, E>(
        &mut self,
        name: &'static str,
        make: impl Fn(CancellationToken) -> F + Send + 'static,
    ) where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: std::error::Error + Send + Sync + 'static,
    {
        self.workers.statuses.lock().push(WorkerStatus {
            name,
            state: WorkerState::Running,
            restarts: 0,
        });
        let (workers, stop) = (self.workers.clone(), self.stop.clone());
        self.tasks.spawn(async move {
            let mut delay = FIRST_DELAY;
            loop {
                let began = Instant::now();
                let Err(error) = run_once(make(stop.clone())).await else {
                    workers.update(name, |status| status.state = WorkerState::Ended);
                    return;
                };
                if began.elapsed() >= HEALTHY {
                    delay = FIRST_DELAY;
                }
                let wait = delay.mul_f64(rand::rng().random_range(0.5..1.5));
                tracing::error!(worker = name, error, restart_in = ?wait, "a worker failed");
                workers.restarts.inc();
                workers.update(name, |status| {
                    status.state = WorkerState::Restarting;
                    status.restarts += 1;
                });
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = sleep(wait) => {}
                }
                delay = (delay * 2).min(LONGEST_DELAY);
                workers.update(name, |status| status.state = WorkerState::Running);
            }
        });
    }

    /// Waits until every worker has ended its step, at most so long.
    pub(crate) async fn join(mut self, patience: Duration) {
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(patience, all).await.is_err() {
            tracing::warn!("workers did not stop in time");
        }
    }
}

/// One life of a worker, in a task of its own: a panic ends only that.
async fn run_once<E>(
    worker: impl Future<Output = Result<(), E>> + Send + 'static,
) -> Result<(), String>
where
    E: std::error::Error + Send + Sync + 'static,
{
    let mut alone = JoinSet::new();
    alone.spawn(worker);
    match alone.join_next().await {
        Some(Ok(Ok(()))) | None => Ok(()),
        Some(Ok(Err(error))) => Err(chain(&error)),
        Some(Err(panic)) => Err(panic.to_string()),
    }
}

/// An error with all its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("broken")]
    struct Broken;

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_fails_or_panics_is_started_again() {
        let stop = CancellationToken::new();
        let workers = Workers::default();
        let mut supervisor = Supervisor::new(workers.clone(), stop.clone());
        let starts = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&starts);
        supervisor.start("test", move |stop| {
            let start = counted.fetch_add(1, Ordering::SeqCst);
            async move {
                match start {
                    0 => Err(Broken),
                    1 => panic!("worse"),
                    _ => {
                        stop.cancelled().await;
                        Ok(())
                    }
                }
            }
        });
        while starts.load(Ordering::SeqCst) < 3 {
            sleep(Duration::from_millis(10)).await;
        }
        let status = workers.status().remove(0);
        assert_eq!((status.state, status.restarts), (WorkerState::Running, 2));
        stop.cancel();
        supervisor.join(Duration::from_secs(1)).await;
        assert_eq!(workers.status().remove(0).state, WorkerState::Ended);
    }
}
