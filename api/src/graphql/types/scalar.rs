//! Scalars, and enums of plain values.

use async_graphql::{Enum, InputValueError, InputValueResult, Scalar, ScalarType, Value};
use domain::change::Position as DomainPosition;
use domain::forecast::Resolution as DomainResolution;
use domain::unit::{UnitKey as DomainUnitKey, UnitType as DomainUnitType};

/// Names a unit by its type and number: `plant:12345`, `group:7`, `company:1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UnitKey(pub(crate) DomainUnitKey);

/// Names a unit by its type and number: `plant:12345`, `group:7`, `company:1`.
#[Scalar]
impl ScalarType for UnitKey {
    fn parse(value: Value) -> InputValueResult<Self> {
        match &value {
            Value::String(text) => Ok(Self(text.parse().map_err(InputValueError::custom)?)),
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
            Value::String(text) => Ok(Self(text.parse().map_err(InputValueError::custom)?)),
            _ => Err(InputValueError::expected_type(value)),
        }
    }

    fn to_value(&self) -> Value {
        Value::String(self.0.to_string())
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
