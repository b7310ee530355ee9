//! Instants that callers give.

use thiserror::Error;
use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, UtcOffset};

/// The text is not an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ParseInstantError {
    #[error(
        "expected a date and a time with its offset (RFC 3339), for example 2024-05-01T12:00:00Z or 2024-05-01T15:00:00+03:00"
    )]
    Form,
    #[error("expected an instant from year 1 to year 9999, in UTC")]
    OutOfReach,
}

/// Reads an RFC 3339 instant and turns it to UTC: an offset may carry it beyond
/// what the calendar and the databases know.
pub fn parse_instant(text: &str) -> Result<OffsetDateTime, ParseInstantError> {
    let at = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| ParseInstantError::Form)?;
    at.checked_to_offset(UtcOffset::UTC)
        .filter(|at| (1..=9999).contains(&at.year()))
        .ok_or(ParseInstantError::OutOfReach)
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn reads_instants_as_utc() {
        for (text, expect) in [
            ("2024-05-01T12:00:00Z", Ok(datetime!(2024-05-01 12:00 UTC))),
            (
                "2024-05-01T15:00:00.5+03:00",
                Ok(datetime!(2024-05-01 12:00:00.5 UTC)),
            ),
            (
                "9999-12-31T23:59:59Z",
                Ok(datetime!(9999-12-31 23:59:59 UTC)),
            ),
            (
                "9999-12-31T23:59:59-00:01",
                Err(ParseInstantError::OutOfReach),
            ),
            (
                "0001-01-01T00:00:00+00:01",
                Err(ParseInstantError::OutOfReach),
            ),
            ("0000-06-01T00:00:00Z", Err(ParseInstantError::OutOfReach)),
            ("2024-05-01", Err(ParseInstantError::Form)),
            ("2024-05-01T12:00:00", Err(ParseInstantError::Form)),
            ("2024-02-30T12:00:00Z", Err(ParseInstantError::Form)),
            ("", Err(ParseInstantError::Form)),
        ] {
            let read = parse_instant(text);
            assert_eq!(read, expect, "{text}");
            if let Ok(at) = read {
                assert_eq!(at.offset(), UtcOffset::UTC);
            }
        }
    }
}
