//! One result as an HTTP answer.

use async_graphql::{Response, ServerError, Value};
use async_graphql_axum::GraphQLResponse;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response as HttpResponse};

use super::accept::Form;
use crate::error::{self, ApiError, ErrorCode};
use crate::graphql::frame::is_executed;

/// The answer to an operation.
pub(super) fn respond(response: Response, form: Form) -> HttpResponse {
    let has_data = response.data != Value::Null || response.errors.is_empty();
    if has_data || is_executed(&response.errors) {
        return written(GraphQLResponse::from(response).into_response(), form);
    }
    let status = match form {
        Form::GraphQlResponse => status_of(&response.errors),
        _ => StatusCode::OK,
    };
    errors(status, form, &response.errors)
}

/// The answer to what never became an operation.
pub(super) fn refuse(status: StatusCode, form: Form, error: ApiError) -> HttpResponse {
    let mut only = [error.into_server_error()];
    error::finish(&mut only);
    errors(status, form, &only)
}

/// Of a request that was refused as a whole.
fn status_of(errors: &[ServerError]) -> StatusCode {
    match errors.first().map(error::code_of) {
        Some(ErrorCode::Unavailable) => StatusCode::SERVICE_UNAVAILABLE,
        Some(ErrorCode::Timeout) => StatusCode::GATEWAY_TIMEOUT,
        Some(ErrorCode::Internal) => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::BAD_REQUEST,
    }
}

/// Errors without any data, which would say that something was executed.
fn errors(status: StatusCode, form: Form, errors: &[ServerError]) -> HttpResponse {
    let body = serde_json::json!({ "errors": errors }).to_string();
    written((status, body).into_response(), form)
}

fn written(mut response: HttpResponse, form: Form) -> HttpResponse {
    let media_type = match form {
        Form::GraphQlResponse => "application/graphql-response+json; charset=utf-8",
        Form::Json | Form::EventStream | Form::Multipart => "application/json; charset=utf-8",
    };
    for (name, value) in [
        (header::CONTENT_TYPE, media_type),
        // The same address has several forms.
        (header::VARY, "accept"),
    ] {
        let value = HeaderValue::from_static(value);
        response.headers_mut().insert(name, value);
    }
    response
}
