//! What a subscription delivers, as text: made once for all who get it.

use std::fmt::Write;

use async_graphql::{Response, ServerError, Value};
use subscriptions::cohort::{Frame, FrameKind};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::feed::Note;
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
    fn new(response: &Response, note: &Note, now: OffsetDateTime) -> serde_json::Result<Self> {
        let mut json = String::from("{\"data\":");
        json.push_str(&serde_json::to_string(&response.data)?);
        if !response.errors.is_empty() {
            json.push_str(",\"errors\":");
            json.push_str(&serde_json::to_string(&response.errors)?);
        }
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
        Ok(Self {
            json: json.into(),
            skipped: note.skipped,
            committed_at: note.committed_at,
        })
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

    /// Of a response that has nothing but errors.
    pub(crate) fn of(response: &Response) -> Option<Self> {
        let is_failure = response.data == Value::Null && !response.errors.is_empty();
        is_failure.then(|| Self::new(&response.errors))
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
pub(crate) fn frame(mut response: Response, note: Option<Note>) -> LiveFrame {
    error::finish(&mut response.errors);
    let passes = |error: &ServerError| {
        matches!(
            error::code_of(error),
            ErrorCode::Unavailable | ErrorCode::Timeout | ErrorCode::Internal
        )
    };
    let note = match note {
        Some(note) if response.errors.is_empty() => note,
        Some(note) if note.kind == FrameKind::Event && !response.errors.iter().any(passes) => note,
        _ => return failed(Failure::new(&response.errors)),
    };
    match Next::new(&response, &note, OffsetDateTime::now_utc()) {
        Ok(next) => Frame {
            kind: note.kind,
            position: Some(note.position),
            bytes: next.len(),
            payload: Payload::Next(next),
        },
        Err(error) => failed(ApiError::internal(error).into()),
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
