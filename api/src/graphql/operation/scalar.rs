//! The scalars of the schema that GraphQL does not define: what each accepts.
//!
//! They are checked where literals and variables are, so that a value that cannot
//! be is refused before anything is executed.

use async_graphql::Value;
use domain::change::Position;
use domain::unit::UnitKey;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Says what is wrong with a value, if anything is.
pub(super) type Check = fn(&Value) -> Result<(), String>;

/// The check of a scalar.
pub(super) fn check(name: &str) -> Option<Check> {
    match name {
        "DateTime" => Some(date_time),
        "JSON" => Some(|_| Ok(())),
        "Position" => Some(position),
        "UnitKey" => Some(unit_key),
        _ => None,
    }
}

fn date_time(value: &Value) -> Result<(), String> {
    // Later it is moved to UTC, where it must still have a year of four digits.
    let is_instant = |text: &str| {
        let parsed = OffsetDateTime::parse(text, &Rfc3339).ok();
        let utc = parsed.and_then(|at| at.checked_to_offset(time::UtcOffset::UTC));
        utc.is_some_and(|at| (0..=9999).contains(&at.year()))
    };
    match value {
        Value::String(text) if is_instant(text) => Ok(()),
        _ => Err("expected an instant by RFC 3339, such as \"2026-11-29T12:00:00Z\"".to_owned()),
    }
}

fn position(value: &Value) -> Result<(), String> {
    let expected = "expected a position as a `position` field gave it";
    match value {
        Value::String(text) => match text.parse::<Position>() {
            Ok(_) => Ok(()),
            Err(error) => Err(format!("{expected}: {error}")),
        },
        _ => Err(expected.to_owned()),
    }
}

fn unit_key(value: &Value) -> Result<(), String> {
    let expected = "expected a unit's type and number, such as \"plant:12345\"";
    match value {
        Value::String(text) => match text.parse::<UnitKey>() {
            Ok(_) => Ok(()),
            Err(error) => Err(format!("{expected}: {error}")),
        },
        _ => Err(expected.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scalar_of_the_schema_is_checked() {
        let sdl = crate::graphql::sdl();
        let names = sdl.lines().filter_map(|line| line.strip_prefix("scalar "));
        let names: Vec<&str> = names.filter_map(|line| line.split(' ').next()).collect();
        assert!(names.contains(&"DateTime"), "{names:?}");
        for name in names {
            assert!(check(name).is_some(), "{name}");
        }
    }

    #[test]
    fn an_instant_is_one_of_rfc_3339_whose_year_has_four_digits() {
        for (text, fits) in [
            ("2026-11-29T12:00:00Z", true),
            ("2026-11-29T12:00:00.5+03:00", true),
            ("2026-11-29", false),
            ("2026-11-29T12:00:00", false),
            ("9999-12-31T23:59:59Z", true),
            ("9999-12-31T23:59:59-01:00", false),
            ("0000-01-01T00:00:00+01:00", false),
            ("", false),
        ] {
            assert_eq!(date_time(&Value::from(text)).is_ok(), fits, "{text}");
        }
    }
}
