//! The scalars of the schema that GraphQL does not define: what each accepts.
//!
//! They are checked where literals and variables are, so that a value that cannot
//! be is refused before anything is executed.

use std::fmt::Display;

use async_graphql::Value;
use domain::change::Position;
use domain::parse_instant;
use domain::unit::UnitKey;

/// Says what is wrong with a value, if anything is.
pub(super) type Check = fn(&Value) -> Result<(), String>;

/// The check of a scalar.
pub(super) fn check(name: &str) -> Option<Check> {
    match name {
        "DateTime" => Some(|value| text(value, parse_instant)),
        "JSON" => Some(|_| Ok(())),
        "Position" => Some(|value| text(value, str::parse::<Position>)),
        "UnitKey" => Some(|value| text(value, str::parse::<UnitKey>)),
        _ => None,
    }
}

fn text<T, E: Display>(value: &Value, parse: fn(&str) -> Result<T, E>) -> Result<(), String> {
    match value {
        Value::String(text) => match parse(text) {
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        },
        // What it says of no text is what it says of any that is none.
        _ => Err(parse("")
            .err()
            .map_or_else(String::new, |error| error.to_string())),
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
    fn what_is_no_text_is_told_what_would_be_accepted() {
        for (name, expect) in [
            ("DateTime", "for example 2024-05-01T12:00:00Z"),
            ("Position", "for example 5f3a91c2.10482"),
            ("UnitKey", "for example plant:12345"),
        ] {
            let check = check(name).unwrap();
            for value in [Value::from(5), Value::from("x")] {
                let said = check(&value).unwrap_err();
                assert!(said.contains(expect), "{name}: {said}");
            }
        }
    }
}
