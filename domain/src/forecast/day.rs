//! UTC days and delivery ranges, in whole seconds.

use std::fmt;

use thiserror::Error;
use time::{Date, OffsetDateTime};

use super::Resolution;

/// Seconds of a UTC day, which has no clock change.
pub(super) const DAY_SECONDS: i64 = 86_400;

/// A UTC day: days since 1970-01-01.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Day(pub i32);

impl Day {
    /// The day that an instant, in seconds since 1970, lies in.
    pub fn of(seconds: i64) -> Self {
        Self(i32::try_from(seconds.div_euclid(DAY_SECONDS)).unwrap_or(i32::MAX))
    }

    /// Its start, in seconds since 1970.
    pub fn start(self) -> i64 {
        i64::from(self.0) * DAY_SECONDS
    }

    /// As the calendar writes it.
    pub fn date(self) -> Date {
        Date::from_julian_day(self.0.saturating_add(UNIX_EPOCH_JULIAN)).unwrap_or(Date::MAX)
    }
}

const UNIX_EPOCH_JULIAN: i32 = 2_440_588;

impl From<Date> for Day {
    fn from(date: Date) -> Self {
        Self(date.to_julian_day() - UNIX_EPOCH_JULIAN)
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.date())
    }
}

/// A half-open range of whole delivery periods of one resolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DeliveryRange {
    resolution: Resolution,
    /// Seconds since 1970.
    from: i64,
    to: i64,
}

/// The range cannot be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RangeError {
    #[error("`to` must be later than `from`")]
    Empty,
    #[error(
        "{asked} delivery periods were asked for, at most {limit} are answered at once: ask for a shorter range or a coarser resolution"
    )]
    TooLong { asked: i64, limit: i64 },
    #[error("delivery times lie between 1970 and 2200")]
    OutOfReach,
}

/// 2200-01-01.
const LATEST: i64 = 7_258_118_400;

impl DeliveryRange {
    /// The delivery periods that touch `[from, to)`: the start is moved back
    /// and the end forward to the edge of a period.
    pub fn covering(
        resolution: Resolution,
        from: OffsetDateTime,
        to: OffsetDateTime,
        most_periods: i64,
    ) -> Result<Self, RangeError> {
        if to <= from {
            return Err(RangeError::Empty);
        }
        let step = resolution.seconds();
        let start = from.unix_timestamp().div_euclid(step) * step;
        let whole = to.unix_timestamp() + i64::from(to.nanosecond() > 0);
        let end = (whole + step - 1).div_euclid(step) * step;
        if start < 0 || end > LATEST {
            return Err(RangeError::OutOfReach);
        }
        let asked = (end - start) / step;
        if asked > most_periods {
            return Err(RangeError::TooLong {
                asked,
                limit: most_periods,
            });
        }
        Ok(Self {
            resolution,
            from: start,
            to: end,
        })
    }

    /// Whether an instant, in seconds since 1970, can be a delivery time.
    pub(super) fn reaches(seconds: i64) -> bool {
        (0..LATEST).contains(&seconds)
    }

    pub fn resolution(&self) -> Resolution {
        self.resolution
    }

    /// Start of the first delivery period, in seconds since 1970.
    pub fn from(&self) -> i64 {
        self.from
    }

    /// End of the last delivery period, in seconds since 1970.
    pub fn to(&self) -> i64 {
        self.to
    }

    /// How many delivery periods it has.
    pub fn periods(&self) -> usize {
        usize::try_from((self.to - self.from) / self.resolution.seconds()).unwrap_or(0)
    }

    /// The UTC days it touches.
    pub fn days(&self) -> impl Iterator<Item = Day> + Clone + use<> {
        (Day::of(self.from).0..=Day::of(self.to - 1).0).map(Day)
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn a_range_covers_whole_periods() {
        let range = |from, to| DeliveryRange::covering(Resolution::Hour, from, to, 100);
        let whole = range(
            datetime!(2024-03-31 00:00 UTC),
            datetime!(2024-04-01 00:00 UTC),
        )
        .unwrap();
        assert_eq!((whole.periods(), whole.days().count()), (24, 1));
        let cut = range(
            datetime!(2024-03-31 00:59:59.9 UTC),
            datetime!(2024-03-31 01:00:00.1 UTC),
        )
        .unwrap();
        assert_eq!(cut.periods(), 2);
        let offset = range(
            datetime!(2024-03-31 00:00 +1),
            datetime!(2024-03-31 02:00 +1),
        )
        .unwrap();
        assert_eq!((offset.periods(), offset.days().count()), (2, 2));
        assert_eq!(
            range(
                datetime!(2024-03-31 00:00 UTC),
                datetime!(2024-03-31 00:00 UTC)
            ),
            Err(RangeError::Empty)
        );
        assert_eq!(
            range(
                datetime!(2024-03-31 00:00 UTC),
                datetime!(2024-05-31 00:00 UTC)
            ),
            Err(RangeError::TooLong {
                asked: 1464,
                limit: 100
            })
        );
        assert_eq!(
            range(
                datetime!(1969-12-31 00:00 UTC),
                datetime!(1970-01-01 00:00 UTC)
            ),
            Err(RangeError::OutOfReach)
        );
    }

    #[test]
    fn days_are_dates() {
        let day = Day::from(time::macros::date!(2024 - 02 - 29));
        assert_eq!(day.to_string(), "2024-02-29");
        assert_eq!(Day::of(day.start()), day);
        assert_eq!(Day::of(day.start() - 1).to_string(), "2024-02-28");
    }
}
