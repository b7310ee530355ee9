//! Scalars, and enums of plain values.

use std::fmt::Display;

use async_graphql::{
    Enum, InputType, InputValueError, InputValueResult, Scalar, ScalarType, Value,
};
use domain::change::Position as DomainPosition;
use domain::forecast::Resolution as DomainResolution;
use domain::unit::{UnitKey as DomainUnitKey, UnitType as DomainUnitType};
use domain::{parse_instant, quote};
use time::OffsetDateTime;

/// What a scalar's text means; else an error that repeats it and says what is accepted.
fn read<T, E: Display, S: InputType>(
    text: &str,
    meant: Result<T, E>,
) -> Result<T, InputValueError<S>> {
    meant.map_err(|error| InputValueError::custom(format!("{}: {error}", quote(text))))
}

/// Names a unit by its type and number: `plant:12345`, `group:7`, `company:1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UnitKey(pub(crate) DomainUnitKey);

/// Names a unit by its type and number: `plant:12345`, `group:7`, `company:1`.
#[Scalar]
impl ScalarType for UnitKey {
    fn parse(value: Value) -> InputValueResult<Self> {
        match &value {
            Value::String(text) => read(text, text.parse()).map(Self),
            _ => Err(InputValueError::expected_type(value)),
        }
    }

    fn to_value(&self) -> Value {
        Value::String(self.0.to_string())
    }
}

/// A place in the change log, `epoch.number`: every committed change has one,
/// contiguous within an epoch. Keep it as an opaque text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position(pub(crate) DomainPosition);

/// A place in the change log, `epoch.number`: every committed change has one,
/// contiguous within an epoch. Keep it as an opaque text.
#[Scalar]
impl ScalarType for Position {
    fn parse(value: Value) -> InputValueResult<Self> {
        match &value {
            Value::String(text) => read(text, text.parse()).map(Self),
            _ => Err(InputValueError::expected_type(value)),
        }
    }

    fn to_value(&self) -> Value {
        Value::String(self.0.to_string())
    }
}

/// An instant that a caller gave, in UTC. Answers hold `OffsetDateTime` itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DateTime(pub(crate) OffsetDateTime);

/// A datetime with timezone offset.
///
/// The input is a string in RFC3339 format, e.g. "2022-01-12T04:00:19.12345Z"
/// or "2022-01-12T04:00:19+03:00". The output is also a string in RFC3339
/// format, but it is always normalized to the UTC (Z) offset, e.g.
/// "2022-01-12T04:00:19.12345Z".
#[Scalar(specified_by_url = "https://datatracker.ietf.org/doc/html/rfc3339")]
impl ScalarType for DateTime {
    fn parse(value: Value) -> InputValueResult<Self> {
        match &value {
            Value::String(text) => read(text, parse_instant(text)).map(Self),
            _ => Err(InputValueError::expected_type(value)),
        }
    }

    fn to_value(&self) -> Value {
        ScalarType::to_value(&self.0)
    }
}

/// The kind of a unit.
#[derive(Enum, Debug, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "DomainUnitType")]
pub(crate) enum UnitType {
    /// A company that owns or trades for units.
    Company,
    /// A group of units, such as a portfolio or a region.
    Group,
    /// A power plant.
    Plant,
}

/// The length of a delivery period.
#[derive(Enum, Debug, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "DomainResolution")]
pub(crate) enum Resolution {
    /// 15 minutes.
    #[graphql(name = "PT15M")]
    QuarterHour,
    /// 30 minutes.
    #[graphql(name = "PT30M")]
    HalfHour,
    /// One hour.
    #[graphql(name = "PT1H")]
    Hour,
}
