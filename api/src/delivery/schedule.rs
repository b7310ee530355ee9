//! What happens to notifications when their time comes: they are published, or
//! they expire.

use std::time::Duration;

use domain::notification;
use sea_orm::DbErr;
use subscriptions::change_log::ChangeLog;
use time::OffsetDateTime;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::Wake;

/// How late it may be noticed.
const INTERVAL: Duration = Duration::from_secs(1);
/// How often throttles that hold nobody up any more are forgotten.
const FORGET_INTERVAL: Duration = Duration::from_secs(60);

/// Runs until it is told to stop; fails when the database does. Replicas that do
/// it at once share the work.
pub(crate) async fn run(log: ChangeLog, wake: Wake, stop: CancellationToken) -> Result<(), DbErr> {
    let mut forget_at = Instant::now();
    while !stop.is_cancelled() {
        if step(&log, &wake).await? {
            continue;
        }
        if forget_at <= Instant::now() {
            notification::forget_throttles(log.database(), OffsetDateTime::now_utc()).await?;
            forget_at = Instant::now() + FORGET_INTERVAL;
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = sleep(INTERVAL) => {}
        }
    }
    Ok(())
}

/// Does some of what is due. Says whether there was anything.
async fn step(log: &ChangeLog, wake: &Wake) -> Result<bool, DbErr> {
    let db = log.database();
    let now = OffsetDateTime::now_utc();
    // What has expired meanwhile does not come first.
    let expired = notification::expire_due(db, now).await?;
    let published = notification::publish_due(db, now).await?;
    if published.is_some() {
        wake.wake();
    }
    for receipt in published.iter().chain(&expired) {
        // Whether it is known yet or not: it is committed, and will be seen.
        drop(log.acknowledge(*receipt).await);
    }
    Ok(published.is_some() || expired.is_some())
}
