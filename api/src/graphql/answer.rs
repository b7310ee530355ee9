//! The result of a query or a mutation, as text: the same over every transport.

use std::fmt::Write;

use async_graphql::{Response, ServerError, Value};

use super::frame::is_executed;
use super::operation::complete::{self, complete};
use super::operation::introspect::Introspected;
use super::operation::plan::Plan;
use crate::error;

/// A whole result.
pub(crate) struct Answer {
    /// `{"data":…}` with errors if there are any; without `data` if nothing was
    /// executed.
    pub(crate) json: String,
    pub(crate) errors: Vec<ServerError>,
    /// It was executed; else the request as a whole is wrong.
    pub(crate) executed: bool,
}

impl Answer {
    /// What came of an operation, at most `limit` bytes of it; with its cost, as it
    /// was told before any work, if it was asked for.
    pub(super) fn executed(
        plan: &Plan,
        response: Response,
        introspected: Introspected,
        limit: u64,
        cost: Option<u64>,
    ) -> Self {
        let mut errors = response.errors;
        let is_refused =
            response.data == Value::Null && !errors.is_empty() && !is_executed(&errors);
        if is_refused {
            return Self::refused(errors);
        }
        let Introspected { data, errors: more } = introspected;
        errors.extend(more);
        error::finish(&mut errors);
        let written = complete(plan, &response.data, &data, &mut errors, limit);
        let mut json = match written {
            Ok(json) => complete::text(json),
            Err(error) => return Self::refused(vec![error.into_server_error()]),
        };
        if let Some(bytes) = cost {
            let _ = write!(
                json,
                ",\"extensions\":{{\"cost\":{{\"bytes\":{bytes},\"limit\":{limit}}}}}"
            );
        }
        json.push('}');
        Self {
            json,
            errors,
            executed: true,
        }
    }

    /// The result of what is not executed.
    pub(crate) fn refused(mut errors: Vec<ServerError>) -> Self {
        error::finish(&mut errors);
        Self::of_errors(errors)
    }

    fn of_errors(errors: Vec<ServerError>) -> Self {
        Self {
            json: serde_json::json!({ "errors": errors }).to_string(),
            errors,
            executed: false,
        }
    }
}
