//! Transactions that another one was in the way of.

use std::error::Error;
use std::future::Future;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};

use super::Fault;

/// Delays after a conflict grow from this to at most that.
const FIRST_DELAY: Duration = Duration::from_millis(5);
const LONGEST_DELAY: Duration = Duration::from_millis(200);
/// So often at most is a transaction run again.
const MOST_TIMES: usize = 6;

/// Runs a whole transaction, and again after a deadlock or serialization failure,
/// which the database has undone. `work` begins the transaction itself.
pub async fn again<T, E, F>(work: impl FnMut() -> F) -> Result<T, E>
where
    E: Error + 'static,
    F: Future<Output = Result<T, E>>,
{
    let delays = ExponentialBuilder::default()
        .with_min_delay(FIRST_DELAY)
        .with_max_delay(LONGEST_DELAY)
        .with_max_times(MOST_TIMES)
        .with_jitter();
    work.retry(delays)
        .when(|error| Fault::behind(error) == Fault::Conflict)
        .await
}
