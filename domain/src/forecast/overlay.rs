//! Versions of a day curve laid over one another: the one function from which
//! every view follows.

use time::OffsetDateTime;

use super::{Day, Resolution};

/// What one run gave for one day of one series.
#[derive(Debug, Clone, PartialEq)]
pub struct Version {
    pub source: Source,
    /// The period of the day, from 0, that the first value is for.
    pub first_period: u16,
    /// MWh per delivery period; `NaN` says nothing about its period.
    pub values: Box<[f64]>,
}

/// Which run a value came from.
///
/// Ordered by precedence: the later issue, and of two issued at once the
/// higher run number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source {
    pub issued_at: OffsetDateTime,
    pub run_id: i64,
}

/// A day curve as one view sees it: packed values, and where each came from.
#[derive(Debug, Clone, PartialEq)]
pub struct DayCurve {
    /// MWh per delivery period of the UTC day; `NaN` where there is none.
    values: Box<[f64]>,
    /// For each period an index into `sources`, [`NO_SOURCE`] where there is no value.
    source_of: Box<[u16]>,
    sources: Box<[Source]>,
}

const NO_SOURCE: u16 = u16::MAX;

/// A day curve being built from versions, newest first.
#[derive(Debug)]
pub struct Overlay {
    curve: Vec<f64>,
    source_of: Vec<u16>,
    sources: Vec<Source>,
    missing: usize,
}

impl Overlay {
    pub fn new(resolution: Resolution) -> Self {
        let periods = resolution.periods_per_day();
        Self {
            curve: vec![f64::NAN; periods],
            source_of: vec![NO_SOURCE; periods],
            sources: Vec::new(),
            missing: periods,
        }
    }

    /// Lays an older version under what is there: it fills periods that have
    /// no value yet, where `admits` (asked with the period of the day) allows.
    pub fn lay(&mut self, version: &Version, admits: impl Fn(usize) -> bool) {
        debug_assert!(
            self.sources
                .last()
                .is_none_or(|last| *last > version.source),
            "versions come newest first"
        );
        let mut index = None;
        for (offset, mwh) in version.values.iter().enumerate() {
            let period = usize::from(version.first_period) + offset;
            if mwh.is_nan()
                || self
                    .source_of
                    .get(period)
                    .is_none_or(|source| *source != NO_SOURCE)
                || !admits(period)
            {
                continue;
            }
            let index = *index.get_or_insert_with(|| {
                self.sources.push(version.source);
                // A day has fewer periods than this, and each source fills one at least.
                u16::try_from(self.sources.len() - 1).unwrap_or(NO_SOURCE - 1)
            });
            self.curve[period] = *mwh;
            self.source_of[period] = index;
            self.missing -= 1;
        }
    }

    /// No older version can show through.
    pub fn is_complete(&self) -> bool {
        self.missing == 0
    }

    pub fn finish(self) -> DayCurve {
        DayCurve {
            values: self.curve.into(),
            source_of: self.source_of.into(),
            sources: self.sources.into(),
        }
    }
}

impl DayCurve {
    /// All of `versions`, newest first, as far as `admits` allows; asked with
    /// the version's source and the delivery start, in seconds since 1970.
    pub fn overlay<'a>(
        resolution: Resolution,
        day: Day,
        versions: impl IntoIterator<Item = &'a Version>,
        admits: impl Fn(&Source, i64) -> bool,
    ) -> Self {
        let mut overlay = Overlay::new(resolution);
        for version in versions {
            if overlay.is_complete() {
                break;
            }
            overlay.lay(version, |period| {
                let offset = i64::try_from(period).unwrap_or(i64::MAX) * resolution.seconds();
                admits(&version.source, day.start() + offset)
            });
        }
        overlay.finish()
    }

    /// This day with some of its periods as `newer` has them.
    pub(super) fn updated(&self, newer: &Self, takes: impl Fn(usize) -> bool) -> Self {
        let periods = self.values.len();
        let mut mixed = Self {
            values: vec![f64::NAN; periods].into(),
            source_of: vec![NO_SOURCE; periods].into(),
            sources: Box::default(),
        };
        let mut sources: Vec<Source> = Vec::new();
        for period in 0..periods {
            let from = if takes(period) { newer } else { self };
            let Some((mwh, source)) = from.get(period) else {
                continue;
            };
            let known = sources.iter().position(|known| known == source);
            let index = known.unwrap_or_else(|| {
                sources.push(*source);
                sources.len() - 1
            });
            mixed.values[period] = mwh;
            // A day has fewer periods than this.
            mixed.source_of[period] = u16::try_from(index).unwrap_or(NO_SOURCE - 1);
        }
        mixed.sources = sources.into();
        mixed
    }

    /// MWh per delivery period of the day; `NaN` where there is none.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// The value of a period of the day, with its source.
    pub fn get(&self, period: usize) -> Option<(f64, &Source)> {
        let source = self
            .sources
            .get(usize::from(*self.source_of.get(period)?))?;
        Some((self.values[period], source))
    }

    /// Its size in memory, in bytes.
    pub fn weight(&self) -> usize {
        size_of::<Self>()
            + self.values.len() * (size_of::<f64>() + size_of::<u16>())
            + self.sources.len() * size_of::<Source>()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::Duration;

    use super::*;

    fn version(issued: i64, run_id: i64, first_period: u16, values: &[Option<f64>]) -> Version {
        Version {
            source: Source {
                issued_at: OffsetDateTime::UNIX_EPOCH + Duration::hours(issued),
                run_id,
            },
            first_period,
            values: values.iter().map(|v| v.unwrap_or(f64::NAN)).collect(),
        }
    }

    fn check(mut versions: Vec<Version>, expect: &[(usize, f64, i64)]) {
        versions.sort_by_key(|version| std::cmp::Reverse(version.source));
        let curve = DayCurve::overlay(Resolution::Hour, Day(0), &versions, |_, _| true);
        let found: Vec<_> = (0..24)
            .filter_map(|period| curve.get(period).map(|(mwh, s)| (period, mwh, s.run_id)))
            .collect();
        assert_eq!(found, expect);
    }

    #[test]
    fn a_later_issue_wins_its_periods_only() {
        check(
            vec![
                version(1, 1, 0, &[Some(1.0), Some(2.0), Some(3.0)]),
                version(2, 2, 1, &[Some(20.0)]),
            ],
            &[(0, 1.0, 1), (1, 20.0, 2), (2, 3.0, 1)],
        );
    }

    #[test]
    fn a_late_arrival_with_an_older_issue_displaces_nothing() {
        check(
            vec![
                version(2, 1, 0, &[Some(1.0)]),
                version(1, 2, 0, &[Some(9.0), Some(9.5)]),
            ],
            &[(0, 1.0, 1), (1, 9.5, 2)],
        );
    }

    #[test]
    fn of_two_issued_at_once_the_higher_run_wins() {
        check(
            vec![
                version(1, 8, 5, &[Some(8.0)]),
                version(1, 7, 5, &[Some(7.0)]),
            ],
            &[(5, 8.0, 8)],
        );
    }

    #[test]
    fn a_null_says_nothing() {
        check(
            vec![
                version(1, 1, 0, &[Some(1.0), Some(2.0)]),
                version(2, 2, 0, &[None, Some(5.0)]),
            ],
            &[(0, 1.0, 1), (1, 5.0, 2)],
        );
    }

    #[test]
    fn values_beyond_the_day_are_ignored() {
        check(
            vec![version(1, 1, 23, &[Some(1.0), Some(2.0)])],
            &[(23, 1.0, 1)],
        );
    }

    proptest! {
        /// The packed overlay against its definition: for each period the
        /// admitted value with the highest precedence.
        #[test]
        fn it_is_the_newest_admitted_value_of_each_period(
            runs in prop::collection::vec(
                (0..6i64, 0..24u16, prop::collection::vec(prop::option::of(0.0..100.0f64), 1..24)), 0..12),
            until in 0..6i64,
        ) {
            let mut versions: Vec<_> = runs
                .iter()
                .zip(1..)
                .map(|((issued, first, values), run)| version(*issued, run, *first, values))
                .collect();
            versions.sort_by_key(|version| std::cmp::Reverse(version.source));
            let limit = OffsetDateTime::UNIX_EPOCH + Duration::hours(until);
            let curve = DayCurve::overlay(Resolution::Hour, Day(0), &versions, |s, _| s.issued_at <= limit);
            for period in 0..24usize {
                let expect = versions
                    .iter()
                    .filter(|v| v.source.issued_at <= limit)
                    .filter_map(|v| {
                        let offset = period.checked_sub(usize::from(v.first_period))?;
                        let mwh = *v.values.get(offset)?;
                        (!mwh.is_nan()).then_some((v.source, mwh))
                    })
                    .max_by_key(|(source, _)| *source);
                prop_assert_eq!(curve.get(period).map(|(mwh, s)| (*s, mwh)), expect);
            }
        }
    }
}
