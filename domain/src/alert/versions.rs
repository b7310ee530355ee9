//! Versions of day curves, and what they say to who admits some of them.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use time::OffsetDateTime;

use super::window::Window;
use crate::forecast::{Day, Source, Version};

/// Versions of days of series, newest first.
#[derive(Debug, Default)]
pub(super) struct Versions(HashMap<(i64, Day), Vec<Version>>);

impl Versions {
    /// Puts a version in its place.
    pub(super) fn insert(&mut self, series_id: i64, day: Day, version: Version) {
        let versions = self.0.entry((series_id, day)).or_default();
        let place = versions.partition_point(|other| other.source > version.source);
        versions.insert(place, version);
    }

    /// Adds versions that are older than all that are there.
    pub(super) fn extend(&mut self, series_id: i64, day: Day, older: Vec<Version>) {
        self.0.entry((series_id, day)).or_default().extend(older);
    }

    /// MWh of each period of a window, from the newest version that is admitted
    /// and gives it; `NaN` where none does.
    pub(super) fn curve(
        &self,
        series_id: i64,
        window: Window,
        admits: impl Fn(Day, &Source) -> bool,
    ) -> Vec<f64> {
        let mut values = vec![f64::NAN; window.periods];
        for part in window.parts() {
            let target = &mut values[part.place..part.place + part.of_day.len()];
            self.fill(series_id, part.day, part.of_day, &admits, target);
        }
        values
    }

    /// Whether each of some periods of a day has an admitted value.
    pub(super) fn fills(
        &self,
        series_id: i64,
        day: Day,
        periods: Range<usize>,
        admits: impl Fn(Day, &Source) -> bool,
    ) -> bool {
        let mut values = vec![f64::NAN; periods.len()];
        self.fill(series_id, day, periods, &admits, &mut values) == 0
    }

    /// Returns how many periods are without a value.
    fn fill(
        &self,
        series_id: i64,
        day: Day,
        periods: Range<usize>,
        admits: &impl Fn(Day, &Source) -> bool,
        target: &mut [f64],
    ) -> usize {
        let mut missing = periods.len();
        let versions = self.0.get(&(series_id, day));
        for version in versions.into_iter().flatten() {
            if missing == 0 {
                break;
            }
            if !admits(day, &version.source) {
                continue;
            }
            for (value, period) in target.iter_mut().zip(periods.clone()) {
                let given = period
                    .checked_sub(usize::from(version.first_period))
                    .and_then(|place| version.values.get(place));
                if let Some(given) = given
                    && value.is_nan()
                    && !given.is_nan()
                {
                    *value = *given;
                    missing -= 1;
                }
            }
        }
        missing
    }
}

/// What is judged together: the versions that some changes wrote, by series, run
/// and day.
#[derive(Debug, Default)]
pub(super) struct Judged {
    /// Written by what is judged, at these places of the log.
    pub(super) inside: HashMap<(i64, i64, Day), u64>,
    /// Written by what is judged another time: nobody has seen it yet.
    pub(super) beyond: HashSet<(i64, i64, Day)>,
}

/// Which versions count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// All there are.
    Latest,
    /// All up to what is judged.
    After,
    /// Those from before it, and those up to a place of the log that is not judged;
    /// issued by then, if it says when.
    Before {
        known_at: Option<OffsetDateTime>,
        since: u64,
    },
}

impl Judged {
    pub(super) fn admits(&self, seen: Seen, series_id: i64, day: Day, source: &Source) -> bool {
        let key = (series_id, source.run_id, day);
        match seen {
            Seen::Latest => true,
            Seen::After => self.inside.contains_key(&key) || !self.beyond.contains(&key),
            Seen::Before { known_at, since } => {
                known_at.is_none_or(|at| source.issued_at <= at)
                    && match self.inside.get(&key) {
                        Some(position) => *position <= since,
                        None => !self.beyond.contains(&key),
                    }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use time::Duration;
    use time::macros::datetime;

    use super::*;
    use crate::forecast::Resolution;

    const NONE: f64 = f64::NAN;
    const NOON: OffsetDateTime = datetime!(2024-06-15 12:00 UTC);

    fn version(run_id: i64, first_period: u16, values: &[f64]) -> Version {
        Version {
            source: Source {
                issued_at: NOON + Duration::minutes(run_id),
                run_id,
            },
            first_period,
            values: values.into(),
        }
    }

    #[test]
    fn the_newest_admitted_value_of_each_period_counts() {
        let mut versions = Versions::default();
        let today = Day::of(NOON.unix_timestamp());
        let tomorrow = Day(today.0 + 1);
        for (day, version) in [
            (today, version(2, 22, &[2.0, NONE])),
            (today, version(1, 21, &[1.0, 1.0, 1.0])),
            (tomorrow, version(3, 0, &[3.0])),
            (tomorrow, version(1, 0, &[1.0, 1.0])),
        ] {
            versions.insert(7, day, version);
        }
        let window = Window::next(Resolution::Hour, NOON + Duration::HOUR * 10, 5);
        let judged = Judged {
            inside: [((7, 2, today), 5)].into(),
            beyond: [(7, 3, tomorrow)].into(),
        };
        let curve = |seen| {
            let admits = |day, source: &Source| judged.admits(seen, 7, day, source);
            let curve = versions.curve(7, window, admits);
            curve
                .iter()
                .map(|v| if v.is_nan() { 0.0 } else { *v })
                .collect::<Vec<_>>()
        };
        assert_eq!(curve(Seen::Latest), [2.0, 1.0, 3.0, 1.0, 0.0]);
        assert_eq!(curve(Seen::After), [2.0, 1.0, 1.0, 1.0, 0.0]);
        let before = |known_at, since| curve(Seen::Before { known_at, since });
        assert_eq!(before(None, 4), [1.0, 1.0, 1.0, 1.0, 0.0]);
        assert_eq!(before(None, 5), [2.0, 1.0, 1.0, 1.0, 0.0]);
        assert_eq!(before(Some(NOON), 4), [0.0; 5]);
        assert!(versions.fills(7, today, 21..24, |_, _| true));
        assert!(!versions.fills(7, today, 20..24, |_, _| true));
        assert!(!versions.fills(8, today, 20..21, |_, _| true));
    }
}
