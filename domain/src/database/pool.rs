//! Connections of one purpose, and what keeps a broken one from being used again.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use parking_lot::Mutex;
use sea_orm::sqlx::pool::PoolConnectionMetadata;
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, ExecResult,
    QueryResult, Statement, TransactionOptions, TransactionTrait,
};
use tokio::time::timeout;

use super::fault::{self, Fault};

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

    /// Not to be dropped while it runs, except where it took too long: a
    /// connection whose BEGIN nobody awaits is condemned.
    pub(super) async fn begin(&self, options: TransactionOptions) -> Result<Transaction, DbErr> {
        let begun = self.watch.over(self.inner.begin_with_options(options));
        Ok(Transaction {
            inner: begun.await?,
            watch: self.watch.clone(),
        })
    }

    pub(super) async fn close(&self) -> Result<(), DbErr> {
        self.inner.close_by_ref().await
    }
}

/// A transaction whose statements have the time limit of their [`Pool`]. Dropped
/// without a commit, it is rolled back.
#[derive(Debug)]
pub struct Transaction {
    inner: DatabaseTransaction,
    watch: Watch,
}

impl Transaction {
    /// Commits. After an error it is not known whether the transaction took
    /// effect, unless the database said that it did not.
    ///
    /// Done means done: BEGIN was given to a connection that counted no
    /// transaction (see [`Condemned::spares`]) and would have failed inside one on
    /// SQLite, so that this is its COMMIT and no RELEASE of a savepoint.
    pub async fn commit(self) -> Result<(), DbErr> {
        let committed = self.watch.over(self.inner.commit()).await;
        self.watch.condemn_after(&committed);
        committed
    }

    /// Undoes everything. It cannot fail: where ROLLBACK does, because SQLite has
    /// rolled back by itself or the server is gone, the connection is not used
    /// again. What went wrong before is what the caller tells.
    pub async fn rollback(self) {
        let rolled_back = self.watch.over(self.inner.rollback()).await;
        self.watch.condemn_after(&rolled_back);
    }
}

/// How long statements may take, and from when on connections are good.
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
        let outcome = outcome.unwrap_or_else(|_| Err(fault::unanswered()));
        if let Err(error) = &outcome
            && Fault::of(error).condemns(error)
        {
            self.condemned.add();
        }
        outcome
    }

    /// A transaction that could not be ended leaves its connection in a state
    /// that nobody knows.
    fn condemn_after(&self, ended: &Result<(), DbErr>) {
        if let Err(error) = ended
            && Fault::of(error) != Fault::Conflict
        {
            self.condemned.add();
        }
    }
}

/// Connections made before an instant, which are not used again.
///
/// A pool cannot be told to give up one connection. After a failover all of them
/// lead to the wrong server anyway, and to make a few anew costs little.
#[derive(Debug, Default)]
pub(super) struct Condemned {
    before: Mutex<Option<Instant>>,
}

impl Condemned {
    /// Many callers see one outage: connections are replaced this often at most.
    const PACE: Duration = Duration::from_secs(1);

    fn add(&self) {
        let mut before = self.before.lock();
        if before.is_none_or(|at| at.elapsed() >= Self::PACE) {
            *before = Some(Instant::now());
        }
    }

    /// Whether a connection may be used: it is in no transaction that somebody
    /// left behind, and was made after the last failure of its kind.
    pub(super) fn spares(
        &self,
        connection: &PoolConnectionMetadata,
        is_in_transaction: bool,
    ) -> bool {
        let made_after = match *self.before.lock() {
            Some(at) => connection.age < at.elapsed(),
            None => true,
        };
        if is_in_transaction {
            tracing::error!(
                "a connection came back inside a transaction that could not be rolled back: it is closed"
            );
        }
        made_after && !is_in_transaction
    }
}

macro_rules! watched {
    ($type:ty) => {
        #[async_trait]
        impl ConnectionTrait for $type {
            fn get_database_backend(&self) -> DbBackend {
                self.inner.get_database_backend()
            }

            async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
                self.watch.over(self.inner.execute_raw(statement)).await
            }

            async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
                self.watch.over(self.inner.execute_unprepared(sql)).await
            }

            async fn query_one_raw(
                &self,
                statement: Statement,
            ) -> Result<Option<QueryResult>, DbErr> {
                self.watch.over(self.inner.query_one_raw(statement)).await
            }

            async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
                self.watch.over(self.inner.query_all_raw(statement)).await
            }
        }
    };
}

watched!(Pool);
watched!(Transaction);
