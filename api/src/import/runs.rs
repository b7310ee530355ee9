//! The runs of a file, collected value by value.

use std::ops::Range;

use domain::forecast::{NewRun, RunValues, SeriesKey};
use jiff::Timestamp;
use rustc_hash::{FxHashMap, FxHashSet};
use thiserror::Error;
use time::{Duration, OffsetDateTime};

/// Every run of a file: the values of one series that were issued at once.
pub(super) struct Runs {
    series: Vec<Series>,
    /// Issue times that can be, in microseconds since 1970.
    issue_times: Range<i64>,
}

/// A series of the file. A mapping may fill a series of the database from
/// several columns: they stay apart here, and so do their runs, whose values
/// for one period may have one issue time and differ all the same.
struct Series {
    key: SeriesKey,
    runs: Vec<Run>,
    /// The place of the run with this issue time.
    by_issue: FxHashMap<i64, usize>,
    /// Where the last value went: the next one mostly goes there, too.
    last: usize,
}

struct Run {
    /// Microseconds since 1970, which is what databases keep.
    issued_at: i64,
    /// Delivery starts in seconds since 1970, with their MWh.
    points: Vec<(i64, f64)>,
    /// The delivery starts, from the first on that was out of order.
    seen: Option<FxHashSet<i64>>,
}

/// Where a value goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    series: usize,
    run: usize,
}

/// Why a value goes nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum PlaceError {
    #[error("this delivery period is in its run already")]
    Twice,
    #[error("an issue time lies after 1970 and not more than a day ahead of now")]
    IssueTime,
}

impl Runs {
    pub(super) fn new(now: OffsetDateTime) -> Self {
        let micros = |at: OffsetDateTime| i64::try_from(at.unix_timestamp_nanos() / 1000);
        let latest = micros(now + Duration::days(1)).unwrap_or(i64::MAX);
        Self {
            series: Vec::new(),
            issue_times: 0..latest.saturating_add(1),
        }
    }

    /// Adds a series and returns its place.
    pub(super) fn add_series(&mut self, key: SeriesKey) -> usize {
        self.series.push(Series {
            key,
            runs: Vec::new(),
            by_issue: FxHashMap::default(),
            last: 0,
        });
        self.series.len() - 1
    }

    /// Finds where a value goes, without putting it there: a row is taken as a
    /// whole or not at all.
    pub(super) fn place(
        &mut self,
        series: usize,
        issued_at: Timestamp,
        delivery_start: i64,
    ) -> Result<Place, PlaceError> {
        let issued_at = issued_at.as_microsecond();
        let of = &mut self.series[series];
        let run = match of.runs.get(of.last) {
            Some(run) if run.issued_at == issued_at => of.last,
            _ if !self.issue_times.contains(&issued_at) => return Err(PlaceError::IssueTime),
            _ => *of.by_issue.entry(issued_at).or_insert_with(|| {
                of.runs.push(Run {
                    issued_at,
                    points: Vec::new(),
                    seen: None,
                });
                of.runs.len() - 1
            }),
        };
        of.last = run;
        if of.runs[run].has(delivery_start) {
            return Err(PlaceError::Twice);
        }
        Ok(Place { series, run })
    }

    /// Puts a value where [`Self::place`] said.
    pub(super) fn put(&mut self, place: Place, delivery_start: i64, mwh: f64) {
        let run = &mut self.series[place.series].runs[place.run];
        if let Some(seen) = &mut run.seen {
            seen.insert(delivery_start);
        }
        run.points.push((delivery_start, mwh));
    }

    /// The runs that have a value, those of each series together, in the order
    /// in which series were added: where issue times are equal, what comes
    /// later wins.
    pub(super) fn into_new_runs(self) -> Vec<NewRun> {
        let mut new_runs = Vec::new();
        for series in self.series {
            for run in series.runs {
                if run.points.is_empty() {
                    continue;
                }
                new_runs.push(NewRun {
                    unit: series.key.unit,
                    provider: series.key.provider.clone(),
                    resolution: series.key.resolution,
                    issued_at: Some(from_micros(run.issued_at)),
                    values: run.into_values(series.key.resolution.seconds()),
                });
            }
        }
        new_runs
    }
}

impl Run {
    fn has(&mut self, delivery_start: i64) -> bool {
        match (&self.seen, self.points.last()) {
            (Some(seen), _) => seen.contains(&delivery_start),
            (None, Some((last, _))) if delivery_start <= *last => {
                let seen: FxHashSet<i64> = self.points.iter().map(|(start, _)| *start).collect();
                self.seen.insert(seen).contains(&delivery_start)
            }
            (None, _) => false,
        }
    }

    fn into_values(mut self, step: i64) -> RunValues {
        if self.seen.is_some() {
            self.points.sort_unstable_by_key(|(start, _)| *start);
        }
        let (first, last) = (self.points[0].0, self.points[self.points.len() - 1].0);
        let periods = usize::try_from((last - first) / step + 1).unwrap_or(usize::MAX);
        // The shorter of the two forms, and the one that costs less to check.
        if periods > self.points.len() * 2 {
            let points = self.points.into_iter();
            return RunValues::Points(
                points
                    .map(|(start, mwh)| (from_seconds(start), mwh))
                    .collect(),
            );
        }
        let mut values = vec![None; periods];
        for (start, mwh) in self.points {
            let period = usize::try_from((start - first) / step).unwrap_or(usize::MAX);
            values[period] = Some(mwh);
        }
        RunValues::From {
            start: from_seconds(first),
            values,
        }
    }
}

fn from_seconds(seconds: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(seconds)
        .unwrap_or_else(|error| unreachable!("delivery times lie before 2200: {error}"))
}

fn from_micros(micros: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1000)
        .unwrap_or_else(|error| unreachable!("issue times lie before tomorrow: {error}"))
}

#[cfg(test)]
mod tests {
    use domain::forecast::Resolution;
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2024-03-01 12:00 UTC);

    fn runs() -> Runs {
        let mut runs = Runs::new(NOW);
        runs.add_series(SeriesKey {
            unit: "plant:1".parse().unwrap(),
            provider: "a".parse().unwrap(),
            resolution: Resolution::Hour,
        });
        runs
    }

    fn add(runs: &mut Runs, issued_at: i64, start: i64, mwh: f64) -> Result<(), PlaceError> {
        let place = runs.place(0, Timestamp::from_second(issued_at).unwrap(), start)?;
        runs.put(place, start, mwh);
        Ok(())
    }

    #[test]
    fn values_with_one_issue_time_are_one_run() {
        let mut runs = runs();
        for (issued_at, start) in [(1, 0), (1, 3600), (2, 0), (1, 10_800), (2, 3600)] {
            add(&mut runs, issued_at, start, start as f64).unwrap();
        }
        let runs = runs.into_new_runs();
        let values: Vec<_> = runs.iter().map(|run| &run.values).collect();
        let start = OffsetDateTime::UNIX_EPOCH;
        assert_eq!(
            values,
            [
                &RunValues::From {
                    start,
                    values: vec![Some(0.0), Some(3600.0), None, Some(10_800.0)],
                },
                &RunValues::From {
                    start,
                    values: vec![Some(0.0), Some(3600.0)],
                },
            ]
        );
    }

    #[test]
    fn a_period_comes_once_in_a_run_in_any_order() {
        let mut runs = runs();
        add(&mut runs, 1, 7200, 1.0).unwrap();
        assert_eq!(add(&mut runs, 1, 7200, 1.0), Err(PlaceError::Twice));
        add(&mut runs, 1, 3600, 2.0).unwrap();
        add(&mut runs, 1, 0, 3.0).unwrap();
        assert_eq!(add(&mut runs, 1, 3600, 1.0), Err(PlaceError::Twice));
        assert_eq!(add(&mut runs, 1, 0, 1.0), Err(PlaceError::Twice));
        add(&mut runs, 2, 0, 4.0).unwrap();
        let runs = runs.into_new_runs();
        assert_eq!(runs.len(), 2);
        let RunValues::From { values, .. } = &runs[0].values else {
            panic!("not consecutive");
        };
        assert_eq!(values, &[Some(3.0), Some(2.0), Some(1.0)]);
    }

    #[test]
    fn values_far_apart_stay_points() {
        let mut runs = runs();
        add(&mut runs, 1, 0, 1.0).unwrap();
        add(&mut runs, 1, 86_400, 2.0).unwrap();
        assert_eq!(
            runs.into_new_runs()[0].values,
            RunValues::Points(vec![
                (datetime!(1970-01-01 0:00 UTC), 1.0),
                (datetime!(1970-01-02 0:00 UTC), 2.0),
            ])
        );
    }

    #[test]
    fn an_issue_time_is_hardly_in_the_future() {
        let mut runs = runs();
        let latest = (NOW + Duration::days(1)).unix_timestamp();
        add(&mut runs, latest, 0, 1.0).unwrap();
        assert_eq!(
            add(&mut runs, latest + 1, 0, 1.0),
            Err(PlaceError::IssueTime)
        );
        assert_eq!(add(&mut runs, -1, 0, 1.0), Err(PlaceError::IssueTime));
    }

    #[test]
    fn a_run_without_values_is_none() {
        let mut runs = runs();
        runs.place(0, Timestamp::from_second(1).unwrap(), 0)
            .unwrap();
        assert!(runs.into_new_runs().is_empty());
    }
}
