//! Why a file was not imported.

use std::fmt;
use std::io;
use std::path::PathBuf;

use domain::Violation;
use domain::forecast::ForecastError;
use domain::provider::{ProviderError, ProviderKey};
use domain::unit::{UnitError, UnitKey};
use thiserror::Error;

use super::reject::Rejects;

/// Why a file was not imported. Nothing of it was written.
#[derive(Debug, Error)]
pub(crate) enum ImportError {
    #[error("cannot read {}", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the mapping {} cannot be used", path.display())]
    Mapping {
        path: PathBuf,
        #[source]
        source: toml::de::Error,
    },
    #[error("{} is empty: it needs a header line", path.display())]
    Empty { path: PathBuf },
    #[error(
        "there is no column `{column}`; the header has {}. Check the spelling, the delimiter, and whether the file needs a --mapping",
        Quoted(header)
    )]
    NoColumn { column: String, header: Vec<String> },
    #[error("the column `{column}` is there twice: rename one, so that it is clear which is meant")]
    TwiceColumn { column: String },
    #[error(
        "the long form has no column `{column}`, only unit, provider, resolution, delivery_start, mwh and issued_at: remove it, or describe the file with a --mapping"
    )]
    StrangeColumn { column: String },
    #[error(
        "{} rows are bad and {accepted} are accepted, so nothing was written: correct them, or accept them with --max-rejects{rejects}",
        rejects.count()
    )]
    TooManyRejects { accepted: u64, rejects: Rejects },
    #[error(
        "the file has no value to import: check the mapping's filter and missing values{rejects}"
    )]
    NoValues { rejects: Rejects },
    #[error(
        "there is no unit {0}: create it first, declare it in the mapping as a [[unit]], or import with --create"
    )]
    UnknownUnit(UnitKey),
    #[error(
        "there is no provider {0}: create it first, declare it in the mapping as a [[provider]], or import with --create"
    )]
    UnknownProvider(ProviderKey),
    #[error("not acceptable, so nothing was written:{}", Listed(.0))]
    Refused(Vec<Violation>),
    #[error("units could not be written")]
    Unit(#[source] UnitError),
    #[error("providers could not be written")]
    Provider(#[source] ProviderError),
    #[error("forecasts could not be written")]
    Forecast(#[source] ForecastError),
}

impl From<ForecastError> for ImportError {
    fn from(error: ForecastError) -> Self {
        match error {
            ForecastError::UnknownUnit { key, .. } => Self::UnknownUnit(key),
            ForecastError::UnknownProvider { key, .. } => Self::UnknownProvider(key),
            ForecastError::Invalid(violations) => Self::Refused(violations),
            error => Self::Forecast(error),
        }
    }
}

impl From<UnitError> for ImportError {
    fn from(error: UnitError) -> Self {
        match error {
            UnitError::Invalid(violations) => Self::Refused(violations),
            error => Self::Unit(error),
        }
    }
}

impl From<ProviderError> for ImportError {
    fn from(error: ProviderError) -> Self {
        match error {
            ProviderError::Invalid(violations) => Self::Refused(violations),
            error => Self::Provider(error),
        }
    }
}

struct Quoted<'a>(&'a [String]);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, name) in self.0.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}`{name}`")?;
        }
        Ok(())
    }
}

struct Listed<'a>(&'a [Violation]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for violation in self.0 {
            write!(f, "\n  {}: {}", violation.path, violation.message)?;
        }
        Ok(())
    }
}
