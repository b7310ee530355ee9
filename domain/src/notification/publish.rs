//! Publishing: a notification arrives in its recipients' lists, and leaves for
//! their endpoints.

use sea_orm::{ConnectionTrait, DbBackend, DbErr};
use time::{Duration, OffsetDateTime};

use super::preference::wants;
use crate::change::{self, Receipt};
use crate::database::{Database, Transaction, again, instant, sql};
use crate::json;

/// Publishes a notification, by what its recipients prefer at this moment. A few
/// statements, however many they are.
pub(super) async fn publish(
    txn: &Transaction,
    notification_id: i64,
    now: OffsetDateTime,
) -> Result<(), DbErr> {
    let backend = txn.get_database_backend();
    let at = || instant(backend, now);
    let row = txn
        .query_one_raw(sql(
            txn,
            "UPDATE notification SET published_at = $2 WHERE id = $1 RETURNING channels, group_key, throttle_seconds",
            [notification_id.into(), at()],
        ))
        .await?
        .ok_or_else(|| DbErr::RecordNotFound("a notification that is published".into()))?;
    let channels: String = row.try_get("", "channels")?;
    let names: Vec<String> = json::stored(
        &channels,
        format_args!("the list of channels of notification {notification_id}"),
    )
    .unwrap_or_default();
    if names.iter().any(|name| name == "IN_APP") {
        txn.execute_raw(sql(
            txn,
            format!(
                "UPDATE notification_recipient SET arrived_at = $2 WHERE notification_id = $1 AND user_id IN ( \
                     SELECT u.id FROM notification n JOIN notification_recipient r ON r.notification_id = n.id \
                     JOIN user_account u ON u.id = r.user_id WHERE n.id = $1 AND {})",
                wants(backend, "'IN_APP'")
            ),
            [notification_id.into(), at()],
        ))
        .await?;
    }
    if names.iter().all(|name| name == "IN_APP") {
        return Ok(());
    }
    let group_key: Option<String> = row.try_get("", "group_key")?;
    let seconds: Option<i64> = row.try_get("", "throttle_seconds")?;
    if let (Some(group_key), Some(seconds)) = (&group_key, seconds) {
        let until = now + Duration::seconds(seconds);
        open_throttles(txn, notification_id, &channels, group_key, until, now).await?;
    }
    queue_deliveries(txn, notification_id, &channels, now).await
}

/// Closes the door of the group, until then, behind those for whom it is open and
/// who get something now.
async fn open_throttles(
    txn: &Transaction,
    notification_id: i64,
    channels: &str,
    group_key: &str,
    until: OffsetDateTime,
    now: OffsetDateTime,
) -> Result<(), DbErr> {
    let backend = txn.get_database_backend();
    txn.execute_raw(sql(
        txn,
        // In order of users, so that two callers cannot wait for each other.
        format!(
            "INSERT INTO notification_throttle (user_id, group_key, until, notification_id) \
             SELECT DISTINCT u.id, $3, {until}, n.id \
             FROM notification n JOIN notification_recipient r ON r.notification_id = n.id \
             JOIN user_account u ON u.id = r.user_id \
             JOIN endpoint e ON e.user_id = u.id AND e.disabled_at IS NULL AND e.channel IN {channels} \
             WHERE n.id = $1 AND {wanted} ORDER BY u.id \
             ON CONFLICT (user_id, group_key) DO UPDATE \
             SET until = excluded.until, notification_id = excluded.notification_id \
             WHERE notification_throttle.until <= $5",
            until = match backend {
                DbBackend::Sqlite => "$4",
                _ => "$4::timestamptz",
            },
            channels = crate::database::texts(backend, "$2"),
            wanted = wants(backend, "e.channel"),
        ),
        [
            notification_id.into(),
            channels.into(),
            group_key.into(),
            instant(backend, until),
            instant(backend, now),
        ],
    ))
    .await?;
    Ok(())
}

/// A delivery for each endpoint of each recipient; one that the user does not
/// want is written down as that.
async fn queue_deliveries(
    txn: &Transaction,
    notification_id: i64,
    channels: &str,
    now: OffsetDateTime,
) -> Result<(), DbErr> {
    let backend = txn.get_database_backend();
    let open = "(n.throttle_seconds IS NULL OR n.severity = 'CRITICAL' OR EXISTS ( \
                    SELECT 1 FROM notification_throttle t \
                    WHERE t.user_id = u.id AND t.group_key = n.group_key AND t.notification_id = n.id))";
    let wanted = wants(backend, "e.channel");
    txn.execute_raw(sql(
        txn,
        format!(
            "INSERT INTO delivery (notification_id, user_id, channel, endpoint_id, state, last_error, finished_at, \
                 next_attempt_at, created_at) \
             SELECT d.notification_id, d.user_id, d.channel, d.endpoint_id, \
                 CASE WHEN d.wanted AND d.open THEN 'QUEUED' ELSE 'SUPPRESSED' END, \
                 CASE WHEN NOT d.wanted THEN 'the user does not want it' \
                      WHEN NOT d.open THEN 'throttled: the user has had one of this group' END, \
                 CASE WHEN d.wanted AND d.open THEN NULL ELSE {now} END, {now}, {now} \
             FROM (SELECT n.id AS notification_id, u.id AS user_id, e.channel, e.id AS endpoint_id, \
                       {wanted} AS wanted, {open} AS open \
                   FROM notification n JOIN notification_recipient r ON r.notification_id = n.id \
                   JOIN user_account u ON u.id = r.user_id \
                   JOIN endpoint e ON e.user_id = u.id AND e.disabled_at IS NULL AND e.channel IN {channels} \
                   WHERE n.id = $1) d \
             ORDER BY d.user_id, d.endpoint_id",
            now = match backend {
                DbBackend::Sqlite => "$3",
                _ => "$3::timestamptz",
            },
            channels = crate::database::texts(backend, "$2"),
        ),
        [
            notification_id.into(),
            channels.into(),
            instant(backend, now),
        ],
    ))
    .await?;
    Ok(())
}

/// Publishes one whose time has come. Returns what to wait for; nothing if there
/// is none. Replicas that do it at once take different ones. One a transaction:
/// two would take the locks of their users in two orders.
pub async fn publish_due(db: &Database, now: OffsetDateTime) -> Result<Option<Receipt>, DbErr> {
    again(|| async {
        let Some((txn, id)) = due(db, Due::Scheduled, now).await? else {
            return Ok(None);
        };
        publish(&txn, id, now).await?;
        Ok(Some(change::commit(txn).await?))
    })
    .await
}

/// What a notification's time has come for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Due {
    Scheduled,
    Expired,
}

/// A notification whose time has come, and a transaction in which nobody else has
/// it.
pub(super) async fn due(
    db: &Database,
    what: Due,
    now: OffsetDateTime,
) -> Result<Option<(Transaction, i64)>, DbErr> {
    let backend = db.backend();
    let condition = match what {
        Due::Scheduled => {
            "published_at IS NULL AND not_before <= $1 AND (expires_at IS NULL OR expires_at > $1) ORDER BY not_before, id"
        }
        Due::Expired => "expires_at <= $1 ORDER BY expires_at, id",
    };
    let lock = match backend {
        DbBackend::Postgres => "FOR UPDATE SKIP LOCKED",
        _ => "",
    };
    let text =
        format!("SELECT id FROM notification WHERE withdrawn_at IS NULL AND {condition} LIMIT 1 ");
    // Mostly there is nothing, and to look takes nothing from who writes.
    let look = sql(db.reader(), &text, [instant(backend, now)]);
    if db.reader().query_one_raw(look).await?.is_none() {
        return Ok(None);
    }
    let txn = db.begin().await?;
    let take = sql(&txn, text + lock, [instant(backend, now)]);
    match txn.query_one_raw(take).await? {
        Some(row) => {
            let id = row.try_get("", "id")?;
            Ok(Some((txn, id)))
        }
        None => {
            txn.rollback().await;
            Ok(None)
        }
    }
}
