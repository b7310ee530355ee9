//! An answer: any range of a series, assembled from its day curves.

use std::sync::Arc;

use super::day::DAY_SECONDS;
use super::{Day, DayCurve, DeliveryRange, Source};
use crate::change::Position;

/// A range of a series as one view sees it.
#[derive(Debug, Clone)]
pub struct Curve {
    range: DeliveryRange,
    /// One for each UTC day of the range; none at all for a series nobody has written.
    days: Vec<Arc<DayCurve>>,
    position: Position,
}

/// The value of one delivery period, and the run it came from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Seconds since 1970.
    pub delivery_start: i64,
    pub mwh: f64,
    pub source: Source,
}

impl Curve {
    pub(super) fn new(range: DeliveryRange, days: Vec<Arc<DayCurve>>, position: Position) -> Self {
        Self {
            range,
            days,
            position,
        }
    }

    pub fn range(&self) -> DeliveryRange {
        self.range
    }

    /// The change log position that it includes at least.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Only delivery periods that have a value, in order.
    pub fn points(&self) -> impl Iterator<Item = Point> {
        self.slices().flat_map(|(day, curve, first, last)| {
            let seconds = self.range.resolution().seconds();
            (first..last).filter_map(move |period| {
                let (mwh, source) = curve.get(period)?;
                Some(Point {
                    delivery_start: day.start() + i64::try_from(period).ok()? * seconds,
                    mwh,
                    source: *source,
                })
            })
        })
    }

    /// MWh of each delivery period of the range, in order; `NaN` where there is none.
    pub fn values(&self) -> impl Iterator<Item = f64> {
        let absent = if self.days.is_empty() {
            self.range.periods()
        } else {
            0
        };
        self.slices()
            .flat_map(|(_, curve, first, last)| curve.values()[first..last].iter().copied())
            .chain(std::iter::repeat_n(f64::NAN, absent))
    }

    /// This curve with some delivery periods, by their start, as `newer` has
    /// them; of the same range, and at `newer`'s position.
    #[must_use]
    pub fn updated(&self, newer: &Self, takes: impl Fn(i64) -> bool) -> Self {
        debug_assert_eq!(self.range, newer.range);
        let seconds = self.range.resolution().seconds();
        let days = if self.days.is_empty() {
            newer.days.clone()
        } else {
            let pairs = self.days.iter().zip(&newer.days).zip(self.range.days());
            pairs
                .map(|((old, new), day)| {
                    let start = |period: usize| {
                        day.start() + i64::try_from(period).unwrap_or(i64::MAX) * seconds
                    };
                    Arc::new(old.updated(new, |period| takes(start(period))))
                })
                .collect()
        };
        Self::new(self.range, days, newer.position)
    }

    /// For each day the periods of it, from and to, that the range covers.
    fn slices(&self) -> impl Iterator<Item = (Day, &DayCurve, usize, usize)> {
        let seconds = self.range.resolution().seconds();
        self.range.days().zip(&self.days).map(move |(day, curve)| {
            let within = |at: i64| {
                let offset = (at - day.start()).clamp(0, DAY_SECONDS);
                usize::try_from(offset / seconds).unwrap_or(0)
            };
            (
                day,
                curve.as_ref(),
                within(self.range.from()),
                within(self.range.to()),
            )
        })
    }
}

impl super::RunDay {
    /// The values of the day, as the run gave them.
    pub fn points(&self, resolution: super::Resolution) -> impl Iterator<Item = Point> {
        let first = i64::from(self.version.first_period);
        let start = self.day.start() + first * resolution.seconds();
        self.version
            .values
            .iter()
            .zip(0i64..)
            .filter(|(mwh, _)| !mwh.is_nan())
            .map(move |(mwh, place)| Point {
                delivery_start: start + place * resolution.seconds(),
                mwh: *mwh,
                source: self.version.source,
            })
    }
}
