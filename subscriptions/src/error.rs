//! Why a stream ends.

use domain::change::Position;
use domain::forecast::ForecastError;
use sea_orm::DbErr;
use thiserror::Error;

/// Why a stream ended.
#[derive(Debug, Clone, Error)]
pub enum StreamError {
    /// `after` is below what the log keeps, or of another epoch.
    #[error(
        "position {after} is no longer in the change log: read the current state and go on from {current}"
    )]
    PositionExpired { after: Position, current: Position },
    /// The database has a new history that this replica does not know yet.
    #[error("this replica is at {current} and has not come to {after} yet: try again")]
    NotReached { after: Position, current: Position },
    /// More changed than the log can name.
    #[error("everything may have changed: read the current state and go on from {position}")]
    ResyncRequired { position: Position },
    /// All curves that are followed take as much memory as they may.
    #[error(
        "this server follows as many curves as it may: ask for a shorter range, or try again later"
    )]
    TooManyCurves,
    #[error(transparent)]
    Forecast(#[from] ForecastError),
}

impl From<DbErr> for StreamError {
    fn from(error: DbErr) -> Self {
        Self::Forecast(error.into())
    }
}
