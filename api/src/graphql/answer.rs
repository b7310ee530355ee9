//! The result of a query or a mutation, as text: the same over every transport.

use apollo_compiler::response::JsonMap;
use async_graphql::{Response, ServerError, Value};

use super::frame::is_executed;
use super::operation::complete::{self, complete};
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
    /// What came of an operation.
    pub(super) fn executed(plan: &Plan, mut response: Response, introspected: &JsonMap) -> Self {
        error::finish(&mut response.errors);
        let mut errors = response.errors;
        let is_refused =
            response.data == Value::Null && !errors.is_empty() && !is_executed(&errors);
        if is_refused {
            return Self::of_errors(errors);
        }
        let mut json = complete(plan, &response.data, introspected, &mut errors);
        json.push(b'}');
        Self {
            json: complete::text(json),
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
