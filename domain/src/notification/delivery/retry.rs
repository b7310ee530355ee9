//! Trying again what was given up.

use sea_orm::{ConnectionTrait, DbBackend, DbErr};
use time::OffsetDateTime;

use crate::database::{Database, instant, sql};
use crate::notification::{Channel, NotificationError};

/// Which deliveries are to be tried again; what is absent matches all.
#[derive(Debug, Clone, Default)]
pub struct RetryFilter {
    pub channel: Option<Channel>,
    /// Given up then or later.
    pub since: Option<OffsetDateTime>,
    /// Those of which nobody knows what came of them as well: some may come twice.
    pub unknown: bool,
}

/// One call takes so many at most.
const MOST: u64 = 10_000;

/// Lets a delivery that failed, is dead or of unknown outcome be tried again
/// now, with all its attempts.
pub async fn retry(db: &Database, id: i64, now: OffsetDateTime) -> Result<(), NotificationError> {
    let writer = db.writer();
    let again = writer
        .execute_raw(sql(
            writer,
            "UPDATE delivery SET state = 'QUEUED', attempts = 0, next_attempt_at = $2, finished_at = NULL \
             WHERE id = $1 AND state IN ('FAILED', 'DEAD', 'UNKNOWN') \
             AND EXISTS (SELECT 1 FROM endpoint e WHERE e.id = endpoint_id AND e.user_id = delivery.user_id AND e.disabled_at IS NULL)",
            [id.into(), instant(db.backend(), now)],
        ))
        .await?;
    if again.rows_affected() > 0 {
        return Ok(());
    }
    let row = writer
        .query_one_raw(sql(
            writer,
            "SELECT d.state, e.id IS NULL OR e.user_id <> d.user_id OR e.disabled_at IS NOT NULL AS is_disabled \
             FROM delivery d LEFT JOIN endpoint e ON e.id = d.endpoint_id WHERE d.id = $1",
            [id.into()],
        ))
        .await?;
    let Some(row) = row else {
        return Err(NotificationError::unknown(format!("delivery {id}"), "id"));
    };
    let state: String = row.try_get("", "state")?;
    Err(NotificationError::Conflict(
        if row.try_get::<bool>("", "is_disabled")? {
            "its endpoint was given up: it must be registered again first".into()
        } else {
            format!("it is {state}: only what is FAILED, DEAD or UNKNOWN can be tried again")
        },
    ))
}

/// Lets all dead deliveries that the filter matches be tried again, the oldest
/// first and at most 10,000. Returns how many.
pub async fn retry_all(
    db: &Database,
    filter: &RetryFilter,
    now: OffsetDateTime,
) -> Result<u64, DbErr> {
    let backend = db.backend();
    let states = if filter.unknown {
        "'DEAD', 'UNKNOWN'"
    } else {
        "'DEAD'"
    };
    let mut values = vec![instant(backend, now)];
    let mut conditions = format!("d.state IN ({states})");
    if let Some(channel) = filter.channel {
        values.push(channel.as_str().into());
        conditions += &format!(" AND d.channel = ${}", values.len());
    }
    if let Some(since) = filter.since {
        values.push(instant(backend, since));
        conditions += &format!(" AND d.finished_at >= ${}", values.len());
    }
    // In order of their ids, as everywhere.
    let lock = match backend {
        DbBackend::Postgres => "FOR UPDATE OF d",
        _ => "",
    };
    let writer = db.writer();
    let again = writer
        .execute_raw(sql(
            writer,
            format!(
                "UPDATE delivery SET state = 'QUEUED', attempts = 0, next_attempt_at = $1, finished_at = NULL \
                 WHERE id IN (SELECT d.id FROM delivery d JOIN endpoint e ON e.id = d.endpoint_id \
                     JOIN notification n ON n.id = d.notification_id \
                     WHERE {conditions} AND e.user_id = d.user_id AND e.disabled_at IS NULL AND n.withdrawn_at IS NULL \
                     ORDER BY d.id LIMIT {MOST} {lock})"
            ),
            values,
        ))
        .await?;
    Ok(again.rows_affected())
}
