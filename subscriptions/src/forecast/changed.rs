//! Every committed change of chosen series, in order, once.

use std::sync::Arc;

use domain::change::{Change, ForecastChange, Operation, Position, Subject};
use domain::forecast::{Point, Resolution, RunDay, SeriesKey};
use domain::provider::ProviderKey;
use domain::unit::UnitKey;
use time::OffsetDateTime;
use tokio_stream::{Stream, StreamExt};

use crate::change_log::ChangeLog;
use crate::follow::follow;
use crate::hub::{Event, Topic};
use crate::{Span, StreamError};

/// Which changes; what is absent matches all, an empty list nothing.
#[derive(Debug, Clone, Default)]
pub struct ForecastFilter {
    pub units: Option<Vec<UnitKey>>,
    pub providers: Option<Vec<ProviderKey>>,
    pub resolutions: Option<Vec<Resolution>>,
    /// Only changes that touch delivery periods from here on…
    pub from: Option<OffsetDateTime>,
    /// …and before here; their points are clipped to it.
    pub to: Option<OffsetDateTime>,
}

/// One committed change of one series.
#[derive(Debug, Clone)]
pub struct ForecastEvent {
    pub position: Position,
    pub operation: Operation,
    pub changed_at: OffsetDateTime,
    pub series: SeriesKey,
    pub run_id: i64,
    /// The touched delivery range, clipped to the filter's.
    pub from: OffsetDateTime,
    pub to: OffsetDateTime,
    /// What the change wrote within it; nothing for a deletion.
    pub points: Vec<Point>,
}

impl ForecastEvent {
    /// The event without a filter; `None` if it is not of a forecast.
    pub fn of(event: &Event) -> Option<Self> {
        see(&ForecastFilter::default(), event)
    }
}

impl ForecastFilter {
    fn topics(&self) -> Vec<Topic> {
        match &self.units {
            None => vec![Topic::Forecasts],
            Some(units) => units.iter().copied().map(Topic::ForecastsOf).collect(),
        }
    }

    /// The touched range, clipped, if the change is one of those asked for.
    fn admit(&self, change: &ForecastChange) -> Option<(OffsetDateTime, OffsetDateTime)> {
        fn among<T: PartialEq>(list: Option<&Vec<T>>, item: &T) -> bool {
            list.is_none_or(|list| list.contains(item))
        }
        let series = &change.series;
        let from = self.from.map_or(change.from, |from| from.max(change.from));
        let to = self.to.map_or(change.to, |to| to.min(change.to));
        (among(self.units.as_ref(), &series.unit)
            && among(self.providers.as_ref(), &series.provider)
            && among(self.resolutions.as_ref(), &series.resolution)
            && from < to)
            .then_some((from, to))
    }
}

/// The changes of a span that `filter` admits, in order and once. It ends only
/// by an error, or with the span.
pub fn changed(
    log: &ChangeLog,
    filter: ForecastFilter,
    span: Span,
) -> impl Stream<Item = Result<ForecastEvent, StreamError>> + Send + 'static {
    let filter = Arc::new(filter);
    let admits = {
        let filter = Arc::clone(&filter);
        move |change: &Change| match &change.subject {
            Subject::Forecast(forecast) => filter.admit(forecast).is_some(),
            _ => false,
        }
    };
    follow(log, &filter.topics(), admits, span)
        .filter_map(move |event| event.map(|event| see(&filter, &event)).transpose())
}

/// The event as the filter sees it, if it does.
fn see(filter: &ForecastFilter, event: &Event) -> Option<ForecastEvent> {
    let Subject::Forecast(change) = &event.change.subject else {
        return None;
    };
    let (from, to) = filter.admit(change)?;
    let written = event.written().unwrap_or_default();
    Some(ForecastEvent {
        position: event.change.position,
        operation: event.change.operation,
        changed_at: event.change.changed_at,
        series: change.series.clone(),
        run_id: change.run_id,
        from,
        to,
        points: points(written, change.series.resolution, from, to),
    })
}

fn points(
    written: &[RunDay],
    resolution: Resolution,
    from: OffsetDateTime,
    to: OffsetDateTime,
) -> Vec<Point> {
    let range = from.unix_timestamp()..to.unix_timestamp();
    written
        .iter()
        .flat_map(|day| day.points(resolution))
        .filter(|point| range.contains(&point.delivery_start))
        .collect()
}
