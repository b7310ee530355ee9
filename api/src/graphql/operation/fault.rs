//! Request errors: what is wrong with a request before anything is executed.

use apollo_compiler::parser::{SourceMap, SourceSpan};
use apollo_compiler::validation::DiagnosticList;
use async_graphql::{Pos, ServerError};

use crate::error::{ApiError, ErrorCode};

/// At most this many faults of a request are told.
pub(super) const MOST_FAULTS: usize = 20;
/// At most this many bytes of a message, whatever it is made of.
const LONGEST_MESSAGE: usize = 400;

/// A document or request that exceeds a limit.
pub(super) fn too_complex(message: impl Into<String>) -> ServerError {
    ApiError::new(ErrorCode::TooComplex, message).into_server_error()
}

/// A fault at a place of the document.
pub(super) fn at(error: ApiError, place: Option<Pos>) -> ServerError {
    let mut error = error.into_server_error();
    error.locations.extend(place);
    error
}

/// What the validation of a document found.
pub(super) fn of_document(found: &DiagnosticList) -> Vec<ServerError> {
    let faults = found.iter().take(MOST_FAULTS).map(|diagnostic| {
        let place = diagnostic.line_column_range().map(|range| Pos {
            line: range.start.line,
            column: range.start.column,
        });
        let mut message = diagnostic.error.to_string();
        domain::clip(&mut message, LONGEST_MESSAGE);
        at(ApiError::bad_input(message), place)
    });
    faults.collect()
}

/// Where something stands in the document.
pub(super) fn place(span: Option<SourceSpan>, sources: &SourceMap) -> Pos {
    let found = span.and_then(|span| span.line_column(sources));
    found.map_or_else(Pos::default, |place| Pos {
        line: place.line,
        column: place.column,
    })
}
