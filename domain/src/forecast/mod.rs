//! Forecasts: day curves, their versions, and every view over them.
//!
//! A row of the store is one version of one day curve: what one run gave for
//! one UTC day of one series. Nothing else is stored, and every answer is
//! [`Overlay`] over versions, newest issue first. That holds always:
//! versions are only ever added, and no table keeps "the latest".

mod curve;
mod day;
mod overlay;
mod resolution;
mod save;
mod series;
mod store;
mod view;

pub use curve::{Curve, Point};
pub use day::{Day, DeliveryRange, RangeError};
pub use overlay::{DayCurve, Overlay, Source, Version};
pub use resolution::{ParseResolutionError, Resolution};
pub use save::{NewRun, RunValues, SaveRequest, Saved, Written, save, write};
pub use series::SeriesKey;
pub use store::{DayHistory, RunDay, written};
pub(crate) use store::{decode as decode_version, newest_first};
pub use view::{DayKey, Forecasts, ForecastsSettings, View};

use std::sync::Arc;

use sea_orm::DbErr;
use thiserror::Error;
use time::OffsetDateTime;

use crate::Violation;
use crate::cache::LoadError;
use crate::idempotency::ClaimError;
use crate::provider::ProviderKey;
use crate::unit::UnitKey;

/// One submission by a provider.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Run {
    pub id: i64,
    /// When the provider made it.
    pub issued_at: OffsetDateTime,
    /// When we got it.
    pub received_at: OffsetDateTime,
}

/// Why a forecast could not be saved or read.
#[derive(Debug, Clone, Error)]
pub enum ForecastError {
    #[error("{}; nothing was saved", Violation::summary(.0))]
    Invalid(Vec<Violation>),
    #[error("there is no unit {key}")]
    UnknownUnit { key: UnitKey, path: Option<String> },
    #[error("there is no provider {key}")]
    UnknownProvider {
        key: ProviderKey,
        path: Option<String>,
    },
    #[error("there is no run run:{0}")]
    UnknownRun(i64),
    #[error(transparent)]
    Range(#[from] RangeError),
    #[error("this idempotency key was used for another request within the last 24 hours")]
    IdempotencyConflict,
    #[error("the database failed")]
    Database(#[source] Arc<DbErr>),
    #[error("a load of the cache was broken off")]
    Aborted,
}

impl From<DbErr> for ForecastError {
    fn from(error: DbErr) -> Self {
        Self::Database(Arc::new(error))
    }
}

impl From<ClaimError> for ForecastError {
    fn from(error: ClaimError) -> Self {
        match error {
            ClaimError::Conflict => Self::IdempotencyConflict,
            ClaimError::Database(error) => error.into(),
        }
    }
}

impl From<LoadError> for ForecastError {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Database(error) => Self::Database(error),
            LoadError::Aborted => Self::Aborted,
        }
    }
}
