//! Committing a write so that its position can be waited for.

use crate::database::Transaction;
use sea_orm::{ConnectionTrait, DbBackend, DbErr, Statement};

use super::{Position, number_pending};

/// What a committed write can be recognised by in the change log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receipt {
    /// It was numbered inside its own transaction (SQLite).
    Numbered(Position),
    /// Its rows carry this transaction number; the next tick numbers them (PostgreSQL).
    Transaction(u64),
    /// It changed nothing: what it asked for, another write had done before.
    Nothing,
}

/// Commits a write that was begun with [`crate::database::Database::begin`].
pub async fn commit(txn: Transaction) -> Result<Receipt, DbErr> {
    match txn.get_database_backend() {
        DbBackend::Sqlite => {
            let (head, numbered) = number_pending(&txn).await?;
            txn.commit().await?;
            // Its own rows are the last of those it numbered.
            Ok(if numbered > 0 {
                Receipt::Numbered(head)
            } else {
                Receipt::Nothing
            })
        }
        backend => {
            let row = txn
                .query_one_raw(Statement::from_string(
                    backend,
                    "SELECT pg_current_xact_id_if_assigned()::text::bigint AS xid",
                ))
                .await?;
            let xid: Option<i64> = match row {
                Some(row) => row.try_get("", "xid")?,
                None => None,
            };
            txn.commit().await?;
            Ok(xid
                .and_then(|xid| u64::try_from(xid).ok())
                .map_or(Receipt::Nothing, Receipt::Transaction))
        }
    }
}
