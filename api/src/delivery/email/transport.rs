//! Sends batches of mails over a few connections, which are kept for the next one.
//!
//! lettre has a pool too. It asks the server whether a connection still works
//! before each mail, which is one wait more for each; it sets no limit to
//! connections, and takes one back in a task of its own, so that the next mail may
//! open another in the meantime. Here a connection stays with its lane of the
//! batch, and that it was closed meanwhile is found by using it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use domain::notification::Outcome;
use futures_util::future::join_all;
use lettre::transport::smtp::client::TlsParameters;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::session::{Mail, OpenError, Session};
use super::smtp_url::Server;

/// A connection without mails is good for so long. Servers close them after a
/// minute or more.
const LONGEST_IDLE: Duration = Duration::from_secs(30);

/// The connections to the mail server.
pub(super) struct Transport {
    server: Server,
    tls: TlsParameters,
    patience: Duration,
    /// One for each connection that may be open and at work.
    permits: Semaphore,
    connections: usize,
    idle: Mutex<Vec<Idle>>,
}

struct Idle {
    session: Session,
    since: Instant,
}

/// What is left of a batch, and what came of the rest.
struct Batch {
    queue: VecDeque<usize>,
    outcomes: Vec<Option<Outcome>>,
    /// Why a lane ended before the queue did.
    unreachable: Option<OpenError>,
}

impl Transport {
    pub(super) fn new(
        server: Server,
        tls: TlsParameters,
        connections: usize,
        patience: Duration,
    ) -> Self {
        Self {
            server,
            tls,
            patience,
            permits: Semaphore::new(connections),
            connections,
            idle: Mutex::new(Vec::new()),
        }
    }

    /// Sends what is composed of each item, and says what came of each, in order.
    /// An item is composed when its turn comes: a batch of large mails is never in
    /// memory as a whole.
    pub(super) async fn send_each<T: Sync>(
        &self,
        items: &[T],
        compose: impl Fn(&T) -> Result<Mail, Outcome> + Sync,
    ) -> Vec<Outcome> {
        let batch = Mutex::new(Batch {
            queue: (0..items.len()).collect(),
            outcomes: vec![None; items.len()],
            unreachable: None,
        });
        let compose = |index: usize| compose(&items[index]);
        // Only the first lane waits for a permit: while another batch has them
        // all, one lane may do all the work before a second could begin.
        let first = self.permits.acquire().await;
        let more = (1..self.connections.min(items.len())).map_while(|_| {
            let permit = self.permits.try_acquire().ok()?;
            Some(async {
                self.lane(&batch, &compose).await;
                drop(permit);
            })
        });
        let more: Vec<_> = more.collect();
        tokio::join!(self.lane(&batch, &compose), join_all(more));
        drop(first);
        batch.into_inner().into_outcomes()
    }

    /// Whether mails can be sent: a connection can be made, or is there and works.
    pub(super) async fn verify(&self) -> Result<(), OpenError> {
        let permit = timeout(self.patience, self.permits.acquire()).await;
        let permit = permit.map_err(|_| OpenError::TimedOut(self.patience))?;
        let mut found = None;
        while let Some(mut session) = self.take_idle() {
            if session.is_alive().await {
                found = Some(session);
                break;
            }
        }
        let session = match found {
            Some(session) => session,
            None => self.open().await?,
        };
        self.keep(session);
        drop(permit);
        Ok(())
    }

    /// Takes leave of the server. Connections that are at work end with it.
    pub(super) async fn close(&self) {
        let idle = std::mem::take(&mut *self.idle.lock());
        join_all(idle.into_iter().map(|idle| idle.session.quit())).await;
    }

    /// Sends mails of the batch one after another, until there are none or there
    /// is no connection. Dropped in the middle, it closes its connection: what was
    /// half said on it is not to be continued.
    async fn lane(&self, batch: &Mutex<Batch>, compose: &impl Fn(usize) -> Result<Mail, Outcome>) {
        let mut session = None;
        loop {
            let next = batch.lock().queue.pop_front();
            let Some(index) = next else { break };
            let outcome = match compose(index) {
                Ok(mail) => match self.deliver(&mut session, &mail).await {
                    Ok(outcome) => outcome,
                    Err(error) => {
                        // A server may allow fewer connections than we do: the
                        // other lanes take over.
                        let mut batch = batch.lock();
                        batch.queue.push_front(index);
                        batch.unreachable = Some(error);
                        break;
                    }
                },
                Err(outcome) => outcome,
            };
            batch.lock().outcomes[index] = Some(outcome);
        }
        if let Some(session) = session {
            self.keep(session);
        }
    }

    /// Sends one mail over the lane's connection, or a new one if that was closed.
    async fn deliver(&self, lane: &mut Option<Session>, mail: &Mail) -> Result<Outcome, OpenError> {
        loop {
            let mut session = match lane.take().or_else(|| self.take_idle()) {
                Some(session) => session,
                None => self.open().await?,
            };
            let error = match session.send(mail).await {
                Ok(answer) => {
                    session.used = true;
                    *lane = Some(session);
                    let answer = Some(answer);
                    return Ok(Outcome::Sent { answer });
                }
                Err(error) => error,
            };
            if session.used && error.found_closed() {
                // The others have waited as long as this one.
                self.idle.lock().clear();
                continue;
            }
            if error.leaves_session() && session.reset().await {
                session.used = true;
                *lane = Some(session);
            }
            return Ok(error.outcome());
        }
    }

    async fn open(&self) -> Result<Session, OpenError> {
        Session::open(&self.server, &self.tls, self.patience).await
    }

    fn take_idle(&self) -> Option<Session> {
        let mut idle = self.idle.lock();
        // Closed without a word: an answer would have to be waited for.
        idle.retain(|idle| idle.since.elapsed() < LONGEST_IDLE);
        idle.pop().map(|idle| idle.session)
    }

    fn keep(&self, mut session: Session) {
        session.used = true;
        let since = Instant::now();
        self.idle.lock().push(Idle { session, since });
    }
}

impl Batch {
    fn into_outcomes(self) -> Vec<Outcome> {
        let reason = match self.unreachable {
            Some(error) => error.to_string(),
            None => "it was not its turn".to_owned(),
        };
        let left = Outcome::Failed {
            reason,
            retry_after: None,
        };
        let outcomes = self.outcomes.into_iter();
        outcomes
            .map(|outcome| outcome.unwrap_or_else(|| left.clone()))
            .collect()
    }
}
