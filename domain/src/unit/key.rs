//! Unit keys: `plant:12345`.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// The kind of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum UnitType {
    Company,
    Group,
    Plant,
}

/// Names one unit: its type and number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UnitKey {
    unit_type: UnitType,
    number: i64,
}

/// The text is not a unit key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "expected `type:number`, for example plant:12345, with type plant, group or company and a number from 1"
)]
pub struct ParseUnitKeyError;

impl UnitType {
    /// As the database and GraphQL spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Company => "COMPANY",
            Self::Group => "GROUP",
            Self::Plant => "PLANT",
        }
    }
}

impl FromStr for UnitType {
    type Err = ParseUnitKeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "COMPANY" => Ok(Self::Company),
            "GROUP" => Ok(Self::Group),
            "PLANT" => Ok(Self::Plant),
            _ => Err(ParseUnitKeyError),
        }
    }
}

impl UnitKey {
    pub fn new(unit_type: UnitType, number: i64) -> Result<Self, ParseUnitKeyError> {
        if number < 1 {
            return Err(ParseUnitKeyError);
        }
        Ok(Self { unit_type, number })
    }

    pub fn unit_type(self) -> UnitType {
        self.unit_type
    }

    pub fn number(self) -> i64 {
        self.number
    }
}

impl fmt::Display for UnitKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit_type = match self.unit_type {
            UnitType::Company => "company",
            UnitType::Group => "group",
            UnitType::Plant => "plant",
        };
        write!(f, "{unit_type}:{}", self.number)
    }
}

impl FromStr for UnitKey {
    type Err = ParseUnitKeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (unit_type, number) = text.split_once(':').ok_or(ParseUnitKeyError)?;
        let unit_type = match unit_type {
            "company" => UnitType::Company,
            "group" => UnitType::Group,
            "plant" => UnitType::Plant,
            _ => return Err(ParseUnitKeyError),
        };
        // One spelling a unit: no sign, no leading zero.
        if !number.starts_with(|c: char| ('1'..='9').contains(&c))
            || !number.bytes().all(|b| b.is_ascii_digit())
        {
            return Err(ParseUnitKeyError);
        }
        Self::new(unit_type, number.parse().map_err(|_| ParseUnitKeyError)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        for text in ["plant:12345", "group:1", "company:9223372036854775807"] {
            assert_eq!(text.parse::<UnitKey>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn refuses_anything_else() {
        for text in [
            "",
            "plant",
            "plant:",
            "plant:0",
            "plant:-1",
            "plant:+1",
            "plant:01",
            "plant:1 ",
            "PLANT:1",
            "turbine:1",
            "plant:9223372036854775808",
        ] {
            assert!(text.parse::<UnitKey>().is_err(), "{text}");
        }
    }
}
