//! What a subscription delivers, as text: made once for all who get it.

use std::fmt::Write;

use apollo_compiler::response::JsonMap;
use async_graphql::{Response, ServerError};
use subscriptions::cohort::{Frame, FrameKind};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::feed::Note;
use super::operation::complete::{self, complete};
use super::operation::plan::Plan;
use crate::error::{self, ApiError, ErrorCode};

/// A frame whose text all members share.
pub(crate) type LiveFrame = Frame<Payload>;

/// What a frame says.
#[derive(Debug)]
pub(crate) enum Payload {
    /// An execution result.
    Next(Next),
    /// Why there will be no more.
    Failed(Failure),
}

/// `{"data":…,"extensions":{…`, up to where something may be added for one
/// subscriber alone.
#[derive(Debug)]
pub(crate) struct Next {
    json: Box<str>,
    skipped: u64,
    committed_at: Option<OffsetDateTime>,
}

/// GraphQL errors that end an operation.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    /// As a JSON list.
    pub(crate) errors: Box<str>,
    pub(crate) code: ErrorCode,
    /// A field failed; else the request as a whole is wrong.
    pub(crate) executed: bool,
}

impl Next {
    /// `json` is a result up to where its extensions stand.
    fn new(mut json: String, note: &Note, now: OffsetDateTime) -> Self {
        let _ = write!(json, ",\"extensions\":{{\"position\":\"{}\"", note.position);
        let mut instant = |name: &str, at: OffsetDateTime| {
            let at = at.to_offset(time::UtcOffset::UTC);
            let _ = write!(
                json,
                ",\"{name}\":\"{}\"",
                at.format(&Rfc3339).unwrap_or_default()
            );
        };
        if let Some(at) = note.committed_at {
            instant("committedAt", at);
        }
        instant("sentAt", now);
        Self {
            json: json.into(),
            skipped: note.skipped,
            committed_at: note.committed_at,
        }
    }

    /// When its newest change was made.
    pub(super) fn committed_at(&self) -> Option<OffsetDateTime> {
        self.committed_at
    }

    /// Writes the result for a subscriber that was passed over `skipped` times.
    pub(crate) fn write(&self, skipped: u64, text: &mut String) {
        text.push_str(&self.json);
        let skipped = skipped + self.skipped;
        if skipped > 0 {
            let _ = write!(text, ",\"skipped\":{skipped}");
        }
        text.push_str("}}");
    }

    /// Its length without what is added.
    pub(crate) fn len(&self) -> usize {
        self.json.len() + 2
    }
}

impl Failure {
    pub(crate) fn new(errors: &[ServerError]) -> Self {
        Self {
            executed: is_executed(errors),
            code: errors.first().map_or(ErrorCode::Internal, error::code_of),
            errors: serde_json::to_string(errors)
                .unwrap_or_else(|_| String::from("[]"))
                .into(),
        }
    }

    /// The errors as a whole result.
    pub(crate) fn result(&self) -> String {
        // Data, if only none, says that something was executed.
        let data = if self.executed { "\"data\":null," } else { "" };
        format!("{{{data}\"errors\":{}}}", self.errors)
    }
}

/// Whether errors are of fields: of an operation that was executed, and not of
/// one that was refused before.
pub(crate) fn is_executed(errors: &[ServerError]) -> bool {
    errors.iter().any(|error| !error.path.is_empty())
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        let mut errors = [error.into_server_error()];
        error::finish(&mut errors);
        Self::new(&errors)
    }
}

/// The frame of one response.
///
/// An event with an error that will stay, because what it names is gone, is told
/// with it, and the next one comes. Any other error ends the stream: what it
/// lacks can be had by going on from the last position.
/// So does a result of more than `most` bytes.
pub(crate) fn frame(
    plan: &Plan,
    mut response: Response,
    note: Option<Note>,
    most: u64,
) -> LiveFrame {
    error::finish(&mut response.errors);
    let Some(note) = note else {
        return failed(Failure::new(&response.errors));
    };
    let mut errors = response.errors;
    let written = complete(plan, &response.data, &JsonMap::new(), &mut errors, most);
    let json = match written {
        Ok(json) => json,
        Err(error) => return failed(error.into()),
    };
    let passes = |error: &ServerError| {
        matches!(
            error::code_of(error),
            ErrorCode::Unavailable | ErrorCode::Timeout | ErrorCode::Internal
        )
    };
    let is_told =
        errors.is_empty() || (note.kind == FrameKind::Event && !errors.iter().any(passes));
    if !is_told {
        return failed(Failure::new(&errors));
    }
    let next = Next::new(complete::text(json), &note, OffsetDateTime::now_utc());
    Frame {
        kind: note.kind,
        position: Some(note.position),
        bytes: next.len(),
        payload: Payload::Next(next),
    }
}

/// The last frame of a stream that cannot go on.
pub(crate) fn failed(failure: Failure) -> LiveFrame {
    Frame {
        kind: FrameKind::Failure,
        position: None,
        bytes: failure.errors.len(),
        payload: Payload::Failed(failure),
    }
}
