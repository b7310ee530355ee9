//! GraphQL over HTTP and websockets.

use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use async_graphql::{Data, Request, Response, ServerError, Variables};
use async_graphql_axum::{GraphQLProtocol, GraphQLWebSocket};
use axum::body::Bytes;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response as HttpResponse};

use super::Shared;
use crate::error::{self, ApiError, ErrorCode};
use crate::graphql::PointBudget;
use crate::graphql::document;
use crate::viewer::{USER_FIELD, USER_HEADER, Viewer};

/// `POST /graphql`: one operation as JSON.
pub(super) async fn post(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Result<Bytes, axum::extract::rejection::BytesRejection>,
) -> HttpResponse {
    let body = match body {
        Ok(body) => body,
        Err(rejection) => {
            let message = format!(
                "the body could not be read: {}; at most {} bytes are taken",
                rejection.body_text(),
                shared.limits.body_bytes
            );
            return refuse(rejection.status(), ApiError::bad_input(message));
        }
    };
    let is_json = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|media| media.trim().eq_ignore_ascii_case("application/json"));
    if !is_json {
        // A browser sends any other type across origins without asking first.
        return refuse(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            ApiError::bad_input("send the operation as application/json"),
        );
    }
    if !body.trim_ascii_start().starts_with(b"{") {
        // Serde would take a list of a request's fields for one, too.
        return refuse(
            StatusCode::BAD_REQUEST,
            ApiError::bad_input("the body is not a GraphQL request: it is not a JSON object"),
        );
    }
    match serde_json::from_slice::<Request>(&body) {
        Ok(request) => execute(&shared, &headers, request).await,
        Err(error) => refuse(
            StatusCode::BAD_REQUEST,
            ApiError::bad_input(format!("the body is not a GraphQL request: {error}")),
        ),
    }
}

/// `GET /graphql`: a query in the address. Nothing that changes anything.
pub(super) async fn get(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    Query(parameters): Query<HashMap<String, String>>,
) -> HttpResponse {
    let Some(query) = parameters.get("query") else {
        return refuse(
            StatusCode::BAD_REQUEST,
            ApiError::bad_input("give the operation as the parameter `query`"),
        );
    };
    let mut request = Request::new(query);
    if let Some(variables) = parameters.get("variables") {
        match serde_json::from_str(variables) {
            Ok(json) => request = request.variables(Variables::from_json(json)),
            Err(error) => {
                let message = format!("`variables` is not JSON: {error}");
                return refuse(StatusCode::BAD_REQUEST, ApiError::bad_input(message));
            }
        }
    }
    if let Some(name) = parameters.get("operationName") {
        request = request.operation_name(name);
    }
    let mut request = match shared.documents.prepare(request) {
        Ok(request) => request,
        Err(error) => return respond(&failed(error)),
    };
    if !document::is_query(&mut request) {
        let mut response = refuse(
            StatusCode::METHOD_NOT_ALLOWED,
            ApiError::bad_input("only queries may be sent by GET: use POST"),
        );
        let post = HeaderValue::from_static("POST");
        response.headers_mut().insert(header::ALLOW, post);
        return response;
    }
    execute(&shared, &headers, request).await
}

async fn execute(shared: &Shared, headers: &HeaderMap, request: Request) -> HttpResponse {
    let began = Instant::now();
    let viewer = match headers.get(USER_HEADER) {
        None => Viewer::named(None),
        Some(value) => value
            .to_str()
            .ok()
            .and_then(|name| Viewer::named(Some(name))),
    };
    let Some(viewer) = viewer else {
        return refuse(
            StatusCode::BAD_REQUEST,
            ApiError::bad_input("the SmartPulse-User header is not a user's name"),
        );
    };
    let mut response = match shared.documents.prepare(request) {
        Ok(request) => {
            let request = request.data(viewer).data(PointBudget::new(shared.limits));
            shared.schema.execute(request).await
        }
        Err(error) => Response::from_errors(vec![error]),
    };
    error::finish(&mut response.errors);
    shared.metrics.request(began.elapsed(), &response.errors);
    respond(&response)
}

fn failed(error: ServerError) -> Response {
    let mut response = Response::from_errors(vec![error]);
    error::finish(&mut response.errors);
    response
}

fn respond(response: &Response) -> HttpResponse {
    json(StatusCode::OK, response)
}

/// An answer to a request that never became an operation.
fn refuse(status: StatusCode, error: ApiError) -> HttpResponse {
    let error = async_graphql::Error::from(error).into_server_error(async_graphql::Pos::default());
    let mut response = Response::from_errors(vec![error]);
    for error in &mut response.errors {
        error.locations.clear();
    }
    json(status, &response)
}

fn json(status: StatusCode, response: &Response) -> HttpResponse {
    match serde_json::to_vec(response) {
        Ok(body) => (
            status,
            [(header::CONTENT_TYPE, "application/json; charset=utf-8")],
            body,
        )
            .into_response(),
        Err(error) => {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "an answer is not JSON"
            );
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// The answer when a handler panicked.
pub(super) fn panicked(panic: Box<dyn Any + Send>) -> HttpResponse {
    let message = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message");
    tracing::error!(panic = message, "a request handler panicked");
    refuse(
        StatusCode::INTERNAL_SERVER_ERROR,
        ApiError::new(
            ErrorCode::Internal,
            "internal error: the server's log has the cause",
        ),
    )
}

/// `GET /graphql/ws`: any operations over one graphql-transport-ws connection.
pub(super) async fn websocket(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    protocol: GraphQLProtocol,
    upgrade: WebSocketUpgrade,
) -> HttpResponse {
    if !is_same_origin(&headers) {
        return refuse(
            StatusCode::FORBIDDEN,
            ApiError::bad_input("websockets from pages of other origins are refused"),
        );
    }
    let from_header = headers
        .get(USER_HEADER)
        .map(|value| value.to_str().map(str::to_owned).unwrap_or_default());
    let limit = shared.limits.body_bytes;
    upgrade
        .max_message_size(limit)
        .max_frame_size(limit)
        .protocols(async_graphql::http::ALL_WEBSOCKET_PROTOCOLS)
        .on_upgrade(move |socket| async move {
            let token = shared.sockets.token();
            let executor = Finishing(Arc::clone(&shared));
            let session = GraphQLWebSocket::new(socket, executor, protocol)
                .on_connection_init(move |payload: serde_json::Value| async move {
                    let named = payload.get(USER_FIELD).and_then(|name| name.as_str());
                    let viewer =
                        Viewer::named(named.or(from_header.as_deref())).ok_or_else(|| {
                            ApiError::bad_input("SmartPulse-User is not a user's name")
                        })?;
                    let mut data = Data::default();
                    data.insert(viewer);
                    Ok(data)
                })
                .serve();
            tokio::select! {
                () = session => {}
                () = shared.stop.cancelled() => {}
            }
            drop(token);
        })
}

/// A browser lets any page open a websocket to any server and only says where
/// the page is from. Programs that are no browsers say nothing.
fn is_same_origin(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else {
        return true;
    };
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let from = origin
        .to_str()
        .ok()
        .and_then(|origin| origin.split_once("://"));
    matches!((from, host), (Some((_, from)), Some(host)) if from == host)
}

/// Executes for a websocket as `execute` does for HTTP: the same limits before,
/// the same codes and logs after.
#[derive(Clone)]
struct Finishing(Arc<Shared>);

impl async_graphql::Executor for Finishing {
    async fn execute(&self, request: Request) -> Response {
        match self.0.documents.prepare(request) {
            Ok(request) => {
                let mut response = self.0.schema.execute(request).await;
                error::finish(&mut response.errors);
                response
            }
            Err(error) => failed(error),
        }
    }

    fn execute_stream(
        &self,
        request: Request,
        session_data: Option<Arc<Data>>,
    ) -> futures_util::stream::BoxStream<'static, Response> {
        use futures_util::StreamExt;
        match self.0.documents.prepare(request) {
            Ok(mut request) => {
                // A subscription may ask for as much with each event.
                if document::is_answered_once(&mut request) {
                    request = request.data(PointBudget::new(self.0.limits));
                }
                self.0
                    .schema
                    .execute_stream_with_session_data(request, session_data.unwrap_or_default())
                    .map(|mut response| {
                        error::finish(&mut response.errors);
                        response
                    })
                    .boxed()
            }
            Err(error) => futures_util::stream::iter([failed(error)]).boxed(),
        }
    }
}
