//! A worker a channel: takes deliveries that are due, attempts them, and writes
//! down what came of them.
//!
//! Taking, attempting and writing down go on at once, so that a slow receiver
//! holds up only its own line. Results are written as they come, those that come
//! while a write is under way together. Nothing of that is ever waited for alone:
//! one may hold the connection that another needs.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use domain::database::Database;
use domain::notification::delivery::{self, Lease, Leased, Settlement};
use domain::notification::{Channel, Message, Outcome};
use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, SelectAll};
use futures_util::{FutureExt, Stream, StreamExt};
use rand::RngExt;
use sea_orm::DbErr;
use time::OffsetDateTime;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::channels::Channels;
use super::metrics::DeliveryMetrics;
use super::retry;

/// Rings for the workers of this replica, when there is something to do.
#[derive(Clone, Default)]
pub(crate) struct Wake(Arc<[Notify; Channel::OUTBOUND.len()]>);

impl Wake {
    pub(crate) fn wake(&self) {
        for worker in self.0.iter() {
            worker.notify_one();
        }
    }

    fn of(&self, channel: Channel) -> &Notify {
        let place = Channel::OUTBOUND.iter().position(|of| *of == channel);
        &self.0[place.unwrap_or_default()]
    }
}

/// What another replica has queued is found after this, at the latest.
const INTERVAL: Duration = Duration::from_secs(1);
/// So often in its time a lease is prolonged.
const KEPT: u32 = 4;
/// Deliveries taken at once.
const BATCH: usize = 100;
/// Deliveries under way beyond which no more are taken.
const ENOUGH: usize = 200;
/// Mails go on the wire in parts of so many…
const MAILS: usize = 25;
/// …so many parts at once, until what came of them is written down: of no more
/// mails is the outcome unknown when the process is killed.
const MAIL_PARTS: usize = 2;
/// What is on the wire when the server stops has so long to end.
const STOP_PATIENCE: Duration = Duration::from_secs(8);
/// Results written by one transaction.
const SETTLED: usize = 100;
/// The database is asked again after this when it failed, up to…
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// …this.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Delivers over one channel.
pub(crate) struct Worker {
    db: Database,
    channels: Channels,
    channel: Channel,
    wake: Wake,
    metrics: DeliveryMetrics,
    /// A killed worker's deliveries are taken over after this.
    lease: Duration,
    /// Of this life of the worker: nobody else's leases begin so.
    name: String,
    leases: u64,
    mail_parts: Arc<Semaphore>,
}

/// What came of an attempt.
struct Attempted {
    /// The lease that it was made under.
    lease: Arc<str>,
    /// None of what is no longer the lease's.
    settlement: Option<Settlement>,
    /// Until this is written down, so many fewer mails go on the wire.
    _on_wire: Option<Arc<OwnedSemaphorePermit>>,
}

/// A lease by its name, and what it has taken.
type Taken = (Arc<str>, Result<Leased, DbErr>);

/// What is going on.
#[derive(Default)]
struct Going {
    attempts: SelectAll<BoxStream<'static, Attempted>>,
    /// Deliveries under way, by lease.
    under_way: HashMap<Arc<str>, usize>,
    /// What came of attempts and is not written yet.
    results: Vec<Attempted>,
    leasing: Option<BoxFuture<'static, Taken>>,
    settling: Option<BoxFuture<'static, Vec<Attempted>>>,
    keeping: Option<BoxFuture<'static, ()>>,
}

impl Worker {
    pub(crate) fn new(
        db: Database,
        channels: Channels,
        channel: Channel,
        wake: Wake,
        metrics: DeliveryMetrics,
        lease: Duration,
    ) -> Self {
        Self {
            db,
            channels,
            channel,
            wake,
            metrics,
            lease,
            name: format!("{:016x}", rand::rng().random::<u64>()),
            leases: 0,
            mail_parts: Arc::new(Semaphore::new(MAIL_PARTS)),
        }
    }

    /// Delivers until it is told to stop. A database that fails is waited for:
    /// what was sent must be written down.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Result<(), Infallible> {
        if self.channel == Channel::Email {
            self.channels.greet().await;
        }
        let wake = self.wake.clone();
        let mut going = Going::default();
        let mut look_at = Instant::now();
        let mut keep_at = look_at + self.lease / KEPT;
        let mut wait = FIRST_WAIT;
        // Something may have become due after the look that is under way.
        let mut look_again = false;
        while !stop.is_cancelled() {
            self.begin_settling(&mut going);
            let has_room = going.leasing.is_none() && going.count() < ENOUGH;
            tokio::select! {
                () = stop.cancelled() => {}
                (name, leased) = pending_or(going.leasing.as_mut()) => {
                    going.leasing = None;
                    match leased {
                        Ok(leased) => {
                            let due = leased.messages.len() + leased.put_back;
                            look_at = Instant::now();
                            if due < BATCH && !look_again {
                                look_at += INTERVAL;
                            }
                            wait = FIRST_WAIT;
                            self.attempt(&mut going, &name, leased.messages, &stop);
                        }
                        Err(error) => {
                            warn(self.channel, &error, "what is due could not be read");
                            look_at = Instant::now() + wait;
                            wait = (wait * 2).min(LONGEST_WAIT);
                        }
                    }
                }
                Some(result) = going.attempts.next() => going.results.push(result),
                settled = pending_or(going.settling.as_mut()) => {
                    going.settling = None;
                    // A user's next delivery may have waited for this one.
                    if going.forget(&settled) {
                        look_again = true;
                        look_at = Instant::now();
                    }
                }
                () = wake.of(self.channel).notified() => {
                    look_again = true;
                    look_at = Instant::now();
                }
                () = sleep_until(look_at), if has_room => {
                    look_again = false;
                    going.leasing = Some(self.lease());
                }
                () = sleep_until(keep_at), if going.keeping.is_none() => {
                    keep_at = Instant::now() + self.lease / KEPT;
                    going.keeping = self.keep(going.leases());
                }
                () = pending_or(going.keeping.as_mut()) => going.keeping = None,
            }
        }
        self.leave(going).await;
        Ok(())
    }

    /// Writes down what has come, if nothing is being written.
    fn begin_settling(&self, going: &mut Going) {
        while let Some(Some(result)) = going.attempts.next().now_or_never() {
            going.results.push(result);
        }
        if going.settling.is_none() && !going.results.is_empty() {
            let some = going.results.len().min(SETTLED);
            let results = going.results.drain(..some).collect();
            going.settling = Some(settle(self.db.clone(), self.channel, results).boxed());
        }
    }

    fn lease(&mut self) -> BoxFuture<'static, Taken> {
        self.leases += 1;
        let name: Arc<str> = format!("{}.{}", self.name, self.leases).into();
        let (db, channel, length) = (self.db.clone(), self.channel, self.lease);
        async move {
            let now = OffsetDateTime::now_utc();
            let lease = Lease {
                channel,
                name: name.to_string(),
                limit: BATCH as u64,
                until: now + length,
            };
            let leased = delivery::lease(&db, &lease, now).await;
            (name, leased)
        }
        .boxed()
    }

    /// Begins to attempt what was leased: the messages of a user one after the
    /// other, users at once.
    fn attempt(
        &self,
        going: &mut Going,
        lease: &Arc<str>,
        messages: Vec<Message>,
        stop: &CancellationToken,
    ) {
        if messages.is_empty() {
            return;
        }
        going.under_way.insert(Arc::clone(lease), messages.len());
        let mut lines: HashMap<String, Vec<Message>> = HashMap::new();
        for message in messages {
            let line = lines.entry(message.addressee.user_key.clone()).or_default();
            line.push(message);
        }
        let lines = lines.into_values();
        let (channels, metrics) = (self.channels.clone(), self.metrics.clone());
        let (lease, stop) = (Arc::clone(lease), stop.clone());
        if self.channel == Channel::Email {
            let mailing = Mailing {
                db: self.db.clone(),
                channels,
                parts: Arc::clone(&self.mail_parts),
                lease,
                stop,
            };
            let mails = mails(mailing, metrics, lines);
            going.attempts.push(mails.boxed());
            return;
        }
        for line in lines {
            let (channels, metrics) = (channels.clone(), metrics.clone());
            let (lease, stop) = (Arc::clone(&lease), stop.clone());
            let attempts = async_stream::stream! {
                for message in line {
                    if stop.is_cancelled() {
                        break;
                    }
                    let outcome = channels.send(&message).await;
                    yield attempted(&lease, &message, outcome, &metrics, None);
                }
            };
            going.attempts.push(attempts.boxed());
        }
    }

    fn keep(&self, names: Vec<String>) -> Option<BoxFuture<'static, ()>> {
        if names.is_empty() {
            return None;
        }
        let (db, channel, length) = (self.db.clone(), self.channel, self.lease);
        let keep = async move {
            let until = OffsetDateTime::now_utc() + length;
            if let Err(error) = delivery::extend(&db, &names, until).await {
                warn(channel, &error, "leases could not be kept");
            }
        };
        Some(keep.boxed())
    }

    /// Waits for what is on the wire, writes it down, and gives the rest back.
    async fn leave(&self, mut going: Going) {
        let patience = sleep(STOP_PATIENCE);
        tokio::pin!(patience);
        let mut is_late = false;
        loop {
            self.begin_settling(&mut going);
            let is_idle = going.leasing.is_none() && going.settling.is_none();
            if is_idle && going.attempts.is_empty() {
                break;
            }
            tokio::select! {
                (name, leased) = pending_or(going.leasing.as_mut()) => {
                    going.leasing = None;
                    if leased.is_ok_and(|leased| !leased.messages.is_empty()) {
                        going.under_way.insert(name, 1);
                    }
                }
                Some(result) = going.attempts.next() => going.results.push(result),
                settled = pending_or(going.settling.as_mut()) => {
                    going.settling = None;
                    going.forget(&settled);
                }
                () = pending_or(going.keeping.as_mut()) => going.keeping = None,
                () = &mut patience, if !is_late => {
                    is_late = true;
                    // One of them may hold the connection that the rest needs.
                    going.attempts.clear();
                }
            }
        }
        // It may hold the connection.
        drop(going.keeping.take());
        if let Err(error) = delivery::release(&self.db, &going.leases()).await {
            warn(self.channel, &error, "what is left could not be given back");
        }
    }
}

impl Going {
    /// The names of the leases that hold something.
    fn leases(&self) -> Vec<String> {
        self.under_way.keys().map(ToString::to_string).collect()
    }

    fn count(&self) -> usize {
        self.under_way.values().sum()
    }

    /// Deliveries that are written down are no longer under way. Says whether
    /// that ended a lease.
    fn forget(&mut self, settled: &[Attempted]) -> bool {
        let mut ended = false;
        for Attempted { lease, .. } in settled {
            if let Some(count) = self.under_way.get_mut(lease) {
                *count -= 1;
                if *count == 0 {
                    self.under_way.remove(lease);
                    ended = true;
                }
            }
        }
        ended
    }
}

/// What it takes to send the mails of a lease.
struct Mailing {
    db: Database,
    channels: Channels,
    parts: Arc<Semaphore>,
    lease: Arc<str>,
    stop: CancellationToken,
}

/// Sends mails part by part: first the first of each user, then the second…
fn mails(
    mailing: Mailing,
    metrics: DeliveryMetrics,
    lines: impl Iterator<Item = Vec<Message>>,
) -> impl Stream<Item = Attempted> + Send + 'static {
    let mut rounds: Vec<Vec<Message>> = Vec::new();
    for line in lines {
        for (round, message) in line.into_iter().enumerate() {
            if rounds.len() == round {
                rounds.push(Vec::new());
            }
            rounds[round].push(message);
        }
    }
    async_stream::stream! {
        for round in rounds {
            let parts: Vec<Vec<Message>> = round.chunks(MAILS).map(<[Message]>::to_vec).collect();
            let mut sent = futures_util::stream::iter(parts)
                .map(|part| mailing.send(part))
                .buffer_unordered(MAIL_PARTS);
            while let Some((part, permit)) = sent.next().await {
                for (message, outcome) in part {
                    let permit = permit.clone();
                    yield match outcome {
                        Some(outcome) => attempted(&mailing.lease, &message, outcome, &metrics, permit),
                        None => Attempted {
                            lease: Arc::clone(&mailing.lease),
                            settlement: None,
                            _on_wire: permit,
                        },
                    };
                }
            }
        }
    }
}

/// Mails, and what came of each: nothing of one that was not to be sent.
type Sent = Vec<(Message, Option<Outcome>)>;

impl Mailing {
    /// Sends a part, which is said to be on the wire before it is.
    async fn send(&self, part: Vec<Message>) -> (Sent, Option<Arc<OwnedSemaphorePermit>>) {
        let permit = Arc::clone(&self.parts).acquire_owned().await;
        let permit = permit.ok().map(Arc::new);
        if self.stop.is_cancelled() {
            return (Vec::new(), permit);
        }
        let ids: Vec<i64> = part.iter().map(|message| message.delivery_id).collect();
        let now = OffsetDateTime::now_utc();
        let begun = match delivery::begin(&self.db, &self.lease, &ids, now).await {
            Ok(begun) => begun,
            Err(error) => {
                // Unsaid, it must not go: whoever takes over would send it again.
                warn(Channel::Email, &error, "mails could not be begun");
                let later = || Outcome::Postponed {
                    reason: "the database could not be told that it is sent".into(),
                    after: INTERVAL,
                };
                let part = part.into_iter().map(|message| (message, Some(later())));
                return (part.collect(), permit);
            }
        };
        // A lease that ran out meanwhile is somebody else's.
        let (ours, theirs): (Vec<Message>, Vec<Message>) = part
            .into_iter()
            .partition(|message| begun.contains(&message.delivery_id));
        let outcomes = self.channels.send_mails(&ours).await;
        let sent = ours.into_iter().zip(outcomes.into_iter().map(Some));
        let all = sent.chain(theirs.into_iter().map(|message| (message, None)));
        (all.collect(), permit)
    }
}

fn attempted(
    lease: &Arc<str>,
    message: &Message,
    outcome: Outcome,
    metrics: &DeliveryMetrics,
    on_wire: Option<Arc<OwnedSemaphorePermit>>,
) -> Attempted {
    let channel = message.endpoint.channel;
    let next_attempt_at = match &outcome {
        Outcome::Failed { retry_after, .. } => {
            retry::next_attempt(channel, message.attempt, *retry_after, &mut rand::rng())
                .map(|wait| OffsetDateTime::now_utc() + wait)
        }
        Outcome::Postponed { after, .. } => Some(OffsetDateTime::now_utc() + *after),
        Outcome::Sent { .. }
        | Outcome::Rejected { .. }
        | Outcome::Gone { .. }
        | Outcome::Unknown { .. } => None,
    };
    metrics.attempted(channel, &outcome);
    let settlement = Settlement {
        delivery_id: message.delivery_id,
        endpoint_id: message.endpoint.id,
        outcome,
        next_attempt_at,
    };
    Attempted {
        lease: Arc::clone(lease),
        settlement: Some(settlement),
        _on_wire: on_wire,
    }
}

/// Writes down results, and does not give up: what was sent and is not written
/// down would be sent again.
async fn settle(db: Database, channel: Channel, results: Vec<Attempted>) -> Vec<Attempted> {
    let mut leases: HashMap<&str, Vec<Settlement>> = HashMap::new();
    for attempted in &results {
        let of_lease = leases.entry(&attempted.lease).or_default();
        of_lease.extend(attempted.settlement.clone());
    }
    for (lease, settlements) in leases {
        let mut wait = FIRST_WAIT;
        while let Err(error) =
            delivery::settle(&db, lease, &settlements, OffsetDateTime::now_utc()).await
        {
            warn(
                channel,
                &error,
                "what came of deliveries could not be written",
            );
            sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }
    results
}

fn warn(channel: Channel, error: &DbErr, what: &'static str) {
    tracing::warn!(
        delivery.channel = channel.as_str(),
        error = error as &dyn std::error::Error,
        "{what}, and is tried again"
    );
}

/// A future that may not be there.
async fn pending_or<T>(future: Option<&mut BoxFuture<'static, T>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}
