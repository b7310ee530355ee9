//! Fan-out: passing changes to other replicas over Redis.
//!
//! Each replica publishes what its own ticks have numbered, and hears what the
//! others have. That is for speed only: a message that is lost, late or wrong
//! costs time and never a change, because the tail reads the log anyway. Nothing
//! waits for Redis; without it the tail's timer does the work.

mod message;
mod metrics;

pub use metrics::FanoutMetrics;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use domain::change::{Epoch, LogPage};
use parking_lot::Mutex;
use rand::RngExt;
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncCommands, AsyncConnectionConfig, Client, IntoConnectionInfo, ProtocolVersion, PushInfo,
    PushKind, RedisError, Value,
};
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::change_log::ChangeLog;
use message::Message;

/// A server that does not answer within this is not there.
const PATIENCE: Duration = Duration::from_secs(2);
/// The first wait before a connection is tried again; it doubles with each
/// connection that did not last.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
const LASTING: Duration = Duration::from_secs(10);
/// Messages that wait to be taken.
const QUEUE: usize = 1024;
/// How often the head is repeated, so that the last lost message is noticed:
/// for a while after the last change…
const BUSY_HEARTBEAT: Duration = Duration::from_secs(1);
const BUSY: Duration = Duration::from_secs(10);
/// …and later, when it only tells a dead connection.
const IDLE_HEARTBEAT: Duration = Duration::from_secs(10);

/// Where replicas meet, and what they say there.
#[derive(Debug, Clone)]
pub struct FanoutSettings {
    /// `redis://`, `rediss://` or `unix://`.
    pub url: String,
    /// Before the names of channels; the epoch, which is drawn for each
    /// database, tells databases apart.
    pub prefix: String,
    /// Messages with changes have so many bytes at most; larger ones carry only
    /// the head.
    pub message_bytes: usize,
}

/// The address cannot be one of a Redis server. What was given is not repeated:
/// there may be a password in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("no address of a Redis server reads like this")]
pub struct AddressError;

/// Whether an address could be one of a Redis server.
pub fn check_address(url: &str) -> Result<(), AddressError> {
    client(url).map(drop)
}

fn client(url: &str) -> Result<Client, AddressError> {
    let info = url.into_connection_info().map_err(|_| AddressError)?;
    // With RESP3, messages and answers come over one connection.
    let settings = info.redis_settings().clone();
    let info = info.set_redis_settings(settings.set_protocol(ProtocolVersion::RESP3));
    Client::open(info).map_err(|_| AddressError)
}

/// How the connection is.
#[derive(Debug, Clone)]
pub struct Link {
    pub connected: bool,
    /// How long it has been so.
    pub since: Instant,
    /// That it broke, or could not be made, is in the log.
    told: bool,
    was_connected: bool,
}

/// The handle that everyone else holds.
#[derive(Clone)]
pub struct Fanout {
    shared: Arc<Shared>,
}

struct Shared {
    log: ChangeLog,
    client: Client,
    settings: FanoutSettings,
    metrics: FanoutMetrics,
    /// Unlike any other replica's.
    replica: String,
    link: Mutex<Link>,
}

/// Why a connection is of no use any more.
#[derive(Debug, Error)]
enum Broken {
    #[error(transparent)]
    Redis(#[from] RedisError),
    #[error("the server closed the connection")]
    Closed,
    #[error("the database has another history")]
    NewEpoch,
}

impl Fanout {
    pub fn new(
        log: ChangeLog,
        settings: FanoutSettings,
        metrics: FanoutMetrics,
    ) -> Result<Self, AddressError> {
        let client = client(&settings.url)?;
        log.outbox().open();
        Ok(Self {
            shared: Arc::new(Shared {
                log,
                client,
                settings,
                metrics,
                replica: format!("{:016x}", rand::random::<u64>()),
                link: Mutex::new(Link {
                    connected: false,
                    since: Instant::now(),
                    told: false,
                    was_connected: false,
                }),
            }),
        })
    }

    pub fn metrics(&self) -> &FanoutMetrics {
        &self.shared.metrics
    }

    pub fn link(&self) -> Link {
        self.shared.link.lock().clone()
    }

    /// Runs until it is stopped. It does not fail: that Redis is away is no
    /// reason to call this replica unfit.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Infallible> {
        let mut wait = FIRST_WAIT;
        while !stop.is_cancelled() {
            let connection = tokio::select! {
                () = stop.cancelled() => break,
                connection = self.connect() => connection,
            };
            let error = match connection {
                Ok(mut connection) => {
                    let began = Instant::now();
                    let error = tokio::select! {
                        () = stop.cancelled() => break,
                        error = self.converse(&mut connection) => error,
                    };
                    if began.elapsed() >= LASTING {
                        wait = FIRST_WAIT;
                    }
                    error
                }
                Err(error) => error,
            };
            if let Broken::NewEpoch = error {
                // Elsewhere, at once.
                continue;
            }
            self.lost(&error);
            tokio::select! {
                () = stop.cancelled() => {}
                () = sleep(wait.mul_f64(rand::rng().random_range(0.5..1.5))) => {}
            }
            wait = (wait * 2).min(LONGEST_WAIT);
        }
        self.shared.metrics.connected.set(0);
        Ok(())
    }

    /// Connects and subscribes.
    async fn connect(&self) -> Result<Connection, Broken> {
        let shared = &self.shared;
        let (sender, messages) = mpsc::channel(QUEUE);
        let missed = Arc::new(AtomicBool::new(false));
        let (overflowed, overflow) = (shared.metrics.overflowed.clone(), Arc::clone(&missed));
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE))
            // Called where the connection is read, which must not wait.
            .set_push_sender(move |push: PushInfo| match sender.try_send(push) {
                Err(mpsc::error::TrySendError::Full(_)) => {
                    overflowed.inc();
                    overflow.store(true, Ordering::SeqCst);
                    Ok(())
                }
                outcome => outcome,
            });
        let epoch = shared.log.applied().epoch;
        let connecting = async {
            let mut redis = shared
                .client
                .get_multiplexed_async_connection_with_config(&config)
                .await?;
            redis.subscribe(shared.channel(epoch)).await?;
            Ok(redis)
        };
        let redis = timeout(2 * PATIENCE, connecting)
            .await
            .unwrap_or(Err(Broken::Closed))?;
        Ok(Connection {
            redis,
            messages,
            missed,
            epoch,
        })
    }

    /// Tells and hears until that goes no more.
    async fn converse(&self, connection: &mut Connection) -> Broken {
        let log = &self.shared.log;
        self.found();
        // Nobody has told this replica what happened before; and what it has not
        // told yet, the others have read in the log.
        log.outbox().clear();
        log.heard().look();
        let mut publisher = connection.redis.clone();
        let mut applied = log.forecasts().clock().watch_applied();
        let epoch = connection.epoch;
        let outcome: Result<Infallible, Broken> = tokio::select! {
            outcome = self.publish(&mut publisher) => outcome,
            outcome = self.hear(connection) => outcome,
            _ = applied.wait_for(|at| at.epoch != epoch) => Err(Broken::NewEpoch),
        };
        match outcome {
            Ok(never) => match never {},
            Err(broken) => broken,
        }
    }

    /// Publishes what this replica has numbered, and the head now and then.
    async fn publish(&self, redis: &mut MultiplexedConnection) -> Result<Infallible, Broken> {
        let shared = &self.shared;
        let mut numbered_at = Instant::now();
        loop {
            let pause = if numbered_at.elapsed() < BUSY {
                BUSY_HEARTBEAT
            } else {
                IDLE_HEARTBEAT
            };
            let page = tokio::select! {
                page = shared.log.outbox().next() => {
                    numbered_at = Instant::now();
                    page
                }
                () = sleep(pause) => LogPage { head: shared.log.ticked(), changes: Vec::new() },
            };
            let message = message::encode(&shared.replica, &page, shared.settings.message_bytes);
            let () = redis
                .publish(shared.channel(page.head.epoch), message)
                .await?;
            shared.metrics.published.inc();
        }
    }

    /// Passes on what the others say.
    async fn hear(&self, connection: &mut Connection) -> Result<Infallible, Broken> {
        let shared = &self.shared;
        while let Some(push) = connection.messages.recv().await {
            if connection.missed.swap(false, Ordering::SeqCst) {
                shared.log.heard().look();
            }
            match (push.kind, push.data.get(1)) {
                (PushKind::Message, Some(Value::BulkString(message))) => shared.heed(message),
                (PushKind::Disconnection, _) => break,
                _ => {}
            }
        }
        Err(Broken::Closed)
    }

    fn found(&self) {
        let shared = &self.shared;
        let mut link = shared.link.lock();
        if link.connected {
            return;
        }
        if link.told {
            tracing::info!(away = ?link.since.elapsed(), "Redis is there again");
        }
        if link.was_connected {
            shared.metrics.reconnects.inc();
        }
        *link = Link {
            connected: true,
            since: Instant::now(),
            told: false,
            was_connected: true,
        };
        shared.metrics.connected.set(1);
    }

    fn lost(&self, error: &Broken) {
        let shared = &self.shared;
        let mut link = shared.link.lock();
        if link.connected || !link.told {
            tracing::warn!(
                error = error as &dyn std::error::Error,
                "Redis cannot be reached: until it is, changes of other replicas are found in the database, within a second"
            );
        }
        if link.connected {
            link.connected = false;
            link.since = Instant::now();
        }
        link.told = true;
        shared.metrics.connected.set(0);
    }
}

/// A connection that listens.
struct Connection {
    redis: MultiplexedConnection,
    messages: mpsc::Receiver<PushInfo>,
    /// The queue was full.
    missed: Arc<AtomicBool>,
    /// Whose channel it listens to.
    epoch: Epoch,
}

impl Shared {
    /// Where changes of an epoch are told.
    fn channel(&self, epoch: Epoch) -> String {
        format!("{}:{epoch}:changes", self.settings.prefix)
    }

    fn heed(&self, message: &[u8]) {
        let metrics = &self.metrics;
        metrics.received.inc();
        match message::decode(&self.replica, self.log.applied(), message) {
            Message::Own | Message::Old => {
                metrics.ignored.inc();
            }
            Message::Changes(changes) => self.log.heard().tell(changes),
            Message::Look => {
                metrics.wake_ups.inc();
                self.log.heard().look();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_checked_without_a_server() {
        for url in [
            "redis://localhost",
            "redis://app:secret@db:6380/2",
            "rediss://db",
            "unix:///run/redis.sock",
            "redis+unix:///run/redis.sock?db=1",
        ] {
            assert_eq!(check_address(url), Ok(()), "{url}");
        }
        for url in ["", "redis", "http://db", "redis://db/zero", "redis://"] {
            assert_eq!(check_address(url), Err(AddressError), "{url}");
        }
    }
}
