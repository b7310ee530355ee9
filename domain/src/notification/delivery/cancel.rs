//! Keeping back what has not left yet.

use sea_orm::{ConnectionTrait, DbErr, Value};
use time::OffsetDateTime;

use super::in_order;
use crate::database::{Transaction, instant, sql};

/// Cancels the deliveries that wait and meet a condition with these parameters.
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
    let waiting = in_order(
        backend,
        &format!("state IN ('QUEUED', 'FAILED') AND {condition}"),
    );
    txn.execute_raw(sql(
        txn,
        format!(
            "UPDATE delivery SET state = 'CANCELLED', finished_at = ${at}, last_error = ${why} \
             WHERE id IN {waiting}",
            at = place + 1,
            why = place + 2,
        ),
        values,
    ))
    .await?;
    Ok(())
}
