//! Sending long-lived connections away when the server stops: each in its turn,
//! so that they do not all come to the other replicas at once.

use std::time::Duration;

use rand::RngExt;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// For so many milliseconds each connection there is the turns are spread, up
/// to the window: a few are sent away at once.
const A_CONNECTION: Duration = Duration::from_millis(10);

/// The long-lived connections, and their end.
#[derive(Clone)]
pub(crate) struct Drain {
    begun: CancellationToken,
    connections: TaskTracker,
    window: Duration,
}

impl Drain {
    /// Spreads connections over a window at most.
    pub(crate) fn new(window: Duration) -> Self {
        Self {
            begun: CancellationToken::new(),
            connections: TaskTracker::new(),
            window,
        }
    }

    /// Counts a connection until the token is dropped.
    pub(crate) fn hold(&self) -> TaskTrackerToken {
        self.connections.token()
    }

    /// Completes when it is one connection's turn to be sent away.
    pub(crate) fn turn(&self) -> impl Future<Output = ()> + Send + use<> {
        let drain = self.clone();
        async move {
            drain.begun.cancelled().await;
            let all = u32::try_from(drain.connections.len()).unwrap_or(u32::MAX);
            let window = A_CONNECTION.saturating_mul(all).min(drain.window);
            let wait = window.mul_f64(rand::rng().random_range(0.0..1.0));
            tokio::time::sleep(wait).await;
        }
    }

    /// Begins sending connections away.
    pub(crate) fn begin(&self) {
        self.begun.cancel();
    }

    pub(crate) fn begun(&self) -> &CancellationToken {
        &self.begun
    }

    /// Completes when all are gone.
    pub(crate) async fn done(&self) {
        self.connections.close();
        self.connections.wait().await;
    }

    /// In how long all have had their turn.
    pub(crate) fn window(&self) -> Duration {
        self.window
    }
}
