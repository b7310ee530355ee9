//! A user's list of notifications, and what they do with it.

use std::sync::Arc;

use sea_orm::{ConnectionTrait, DbBackend, DbErr, FromQueryResult, Value};
use time::OffsetDateTime;

use super::{NotificationError, Severity};
use crate::change::{self, Receipt};
use crate::database::{Database, again, instant, json_list, numbers, sql, texts};
use crate::json;

/// What a notification says, as its recipients see it.
#[derive(Debug, Clone, PartialEq)]
pub struct Notification {
    pub id: i64,
    /// Who sent it: a user's key, or `alert:` and a rule's number.
    pub sender: String,
    pub title: String,
    pub body: String,
    pub severity: Severity,
    pub category: String,
    /// A JSON object. None, too, if what is stored cannot be read.
    pub data: Option<serde_json::Value>,
    pub link: Option<String>,
    pub created_at: OffsetDateTime,
    pub expires_at: Option<OffsetDateTime>,
}

/// A notification in a user's list.
#[derive(Debug, Clone, PartialEq)]
pub struct Received {
    pub notification: Arc<Notification>,
    pub arrived_at: OffsetDateTime,
    pub read_at: Option<OffsetDateTime>,
}

/// Which notifications; what is absent matches all.
#[derive(Debug, Clone, Default)]
pub struct InboxFilter {
    pub unread: Option<bool>,
    pub categories: Option<Vec<String>>,
    pub severities: Option<Vec<Severity>>,
    /// Arrived then or later.
    pub since: Option<OffsetDateTime>,
    /// Arrived before.
    pub until: Option<OffsetDateTime>,
}

/// The place of a notification in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InboxCursor {
    pub arrived_at: OffsetDateTime,
    pub notification_id: i64,
}

/// What was marked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marked {
    /// Those that were not so before.
    pub ids: Vec<i64>,
    pub receipt: Receipt,
}

const COLUMNS: &str = "n.id, n.sender, n.title, n.body, n.severity, n.category, n.data, n.link, n.created_at, n.expires_at";
const VISIBLE: &str =
    "r.arrived_at IS NOT NULL AND r.deleted_at IS NULL AND r.withdrawn_at IS NULL";

#[derive(FromQueryResult)]
pub(super) struct NotificationRow {
    id: i64,
    sender: String,
    title: String,
    body: String,
    severity: String,
    category: String,
    data: Option<String>,
    link: Option<String>,
    created_at: OffsetDateTime,
    expires_at: Option<OffsetDateTime>,
}

impl TryFrom<NotificationRow> for Notification {
    type Error = DbErr;

    fn try_from(row: NotificationRow) -> Result<Self, DbErr> {
        let id = row.id;
        let data = row.data.and_then(|text| {
            let what = format_args!("the data of notification {id}");
            json::stored(&text, what)
        });
        Ok(Self {
            id,
            sender: row.sender,
            title: row.title,
            body: row.body,
            severity: row
                .severity
                .parse()
                .map_err(|error| DbErr::Type(format!("notification {id}: {error}")))?,
            category: row.category,
            data,
            link: row.link,
            created_at: row.created_at,
            expires_at: row.expires_at,
        })
    }
}

/// Notifications by their ids, but for those that were taken back: whoever they
/// are for, or those in one user's list.
pub(super) async fn by_ids(
    db: &impl ConnectionTrait,
    ids: &[i64],
    for_user: Option<i64>,
) -> Result<Vec<Notification>, DbErr> {
    let listed = match for_user {
        Some(_) => format!(
            "AND EXISTS (SELECT 1 FROM notification_recipient r \
             WHERE r.notification_id = n.id AND r.user_id = $2 AND {VISIBLE})"
        ),
        None => String::new(),
    };
    let statement = sql(
        db,
        format!(
            "SELECT {COLUMNS} FROM notification n WHERE n.withdrawn_at IS NULL AND n.id IN {} {listed}",
            numbers(db.get_database_backend(), "$1")
        ),
        [json_list(ids)]
            .into_iter()
            .chain(for_user.map(Value::from)),
    );
    let rows = NotificationRow::find_by_statement(statement)
        .all(db)
        .await?;
    rows.into_iter().map(TryInto::try_into).collect()
}

/// Up to `limit` notifications of a user's list, the newest first, after or
/// before a place in it, from its start or its end.
pub async fn list(
    db: &impl ConnectionTrait,
    user_id: i64,
    filter: &InboxFilter,
    after: Option<InboxCursor>,
    before: Option<InboxCursor>,
    limit: u64,
    from_end: bool,
) -> Result<Vec<Received>, DbErr> {
    let backend = db.get_database_backend();
    let mut conditions = vec![String::from("r.user_id = $1"), VISIBLE.to_owned()];
    let mut values: Vec<Value> = vec![user_id.into()];
    let mut bind = |value: Value| {
        values.push(value);
        format!("${}", values.len())
    };
    match filter.unread {
        Some(true) => conditions.push("r.read_at IS NULL".into()),
        Some(false) => conditions.push("r.read_at IS NOT NULL".into()),
        None => {}
    }
    if let Some(categories) = &filter.categories {
        // No category has a NUL, and PostgreSQL takes none to look for.
        let known: Vec<&String> = categories.iter().filter(|c| !c.contains('\0')).collect();
        let parameter = bind(json_list(&known));
        conditions.push(format!("n.category IN {}", texts(backend, &parameter)));
    }
    if let Some(severities) = &filter.severities {
        let parameter = bind(json_list(severities));
        conditions.push(format!("n.severity IN {}", texts(backend, &parameter)));
    }
    for (at, comparison) in [(filter.since, ">="), (filter.until, "<")] {
        if let Some(at) = at {
            let parameter = bind(instant(backend, at));
            conditions.push(format!("r.arrived_at {comparison} {parameter}"));
        }
    }
    for (place, comparison) in [(after, "<"), (before, ">")] {
        if let Some(place) = place {
            let at = bind(instant(backend, place.arrived_at));
            let id = bind(place.notification_id.into());
            conditions.push(format!(
                "(r.arrived_at, r.notification_id) {comparison} ({at}, {id})"
            ));
        }
    }
    let order = if from_end { "ASC" } else { "DESC" };
    let statement = sql(
        db,
        format!(
            "SELECT {COLUMNS}, r.arrived_at, r.read_at \
             FROM notification_recipient r JOIN notification n ON n.id = r.notification_id \
             WHERE {} ORDER BY r.arrived_at {order}, r.notification_id {order} LIMIT {limit}",
            conditions.join(" AND ")
        ),
        values,
    );
    let rows = db.query_all_raw(statement).await?;
    let mut list = rows
        .iter()
        .map(|row| {
            Ok(Received {
                notification: Arc::new(NotificationRow::from_query_result(row, "")?.try_into()?),
                arrived_at: row.try_get("", "arrived_at")?,
                read_at: row.try_get("", "read_at")?,
            })
        })
        .collect::<Result<Vec<_>, DbErr>>()?;
    if from_end {
        list.reverse();
    }
    Ok(list)
}

/// A notification of a user's list.
pub async fn received(
    db: &impl ConnectionTrait,
    user_id: i64,
    notification_id: i64,
) -> Result<Option<Received>, DbErr> {
    let row = db
        .query_one_raw(sql(
            db,
            format!(
                "SELECT {COLUMNS}, r.arrived_at, r.read_at \
                 FROM notification_recipient r JOIN notification n ON n.id = r.notification_id \
                 WHERE r.user_id = $1 AND r.notification_id = $2 AND {VISIBLE}"
            ),
            [user_id.into(), notification_id.into()],
        ))
        .await?;
    row.map(|row| {
        Ok(Received {
            notification: Arc::new(NotificationRow::from_query_result(&row, "")?.try_into()?),
            arrived_at: row.try_get("", "arrived_at")?,
            read_at: row.try_get("", "read_at")?,
        })
    })
    .transpose()
}

/// When a notification came to a user, and when they read it; nothing if it is
/// not in their list.
pub async fn recipient_state(
    db: &impl ConnectionTrait,
    user_id: i64,
    notification_id: i64,
) -> Result<Option<(OffsetDateTime, Option<OffsetDateTime>)>, DbErr> {
    let row = db
        .query_one_raw(sql(
            db,
            format!(
                "SELECT r.arrived_at, r.read_at FROM notification_recipient r \
                 WHERE r.notification_id = $1 AND r.user_id = $2 AND {VISIBLE}"
            ),
            [notification_id.into(), user_id.into()],
        ))
        .await?;
    row.map(|row| Ok((row.try_get("", "arrived_at")?, row.try_get("", "read_at")?)))
        .transpose()
}

/// How many of a user's notifications are unread: one row is read, however many
/// there are.
pub async fn unread_count(db: &impl ConnectionTrait, user_id: i64) -> Result<i64, DbErr> {
    let row = db
        .query_one_raw(sql(
            db,
            "SELECT unread_count FROM user_account WHERE id = $1",
            [user_id.into()],
        ))
        .await?;
    row.map_or(Ok(0), |row| row.try_get("", "unread_count"))
}

/// Marks some of a user's notifications read. Those that are read already, gone,
/// or never were theirs stay as they are.
pub async fn mark_read(
    db: &Database,
    user_id: i64,
    ids: &[i64],
    now: OffsetDateTime,
) -> Result<Marked, NotificationError> {
    let condition = format!(
        "read_at IS NULL AND notification_id IN {}",
        numbers(db.backend(), "$3")
    );
    mark(
        db,
        "read_at",
        user_id,
        &condition,
        Some(json_list(ids)),
        now,
    )
    .await
}

/// Marks all of a user's notifications read that had arrived by then.
pub async fn mark_all_read(
    db: &Database,
    user_id: i64,
    until: OffsetDateTime,
    now: OffsetDateTime,
) -> Result<Marked, NotificationError> {
    let until = instant(db.backend(), until);
    let condition = "read_at IS NULL AND arrived_at <= $3";
    mark(db, "read_at", user_id, condition, Some(until), now).await
}

/// Takes some of a user's notifications off their list.
pub async fn delete(
    db: &Database,
    user_id: i64,
    ids: &[i64],
    now: OffsetDateTime,
) -> Result<Marked, NotificationError> {
    let condition = format!("notification_id IN {}", numbers(db.backend(), "$3"));
    mark(
        db,
        "deleted_at",
        user_id,
        &condition,
        Some(json_list(ids)),
        now,
    )
    .await
}

/// One statement, by which triggers note one change and count once.
async fn mark(
    db: &Database,
    column: &str,
    user_id: i64,
    condition: &str,
    parameter: Option<Value>,
    now: OffsetDateTime,
) -> Result<Marked, NotificationError> {
    again(|| async {
    let txn = db.begin().await?;
    let values = [user_id.into(), instant(db.backend(), now)];
    // In order of their ids, so that two callers cannot wait for each other.
    let lock = match db.backend() {
        DbBackend::Postgres => "FOR UPDATE",
        _ => "",
    };
    let listed =
        "user_id = $1 AND arrived_at IS NOT NULL AND deleted_at IS NULL AND withdrawn_at IS NULL";
    let rows = txn
        .query_all_raw(sql(
            &txn,
            format!(
                "UPDATE notification_recipient SET {column} = $2 WHERE {listed} AND notification_id IN ( \
                     SELECT notification_id FROM notification_recipient WHERE {listed} AND {condition} \
                     ORDER BY notification_id {lock}) RETURNING notification_id"
            ),
            values.into_iter().chain(parameter.clone()),
        ))
        .await?;
    let ids = rows
        .iter()
        .map(|row| row.try_get("", "notification_id"))
        .collect::<Result<Vec<i64>, DbErr>>()?;
    Ok(Marked {
        ids,
        receipt: change::commit(txn).await?,
    })
    })
    .await
}
