//! The length of a delivery period.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// The length of a delivery period of a stored series. Every length divides
/// the UTC day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Resolution {
    QuarterHour,
    HalfHour,
    Hour,
}

/// The text is not a resolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a resolution is PT15M, PT30M or PT1H")]
pub struct ParseResolutionError;

impl Resolution {
    pub const ALL: [Self; 3] = [Self::QuarterHour, Self::HalfHour, Self::Hour];

    /// As ISO 8601 writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::QuarterHour => "PT15M",
            Self::HalfHour => "PT30M",
            Self::Hour => "PT1H",
        }
    }

    pub const fn seconds(self) -> i64 {
        match self {
            Self::QuarterHour => 900,
            Self::HalfHour => 1800,
            Self::Hour => 3600,
        }
    }

    /// Hours: what divides MWh to give the mean MW of a period.
    pub const fn hours(self) -> f64 {
        match self {
            Self::QuarterHour => 0.25,
            Self::HalfHour => 0.5,
            Self::Hour => 1.0,
        }
    }

    /// Delivery periods of a UTC day.
    pub const fn periods_per_day(self) -> usize {
        match self {
            Self::QuarterHour => 96,
            Self::HalfHour => 48,
            Self::Hour => 24,
        }
    }
}

impl fmt::Display for Resolution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Resolution {
    type Err = ParseResolutionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|resolution| resolution.as_str() == text)
            .ok_or(ParseResolutionError)
    }
}
