//! What a client may see of an error.

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::sync::Arc;

use async_graphql::{ErrorExtensionValues, PathSegment, Pos, ServerError, Value};
use domain::Violation;
use domain::access::AccessError;
use domain::alert::AlertError;
use domain::change::Position;
use domain::database::Fault;
use domain::forecast::ForecastError;
use domain::notification::NotificationError;
use domain::provider::ProviderError;
use domain::unit::UnitError;
use sea_orm::DbErr;
use subscriptions::StreamError;
use subscriptions::change_log::AcknowledgeError;

/// The closed list of codes that clients may rely on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ErrorCode {
    BadUserInput,
    NotFound,
    Conflict,
    Unauthenticated,
    Forbidden,
    RateLimited,
    TooComplex,
    PositionExpired,
    ResyncRequired,
    PersistedQueryNotSupported,
    Unavailable,
    Timeout,
    Internal,
}

impl ErrorCode {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::BadUserInput => "BAD_USER_INPUT",
            Self::NotFound => "NOT_FOUND",
            Self::Conflict => "CONFLICT",
            Self::Unauthenticated => "UNAUTHENTICATED",
            Self::Forbidden => "FORBIDDEN",
            Self::RateLimited => "RATE_LIMITED",
            Self::TooComplex => "TOO_COMPLEX",
            Self::PositionExpired => "POSITION_EXPIRED",
            Self::ResyncRequired => "RESYNC_REQUIRED",
            Self::PersistedQueryNotSupported => "PERSISTED_QUERY_NOT_SUPPORTED",
            Self::Unavailable => "UNAVAILABLE",
            Self::Timeout => "TIMEOUT",
            Self::Internal => "INTERNAL",
        }
    }
}

/// Bytes of a message: whoever made it may have repeated what was given, however long.
const MOST_MESSAGE: usize = 1000;

/// What a client is told of an error that is ours to mend.
const INTERNAL: &str = "internal error: the server's log has the cause";

/// An error on its way to a client. Not `Display`, so that this stays the only
/// door: async-graphql makes a client message of whatever can be displayed.
#[derive(Debug, Clone)]
pub(crate) struct ApiError {
    code: ErrorCode,
    message: String,
    violations: Vec<Violation>,
    /// Where a client can go on from.
    position: Option<String>,
    /// For the log, never for the client.
    source: Option<Arc<dyn Error + Send + Sync>>,
}

impl ApiError {
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        let mut message = message.into();
        domain::clip(&mut message, MOST_MESSAGE);
        Self {
            code,
            message,
            violations: Vec::new(),
            position: None,
            source: None,
        }
    }

    pub(crate) fn bad_input(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::BadUserInput, message)
    }

    pub(crate) fn internal(source: impl Error + Send + Sync + 'static) -> Self {
        Self {
            source: Some(Arc::new(source)),
            ..Self::panicked()
        }
    }

    /// A panic, whose message [`log_panic`] keeps for us.
    pub(crate) fn panicked() -> Self {
        Self::new(ErrorCode::Internal, INTERNAL)
    }

    fn database(source: DbErr) -> Self {
        let (code, message) = match Fault::of(&source) {
            Fault::Unavailable => (
                ErrorCode::Unavailable,
                "the database cannot be reached or has no room: try again later",
            ),
            Fault::ReadOnly => (
                ErrorCode::Unavailable,
                "the database takes no writes just now: try again later",
            ),
            Fault::Busy | Fault::Conflict => (
                ErrorCode::Unavailable,
                "the database is busy with other writes: try again",
            ),
            Fault::Timeout => (
                ErrorCode::Timeout,
                "the database did not answer in time: try again, or ask for less",
            ),
            Fault::Permanent => return Self::internal(source),
        };
        Self {
            source: Some(Arc::new(source)),
            ..Self::new(code, message)
        }
    }

    fn invalid(message: String, violations: Vec<Violation>) -> Self {
        Self {
            violations,
            ..Self::bad_input(message)
        }
    }

    pub(crate) fn code(&self) -> ErrorCode {
        self.code
    }

    /// A position that clients can go on from.
    pub(crate) fn at(self, position: Position) -> Self {
        Self {
            position: Some(position.to_string()),
            ..self
        }
    }

    /// The error of a request that no field answered.
    pub(crate) fn into_server_error(self) -> ServerError {
        let mut error = async_graphql::Error::from(self).into_server_error(Pos::default());
        error.locations.clear();
        error
    }

    /// One bad value, and where it stands.
    pub(crate) fn violation(path: impl Into<String>, message: impl Into<String>) -> Self {
        let message = message.into();
        Self::invalid(message.clone(), vec![Violation::new(path, message)])
    }

    /// An error if there is any bad value.
    pub(crate) fn check(mut violations: Vec<Violation>) -> Result<(), Self> {
        if violations.is_empty() {
            return Ok(());
        }
        violations.truncate(Violation::MOST);
        Err(Self::invalid(Violation::summary(&violations), violations))
    }

    pub(crate) fn unknown(message: String, path: Option<String>) -> Self {
        let violations = path
            .map(|path| Violation::new(path, message.clone()))
            .into_iter()
            .collect();
        Self {
            violations,
            ..Self::new(ErrorCode::NotFound, message)
        }
    }
}

impl From<DbErr> for ApiError {
    fn from(error: DbErr) -> Self {
        Self::database(error)
    }
}

impl From<ForecastError> for ApiError {
    fn from(error: ForecastError) -> Self {
        let message = error.to_string();
        match error {
            ForecastError::Invalid(violations) => Self::invalid(message, violations),
            ForecastError::UnknownUnit { path, .. }
            | ForecastError::UnknownProvider { path, .. } => Self::unknown(message, path),
            ForecastError::UnknownRun(_) => Self::new(ErrorCode::NotFound, message),
            ForecastError::Range(domain::forecast::RangeError::TooLong { .. }) => {
                Self::new(ErrorCode::TooComplex, message)
            }
            ForecastError::Range(_) => Self::bad_input(message),
            ForecastError::IdempotencyConflict => Self::new(ErrorCode::Conflict, message),
            ForecastError::Database(source) => Self::database((*source).clone()),
            ForecastError::Aborted => Self::internal(ForecastError::Aborted),
        }
    }
}

impl From<UnitError> for ApiError {
    fn from(error: UnitError) -> Self {
        let message = error.to_string();
        match error {
            UnitError::Invalid(violations) => Self::invalid(message, violations),
            UnitError::Database(source) => Self::database(source),
        }
    }
}

impl From<ProviderError> for ApiError {
    fn from(error: ProviderError) -> Self {
        let message = error.to_string();
        match error {
            ProviderError::Invalid(violations) => Self::invalid(message, violations),
            ProviderError::Database(source) => Self::database(source),
        }
    }
}

impl From<AccessError> for ApiError {
    fn from(error: AccessError) -> Self {
        let message = error.to_string();
        match error {
            AccessError::Invalid(violations) => Self::invalid(message, violations),
            AccessError::UnknownKey(_) => Self::new(ErrorCode::NotFound, message),
            AccessError::Database(source) => Self::database(source),
        }
    }
}

impl From<NotificationError> for ApiError {
    fn from(error: NotificationError) -> Self {
        let message = error.to_string();
        match error {
            NotificationError::Invalid(violations) => Self::invalid(message, violations),
            NotificationError::Unknown { path, .. } => Self::unknown(message, path),
            NotificationError::IdempotencyConflict | NotificationError::Conflict(_) => {
                Self::new(ErrorCode::Conflict, message)
            }
            NotificationError::Database(source) => Self::database(source),
        }
    }
}

impl From<AlertError> for ApiError {
    fn from(error: AlertError) -> Self {
        let message = error.to_string();
        match error {
            AlertError::Invalid(violations) | AlertError::Unanswerable(violations) => {
                Self::invalid(message, violations)
            }
            AlertError::Unknown { path, .. } => Self::unknown(message, path),
            AlertError::Full(_) => Self::new(ErrorCode::Conflict, message),
            AlertError::TooMuch(_) => Self::new(ErrorCode::TooComplex, message),
            AlertError::Database(source) => Self::database(source),
        }
    }
}

impl From<AcknowledgeError> for ApiError {
    fn from(error: AcknowledgeError) -> Self {
        let message = error.to_string();
        match error {
            AcknowledgeError::Timeout | AcknowledgeError::NewEpoch => {
                Self::new(ErrorCode::Unavailable, message)
            }
            AcknowledgeError::Database(source) => Self::database(source),
        }
    }
}

impl From<StreamError> for ApiError {
    fn from(error: StreamError) -> Self {
        let message = error.to_string();
        match error {
            StreamError::PositionExpired { current, .. } => {
                Self::new(ErrorCode::PositionExpired, message).at(current)
            }
            StreamError::NotReached { current, .. } => {
                Self::new(ErrorCode::Unavailable, message).at(current)
            }
            StreamError::ResyncRequired { position } => {
                Self::new(ErrorCode::ResyncRequired, message).at(position)
            }
            StreamError::TooManyCurves => Self::new(ErrorCode::RateLimited, error.to_string()),
            StreamError::Forecast(error) => error.into(),
        }
    }
}

impl From<ApiError> for async_graphql::Error {
    fn from(error: ApiError) -> Self {
        let mut extensions = ErrorExtensionValues::default();
        extensions.set("code", error.code.as_str());
        if !error.violations.is_empty() {
            let violations = error
                .violations
                .iter()
                .map(|violation| {
                    Value::from_json(serde_json::json!({
                        "path": violation.path,
                        "message": violation.message,
                    }))
                    .unwrap_or_default()
                })
                .collect::<Vec<_>>();
            extensions.set("violations", Value::List(violations));
        }
        if let Some(position) = &error.position {
            extensions.set("position", position.as_str());
        }
        Self {
            message: error.message.clone(),
            source: Some(Arc::new(error)),
            extensions: Some(extensions),
        }
    }
}

/// The code that a client gets: ours, or that of what async-graphql could not read.
pub(crate) fn code_of(error: &ServerError) -> ErrorCode {
    if let Some(ours) = error.source::<ApiError>() {
        return ours.code;
    }
    ErrorCode::BadUserInput
}

/// Gives the errors that async-graphql itself makes their code, and logs the
/// causes of those that are ours to mend.
pub(crate) fn finish(errors: &mut [ServerError]) {
    for error in errors {
        domain::clip(&mut error.message, MOST_MESSAGE);
        if let Some(ours) = error.source::<ApiError>() {
            if let Some(source) = &ours.source {
                tracing::error!(
                    error = source.as_ref() as &dyn Error,
                    code = ours.code.as_str(),
                    path = %Place(&error.path),
                    "a request failed"
                );
            }
            continue;
        }
        let code = code_of(error);
        error
            .extensions
            .get_or_insert_with(ErrorExtensionValues::default)
            .set("code", code.as_str());
    }
}

/// The place of a field in an answer, as `units[0].key`.
struct Place<'a>(&'a [PathSegment]);

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (depth, segment) in self.0.iter().enumerate() {
            match segment {
                PathSegment::Index(index) => write!(f, "[{index}]")?,
                PathSegment::Field(name) if depth == 0 => f.write_str(name)?,
                PathSegment::Field(name) => write!(f, ".{name}")?,
            }
        }
        Ok(())
    }
}

/// Logs what a panic said.
pub(crate) fn log_panic(panic: &(dyn Any + Send), what: &'static str) {
    let message = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message");
    tracing::error!(panic = message, "{what}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_are_a_closed_list() {
        let codes = [
            ErrorCode::BadUserInput,
            ErrorCode::NotFound,
            ErrorCode::Conflict,
            ErrorCode::Unauthenticated,
            ErrorCode::Forbidden,
            ErrorCode::RateLimited,
            ErrorCode::TooComplex,
            ErrorCode::PositionExpired,
            ErrorCode::ResyncRequired,
            ErrorCode::PersistedQueryNotSupported,
            ErrorCode::Unavailable,
            ErrorCode::Timeout,
            ErrorCode::Internal,
        ]
        .map(ErrorCode::as_str);
        insta::assert_snapshot!(codes.join(" "), @"BAD_USER_INPUT NOT_FOUND CONFLICT UNAUTHENTICATED FORBIDDEN RATE_LIMITED TOO_COMPLEX POSITION_EXPIRED RESYNC_REQUIRED PERSISTED_QUERY_NOT_SUPPORTED UNAVAILABLE TIMEOUT INTERNAL");
    }

    #[test]
    fn the_log_names_a_field_as_a_reader_would() {
        let path = [
            PathSegment::Field("units".into()),
            PathSegment::Index(0),
            PathSegment::Field("key".into()),
        ];
        assert_eq!(Place(&path).to_string(), "units[0].key");
        assert_eq!(Place(&[]).to_string(), "");
    }

    #[test]
    fn a_client_sees_nothing_of_the_database() {
        let error: async_graphql::Error =
            ApiError::from(DbErr::Custom("SELECT secret".into())).into();
        assert!(!error.message.contains("secret"), "{}", error.message);
    }
}
