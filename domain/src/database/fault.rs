//! What a database error means for whoever met it.
//!
//! Judged by SQLSTATE, SQLite code and kind of I/O error, never by text: servers
//! speak the language of their administrators.

use std::error::Error;
use std::io;
use std::sync::Arc;

use sea_orm::sqlx::error::DatabaseError;
use sea_orm::sqlx::postgres::PgDatabaseError;
use sea_orm::sqlx::{self, sqlite::SqliteError};
use sea_orm::{DbErr, RuntimeErr};

/// Why a statement failed, as far as a caller can act on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The database is away, starting, stopping, overloaded or out of space: the
    /// same statement may succeed later.
    Unavailable,
    /// The server takes no writes: it has become a standby.
    ReadOnly,
    /// The statement, or the wait for an answer, took too long.
    Timeout,
    /// A lock could not be had in time.
    Busy,
    /// A deadlock or serialization failure; the whole transaction may be run again.
    Conflict,
    /// No failure of the database: the statement itself is wrong.
    Permanent,
}

impl Fault {
    /// The fault behind an error.
    pub fn of(error: &DbErr) -> Self {
        match (error, Self::of_cause(error)) {
            // It worked before: a database that is renamed, or whose password is
            // being changed, comes back.
            (DbErr::Conn(_), Self::Permanent) => Self::Unavailable,
            (_, fault) => fault,
        }
    }

    /// The fault behind the error of a first connection. A database that does not
    /// exist, or a wrong password, is permanent then.
    pub fn of_first_connection(error: &DbErr) -> Self {
        Self::of_cause(error)
    }

    fn of_cause(error: &DbErr) -> Self {
        match error {
            DbErr::Conn(cause) | DbErr::Exec(cause) | DbErr::Query(cause) => match cause {
                RuntimeErr::SqlxError(cause) => Self::of_sqlx(cause),
                RuntimeErr::Internal(_) => Self::Permanent,
            },
            DbErr::ConnectionAcquire(_) => Self::Unavailable,
            _ => Self::Permanent,
        }
    }

    /// The fault of the database error that another error has as its cause.
    pub fn behind(error: &(dyn Error + 'static)) -> Self {
        let mut cause = Some(error);
        while let Some(error) = cause {
            if let Some(error) = error.downcast_ref::<DbErr>() {
                return Self::of(error);
            }
            if let Some(error) = error.downcast_ref::<Arc<DbErr>>() {
                return Self::of(error);
            }
            cause = error.source();
        }
        Self::Permanent
    }

    fn of_sqlx(error: &sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(cause) => Self::of_database(&**cause),
            sqlx::Error::Io(cause) if cause.kind() == io::ErrorKind::TimedOut => Self::Timeout,
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed
            | sqlx::Error::BeginFailed => Self::Unavailable,
            _ => Self::Permanent,
        }
    }

    fn of_database(error: &dyn DatabaseError) -> Self {
        let code = error.code();
        let code = code.as_deref().unwrap_or_default();
        if error.try_downcast_ref::<SqliteError>().is_some() {
            code.parse().map_or(Self::Permanent, Self::of_sqlite)
        } else if error.try_downcast_ref::<PgDatabaseError>().is_some() {
            Self::of_sqlstate(code)
        } else {
            Self::Permanent
        }
    }

    /// <https://www.postgresql.org/docs/current/errcodes-appendix.html>
    fn of_sqlstate(code: &str) -> Self {
        match code {
            // A protocol violation stays one.
            "08P01" => Self::Permanent,
            "25006" => Self::ReadOnly,
            // Cancelled by statement_timeout; idle in a transaction for too long.
            "57014" | "25P03" | "25P04" => Self::Timeout,
            "55P03" => Self::Busy,
            "40001" | "40P01" => Self::Conflict,
            _ => match code.get(..2) {
                // Connection, resources, operator intervention, system error.
                Some("08" | "53" | "57" | "58") => Self::Unavailable,
                // Undone, or (40003) perhaps not: not to be run again unasked.
                Some("40") => Self::Unavailable,
                _ => Self::Permanent,
            },
        }
    }

    /// <https://www.sqlite.org/rescode.html>; the low byte of an extended code is
    /// its primary one.
    fn of_sqlite(code: i32) -> Self {
        match code & 0xff {
            // BUSY, LOCKED
            5 | 6 => Self::Busy,
            // NOMEM, IOERR, FULL, CANTOPEN, PROTOCOL
            7 | 10 | 13 | 14 | 15 => Self::Unavailable,
            // READONLY
            8 => Self::ReadOnly,
            // INTERRUPT
            9 => Self::Timeout,
            _ => Self::Permanent,
        }
    }

    /// Whether the same work may succeed later, although nothing is changed.
    pub fn passes(self) -> bool {
        self != Self::Permanent
    }
}

/// The error of a statement that the database did not answer in time.
pub(super) fn unanswered() -> DbErr {
    let cause = io::Error::new(
        io::ErrorKind::TimedOut,
        "the database did not answer in time",
    );
    DbErr::Query(RuntimeErr::SqlxError(Arc::new(sqlx::Error::Io(cause))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sqlstates_are_told_apart_by_class() {
        for (code, fault) in [
            ("08006", Fault::Unavailable),
            ("08P01", Fault::Permanent),
            ("53100", Fault::Unavailable),
            ("53300", Fault::Unavailable),
            ("57P01", Fault::Unavailable),
            ("57P03", Fault::Unavailable),
            ("58030", Fault::Unavailable),
            ("57014", Fault::Timeout),
            ("25P03", Fault::Timeout),
            ("25006", Fault::ReadOnly),
            ("55P03", Fault::Busy),
            ("40001", Fault::Conflict),
            ("40P01", Fault::Conflict),
            ("40003", Fault::Unavailable),
            ("23505", Fault::Permanent),
            ("42P01", Fault::Permanent),
            ("25P02", Fault::Permanent),
            ("", Fault::Permanent),
        ] {
            assert_eq!(Fault::of_sqlstate(code), fault, "{code}");
        }
    }

    #[test]
    fn extended_codes_of_sqlite_count_as_their_primary_ones() {
        for (code, fault) in [
            (5, Fault::Busy),
            (517, Fault::Busy),
            (6, Fault::Busy),
            (7, Fault::Unavailable),
            (10, Fault::Unavailable),
            (10 | 12 << 8, Fault::Unavailable),
            (13, Fault::Unavailable),
            (8, Fault::ReadOnly),
            (9, Fault::Timeout),
            (11, Fault::Permanent),
            (19, Fault::Permanent),
            (2067, Fault::Permanent),
        ] {
            assert_eq!(Fault::of_sqlite(code), fault, "{code}");
        }
    }

    #[test]
    fn an_unanswered_statement_is_a_timeout() {
        assert_eq!(Fault::of(&unanswered()), Fault::Timeout);
    }
}
