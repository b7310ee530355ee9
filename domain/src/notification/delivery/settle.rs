//! Writing down what came of attempts.

use std::borrow::Cow;

use sea_orm::{ConnectionTrait, DbBackend, DbErr};
use serde::Serialize;
use time::OffsetDateTime;

use super::{DeliveryState, in_order};
use crate::database::{
    Database, Transaction, again, instant, json_list, numbers, sql, sqlite_instant,
};
use crate::notification::Outcome;

/// What came of one attempt.
#[derive(Debug, Clone)]
pub struct Settlement {
    pub delivery_id: i64,
    pub endpoint_id: i64,
    pub outcome: Outcome,
    /// When it is to be tried again, if it failed and is.
    pub next_attempt_at: Option<OffsetDateTime>,
}

/// What is kept of an answer or a reason, in bytes.
const MOST_TEXT: usize = 1000;

/// Writes down what came of a lease's attempts. What was sent is written down
/// whoever has the lease by now; of all else only what the lease still holds.
pub async fn settle(
    db: &Database,
    lease: &str,
    settlements: &[Settlement],
    now: OffsetDateTime,
) -> Result<(), DbErr> {
    if settlements.is_empty() {
        return Ok(());
    }
    again(|| async {
    let txn = db.begin().await?;
    let rows: Vec<Row<'_>> = settlements.iter().map(Row::new).collect();
    let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
    // An instant as text is one for PostgreSQL, too.
    let given = match db.backend() {
        DbBackend::Sqlite => {
            "(SELECT value ->> 'id' AS id, value ->> 'state' AS state, value ->> 'answer' AS answer, value ->> 'error' AS error, \
              value ->> 'next' AS next, value ->> 'uncounted' AS uncounted FROM json_each($1))"
        }
        _ => {
            "(SELECT (value ->> 'id')::bigint AS id, value ->> 'state' AS state, value ->> 'answer' AS answer, value ->> 'error' AS error, \
              (value ->> 'next')::timestamptz AS next, \
              (value ->> 'uncounted')::integer AS uncounted FROM json_array_elements($1::json))"
        }
    };
    txn.execute_raw(sql(
        &txn,
        format!(
            "UPDATE delivery SET \
                 state = CASE WHEN delivery.attempts = given.uncounted THEN 'QUEUED' ELSE given.state END, answer = coalesce(given.answer, delivery.answer), \
                 last_error = given.error, next_attempt_at = coalesce(given.next, next_attempt_at), \
                 attempts = delivery.attempts - given.uncounted, \
                 finished_at = CASE WHEN given.state = 'FAILED' THEN NULL ELSE {now} END, \
                 leased_by = NULL, leased_until = NULL \
             FROM {given} AS given WHERE delivery.id = given.id AND delivery.id IN {locked} AND delivery.state <> 'SENT' \
             AND (given.state = 'SENT' OR (delivery.state = 'LEASED' AND delivery.leased_by = $2))",
            locked = in_order(db.backend(), &format!("id IN {}", numbers(db.backend(), "$4"))),
            now = match db.backend() {
                DbBackend::Sqlite => "$3",
                _ => "$3::timestamptz",
            },
        ),
        [
            json_list(&rows),
            lease.into(),
            instant(db.backend(), now),
            json_list(&ids),
        ],
    ))
    .await?;
    let gone: Vec<&Settlement> = settlements
        .iter()
        .filter(|settlement| matches!(settlement.outcome, Outcome::Gone { .. }))
        .collect();
    give_up(&txn, &gone, now).await?;
    txn.commit().await
    })
    .await
}

/// A settlement as the statement takes it.
#[derive(Serialize)]
struct Row<'a> {
    id: i64,
    state: DeliveryState,
    answer: Option<Cow<'a, str>>,
    error: Option<Cow<'a, str>>,
    next: Option<String>,
    /// Attempts that do not count.
    uncounted: i32,
}

impl<'a> Row<'a> {
    fn new(settlement: &'a Settlement) -> Self {
        let (state, answer, error) = match &settlement.outcome {
            Outcome::Sent { answer } => (DeliveryState::Sent, answer.as_deref(), None),
            Outcome::Postponed { reason, .. } => {
                (DeliveryState::Failed, None, Some(reason.as_str()))
            }
            Outcome::Failed { reason, .. } if settlement.next_attempt_at.is_some() => {
                (DeliveryState::Failed, None, Some(reason.as_str()))
            }
            Outcome::Failed { reason, .. }
            | Outcome::Rejected { reason }
            | Outcome::Gone { reason } => (DeliveryState::Dead, None, Some(reason.as_str())),
            Outcome::Unknown { reason } => (DeliveryState::Unknown, None, Some(reason.as_str())),
        };
        Self {
            id: settlement.delivery_id,
            state,
            answer: answer.map(shorten),
            error: error.map(shorten),
            next: settlement.next_attempt_at.map(sqlite_instant),
            uncounted: matches!(settlement.outcome, Outcome::Postponed { .. }).into(),
        }
    }
}

/// PostgreSQL keeps no NUL.
fn shorten(text: &str) -> Cow<'_, str> {
    let text = &text[..text.floor_char_boundary(MOST_TEXT)];
    if text.contains('\0') {
        text.replace('\0', "").into()
    } else {
        text.into()
    }
}

/// Endpoints that are gone get nothing more.
async fn give_up(
    txn: &Transaction,
    gone: &[&Settlement],
    now: OffsetDateTime,
) -> Result<(), DbErr> {
    let backend = txn.get_database_backend();
    for settlement in gone {
        let Outcome::Gone { reason } = &settlement.outcome else {
            continue;
        };
        txn.execute_raw(sql(
            txn,
            "UPDATE endpoint SET disabled_at = $2, disabled_reason = $3 WHERE id = $1 AND disabled_at IS NULL",
            [
                settlement.endpoint_id.into(),
                instant(backend, now),
                shorten(reason).into_owned().into(),
            ],
        ))
        .await?;
    }
    let ids: Vec<i64> = gone
        .iter()
        .map(|settlement| settlement.endpoint_id)
        .collect();
    if ids.is_empty() {
        return Ok(());
    }
    let condition = format!("endpoint_id IN {}", numbers(backend, "$1"));
    super::cancel(
        txn,
        &condition,
        [json_list(&ids)],
        "the endpoint is gone",
        now,
    )
    .await
}
