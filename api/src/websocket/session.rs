//! One connection, from its opening to its close.

use std::collections::HashMap;
use std::future::pending;
use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_graphql::parser::types::OperationType;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes};
use domain::change::Position;
use futures_util::future::BoxFuture;
use futures_util::stream::SelectAll;
use futures_util::{FutureExt, Sink, SinkExt, Stream, StreamExt};
use serde_json::{Map, Value};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::message::{ACK, ClientMessage, Closing, Id, PING, complete, of_operation, pong};
use super::operation::{Operation, Output, Work};
use crate::auth::Refusal;
use crate::drain::Drain;
use crate::error::{ApiError, ErrorCode};
use crate::graphql::answer::Answer;
use crate::graphql::executor::Executor;
use crate::graphql::frame::{Failure, Payload};
use crate::graphql::params::Params;
use crate::graphql::persisted;
use crate::viewer::Viewer;
use crate::weight;

/// What connections are held to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SocketSettings {
    /// Within this a connection must say who it is.
    pub(crate) init_timeout: Duration,
    /// So often a client is asked whether it is there; one that says nothing
    /// from one time to the next is not.
    pub(crate) ping_interval: Duration,
    /// A client that takes nothing for so long is let go.
    pub(crate) write_timeout: Duration,
    /// Operations under way at once.
    pub(crate) operations: usize,
    /// Queries and mutations that are executed at once; the others wait in order.
    pub(crate) running: usize,
    /// Bytes of one message; what operations under way were asked with takes four
    /// times that at most.
    pub(crate) message_bytes: usize,
}

impl SocketSettings {
    fn open_bytes(&self) -> usize {
        self.message_bytes.saturating_mul(4)
    }
}

/// An id is repeated in every message about its operation.
const LONGEST_ID: usize = 256;

/// So many subscriptions of a connection catch up at once; each holds what it has
/// read of the past.
const CATCHING_UP: usize = 16;
/// So many messages are written before the connection is flushed, at most.
const BATCH: usize = 64;
/// So many batches are written to a connection that is sent away, at most.
const LAST_BATCHES: usize = 16;
/// How long a connection that is sent away waits for queries and mutations.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the other side has to answer a close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Why a connection is over.
#[derive(Debug)]
enum End {
    /// We close it, and say why.
    Close(Closing),
    /// The client has closed it.
    Closed,
    /// Its line is broken.
    Gone,
    /// The client takes nothing, or says nothing.
    Stalled,
}

type Flow = ControlFlow<End>;

/// One connection.
pub(super) struct Session<S, A> {
    socket: S,
    executor: Executor,
    settings: SocketSettings,
    /// Who it is, by what it says when it begins.
    authenticate: A,
    viewer: Option<Viewer>,
    /// Completes when what it was let in by is taken back.
    revoked: BoxFuture<'static, ()>,
    operations: SelectAll<Operation>,
    /// A permit for each query or mutation that may be executed just now.
    running: Arc<Semaphore>,
    /// A permit for each subscription that may catch up just now.
    catching_up: Arc<Semaphore>,
    /// The operation's number and the size of its message, by its id.
    ids: HashMap<Id, (u64, usize)>,
    next_number: u64,
    /// Of all messages that operations under way were asked with.
    open_bytes: usize,
    /// Something has come from the client since it was asked.
    heard: bool,
    /// Until then it must have said who it is; later, when it is asked next.
    deadline: Instant,
}

impl<S, E, A, F> Session<S, A>
where
    S: Stream<Item = Result<Message, E>> + Sink<Message, Error = E> + Unpin,
    E: std::fmt::Display,
    A: Fn(Option<Map<String, Value>>) -> F,
    F: Future<Output = Result<Viewer, Refusal>>,
{
    pub(super) fn new(
        socket: S,
        executor: Executor,
        settings: SocketSettings,
        authenticate: A,
    ) -> Self {
        Self {
            socket,
            executor,
            settings,
            authenticate,
            viewer: None,
            revoked: Box::pin(pending()),
            operations: SelectAll::new(),
            running: Arc::new(Semaphore::new(settings.running)),
            catching_up: Arc::new(Semaphore::new(CATCHING_UP)),
            ids: HashMap::new(),
            next_number: 0,
            open_bytes: 0,
            heard: true,
            deadline: Instant::now() + settings.init_timeout,
        }
    }

    /// Serves the connection until it ends.
    pub(super) async fn serve(mut self, drain: &Drain) {
        let end = self.run(drain).await;
        // Nothing more is to come of them, however long the close may take.
        self.operations.clear();
        let closing = match end {
            End::Close(closing) => closing,
            End::Closed => {
                // Reading on sends the answer that a close wants.
                let rest = async { while let Some(Ok(_)) = self.socket.next().await {} };
                drop(timeout(CLOSE_TIMEOUT, rest).await);
                return;
            }
            End::Gone => return,
            End::Stalled => {
                self.executor.metrics().stalled.inc();
                return;
            }
        };
        Box::pin(close(&mut self.socket, &closing)).await;
    }

    async fn run(&mut self, drain: &Drain) -> End {
        let mut turn = Box::pin(drain.turn());
        let mut timer = pin!(sleep_until(self.deadline));
        loop {
            let expires_at = self.viewer.as_ref().and_then(|viewer| viewer.expires_at);
            let deadline = expires_at.map_or(self.deadline, |at| at.min(self.deadline));
            if timer.deadline() != deadline {
                timer.as_mut().reset(deadline);
            }
            // A connection mostly waits: what it does then is boxed, to keep it small.
            let flow = tokio::select! {
                message = self.socket.next() => match message {
                    Some(Ok(message)) => {
                        let bytes = message.to_text().map_or(0, str::len);
                        Box::pin(weight::carry(bytes, self.receive(message))).await
                    }
                    Some(Err(error)) => ControlFlow::Break(broken(&error)),
                    None => ControlFlow::Break(End::Gone),
                },
                output = next(&mut self.operations) => Box::pin(self.deliver(output)).await,
                () = &mut timer => Box::pin(self.time(expires_at)).await,
                () = &mut turn => Box::pin(self.leave()).await,
                () = &mut self.revoked => {
                    let closing = Closing::forbidden("what it was let in by was revoked");
                    ControlFlow::Break(End::Close(closing))
                }
            };
            if let ControlFlow::Break(end) = flow {
                return end;
            }
        }
    }

    async fn receive(&mut self, message: Message) -> Flow {
        self.heard = true;
        let text = match message {
            Message::Text(text) => text,
            Message::Binary(_) => {
                let closing = Closing::invalid("binary messages are not of this protocol");
                return ControlFlow::Break(End::Close(closing));
            }
            Message::Ping(_) | Message::Pong(_) => return ControlFlow::Continue(()),
            Message::Close(_) => return ControlFlow::Break(End::Closed),
        };
        match ClientMessage::read(&text) {
            Ok(ClientMessage::ConnectionInit { payload }) => self.init(payload).await,
            Ok(ClientMessage::Ping { payload }) => self.say(pong(payload.as_ref())).await,
            Ok(ClientMessage::Pong { .. }) => ControlFlow::Continue(()),
            Ok(ClientMessage::Subscribe { id, .. } | ClientMessage::SubscribeByHash { id })
                if id.len() > LONGEST_ID =>
            {
                let closing = Closing::invalid("the id is longer than 256 bytes");
                ControlFlow::Break(End::Close(closing))
            }
            Ok(ClientMessage::Subscribe { id, payload }) => {
                self.begin(&id, payload, text.len()).await
            }
            Ok(ClientMessage::SubscribeByHash { id }) => self.refuse_hash(&id).await,
            Ok(ClientMessage::Complete { id }) => {
                self.end(&Id::new(&id));
                ControlFlow::Continue(())
            }
            Err(what) => ControlFlow::Break(End::Close(Closing::invalid(&what))),
        }
    }

    /// Nothing else is read meanwhile: what comes right behind it is answered to
    /// whom it turns out to be.
    async fn init(&mut self, payload: Option<Map<String, Value>>) -> Flow {
        if self.viewer.is_some() {
            return ControlFlow::Break(End::Close(Closing::init_repeated()));
        }
        let closing = match timeout_at(self.deadline, (self.authenticate)(payload)).await {
            Ok(Ok(viewer)) => {
                self.revoked = Box::pin(viewer.revoked());
                self.viewer = Some(viewer);
                self.deadline = Instant::now() + self.settings.ping_interval;
                return self.say(ACK).await;
            }
            Ok(Err(refusal @ Refusal::Unavailable(_))) => Closing::try_again(refusal.message()),
            Ok(Err(refusal)) => Closing::forbidden(refusal.message()),
            Err(_) => Closing::init_timeout(),
        };
        ControlFlow::Break(End::Close(closing))
    }

    async fn begin(&mut self, name: &str, params: Params, bytes: usize) -> Flow {
        let Some(viewer) = self.viewer.clone() else {
            return ControlFlow::Break(End::Close(Closing::unauthorized()));
        };
        let id = Id::new(name);
        if self.ids.contains_key(&id) {
            return ControlFlow::Break(End::Close(Closing::duplicate(name)));
        }
        let is_full = self.ids.len() >= self.settings.operations
            || self.open_bytes + bytes > self.settings.open_bytes();
        if is_full {
            let error = ApiError::new(
                ErrorCode::RateLimited,
                format!(
                    "this connection has {} operations under way, of {} bytes, and no more are taken: end one, or open another connection",
                    self.ids.len(),
                    self.open_bytes
                ),
            );
            return self.say(failed(&id, &error.into()).0).await;
        }
        let operation = match self.executor.prepare(params, None) {
            Ok(operation) => operation,
            Err(errors) => return self.say(failed(&id, &Failure::new(&errors)).0).await,
        };
        let executor = self.executor.clone();
        let running = Arc::clone(&self.running);
        let work = match operation.kind {
            OperationType::Subscription => Work::Begin(Box::pin(async move {
                executor.subscribe(operation, viewer, None).await
            })),
            OperationType::Query | OperationType::Mutation => Work::Answer(Box::pin(async move {
                // It is never closed.
                let _permit = running.acquire().await;
                weight::carry(bytes, executor.answer(operation, viewer)).await
            })),
        };
        let number = self.next_number;
        self.next_number += 1;
        self.ids.insert(id.clone(), (number, bytes));
        self.open_bytes += bytes;
        let catching_up = Arc::clone(&self.catching_up);
        self.operations
            .push(Operation::new(id, number, work, catching_up));
        ControlFlow::Continue(())
    }

    /// The client has to send the operation itself.
    async fn refuse_hash(&mut self, name: &str) -> Flow {
        if self.viewer.is_none() {
            return ControlFlow::Break(End::Close(Closing::unauthorized()));
        }
        let error = persisted::not_supported().into();
        self.say(failed(&Id::new(name), &error).0).await
    }

    /// Ends an operation: nothing comes of it from here on.
    fn end(&mut self, id: &Id) {
        if let Some(number) = self.forget(id) {
            let mut operations = self.operations.iter_mut();
            if let Some(operation) = operations.find(|operation| operation.number == number) {
                operation.end();
            }
        }
    }

    /// An operation is over: its id may be used again.
    fn forget(&mut self, id: &Id) -> Option<u64> {
        let (number, bytes) = self.ids.remove(id)?;
        self.open_bytes -= bytes;
        Some(number)
    }

    /// Writes what has come, and what else is there already.
    async fn deliver(&mut self, first: (Id, u64, Output)) -> Flow {
        let mut output = Some(first);
        let mut written = 0;
        while let Some((id, number, of)) = output {
            // What its client has ended says nothing more.
            if self.ids.get(&id).is_some_and(|(known, _)| *known == number) {
                for text in self.messages(&id, of) {
                    let fed = self.socket.feed(Message::Text(text));
                    within(self.settings.write_timeout, fed).await?;
                    written += 1;
                }
            }
            // A client that takes little by little must not keep us from all else.
            output = if written < BATCH && Instant::now() < self.deadline {
                self.operations.next().now_or_never().flatten()
            } else {
                None
            };
        }
        within(self.settings.write_timeout, self.socket.flush()).await
    }

    fn messages(
        &mut self,
        id: &Id,
        output: Output,
    ) -> impl Iterator<Item = Utf8Bytes> + use<S, E, A, F> {
        let (first, second) = match output {
            Output::Next { frame, skipped } => match &frame.payload {
                Payload::Next(next) => {
                    let write = |text: &mut String| next.write(skipped, text);
                    (of_operation("next", id, next.len(), write), None)
                }
                Payload::Failed(failure) => {
                    self.forget(id);
                    failed(id, failure)
                }
            },
            Output::Answer(of) => {
                self.forget(id);
                answer(id, &of)
            }
            Output::Failed(failure) => {
                self.forget(id);
                failed(id, &failure)
            }
            Output::Complete => {
                self.forget(id);
                (complete(id), None)
            }
        };
        [Some(first), second]
            .into_iter()
            .flatten()
            .map(Utf8Bytes::from)
    }

    async fn say(&mut self, text: impl Into<Utf8Bytes>) -> Flow {
        let sent = self.socket.send(Message::Text(text.into()));
        within(self.settings.write_timeout, sent).await
    }

    /// A deadline has come.
    async fn time(&mut self, expires_at: Option<Instant>) -> Flow {
        let now = Instant::now();
        if self.viewer.is_none() {
            return ControlFlow::Break(End::Close(Closing::init_timeout()));
        }
        if expires_at.is_some_and(|at| at <= now) {
            let closing = Closing::forbidden("what it was let in by has expired");
            return ControlFlow::Break(End::Close(closing));
        }
        // Its answer may have come while something else was written to it.
        if !self.heard
            && let Some(Some(Ok(message))) = self.socket.next().now_or_never()
        {
            return self.receive(message).await;
        }
        if !std::mem::take(&mut self.heard) {
            return ControlFlow::Break(End::Stalled);
        }
        self.deadline = now + self.settings.ping_interval;
        self.say(PING).await
    }

    /// Its turn to leave has come: queries and mutations are answered, what is
    /// there is delivered, and the client is told where it has come to.
    async fn leave(&mut self) -> Flow {
        self.executor.metrics().drained.inc();
        let patience = Instant::now() + ANSWER_TIMEOUT;
        while self.operations.iter().any(Operation::is_answering) {
            match timeout_at(patience, next(&mut self.operations)).await {
                Ok(output) => self.deliver(output).await?,
                Err(_) => break,
            }
        }
        for _ in 0..LAST_BATCHES {
            let Some(Some(output)) = self.operations.next().now_or_never() else {
                break;
            };
            self.deliver(output).await?;
        }
        ControlFlow::Break(End::Close(Closing::restart(self.seen())))
    }

    /// Every event of all subscriptions has been delivered up to here; `None`
    /// without any, or before one has begun.
    fn seen(&self) -> Option<Position> {
        if self.operations.iter().any(Operation::is_beginning) {
            return None;
        }
        self.operations
            .iter()
            .filter_map(|operation| operation.subscription()?.seen())
            .min_by_key(|position| position.number)
    }
}

/// The next output; without operations, never.
async fn next(operations: &mut SelectAll<Operation>) -> (Id, u64, Output) {
    loop {
        match operations.next().await {
            Some(output) => return output,
            None => pending().await,
        }
    }
}

/// Closes a connection, and waits a moment for the client to do so, too: what it
/// has sent and nobody read would keep it from reading why.
pub(super) async fn close<S, E>(socket: &mut S, closing: &Closing)
where
    S: Stream<Item = Result<Message, E>> + Sink<Message, Error = E> + Unpin,
{
    let frame = CloseFrame {
        code: closing.code,
        reason: closing.reason().into(),
    };
    let goodbye = async {
        if socket.send(Message::Close(Some(frame))).await.is_ok() {
            while let Some(Ok(_)) = socket.next().await {}
        }
    };
    drop(timeout(CLOSE_TIMEOUT, goodbye).await);
}

/// A write that must be done in time.
async fn within<E>(limit: Duration, write: impl Future<Output = Result<(), E>>) -> Flow {
    match timeout(limit, write).await {
        Ok(Ok(())) => ControlFlow::Continue(()),
        Ok(Err(_)) => ControlFlow::Break(End::Gone),
        Err(_) => ControlFlow::Break(End::Stalled),
    }
}

/// What ends a connection of which nothing more can be read.
fn broken(error: &impl std::fmt::Display) -> End {
    // The library tells its kinds of error only by their texts.
    if error.to_string().starts_with("Space limit exceeded") {
        End::Close(Closing::too_big())
    } else {
        End::Gone
    }
}

/// The messages of an answer: a result, or an error of what is not valid.
fn answer(id: &Id, answer: &Answer) -> (String, Option<String>) {
    if !answer.executed {
        return failed(id, &Failure::new(&answer.errors));
    }
    let json = &answer.json;
    let text = of_operation("next", id, json.len(), |text| text.push_str(json));
    (text, Some(complete(id)))
}

/// The messages of a failure. What is not valid is an error; what failed while
/// it was executed is a result, as every client understands it.
fn failed(id: &Id, failure: &Failure) -> (String, Option<String>) {
    if failure.executed {
        let result = failure.result();
        let text = of_operation("next", id, result.len(), |text| text.push_str(&result));
        return (text, Some(complete(id)));
    }
    let write = |text: &mut String| text.push_str(&failure.errors);
    (of_operation("error", id, failure.errors.len(), write), None)
}
