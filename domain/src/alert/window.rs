//! The delivery periods that a rule looks at.

use std::ops::Range;

use time::OffsetDateTime;

use crate::forecast::{Day, Resolution};

/// Whole delivery periods, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Window {
    pub(super) resolution: Resolution,
    /// Start of the first, in seconds since 1970.
    pub(super) from: i64,
    pub(super) periods: usize,
}

/// The part of a window that lies in one UTC day.
pub(super) struct Part {
    pub(super) day: Day,
    /// Its periods, counted from the start of the day.
    pub(super) of_day: Range<usize>,
    /// The first of them, counted from the start of the window.
    pub(super) place: usize,
}

impl Window {
    /// The periods that begin within the next `hours`: the one that is running
    /// cannot be acted on any more.
    pub(super) fn next(resolution: Resolution, at: OffsetDateTime, hours: u32) -> Self {
        let step = resolution.seconds();
        let seconds = at.unix_timestamp() + i64::from(at.nanosecond() > 0);
        let from = (seconds + step - 1).div_euclid(step) * step;
        let periods = i64::from(hours) * 3600 / step;
        Self {
            resolution,
            from,
            periods: usize::try_from(periods).unwrap_or(0),
        }
    }

    /// Start of one of its periods, in seconds since 1970.
    pub(super) fn start(&self, period: usize) -> i64 {
        self.from + i64::try_from(period).unwrap_or(0) * self.resolution.seconds()
    }

    /// End of its last period, in seconds since 1970.
    pub(super) fn to(&self) -> i64 {
        self.start(self.periods)
    }

    /// Whether any of it lies in a half-open range.
    pub(super) fn touches(&self, from: OffsetDateTime, to: OffsetDateTime) -> bool {
        from.unix_timestamp() < self.to() && to.unix_timestamp() > self.from
    }

    /// Its parts, day by day.
    pub(super) fn parts(self) -> impl Iterator<Item = Part> {
        let a_day = self.resolution.periods_per_day();
        let step = self.resolution.seconds();
        let mut place = 0;
        std::iter::from_fn(move || {
            if place >= self.periods {
                return None;
            }
            let start = self.start(place);
            let day = Day::of(start);
            let first = usize::try_from((start - day.start()) / step).unwrap_or(0);
            let count = (a_day - first).min(self.periods - place);
            let part = Part {
                day,
                of_day: first..first + count,
                place,
            };
            place += count;
            Some(part)
        })
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn it_begins_with_the_next_period_and_falls_into_days() {
        for (at, hours, from, parts) in [
            (
                datetime!(2024-06-15 09:00 UTC),
                2,
                datetime!(2024-06-15 09:00 UTC),
                vec![(9..11, 0)],
            ),
            (
                datetime!(2024-06-15 09:00:00.5 UTC),
                2,
                datetime!(2024-06-15 10:00 UTC),
                vec![(10..12, 0)],
            ),
            (
                datetime!(2024-06-15 21:59 UTC),
                30,
                datetime!(2024-06-15 22:00 UTC),
                vec![(22..24, 0), (0..24, 2), (0..4, 26)],
            ),
        ] {
            let window = Window::next(Resolution::Hour, at, hours);
            assert_eq!(window.from, from.unix_timestamp(), "{at}");
            let found: Vec<_> = window.parts().map(|p| (p.of_day, p.place)).collect();
            assert_eq!(found, parts, "{at}");
        }
        let window = Window::next(Resolution::QuarterHour, datetime!(2024-06-15 09:01 UTC), 1);
        assert_eq!(
            (window.periods, window.start(4) - window.from),
            (4, 3600),
            "an hour has four"
        );
    }
}
