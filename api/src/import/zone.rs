//! Time zones, and instants from local times that never guess.

use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Time};
use jiff::fmt::temporal::DateTimeParser;
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};
use thiserror::Error;

/// A time zone by the name that the user gave it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Zone {
    name: String,
    pub tz: TimeZone,
}

/// The text names no time zone.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "`{0}` is not a time zone: give an IANA name such as Europe/Madrid, UTC, or an offset such as +01:00"
)]
pub(super) struct ParseZoneError(String);

impl FromStr for Zone {
    type Err = ParseZoneError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match DateTimeParser::new().parse_time_zone(text) {
            Ok(tz) => Ok(Self {
                name: text.to_owned(),
                tz,
            }),
            Err(_) => Err(ParseZoneError(text.to_owned())),
        }
    }
}

/// Local times of a zone as instants.
pub(super) struct LocalClock<'a> {
    zone: &'a Zone,
    /// The last date seen on which no clock changes, and its offset.
    steady: Option<(Date, Offset)>,
}

impl<'a> LocalClock<'a> {
    pub(super) fn new(zone: &'a Zone) -> Self {
        Self { zone, steady: None }
    }

    /// The one instant at which clocks show this time, or why there is no such one.
    pub(super) fn instant(&mut self, local: DateTime) -> Result<Timestamp, String> {
        let unreachable = |_| format!("{local} is too far away");
        // Asking the zone's rules for each row would be most of the time that a row takes.
        if let Some((date, offset)) = self.steady
            && date == local.date()
        {
            return offset.to_timestamp(local).map_err(unreachable);
        }
        self.steady =
            steady_offset(&self.zone.tz, local.date()).map(|offset| (local.date(), offset));
        let zone = &self.zone.name;
        match self.zone.tz.to_ambiguous_timestamp(local).offset() {
            AmbiguousOffset::Unambiguous { offset } => {
                offset.to_timestamp(local).map_err(unreachable)
            }
            AmbiguousOffset::Gap { .. } => Err(format!(
                "{local} does not exist in {zone}, where clocks go forward then"
            )),
            AmbiguousOffset::Fold { .. } => Err(format!(
                "{local} comes twice in {zone}, where clocks go back then: only a time with its offset, or in UTC, is clear"
            )),
        }
    }
}

/// The offset that holds from the date's first moment to its last, if one does.
fn steady_offset(tz: &TimeZone, date: Date) -> Option<Offset> {
    let offset_at = |date: Date| {
        let midnight = date.to_datetime(Time::midnight());
        match tz.to_ambiguous_timestamp(midnight).offset() {
            AmbiguousOffset::Unambiguous { offset } => {
                Some((offset, offset.to_timestamp(midnight).ok()?))
            }
            _ => None,
        }
    };
    let (offset, start) = offset_at(date)?;
    let (next_offset, end) = offset_at(date.tomorrow().ok()?)?;
    let changes = tz
        .following(start)
        .next()
        .is_some_and(|change| change.timestamp() < end);
    (offset == next_offset && !changes).then_some(offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(zone: &str, local: &str, expect: Result<&str, &str>) {
        let zone: Zone = zone.parse().unwrap();
        let mut clock = LocalClock::new(&zone);
        let local: DateTime = local.parse().unwrap();
        // The second answer may come from memory.
        for _ in 0..2 {
            match (clock.instant(local), expect) {
                (Ok(at), Ok(expect)) => assert_eq!(at.to_string(), expect),
                (Err(reason), Err(expect)) => assert!(reason.contains(expect), "{reason}"),
                (got, expect) => panic!("{local}: {got:?}, not {expect:?}"),
            }
        }
    }

    #[test]
    fn a_local_time_is_one_instant_or_none() {
        let rows = [
            (
                "Europe/Madrid",
                "2018-01-15T12:00",
                Ok("2018-01-15T11:00:00Z"),
            ),
            (
                "Europe/Madrid",
                "2018-07-15T12:00",
                Ok("2018-07-15T10:00:00Z"),
            ),
            // 23 hours: 02:00 to 03:00 is left out.
            (
                "Europe/Madrid",
                "2018-03-25T01:00",
                Ok("2018-03-25T00:00:00Z"),
            ),
            (
                "Europe/Madrid",
                "2018-03-25T02:00",
                Err("does not exist in Europe/Madrid"),
            ),
            (
                "Europe/Madrid",
                "2018-03-25T03:00",
                Ok("2018-03-25T01:00:00Z"),
            ),
            // 25 hours: 02:00 to 03:00 comes twice.
            (
                "Europe/Madrid",
                "2018-10-28T01:00",
                Ok("2018-10-27T23:00:00Z"),
            ),
            (
                "Europe/Madrid",
                "2018-10-28T02:00",
                Err("comes twice in Europe/Madrid"),
            ),
            (
                "Europe/Madrid",
                "2018-10-28T03:00",
                Ok("2018-10-28T02:00:00Z"),
            ),
            // Clocks that change at midnight.
            (
                "America/Sao_Paulo",
                "2018-11-04T00:00",
                Err("does not exist"),
            ),
            (
                "America/Sao_Paulo",
                "2018-11-04T01:00",
                Ok("2018-11-04T03:00:00Z"),
            ),
            ("America/Sao_Paulo", "2018-02-17T23:00", Err("comes twice")),
            (
                "America/Sao_Paulo",
                "2018-02-17T22:00",
                Ok("2018-02-18T00:00:00Z"),
            ),
            ("UTC", "2018-10-28T02:00", Ok("2018-10-28T02:00:00Z")),
            ("+01:00", "2018-10-28T02:00", Ok("2018-10-28T01:00:00Z")),
        ];
        for (zone, local, expect) in rows {
            check(zone, local, expect);
        }
    }

    #[test]
    fn what_is_no_zone_is_refused() {
        for text in ["", "CET time", "Europe/Atlantis", "1"] {
            assert!(text.parse::<Zone>().is_err(), "{text}");
        }
    }
}
