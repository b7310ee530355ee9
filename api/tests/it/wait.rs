//! Waiting for what must come true.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, timeout};

/// How long a test waits before it fails: far more than anything takes.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// What `look` finds, as soon as it finds something. Fails at the deadline,
/// saying what was waited for.
pub(crate) async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let mut rhythm = interval(Duration::from_millis(10));
    rhythm.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let found = timeout(DEADLINE, async {
        loop {
            rhythm.tick().await;
            if let Some(found) = look().await {
                return found;
            }
        }
    });
    found
        .await
        .unwrap_or_else(|_| panic!("waited {DEADLINE:?} in vain until {what}"))
}

/// The outcome of what must end, within the deadline.
pub(crate) async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    timeout(DEADLINE, work)
        .await
        .unwrap_or_else(|_| panic!("waited {DEADLINE:?} in vain for {what}"))
}
