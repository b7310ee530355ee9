//! Keeping back what has not left yet.

use sea_orm::{ConnectionTrait, DbBackend, DbErr, Value};
use time::OffsetDateTime;

use crate::database::{Transaction, instant, sql};

/// Cancels the deliveries that wait and meet a condition with these parameters.
/// In order of their ids, so that two callers cannot wait for each other.
pub(in crate::notification) async fn cancel(
    txn: &Transaction,
    condition: &str,
    parameters: impl IntoIterator<Item = Value>,
    reason: &str,
    now: OffsetDateTime,
) -> Result<(), DbErr> {
    let backend = txn.get_database_backend();
    let mut values: Vec<Value> = parameters.into_iter().collect();
    let place = values.len();
    values.push(instant(backend, now));
    values.push(reason.into());
    let lock = match backend {
        DbBackend::Postgres => "FOR UPDATE",
        _ => "",
    };
    txn.execute_raw(sql(
        txn,
        format!(
            "UPDATE delivery SET state = 'CANCELLED', finished_at = ${at}, last_error = ${why} \
             WHERE id IN (SELECT id FROM delivery WHERE state IN ('QUEUED', 'FAILED') AND {condition} ORDER BY id {lock})",
            at = place + 1,
            why = place + 2,
        ),
        values,
    ))
    .await?;
    Ok(())
}
