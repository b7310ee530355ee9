//! Taking notifications back: by who sent them, or when they expire.

use sea_orm::{ConnectionTrait, DbErr};
use time::OffsetDateTime;

use super::publish::{Due, due};
use super::{NotificationError, delivery};
use crate::change::{self, Receipt};
use crate::database::{Database, Transaction, again, instant, sql};

/// Takes a notification back: it goes from all lists, and whatever is not on its
/// way yet stays here. `sender` may only take back their own; absent, any.
pub async fn revoke(
    db: &Database,
    sender: Option<&str>,
    notification_id: i64,
    now: OffsetDateTime,
) -> Result<Receipt, NotificationError> {
    again(|| async {
        let txn = db.begin().await?;
        let row = txn
            .query_one_raw(sql(
                &txn,
                "SELECT sender FROM notification WHERE id = $1",
                [notification_id.into()],
            ))
            .await?;
        let by: Option<String> = row.map(|row| row.try_get("", "sender")).transpose()?;
        let theirs = by.is_some_and(|by| sender.is_none_or(|sender| sender == by));
        if !theirs {
            txn.rollback().await;
            return Err(NotificationError::unknown(
                format!("notification {notification_id} of yours"),
                "id",
            ));
        }
        withdraw(&txn, notification_id, "REVOKED", now).await?;
        Ok(change::commit(txn).await?)
    })
    .await
}

/// Withdraws one that has expired. Returns what to wait for; nothing if there is
/// none. One a transaction, as they are published.
pub async fn expire_due(db: &Database, now: OffsetDateTime) -> Result<Option<Receipt>, DbErr> {
    again(|| async {
        let Some((txn, id)) = due(db, Due::Expired, now).await? else {
            return Ok(None);
        };
        withdraw(&txn, id, "EXPIRED", now).await?;
        Ok(Some(change::commit(txn).await?))
    })
    .await
}

/// One that is withdrawn already stays as it is.
async fn withdraw(
    txn: &Transaction,
    notification_id: i64,
    withdrawal: &str,
    now: OffsetDateTime,
) -> Result<(), DbErr> {
    let at = || instant(txn.get_database_backend(), now);
    let withdrawn = txn
        .execute_raw(sql(
            txn,
            "UPDATE notification SET withdrawn_at = $2, withdrawal = $3 WHERE id = $1 AND withdrawn_at IS NULL",
            [notification_id.into(), at(), withdrawal.into()],
        ))
        .await?;
    if withdrawn.rows_affected() == 0 {
        return Ok(());
    }
    let recipients =
        "UPDATE notification_recipient SET withdrawn_at = $2 WHERE notification_id = $1";
    txn.execute_raw(sql(txn, recipients, [notification_id.into(), at()]))
        .await?;
    let reason = format!("the notification was {}", withdrawal.to_lowercase());
    delivery::cancel(
        txn,
        "notification_id = $1",
        [notification_id.into()],
        &reason,
        now,
    )
    .await
}

/// Removes the oldest notification that was sent before `before`, with all that
/// became of it. Nobody is told: it is not taken back. Returns how
/// many went.
pub async fn prune(db: &Database, before: OffsetDateTime) -> Result<u64, DbErr> {
    let writer = db.writer();
    let gone = writer
        .execute_raw(sql(
            writer,
            "DELETE FROM notification WHERE id IN \
             (SELECT id FROM notification WHERE created_at < $1 AND (not_before IS NULL OR not_before < $1) \
              ORDER BY created_at LIMIT 1)",
            [instant(db.backend(), before)],
        ))
        .await?;
    Ok(gone.rows_affected())
}

/// Forgets throttles that hold nobody up any more. Returns how many went.
pub async fn forget_throttles(db: &Database, now: OffsetDateTime) -> Result<u64, DbErr> {
    let writer = db.writer();
    let gone = writer
        .execute_raw(sql(
            writer,
            "DELETE FROM notification_throttle WHERE until <= $1",
            [instant(db.backend(), now)],
        ))
        .await?;
    Ok(gone.rows_affected())
}
