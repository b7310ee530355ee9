//! Carrying out operations, whatever transport they came by.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use async_graphql::parser::types::{ExecutableDocument, OperationType};
use async_graphql::{Request, Response, ServerError, Value};
use domain::change::Position;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt};
use subscriptions::change_log::ChangeLog;
use subscriptions::cohort::{Cohorts, Member, Run};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::answer::Answer;
use super::feed::Feed;
use super::frame::{self, Failure, LiveFrame, Payload};
use super::live_metrics::LiveMetrics;
use super::operation::complete::json_of;
use super::operation::document::{Documents, Prepared};
use super::operation::introspect::Introspected;
use super::params::{Params, parse_position};
use super::{Limits, PointBudget, SmartPulseSchema};
use crate::error::{self, ApiError, ErrorCode};
use crate::viewer::{Scope, Viewer};
use crate::weight;

/// Mutations under way at once, those whose clients have gone among them: each has
/// its input in memory.
const MOST_MUTATIONS: usize = 512;

/// What carries out operations.
#[derive(Clone)]
pub(crate) struct Executor {
    inner: Arc<Inner>,
    cohorts: Cohorts<CohortKey, Payload>,
}

struct Inner {
    schema: SmartPulseSchema,
    documents: Documents,
    limits: Limits,
    log: ChangeLog,
    min_position_wait: Duration,
    /// Under way, whoever still waits for them.
    mutations: TaskTracker,
    metrics: LiveMetrics,
}

/// A request that has been read: it is known what is to be done.
pub(crate) struct Operation {
    prepared: Prepared,
    pub(crate) kind: OperationType,
    /// What the answer must include.
    min_position: Option<Position>,
    /// The answer says what it costs.
    pub(crate) tells_cost: bool,
}

/// Those who ask for the same. Names are what GraphQL allows as such and values are
/// JSON that nothing is read from: no text can pass for another.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct CohortKey {
    selected: Box<str>,
    /// By name, as JSON.
    variables: Box<[(Box<str>, Box<str>)]>,
    scope: Scope,
    /// Those who could not begin with what the others were told.
    at_least: Option<Position>,
}

/// How subscriptions are carried out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LiveSettings {
    /// Frames that a cohort keeps for members that are behind.
    pub(crate) frames: usize,
    /// How long an operation waits for the position that it must include.
    pub(crate) min_position_wait: Duration,
}

/// A subscription under way: frames for one subscriber.
pub(crate) type Subscription = Member<CohortKey, Payload>;

impl Executor {
    pub(crate) fn new(
        schema: SmartPulseSchema,
        documents: Documents,
        limits: Limits,
        log: ChangeLog,
        settings: LiveSettings,
    ) -> Self {
        let metrics = LiveMetrics::default();
        let cohorts = Cohorts::new(log.hub().clone(), settings.frames, metrics.cohorts.clone());
        Self {
            inner: Arc::new(Inner {
                schema,
                documents,
                limits,
                log,
                min_position_wait: settings.min_position_wait,
                mutations: TaskTracker::new(),
                metrics,
            }),
            cohorts,
        }
    }

    pub(crate) fn metrics(&self) -> &LiveMetrics {
        &self.inner.metrics
    }

    /// Reads a request. What is wrong with it as a whole is found here, or
    /// before anything is executed.
    pub(crate) fn prepare(
        &self,
        params: Params,
        min_position: Option<Position>,
    ) -> Result<Operation, Vec<ServerError>> {
        let prepare = || {
            let min_position = match min_position {
                Some(position) => Some(position),
                None => params
                    .min_position()
                    .map_err(|error| vec![error.into_server_error()])?,
            };
            let tells_cost = params.asks_cost();
            let name = params.operation_name.filter(|name| !name.is_empty());
            let documents = &self.inner.documents;
            let prepared = documents.prepare(&params.query, name.as_deref(), params.variables)?;
            Ok(Operation {
                kind: prepared.kind,
                prepared,
                min_position,
                tells_cost,
            })
        };
        prepare().map_err(|mut errors: Vec<ServerError>| {
            error::finish(&mut errors);
            errors
        })
    }

    /// Carries out a query or a mutation.
    pub(crate) async fn answer(&self, operation: Operation, viewer: Viewer) -> Answer {
        if let Err(error) = self.wait_for_min_position(&operation).await {
            return Answer::refused(vec![error.into_server_error()]);
        }
        if operation.kind == OperationType::Mutation && !viewer.confirmed {
            let message =
                "your key cannot be confirmed just now, and lets you only read: try again";
            let error = ApiError::new(ErrorCode::Unavailable, message);
            return Answer::refused(vec![error.into_server_error()]);
        }
        if operation.kind == OperationType::Mutation && self.inner.mutations.len() >= MOST_MUTATIONS
        {
            let message = "too many mutations are under way: try again in a moment";
            let error = ApiError::new(ErrorCode::Unavailable, message);
            return Answer::refused(vec![error.into_server_error()]);
        }
        let (inner, kind) = (Arc::clone(&self.inner), operation.kind);
        let executed = async move { inner.execute(operation, viewer).await };
        let limit = self.inner.limits.operation_timeout;
        let answer = match kind {
            // A client that goes away must not cut a write in two: it goes on by
            // itself, and so does one that takes too long.
            OperationType::Mutation => timeout(limit, self.inner.mutations.spawn(executed))
                .await
                .map(|ended| ended.ok()),
            _ => timeout(limit, executed).await.map(Some),
        };
        let refuse = |error: ApiError| Answer::refused(vec![error.into_server_error()]);
        match answer {
            Ok(Some(answer)) => answer,
            Ok(None) => refuse(ApiError::panicked()),
            Err(_) => refuse(ApiError::new(ErrorCode::Timeout, too_long(kind, limit))),
        }
    }

    /// Waits for mutations whose clients may have gone. None is begun any more.
    pub(crate) async fn finish(&self) {
        self.inner.mutations.close();
        self.inner.mutations.wait().await;
    }

    /// Begins a subscription; `resume` says where the client has come to, over
    /// what its document says.
    pub(crate) async fn subscribe(
        &self,
        operation: Operation,
        viewer: Viewer,
        resume: Option<Position>,
    ) -> Result<Subscription, Failure> {
        self.wait_for_min_position(&operation).await?;
        let after = operation.after()?;
        let after = resume.or(after);
        let mut key = operation.cohort_key(&viewer);
        let at_least = operation.min_position;
        let (executor, shared) = (Arc::clone(&self.inner), Arc::new((operation, viewer)));
        let start = move |run| executor.run(&shared.0, &shared.1, run);
        let subscription = self.cohorts.join(key.clone(), after, start.clone());
        match at_least {
            Some(position) if !subscription.includes(position) => {
                // What the others were told is older: to begin with that would be
                // to read what was.
                key.at_least = Some(position);
                Ok(self.cohorts.join(key, after, start))
            }
            _ => Ok(subscription),
        }
    }

    async fn wait_for_min_position(&self, operation: &Operation) -> Result<(), ApiError> {
        let Some(wanted) = operation.min_position else {
            return Ok(());
        };
        if operation.kind == OperationType::Mutation {
            // It has its own position, which is later.
            return Ok(());
        }
        let log = &self.inner.log;
        let reached = timeout(self.inner.min_position_wait, log.reached(wanted)).await;
        match reached {
            Ok(Ok(())) => Ok(()),
            Ok(Err(expired)) => {
                let error = ApiError::new(ErrorCode::PositionExpired, expired.to_string());
                Err(error.at(expired.current))
            }
            Err(_) => {
                let applied = log.applied();
                let message = format!(
                    "this replica has reached {applied} and not yet {wanted}: try again, or ask another"
                );
                Err(ApiError::new(ErrorCode::Unavailable, message).at(applied))
            }
        }
    }
}

fn too_long(kind: OperationType, limit: Duration) -> String {
    let seconds = limit.as_secs();
    match kind {
        OperationType::Mutation => format!(
            "the mutation took longer than {seconds} s and may still be carried out: look, or send it again with the same idempotencyKey"
        ),
        _ => format!("the query took longer than {seconds} s: ask for less, or try again"),
    }
}

impl Inner {
    async fn execute(&self, operation: Operation, viewer: Viewer) -> Answer {
        let prepared = operation.prepared;
        let plan = prepared.plan;
        let introspected = match prepared.introspection {
            Some(introspection) => {
                weight::add_bytes(prepared.cost).await;
                introspection.execute()
            }
            None => Introspected::default(),
        };
        let cost = operation.tells_cost.then_some(prepared.cost);
        let limit = self.limits.answer_bytes;
        let answer = |response| Answer::executed(&plan, response, introspected, limit, cost);
        if !plan.executes {
            return answer(Response::new(Value::Null));
        }
        let request = request(plan.document.clone(), prepared.variables)
            .data(viewer)
            .data(PointBudget::new(self.limits));
        let executed = AssertUnwindSafe(self.schema.execute(request));
        match executed.catch_unwind().await {
            Ok(response) => answer(response),
            Err(panic) => {
                error::log_panic(&*panic, "an operation could not be executed");
                Answer::refused(vec![ApiError::panicked().into_server_error()])
            }
        }
    }

    /// One run of a subscription: each event executed, and written once.
    fn run(
        self: &Arc<Self>,
        operation: &Operation,
        viewer: &Viewer,
        run: Run,
    ) -> BoxStream<'static, LiveFrame> {
        let is_shared = matches!(run, Run::Shared(_));
        let feed = Feed::new(run);
        let prepared = &operation.prepared;
        let plan = Arc::clone(&prepared.plan);
        let request = request(plan.document.clone(), prepared.variables.clone())
            .data(viewer.clone())
            .data(feed.clone());
        let mut responses = self.schema.execute_stream(request);
        let metrics = self.metrics.clone();
        let most = self.limits.answer_bytes;
        Box::pin(async_stream::stream! {
            loop {
                let next = weight::carry(0, async {
                    let response = responses.next().await?;
                    Some(frame::frame(&plan, response, feed.take_note(), most))
                });
                let frame = match AssertUnwindSafe(next).catch_unwind().await {
                    Ok(None) => break,
                    Ok(Some(frame)) => frame,
                    Err(panic) => {
                        error::log_panic(&*panic, "an event could not be executed");
                        frame::failed(ApiError::panicked().into())
                    }
                };
                metrics.frame(&frame.payload, is_shared);
                let failed = matches!(frame.payload, Payload::Failed(_));
                yield frame;
                if failed {
                    break;
                }
            }
        })
    }
}

fn request(document: ExecutableDocument, variables: async_graphql::Variables) -> Request {
    let mut request = Request::new("").variables(variables);
    request.set_parsed_query(document);
    request
}

impl Operation {
    /// Where the document says that the subscription begins, if not now.
    fn after(&self) -> Result<Option<Position>, ApiError> {
        let subscribed = self.prepared.plan.subscribed.as_ref();
        match subscribed.and_then(|of| of.after(&self.prepared.variables)) {
            Some(Value::String(text)) => parse_position("after", &text).map(Some),
            _ => Ok(None),
        }
    }

    /// What a subscription has in common with those that are the same: not where
    /// it begins.
    fn cohort_key(&self, viewer: &Viewer) -> CohortKey {
        let Prepared {
            plan, variables, ..
        } = &self.prepared;
        let subscribed = plan.subscribed.as_ref();
        let mut used: Box<[(Box<str>, Box<str>)]> = plan
            .variables()
            .filter_map(|name| Some((name.as_str().into(), json_of(variables.get(name)?))))
            .collect();
        used.sort_unstable();
        CohortKey {
            selected: subscribed.map(|of| of.text.clone()).unwrap_or_default(),
            variables: used,
            scope: viewer.scope_of(subscribed.map_or("", |of| &of.field)),
            at_least: None,
        }
    }
}
