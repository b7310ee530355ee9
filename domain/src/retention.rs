//! How long is kept what is not kept for ever.
//!
//! By the database's clock: that of one replica may be wrong, and what it removed
//! would be gone for all.

use sea_orm::DbErr;
use time::{Duration, OffsetDateTime};

use crate::database::{self, Database};
use crate::{change, idempotency, notification};

/// How long each kind is kept.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// Changes, for subscribers that come back.
    pub changes: Duration,
    /// Notifications, with all that became of them.
    pub notifications: Duration,
}

/// Removes some of what is older than it is kept. Says whether there may be more.
pub async fn sweep(db: &Database, retention: Retention) -> Result<bool, DbErr> {
    let now = database::now(db.reader()).await?;
    let pruned = match oldest(now, retention.changes) {
        Some(oldest) => change::prune(db.writer(), oldest).await?,
        None => 0,
    };
    let removed = match oldest(now, retention.notifications) {
        Some(oldest) => notification::prune(db, oldest).await?,
        None => 0,
    };
    idempotency::forget(db, now).await?;
    Ok(pruned == change::PAGE || removed > 0)
}

/// The oldest that is kept; `None` if the calendar does not reach back so far, and
/// all is kept.
fn oldest(now: OffsetDateTime, kept: Duration) -> Option<OffsetDateTime> {
    now.checked_sub(kept).filter(|at| at.year() > 0)
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn what_is_kept_longer_than_the_calendar_is_kept_for_ever() {
        let now = datetime!(2024-06-15 09:00 UTC);
        for (kept, expect) in [
            (Duration::DAY, Some(datetime!(2024-06-14 09:00 UTC))),
            (Duration::days(2023 * 366), None),
            (Duration::hours(i64::from(u32::MAX)), None),
            (Duration::MAX, None),
        ] {
            assert_eq!(oldest(now, kept), expect, "{kept}");
        }
    }
}
