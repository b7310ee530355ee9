//! The result of a query or a mutation, as text: the same over every transport.

use std::fmt::Write;

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

/// What an answer weighs, as it was told before any work.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cost {
    pub(super) bytes: u64,
    pub(super) limit: u64,
}

impl Answer {
    /// What came of an operation; with its cost if it was asked for.
    pub(super) fn executed(
        plan: &Plan,
        mut response: Response,
        introspected: &JsonMap,
        cost: Option<Cost>,
    ) -> Self {
        error::finish(&mut response.errors);
        let mut errors = response.errors;
        let is_refused =
            response.data == Value::Null && !errors.is_empty() && !is_executed(&errors);
        if is_refused {
            return Self::of_errors(errors);
        }
        let json = complete(plan, &response.data, introspected, &mut errors);
        let mut json = complete::text(json);
        if let Some(Cost { bytes, limit }) = cost {
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
