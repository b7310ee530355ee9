//! GraphQL over HTTP: <https://graphql.github.io/graphql-over-http/draft/>, and
//! subscriptions on the same address.

mod accept;
mod answer;
mod body;
mod stream;

use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use async_graphql::ServerError;
use async_graphql::parser::types::OperationType;
use axum::body::Body;
use axum::extract::{FromRequestParts, Query, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response as HttpResponse;
use domain::change::Position;

use super::Shared;
use crate::auth::{Credentials, Refusal};
use crate::error::{self, ApiError, ErrorCode};
use crate::graphql::answer::Answer;
use crate::graphql::executor::Operation;
use crate::graphql::frame::Failure;
use crate::graphql::params::{Extensions, Params, parse_position};
use crate::graphql::persisted;
use crate::viewer::Viewer;
use crate::weight;
use accept::Form;
use answer::respond;
use body::Refused;
use stream::{Connection, EventStream, Multipart};

/// The header with the position that an answer must include.
const MIN_POSITION_HEADER: &str = "smartpulse-min-position";
/// The header with which an event source says where it has come to.
const LAST_EVENT_ID: &str = "last-event-id";
/// The header that asks what an operation costs.
const COST_HEADER: &str = "smartpulse-cost";

/// `POST /graphql`: one operation as JSON.
pub(super) async fn post(
    State(shared): State<Arc<Shared>>,
    // Before the body: who is not let in need not have sent it.
    Caller(viewer): Caller,
    headers: HeaderMap,
    body: Body,
) -> HttpResponse {
    let text = match body::read(&headers, body, shared.limits.body_bytes).await {
        Ok(text) => text,
        Err(Refused { status, message }) => {
            let form = accept::choose(&headers, &accept::ONCE).unwrap_or(Form::Json);
            return answer::refuse(status, form, ApiError::bad_input(message));
        }
    };
    let answered = async {
        match read_text(&text) {
            Ok(params) => execute(&shared, viewer, &headers, params, Method::Post).await,
            Err(error) => no_operation(&shared, &headers, error),
        }
    };
    weight::carry(text.len(), answered).await
}

fn read_text(text: &[u8]) -> Result<Params, ApiError> {
    let no_request = |what: &dyn std::fmt::Display| {
        ApiError::bad_input(format!("the body is not a GraphQL request: {what}"))
    };
    // Serde would take a list of a request's fields for one, too.
    if !text.trim_ascii_start().starts_with(b"{") {
        return Err(no_request(&"it is not a JSON object"));
    }
    serde_json::from_slice(text).map_err(|error| {
        if persisted::is_hash_only(text) {
            return persisted::not_supported();
        }
        no_request(&error)
    })
}

/// The answer to a request that says nothing to execute.
fn no_operation(shared: &Shared, headers: &HeaderMap, error: ApiError) -> HttpResponse {
    let form = accept::choose(headers, &accept::ONCE);
    match error.code() {
        // It is one, for clients that send hashes.
        ErrorCode::PersistedQueryNotSupported => {
            not_begun(shared, form, vec![error.into_server_error()])
        }
        _ => answer::refuse(StatusCode::BAD_REQUEST, form.unwrap_or(Form::Json), error),
    }
}

/// `GET /graphql`: an operation in the address. Nothing that changes anything.
pub(super) async fn get(
    State(shared): State<Arc<Shared>>,
    Caller(viewer): Caller,
    headers: HeaderMap,
    Query(parameters): Query<HashMap<String, String>>,
) -> HttpResponse {
    match read_parameters(parameters) {
        Ok(params) => {
            let answered = execute(&shared, viewer, &headers, params, Method::Get);
            weight::carry(0, answered).await
        }
        Err(error) => no_operation(&shared, &headers, error),
    }
}

fn read_parameters(mut parameters: HashMap<String, String>) -> Result<Params, ApiError> {
    fn json<T: serde::de::DeserializeOwned + Default>(
        parameters: &HashMap<String, String>,
        name: &str,
    ) -> Result<T, ApiError> {
        let text = parameters.get(name).filter(|text| !text.is_empty());
        let read = text.map(|text| serde_json::from_str(text)).transpose();
        let value = read.map_err(|error| {
            ApiError::bad_input(format!("`{name}` is not a JSON object: {error}"))
        })?;
        Ok(value.unwrap_or_default())
    }
    let extensions: Option<Extensions> = json(&parameters, "extensions")?;
    let Some(query) = parameters.remove("query") else {
        return Err(if extensions.as_ref().is_some_and(Extensions::has_hash) {
            persisted::not_supported()
        } else {
            ApiError::bad_input("give the operation as the parameter `query`")
        });
    };
    Ok(Params {
        query,
        variables: json(&parameters, "variables")?,
        extensions,
        operation_name: parameters.remove("operationName"),
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    Get,
    Post,
}

/// Who sends a request; one that is not let in goes no further.
pub(super) struct Caller(Viewer);

impl FromRequestParts<Arc<Shared>> for Caller {
    type Rejection = HttpResponse;

    async fn from_request_parts(
        parts: &mut Parts,
        shared: &Arc<Shared>,
    ) -> Result<Self, Self::Rejection> {
        let said = Credentials::of_headers(&parts.headers);
        match shared.auth.authenticate(&said).await {
            Ok(viewer) => Ok(Self(viewer)),
            Err(refusal) => Err(not_let_in(shared, &parts.headers, refusal)),
        }
    }
}

fn not_let_in(shared: &Shared, headers: &HeaderMap, refusal: Refusal) -> HttpResponse {
    let form = accept::choose(headers, &accept::ONCE).unwrap_or(Form::Json);
    let (status, challenge) = (refusal.status(), refusal.challenge());
    let error = ApiError::from(refusal);
    shared.metrics.refused(error.code());
    let mut response = answer::refuse(status, form, error);
    if let Some(challenge) = challenge {
        let challenge = HeaderValue::from_static(challenge);
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, challenge);
    }
    response
}

/// What headers say of an operation.
struct Headers {
    min_position: Option<Position>,
    last_event: Option<Position>,
    asks_cost: bool,
}

impl Headers {
    fn read(headers: &HeaderMap) -> Result<Self, ApiError> {
        let text = |name: &str| {
            let value = headers.get(name);
            value.map(|value| value.to_str().unwrap_or_default())
        };
        let position = |name: &str| {
            let value = text(name).filter(|text| !text.is_empty());
            value.map(|text| parse_position(name, text)).transpose()
        };
        Ok(Self {
            min_position: position(MIN_POSITION_HEADER)?,
            last_event: position(LAST_EVENT_ID)?,
            asks_cost: text(COST_HEADER) == Some("1"),
        })
    }
}

async fn execute(
    shared: &Shared,
    viewer: Viewer,
    headers: &HeaderMap,
    params: Params,
    method: Method,
) -> HttpResponse {
    let form = accept::choose(headers, &accept::ONCE);
    let read = match Headers::read(headers) {
        Ok(read) => read,
        Err(error) => {
            return answer::refuse(StatusCode::BAD_REQUEST, form.unwrap_or(Form::Json), error);
        }
    };
    let operation = match shared.executor.prepare(params, read.min_position) {
        Ok(mut operation) => {
            operation.tells_cost |= read.asks_cost;
            operation
        }
        Err(errors) => return not_begun(shared, form, errors),
    };
    match operation.kind {
        OperationType::Subscription => subscribe(shared, viewer, headers, operation, read).await,
        OperationType::Mutation if method == Method::Get => {
            let mut response = answer::refuse(
                StatusCode::METHOD_NOT_ALLOWED,
                form.unwrap_or(Form::Json),
                ApiError::bad_input("mutations may not be sent by GET: use POST"),
            );
            let post = HeaderValue::from_static("POST");
            response.headers_mut().insert(header::ALLOW, post);
            response
        }
        _ => match form {
            Some(form) => answer(shared, operation, viewer, form).await,
            None => not_acceptable("application/graphql-response+json or application/json"),
        },
    }
}

/// The answer to a request of which nothing was executed.
fn not_begun(shared: &Shared, form: Option<Form>, errors: Vec<ServerError>) -> HttpResponse {
    shared.metrics.errors(&errors);
    match form {
        Some(Form::EventStream) => stream::failed::<EventStream>(&Failure::new(&errors)),
        form => respond(Answer::refused(errors), form.unwrap_or(Form::Json)),
    }
}

async fn answer(shared: &Shared, operation: Operation, viewer: Viewer, form: Form) -> HttpResponse {
    let began = Instant::now();
    let answer = shared.executor.answer(operation, viewer).await;
    shared.metrics.request(began.elapsed(), &answer.errors);
    if form == Form::EventStream {
        return stream::once::<EventStream>(&answer.json);
    }
    respond(answer, form)
}

async fn subscribe(
    shared: &Shared,
    viewer: Viewer,
    headers: &HeaderMap,
    operation: Operation,
    read: Headers,
) -> HttpResponse {
    let Some(form) = accept::choose(headers, &accept::STREAMS) else {
        return not_acceptable(
            "text/event-stream or multipart/mixed for a subscription, or open a websocket at /graphql/ws",
        );
    };
    let executor = &shared.executor;
    let (expires_at, revoked) = (viewer.expires_at, viewer.revoked());
    let begun = executor.subscribe(operation, viewer, read.last_event).await;
    let connection = Connection {
        metrics: executor.metrics().clone(),
        drain: shared.drain.clone(),
        heartbeat: shared.heartbeat,
        expires_at,
        revoked: Box::pin(revoked),
    };
    match (begun, form) {
        (Ok(subscription), Form::Multipart) => {
            stream::subscribed::<Multipart>(subscription, connection)
        }
        (Ok(subscription), _) => stream::subscribed::<EventStream>(subscription, connection),
        (Err(failure), Form::Multipart) => stream::failed::<Multipart>(&failure),
        (Err(failure), _) => stream::failed::<EventStream>(&failure),
    }
}

fn not_acceptable(forms: &str) -> HttpResponse {
    answer::refuse(
        StatusCode::NOT_ACCEPTABLE,
        Form::Json,
        ApiError::bad_input(format!("accept {forms}")),
    )
}

/// The answer to what never became an operation, where no form was asked for.
pub(crate) fn refuse(status: StatusCode, error: ApiError) -> HttpResponse {
    answer::refuse(status, Form::Json, error)
}

/// The answer when a handler panicked.
pub(super) fn panicked(panic: Box<dyn Any + Send>) -> HttpResponse {
    error::log_panic(&*panic, "a request handler panicked");
    answer::refuse(
        StatusCode::INTERNAL_SERVER_ERROR,
        Form::Json,
        ApiError::panicked(),
    )
}
