//! Carrying out operations, whatever transport they came by.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use async_graphql::parser::types::OperationType;
use async_graphql::{Name, Request, Response, ServerError, Value};
use domain::change::Position;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt};
use subscriptions::change_log::ChangeLog;
use subscriptions::cohort::{Cohorts, Member, Run};
use tokio::time::timeout;

use super::document::{Document, Documents};
use super::feed::Feed;
use super::frame::{self, Failure, LiveFrame, Payload};
use super::live_metrics::LiveMetrics;
use super::params::{Params, parse_position};
use super::subscribed::Subscribed;
use super::{Limits, PointBudget, SmartPulseSchema};
use crate::error::{self, ApiError, ErrorCode};
use crate::viewer::{Scope, Viewer};
use crate::weight;

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
    metrics: LiveMetrics,
}

/// A request whose document has been read: it is known what is to be done.
pub(crate) struct Operation {
    document: Arc<Document>,
    params: Params,
    pub(crate) kind: OperationType,
    subscribed: Option<Subscribed>,
    /// What the answer must include.
    min_position: Option<Position>,
}

/// Those who ask for the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct CohortKey {
    document: Box<str>,
    variables: Box<str>,
    scope: Scope,
    /// Those who could not begin with what the others were told.
    at_least: Option<Position>,
}

/// How subscriptions are carried out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LiveSettings {
    /// Frames that a cohort keeps for members that are behind.
    pub(crate) frames: usize,
    /// Bytes that all cohorts keep of results and states, about.
    pub(crate) frame_bytes: usize,
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
        let cohorts = Cohorts::new(
            log.hub().clone(),
            settings.frames,
            settings.frame_bytes,
            metrics.cohorts.clone(),
        );
        Self {
            inner: Arc::new(Inner {
                schema,
                documents,
                limits,
                log,
                min_position_wait: settings.min_position_wait,
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
            let document = self.inner.documents.get(&params.query)?;
            let refuse = ApiError::into_server_error;
            let operation = document
                .operation(params.operation_name())
                .map_err(refuse)?;
            let kind = operation.node.ty;
            let subscribed = match kind {
                OperationType::Subscription => {
                    Some(Subscribed::new(&document.parsed, operation).map_err(refuse)?)
                }
                _ => None,
            };
            let min_position = match min_position {
                Some(position) => Some(position),
                None => params.min_position().map_err(refuse)?,
            };
            Ok((document, kind, subscribed, min_position))
        };
        match prepare() {
            Ok((document, kind, subscribed, min_position)) => Ok(Operation {
                document,
                kind,
                subscribed,
                min_position,
                params: Params {
                    // The document has it.
                    query: String::new(),
                    ..params
                },
            }),
            Err(error) => {
                let mut errors = vec![error];
                error::finish(&mut errors);
                Err(errors)
            }
        }
    }

    /// Carries out a query or a mutation.
    pub(crate) async fn answer(&self, operation: Operation, viewer: Viewer) -> Response {
        let mut response = match self.wait_for_min_position(&operation).await {
            Ok(()) => {
                let request = operation
                    .request()
                    .data(viewer)
                    .data(PointBudget::new(self.inner.limits));
                let executed = AssertUnwindSafe(self.inner.schema.execute(request));
                executed.catch_unwind().await.unwrap_or_else(|panic| {
                    error::log_panic(&*panic, "an operation could not be executed");
                    Response::from_errors(vec![ApiError::panicked().into_server_error()])
                })
            }
            Err(error) => Response::from_errors(vec![error.into_server_error()]),
        };
        error::finish(&mut response.errors);
        response
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

impl Inner {
    /// One run of a subscription: each event executed, and written once.
    fn run(
        self: &Arc<Self>,
        operation: &Operation,
        viewer: &Viewer,
        run: Run,
    ) -> BoxStream<'static, LiveFrame> {
        let is_shared = matches!(run, Run::Shared(_));
        let feed = Feed::new(run);
        let request = operation.request().data(viewer.clone()).data(feed.clone());
        let mut responses = self.schema.execute_stream(request);
        let metrics = self.metrics.clone();
        Box::pin(async_stream::stream! {
            loop {
                let next = weight::carry(0, async {
                    let response = responses.next().await?;
                    Some(frame::frame(response, feed.take_note()))
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

impl Operation {
    fn request(&self) -> Request {
        let request = Request::new("").variables(self.params.variables.clone());
        let (mut request, document) = match (&self.subscribed, self.params.operation_name()) {
            (Some(subscribed), _) => (request, &subscribed.document),
            (None, Some(name)) => (request.operation_name(name), &self.document.parsed),
            (None, None) => (request, &self.document.parsed),
        };
        request.set_parsed_query(document.clone());
        request
    }

    /// Where the document says that the subscription begins, if not now.
    fn after(&self) -> Result<Option<Position>, ApiError> {
        let after = self.subscribed.as_ref().and_then(|s| s.after.as_ref());
        match after.and_then(|after| after.value(&self.params.variables)) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => parse_position("after", &text).map(Some),
            Some(_) => Err(ApiError::bad_input(
                "`after` is not a position: it is no text",
            )),
        }
    }

    /// What a subscription has in common with those that are the same: not where
    /// it begins.
    fn cohort_key(&self, viewer: &Viewer) -> CohortKey {
        let subscribed = self.subscribed.as_ref();
        let variables: BTreeMap<&Name, &Value> = subscribed
            .into_iter()
            .flat_map(Subscribed::variables)
            .filter_map(|name| self.params.variables.get_key_value(name))
            .collect();
        CohortKey {
            document: subscribed.map(|s| s.text.clone()).unwrap_or_default(),
            // Of what came as JSON.
            variables: serde_json::to_string(&variables)
                .unwrap_or_else(|error| unreachable!("what was JSON is JSON: {error}"))
                .into(),
            scope: viewer.scope_of(subscribed.map_or("", |s| &s.field)),
            at_least: None,
        }
    }
}
