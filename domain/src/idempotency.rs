//! Idempotency keys: the same request again is answered again, not done again.

use std::fmt::Write;

use sea_orm::{ConnectionTrait, DbErr, Statement};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use time::{Duration, OffsetDateTime};

use crate::Violation;
use crate::database::{Database, Transaction, instant};

/// How long an idempotency key is kept.
const SPAN: Duration = Duration::hours(24);

/// Why a key cannot be used.
#[derive(Debug, Error)]
pub(crate) enum ClaimError {
    #[error("this idempotency key was used for another request within the last 24 hours")]
    Conflict,
    #[error("the database failed")]
    Database(#[from] DbErr),
}

/// What is wrong with a key, if anything is.
pub(crate) fn fault_of_key(key: &str) -> Option<Violation> {
    let fits = (1..=200).contains(&key.chars().count()) && !key.contains(char::is_control);
    (!fits).then(|| {
        Violation::new(
            "idempotencyKey",
            "an idempotency key has 1 to 200 characters, no control characters",
        )
    })
}

/// A digest as text.
pub(crate) fn hex(digest: &[u8]) -> String {
    digest.iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// Takes the key for a request that `fingerprint` tells from others, or says
/// what it was answered before. A concurrent twin waits here until the first
/// has committed.
pub(crate) async fn claim<A: DeserializeOwned>(
    txn: &Transaction,
    viewer: &str,
    key: &str,
    fingerprint: &str,
    now: OffsetDateTime,
) -> Result<Option<A>, ClaimError> {
    let backend = txn.get_database_backend();
    let execute = |sql: &str, values: Vec<sea_orm::Value>| {
        txn.execute_raw(Statement::from_sql_and_values(backend, sql, values))
    };
    execute(
        "DELETE FROM idempotency_key WHERE viewer = $1 AND key = $2 AND created_at <= $3",
        vec![viewer.into(), key.into(), instant(backend, now - SPAN)],
    )
    .await?;
    let claimed = execute(
        "INSERT INTO idempotency_key (viewer, key, request_hash, response, created_at) \
         VALUES ($1, $2, $3, '', $4) ON CONFLICT DO NOTHING",
        vec![
            viewer.into(),
            key.into(),
            fingerprint.into(),
            instant(backend, now),
        ],
    )
    .await?;
    if claimed.rows_affected() == 1 {
        return Ok(None);
    }
    let row = txn
        .query_one_raw(Statement::from_sql_and_values(
            backend,
            "SELECT request_hash, response FROM idempotency_key WHERE viewer = $1 AND key = $2",
            [viewer.into(), key.into()],
        ))
        .await?
        .ok_or_else(|| DbErr::RecordNotFound("an idempotency key that was just there".into()))?;
    let hash: String = row.try_get("", "request_hash")?;
    if hash != fingerprint {
        return Err(ClaimError::Conflict);
    }
    let response: String = row.try_get("", "response")?;
    let answer = serde_json::from_str(&response).map_err(|error| DbErr::Json(error.to_string()))?;
    Ok(Some(answer))
}

/// Keeps what the request was answered.
pub(crate) async fn remember<A: Serialize>(
    txn: &Transaction,
    viewer: &str,
    key: &str,
    answer: &A,
) -> Result<(), DbErr> {
    let response = serde_json::to_string(answer).map_err(|error| DbErr::Json(error.to_string()))?;
    txn.execute_raw(Statement::from_sql_and_values(
        txn.get_database_backend(),
        "UPDATE idempotency_key SET response = $3 WHERE viewer = $1 AND key = $2",
        [viewer.into(), key.into(), response.into()],
    ))
    .await?;
    Ok(())
}

/// Forgets keys that are older than a day. Returns how many went.
pub async fn forget(db: &Database, now: OffsetDateTime) -> Result<u64, DbErr> {
    let backend = db.backend();
    let gone = db
        .writer()
        .execute_raw(Statement::from_sql_and_values(
            backend,
            "DELETE FROM idempotency_key WHERE created_at <= $1",
            [instant(backend, now - SPAN)],
        ))
        .await?;
    Ok(gone.rows_affected())
}
