//! Times as files write them.

use std::str::FromStr;

use domain::forecast::Resolution;
use jiff::Timestamp;
use jiff::civil::date;
use jiff::fmt::strtime::{self, BrokenDownTime};
use jiff::fmt::temporal::DateTimeParser;
use jiff::tz::{TimeZone, offset};
use thiserror::Error;

use super::zone::{LocalClock, Zone};

/// The form of a column of times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TimeFormat {
    /// With an offset or `Z`; a space may stand for the `T`.
    Rfc3339,
    /// By strftime's directives.
    Strftime { format: String, has_offset: bool },
}

/// The text is no form of times.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum ParseTimeFormatError {
    #[error("`{0}` is neither rfc3339 nor a strftime format such as %Y-%m-%d %H:%M: {1}")]
    Directive(String, String),
    #[error("the time format `{0}` does not give a date and a time, such as %Y-%m-%d %H:%M does")]
    Incomplete(String),
}

impl FromStr for TimeFormat {
    type Err = ParseTimeFormatError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "rfc3339" {
            return Ok(Self::Rfc3339);
        }
        // What it makes of a time, and back, shows what it can say.
        let incomplete = || ParseTimeFormatError::Incomplete(text.to_owned());
        let directive = |error: jiff::Error| {
            ParseTimeFormatError::Directive(text.to_owned(), error.to_string())
        };
        let local = date(2017, 11, 25).at(22, 45, 0, 0);
        let sample = local
            .to_zoned(TimeZone::fixed(offset(3)))
            .map_err(directive)?;
        let written = strtime::format(text, &sample).map_err(directive)?;
        let read = BrokenDownTime::parse(text, &written).map_err(directive)?;
        let has_offset = read.to_timestamp().is_ok_and(|at| at == sample.timestamp());
        if !has_offset && !read.to_datetime().is_ok_and(|read| read == local) {
            return Err(incomplete());
        }
        Ok(Self::Strftime {
            format: text.to_owned(),
            has_offset,
        })
    }
}

impl TimeFormat {
    /// Whether a time of this form is an instant by itself.
    pub(super) fn has_offset(&self) -> bool {
        match self {
            Self::Rfc3339 => true,
            Self::Strftime { has_offset, .. } => *has_offset,
        }
    }
}

/// Reads a column of times.
pub(super) struct TimeReader<'a> {
    format: &'a TimeFormat,
    clock: Option<LocalClock<'a>>,
}

impl<'a> TimeReader<'a> {
    /// `zone` is what times without an offset are in.
    pub(super) fn new(format: &'a TimeFormat, zone: Option<&'a Zone>) -> Self {
        Self {
            format,
            clock: zone.map(LocalClock::new),
        }
    }

    /// The instant that a field names, or why it names none.
    pub(super) fn read(&mut self, text: &[u8]) -> Result<Timestamp, String> {
        match self.format {
            TimeFormat::Rfc3339 => rfc3339(text),
            TimeFormat::Strftime { format, .. } => {
                let unlike = || {
                    let text = String::from_utf8_lossy(text);
                    format!("`{text}` is not a time of the form {format}")
                };
                let read = BrokenDownTime::parse(format, text).map_err(|_| unlike())?;
                match &mut self.clock {
                    None => read.to_timestamp().map_err(|_| unlike()),
                    Some(clock) => clock.instant(read.to_datetime().map_err(|_| unlike())?),
                }
            }
        }
    }
}

/// The instant that an RFC 3339 text names, or why it names none.
pub(super) fn rfc3339(text: &[u8]) -> Result<Timestamp, String> {
    static PARSER: DateTimeParser = DateTimeParser::new();
    PARSER.parse_timestamp(text).map_err(|_| {
        let text = String::from_utf8_lossy(text);
        format!(
            "`{text}` is not an RFC 3339 time with its offset, such as 2018-03-25T03:00:00+02:00"
        )
    })
}

/// 2200-01-01: delivery times lie before it.
const LATEST: i64 = 7_258_118_400;

/// The start of a delivery period in seconds since 1970, or why it is none.
pub(super) fn delivery_start(at: Timestamp, resolution: Resolution) -> Result<i64, String> {
    let seconds = at.as_second();
    if seconds.rem_euclid(resolution.seconds()) != 0 || at.subsec_nanosecond() != 0 {
        return Err(format!(
            "a delivery period of {resolution} begins on a multiple of its length, in UTC; this is {at}"
        ));
    }
    if !(0..LATEST).contains(&seconds) {
        return Err("delivery times lie between 1970 and 2200".to_owned());
    }
    Ok(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(format: &str, zone: Option<&str>, text: &str, expect: Option<&str>) {
        let format: TimeFormat = format.parse().unwrap();
        let zone: Option<Zone> = zone.map(|zone| zone.parse().unwrap());
        let read = TimeReader::new(&format, zone.as_ref()).read(text.as_bytes());
        let read = read.ok().map(|at| at.to_string());
        assert_eq!(read.as_deref(), expect, "{text}");
    }

    #[test]
    fn reads_times_of_each_form() {
        let rfc = "rfc3339";
        let minutes = "%Y-%m-%d %H:%M";
        let expect = Some("2018-03-25T01:00:00Z");
        check(rfc, None, "2018-03-25T01:00:00Z", expect);
        check(rfc, None, "2018-03-25 03:00:00+02:00", expect);
        check(rfc, None, "2018-03-25 03:00:00", None);
        check(rfc, None, "", None);
        // An offset carries it beyond the calendar.
        check(rfc, None, "9999-12-31T23:59:59-12:00", None);
        check("%Y-%m-%d %H:%M%:z", None, "9999-12-31 23:59-12:00", None);
        check(minutes, Some("UTC"), "2018-03-25 01:00", expect);
        check(minutes, Some("Europe/Madrid"), "2018-03-25 03:00", expect);
        check(minutes, Some("Europe/Madrid"), "2018-03-25 02:00", None);
        check(minutes, Some("Europe/Madrid"), "2018-10-28 02:00", None);
        check(minutes, Some("UTC"), "2018-03-25 01:00:00", None);
        check("%d.%m.%Y %H:%M", Some("+01:00"), "25.03.2018 02:00", expect);
        check(
            "%m/%d/%Y %I:%M %p",
            Some("UTC"),
            "03/25/2018 01:00 AM",
            expect,
        );
        check("%Y%m%dT%H%M%z", None, "20180325T0300+0200", expect);
        check("%s", None, "1521939600", expect);
    }

    #[test]
    fn knows_whether_a_form_has_an_offset() {
        for (text, expect) in [
            ("rfc3339", true),
            ("%s", true),
            ("%Y-%m-%d %H:%M%:z", true),
            ("%Y-%m-%d %H:%M", false),
        ] {
            assert_eq!(
                text.parse::<TimeFormat>().unwrap().has_offset(),
                expect,
                "{text}"
            );
        }
    }

    #[test]
    fn refuses_a_form_that_names_no_time() {
        for text in [
            "",
            "iso",
            "%Y-%m-%d",
            "%H:%M",
            "%Y-%m-%d %I:%M",
            "%Y-%m-%d %J",
        ] {
            assert!(text.parse::<TimeFormat>().is_err(), "{text}");
        }
    }
}
