//! Every committed change of chosen series, in order, once.

use std::sync::Arc;

use domain::change::{self, Change, ForecastChange, Operation, Position, Subject};
use domain::forecast::{Point, Resolution, RunDay, SeriesKey};
use domain::provider::ProviderKey;
use domain::unit::UnitKey;
use time::OffsetDateTime;
use tokio_stream::Stream;

use super::StreamError;
use crate::change_log::ChangeLog;
use crate::hub::{Event, Received, Topic};

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

/// Follows the changes that `filter` admits: first, with `after`, all since
/// then, from the log; then live, without a seam. It ends only by an error.
pub fn changed(
    log: ChangeLog,
    filter: ForecastFilter,
    after: Option<Position>,
) -> impl Stream<Item = Result<ForecastEvent, StreamError>> + Send + 'static {
    async_stream::try_stream! {
        let mut reached = after;
        'join: loop {
            // Joined first: what is published from here on waits in the queue.
            let mut subscriber = log.hub().join(filter.topics());
            let joined = subscriber.joined_at();
            let mut last = reached.unwrap_or(joined);
            // On an older position, or one this replica has not come to yet, the
            // log says whether it can be gone on from.
            let mut behind = last != joined;
            while behind {
                let page = change::read_after(log.database().reader(), last.number).await?;
                let continues = match page.changes.first() {
                    Some((first, _)) => first.position.number == last.number + 1,
                    None => page.head.number == last.number,
                };
                if page.head.epoch != last.epoch || !continues {
                    Err(StreamError::PositionExpired { after: last, current: page.head })?;
                }
                for (change, _) in page.changes {
                    last = change.position;
                    if let Some(event) = deliver(&log, &filter, &Event::new(change)).await? {
                        yield event;
                    }
                }
                behind = last.number < joined.number;
            }
            loop {
                match subscriber.recv().await {
                    Received::Event(event) if event.change.position.number <= last.number => {}
                    Received::Event(event) => {
                        last = event.change.position;
                        if let Some(event) = deliver(&log, &filter, &event).await? {
                            yield event;
                        }
                    }
                    Received::Lagged => {
                        reached = Some(last);
                        continue 'join;
                    }
                    Received::Resync(position) => {
                        Err(StreamError::ResyncRequired { position })?;
                    }
                }
            }
        }
    }
}

/// The event as this filter sees it, if it does.
async fn deliver(
    log: &ChangeLog,
    filter: &ForecastFilter,
    event: &Event,
) -> Result<Option<ForecastEvent>, StreamError> {
    let Change {
        position,
        operation,
        changed_at,
        subject,
    } = &event.change;
    let change = match subject {
        Subject::Everything => {
            return Err(StreamError::ResyncRequired {
                position: *position,
            });
        }
        Subject::Forecast(change) => change,
        Subject::Unit(_) | Subject::Provider(_) => return Ok(None),
    };
    let Some((from, to)) = filter.admit(change) else {
        return Ok(None);
    };
    let written = match operation {
        Operation::Insert | Operation::Update => event.written(log.database()).await?,
        Operation::Delete | Operation::Resync => Arc::default(),
    };
    Ok(Some(ForecastEvent {
        position: *position,
        operation: *operation,
        changed_at: *changed_at,
        series: change.series.clone(),
        run_id: change.run_id,
        from,
        to,
        points: points(&written, change.series.resolution, from, to),
    }))
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
