//! One result as an HTTP answer.

use async_graphql::ServerError;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response as HttpResponse};

use super::accept::Form;
use crate::error::{self, ApiError, ErrorCode};
use crate::graphql::answer::Answer;

/// The answer to an operation.
pub(super) fn respond(answer: Answer, form: Form) -> HttpResponse {
    let status = match form {
        Form::GraphQlResponse if !answer.executed => status_of(&answer.errors),
        _ => StatusCode::OK,
    };
    written((status, answer.json).into_response(), form)
}

/// The answer to what never became an operation.
pub(super) fn refuse(status: StatusCode, form: Form, error: ApiError) -> HttpResponse {
    let answer = Answer::refused(vec![error.into_server_error()]);
    written((status, answer.json).into_response(), form)
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
