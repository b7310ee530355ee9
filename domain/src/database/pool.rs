//! Connections of one purpose, and what keeps a broken one from being used again.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use parking_lot::Mutex;
use sea_orm::sqlx::Connection;
use sea_orm::sqlx::pool::PoolConnectionMetadata;
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, ExecResult,
    QueryResult, Statement, TransactionOptions, TransactionTrait,
};
use tokio::time::timeout;

use super::fault::{self, Fault};

/// How long a connection has to answer when there is reason to doubt it.
pub(super) const PING_TIMEOUT: Duration = Duration::from_secs(3);
/// One that nobody used for so long is asked before it is used: the server, or
/// what stands between, may have closed it.
const IDLE: Duration = Duration::from_secs(10);

/// Connections of one purpose. Each statement has a time limit, so that a
/// database that falls silent holds nobody for ever.
#[derive(Debug, Clone)]
pub struct Pool {
    inner: DatabaseConnection,
    watch: Watch,
}

impl Pool {
    pub(super) fn new(inner: DatabaseConnection, watch: Watch) -> Self {
        Self { inner, watch }
    }

    /// The pool itself, for migrations: no statement has a time limit there.
    pub fn unlimited(&self) -> &DatabaseConnection {
        &self.inner
    }

    /// Not to be dropped while it runs, except where it took too long: BEGIN may
    /// still be carried out then, on a connection that nobody ends it on.
    pub(super) async fn begin(&self, options: TransactionOptions) -> Result<Transaction, DbErr> {
        let begun = self
            .watch
            .over(self.inner.begin_with_options(options))
            .await;
        self.watch.condemn_after(&begun);
        Ok(Transaction {
            inner: begun?,
            watch: self.watch.clone(),
            failed: AtomicBool::new(false),
        })
    }

    pub(super) async fn close(&self) -> Result<(), DbErr> {
        self.inner.close_by_ref().await
    }

    async fn over<T>(&self, statement: impl Future<Output = Result<T, DbErr>>) -> Result<T, DbErr> {
        self.watch.over(statement).await
    }
}

/// A transaction whose statements have the time limit of their [`Pool`]. Dropped
/// without a commit, it is rolled back.
#[derive(Debug)]
pub struct Transaction {
    inner: DatabaseTransaction,
    watch: Watch,
    /// A statement failed: only a rollback can follow.
    failed: AtomicBool,
}

impl Transaction {
    /// Commits. After an error it is not known whether the transaction took
    /// effect, unless the database said that it did not.
    ///
    /// Done means done. On SQLite, BEGIN was given to a connection that counted no
    /// transaction (see [`Condemned::spares`]) and would have failed inside one, so
    /// that this is its COMMIT and no RELEASE of a savepoint. PostgreSQL answers the
    /// COMMIT of a transaction in which a statement failed with a silent rollback:
    /// such a one is not committed.
    pub async fn commit(self) -> Result<(), DbErr> {
        if self.failed.load(Ordering::Relaxed) {
            self.rollback().await;
            return Err(DbErr::Custom(
                "a statement of the transaction failed: it cannot be committed".to_owned(),
            ));
        }
        let committed = self.watch.over(self.inner.commit()).await;
        self.watch.condemn_after(&committed);
        committed
    }

    /// Undoes everything. It cannot fail: where ROLLBACK does, because SQLite has
    /// rolled back by itself or the server is gone, the connection is not used
    /// again. What went wrong before is what the caller tells.
    pub async fn rollback(self) {
        let rolled_back = timeout(PING_TIMEOUT, self.inner.rollback()).await;
        let rolled_back = rolled_back.unwrap_or_else(|_| Err(fault::unanswered()));
        self.watch.condemn_after(&rolled_back);
    }

    async fn over<T>(&self, statement: impl Future<Output = Result<T, DbErr>>) -> Result<T, DbErr> {
        let outcome = self.watch.over(statement).await;
        if outcome.is_err() {
            self.failed.store(true, Ordering::Relaxed);
        }
        outcome
    }
}

/// How long statements may take, and which connections are good.
#[derive(Debug, Clone)]
pub(super) struct Watch {
    patience: Duration,
    condemned: Arc<Condemned>,
}

impl Watch {
    pub(super) fn new(patience: Duration, condemned: Arc<Condemned>) -> Self {
        Self {
            patience,
            condemned,
        }
    }

    async fn over<T>(&self, statement: impl Future<Output = Result<T, DbErr>>) -> Result<T, DbErr> {
        let outcome = timeout(self.patience, statement).await;
        let outcome = outcome.unwrap_or_else(|_| {
            self.condemned.suspect();
            Err(fault::unanswered())
        });
        if let Err(error) = &outcome
            && Fault::of(error) == Fault::ReadOnly
        {
            self.condemned.add();
        }
        outcome
    }

    /// A transaction that could not be begun or ended leaves its connection in a
    /// state that nobody knows.
    fn condemn_after<T>(&self, outcome: &Result<T, DbErr>) {
        if let Err(error) = outcome
            && Fault::of(error) != Fault::Conflict
        {
            self.condemned.add();
        }
    }
}

/// Connections that are not used again, and those that have to answer first.
///
/// A pool cannot be told to give up one connection. After a failover all of them
/// lead to the wrong server anyway, and to make a few anew costs little.
#[derive(Debug, Default)]
pub(super) struct Condemned {
    /// Made before this: not used again.
    before: Mutex<Option<Instant>>,
    /// Made before this, when a statement got no answer: the server may be gone
    /// without a word.
    suspected: Mutex<Option<Instant>>,
}

impl Condemned {
    /// Many callers see one outage: connections are replaced this often at most.
    const PACE: Duration = Duration::from_secs(1);
    /// So long after a silence connections from before it are suspects; by then
    /// those that led nowhere have been found out.
    const SUSPICION: Duration = Duration::from_secs(60);

    fn add(&self) {
        let mut before = self.before.lock();
        if before.is_none_or(|at| at.elapsed() >= Self::PACE) {
            *before = Some(Instant::now());
        }
    }

    fn suspect(&self) {
        *self.suspected.lock() = Some(Instant::now());
    }

    /// Whether some statement got no answer lately.
    pub(super) fn is_suspicious(&self) -> bool {
        let suspected = *self.suspected.lock();
        suspected.is_some_and(|at| at.elapsed() < Self::SUSPICION)
    }

    /// Whether a connection may be used: it is in no transaction that somebody
    /// left behind, was made after the last failure of its kind, and answers if
    /// there is reason to doubt it.
    pub(super) async fn spares<C: Connection>(
        &self,
        connection: &mut C,
        about: PoolConnectionMetadata,
    ) -> bool {
        let made_before = |at: Option<Instant>| at.is_some_and(|at| about.age >= at.elapsed());
        if made_before(*self.before.lock()) {
            return false;
        }
        if connection.is_in_transaction() {
            tracing::error!(
                "a connection came back inside a transaction that could not be rolled back: it is closed"
            );
            return false;
        }
        let is_suspect = self.is_suspicious() && made_before(*self.suspected.lock());
        if is_suspect || about.idle_for >= IDLE {
            return answers(connection, PING_TIMEOUT).await;
        }
        true
    }
}

/// Whether a connection answers within a time limit.
pub(super) async fn answers<C: Connection>(connection: &mut C, limit: Duration) -> bool {
    matches!(timeout(limit, connection.ping()).await, Ok(Ok(())))
}

macro_rules! watched {
    ($type:ty) => {
        #[async_trait]
        impl ConnectionTrait for $type {
            fn get_database_backend(&self) -> DbBackend {
                self.inner.get_database_backend()
            }

            async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
                self.over(self.inner.execute_raw(statement)).await
            }

            async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
                self.over(self.inner.execute_unprepared(sql)).await
            }

            async fn query_one_raw(
                &self,
                statement: Statement,
            ) -> Result<Option<QueryResult>, DbErr> {
                self.over(self.inner.query_one_raw(statement)).await
            }

            async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
                self.over(self.inner.query_all_raw(statement)).await
            }
        }
    };
}

watched!(Pool);
watched!(Transaction);
