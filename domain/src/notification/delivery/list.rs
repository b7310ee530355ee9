//! Looking at deliveries.

use sea_orm::{ConnectionTrait, DbErr, FromQueryResult, Value};
use time::OffsetDateTime;

use super::DeliveryState;
use crate::database::sql;
use crate::notification::Channel;

/// A delivery, as it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Delivery {
    pub id: i64,
    pub notification_id: i64,
    pub user_key: String,
    pub channel: Channel,
    pub state: DeliveryState,
    pub attempts: i32,
    /// When it is tried next, while it waits.
    pub next_attempt_at: Option<OffsetDateTime>,
    pub created_at: OffsetDateTime,
    /// When it was sent or given up.
    pub finished_at: Option<OffsetDateTime>,
    /// What the other side answered when it took it.
    pub answer: Option<String>,
    pub last_error: Option<String>,
}

/// Which deliveries; what is absent matches all.
#[derive(Debug, Clone, Default)]
pub struct DeliveryFilter {
    pub states: Option<Vec<DeliveryState>>,
    pub channels: Option<Vec<Channel>>,
    pub notification_id: Option<i64>,
    /// The key of the user they are for.
    pub user: Option<String>,
}

#[derive(FromQueryResult)]
struct Row {
    id: i64,
    notification_id: i64,
    user_key: String,
    channel: String,
    state: String,
    attempts: i32,
    next_attempt_at: OffsetDateTime,
    created_at: OffsetDateTime,
    finished_at: Option<OffsetDateTime>,
    answer: Option<String>,
    last_error: Option<String>,
}

impl TryFrom<Row> for Delivery {
    type Error = DbErr;

    fn try_from(row: Row) -> Result<Self, DbErr> {
        let malformed =
            |error: &dyn std::fmt::Display| DbErr::Type(format!("delivery {}: {error}", row.id));
        let state: DeliveryState = row.state.parse().map_err(|error| malformed(&error))?;
        let waits = matches!(state, DeliveryState::Queued | DeliveryState::Failed);
        Ok(Self {
            id: row.id,
            notification_id: row.notification_id,
            channel: row.channel.parse().map_err(|error| malformed(&error))?,
            user_key: row.user_key,
            state,
            attempts: row.attempts,
            next_attempt_at: waits.then_some(row.next_attempt_at),
            created_at: row.created_at,
            finished_at: row.finished_at,
            answer: row.answer,
            last_error: row.last_error,
        })
    }
}

const SELECT: &str = "SELECT d.id, d.notification_id, u.key AS user_key, d.channel, d.state, d.attempts, \
     d.next_attempt_at, d.created_at, d.finished_at, d.answer, d.last_error \
     FROM delivery d JOIN user_account u ON u.id = d.user_id";

fn one_of(column: &str, names: impl Iterator<Item = &'static str>) -> String {
    let names: Vec<String> = names.map(|name| format!("'{name}'")).collect();
    if names.is_empty() {
        return "false".into();
    }
    format!("{column} IN ({})", names.join(", "))
}

/// A delivery by its id.
pub async fn delivery(db: &impl ConnectionTrait, id: i64) -> Result<Option<Delivery>, DbErr> {
    let statement = sql(db, format!("{SELECT} WHERE d.id = $1"), [id.into()]);
    let row = Row::find_by_statement(statement).one(db).await?;
    row.map(TryInto::try_into).transpose()
}

/// Up to `limit` deliveries, the newest first, after or before an id.
pub async fn list(
    db: &impl ConnectionTrait,
    filter: &DeliveryFilter,
    after: Option<i64>,
    before: Option<i64>,
    limit: u64,
    from_end: bool,
) -> Result<Vec<Delivery>, DbErr> {
    let mut conditions = vec![String::from("true")];
    let mut values: Vec<Value> = Vec::new();
    let mut bind = |value: Value| {
        values.push(value);
        format!("${}", values.len())
    };
    // As they are, for the planner to see how many there are of each.
    if let Some(states) = &filter.states {
        conditions.push(one_of("d.state", states.iter().map(|state| state.as_str())));
    }
    if let Some(channels) = &filter.channels {
        let names = channels.iter().map(|channel| channel.as_str());
        conditions.push(one_of("d.channel", names));
    }
    if let Some(id) = filter.notification_id {
        conditions.push(format!("d.notification_id = {}", bind(id.into())));
    }
    if let Some(user) = &filter.user {
        let key = bind(user.replace('\0', "").into());
        conditions.push(format!(
            "d.user_id = (SELECT id FROM user_account WHERE key = {key})"
        ));
    }
    for (id, comparison) in [(after, "<"), (before, ">")] {
        if let Some(id) = id {
            conditions.push(format!("d.id {comparison} {}", bind(id.into())));
        }
    }
    let order = if from_end { "ASC" } else { "DESC" };
    let statement = sql(
        db,
        format!(
            "{SELECT} WHERE {} ORDER BY d.id {order} LIMIT {limit}",
            conditions.join(" AND ")
        ),
        values,
    );
    let rows = Row::find_by_statement(statement).all(db).await?;
    let mut list = rows
        .into_iter()
        .map(TryInto::try_into)
        .collect::<Result<Vec<Delivery>, DbErr>>()?;
    if from_end {
        list.reverse();
    }
    Ok(list)
}

/// How many deliveries wait, by channel: none of a channel for which none does.
pub async fn backlog(db: &impl ConnectionTrait) -> Result<Vec<(Channel, i64)>, DbErr> {
    db.query_all_raw(sql(
        db,
        "SELECT channel, count(*) AS waiting FROM delivery WHERE state IN ('QUEUED', 'FAILED') GROUP BY channel",
        [],
    ))
    .await?
    .iter()
    .map(|row| {
        let channel: String = row.try_get("", "channel")?;
        let channel = channel
            .parse()
            .map_err(|error| DbErr::Type(format!("a delivery: {error}")))?;
        Ok((channel, row.try_get("", "waiting")?))
    })
    .collect()
}
