//! What a change of notifications was, for those who follow it.

use std::collections::HashMap;
use std::sync::Arc;

use sea_orm::{ConnectionTrait, DbErr, Value};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::Notification;
use super::inbox::by_ids;
use crate::change::Operation;
use crate::database::{instant, json_list, numbers, sql};

/// A change of notifications, as the log keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotificationChange {
    /// The one that came or was withdrawn; none of a user's marks.
    pub notification_id: Option<i64>,
    /// Whose; of a notification for several, none.
    pub user_id: Option<i64>,
    /// The instant that a user's notifications were marked with.
    #[serde(with = "time::serde::rfc3339::option")]
    pub marked_at: Option<OffsetDateTime>,
}

/// What stands behind a change.
#[derive(Debug, Clone, Default)]
pub struct Written {
    /// What came, unless it was taken back.
    pub notification: Option<Arc<Notification>>,
    /// Whom it came to, or was taken from, in order: of those who were asked for.
    recipients: Box<[i64]>,
    /// What a user read or deleted.
    pub ids: Box<[i64]>,
}

impl Written {
    /// Whether a user is among the recipients.
    pub fn concerns(&self, user_id: i64) -> bool {
        self.recipients.binary_search(&user_id).is_ok()
    }
}

/// What stands behind each of some changes, in their order: for all whom they
/// concern, or as one user sees it, who may be one of very many recipients.
pub async fn written(
    db: &impl ConnectionTrait,
    changes: &[(&NotificationChange, Operation)],
    for_user: Option<i64>,
) -> Result<Vec<Written>, DbErr> {
    let mut ids: Vec<i64> = changes
        .iter()
        .filter_map(|(change, _)| change.notification_id)
        .collect();
    ids.sort_unstable();
    ids.dedup();
    let mut notifications = HashMap::new();
    if !ids.is_empty() {
        for notification in by_ids(db, &ids, for_user).await? {
            notifications.insert(notification.id, Arc::new(notification));
        }
    }
    let shared: Vec<i64> = changes
        .iter()
        .filter(|(change, _)| change.user_id.is_none())
        .filter_map(|(change, _)| change.notification_id)
        .collect();
    let recipients = recipients(db, &shared, for_user).await?;
    let mut all = Vec::with_capacity(changes.len());
    for (change, operation) in changes {
        all.push(match (change.notification_id, change.user_id) {
            (Some(id), user_id) => Written {
                notification: notifications.get(&id).cloned(),
                recipients: match user_id {
                    Some(user_id) => [user_id].into(),
                    None => recipients.get(&id).cloned().unwrap_or_default().into(),
                },
                ids: [id].into(),
            },
            (None, Some(user_id)) => Written {
                notification: None,
                recipients: [user_id].into(),
                ids: marked(db, user_id, *operation, change.marked_at)
                    .await?
                    .into(),
            },
            (None, None) => Written::default(),
        });
    }
    Ok(all)
}

/// Whom each of some notifications came to, in order; or which came to one user.
async fn recipients(
    db: &impl ConnectionTrait,
    notification_ids: &[i64],
    for_user: Option<i64>,
) -> Result<HashMap<i64, Vec<i64>>, DbErr> {
    let mut recipients: HashMap<i64, Vec<i64>> = HashMap::new();
    if notification_ids.is_empty() {
        return Ok(recipients);
    }
    let theirs = match for_user {
        Some(_) => "AND user_id = $2",
        None => "",
    };
    let rows = db
        .query_all_raw(sql(
            db,
            format!(
                "SELECT notification_id, user_id FROM notification_recipient \
                 WHERE arrived_at IS NOT NULL AND notification_id IN {} {theirs} ORDER BY user_id",
                numbers(db.get_database_backend(), "$1")
            ),
            [json_list(notification_ids)]
                .into_iter()
                .chain(for_user.map(Value::from)),
        ))
        .await?;
    for row in rows {
        recipients
            .entry(row.try_get("", "notification_id")?)
            .or_default()
            .push(row.try_get("", "user_id")?);
    }
    Ok(recipients)
}

/// What a user's statement marked; of a removal by another program nothing is known.
async fn marked(
    db: &impl ConnectionTrait,
    user_id: i64,
    operation: Operation,
    marked_at: Option<OffsetDateTime>,
) -> Result<Vec<i64>, DbErr> {
    let Some(marked_at) = marked_at else {
        return Ok(Vec::new());
    };
    let column = match operation {
        Operation::Delete => "deleted_at",
        Operation::Insert | Operation::Update | Operation::Resync => "read_at",
    };
    db.query_all_raw(sql(
        db,
        format!(
            "SELECT notification_id FROM notification_recipient WHERE user_id = $1 AND {column} = $2 \
             ORDER BY notification_id"
        ),
        [
            user_id.into(),
            instant(db.get_database_backend(), marked_at),
        ],
    ))
    .await?
    .iter()
    .map(|row| row.try_get("", "notification_id"))
    .collect()
}
