//! The state of one curve: now, and again whenever it changes.

use domain::change::Subject;
use domain::forecast::{Curve, DeliveryRange, SeriesKey, View};
use tokio_stream::Stream;

use super::StreamError;
use crate::change_log::ChangeLog;
use crate::hub::{Received, Subscriber, Topic};

/// The latest view of a range: at once, then after each change that touches
/// it. Changes that come faster than they are taken are passed over for the
/// newest state, never the last one.
pub fn live(
    log: ChangeLog,
    series: SeriesKey,
    range: DeliveryRange,
) -> impl Stream<Item = Result<Curve, StreamError>> + Send + 'static {
    async_stream::try_stream! {
        loop {
            // Joined first, so that no change falls between the state and what follows.
            let mut subscriber = log.hub().join(vec![Topic::ForecastsOf(series.unit)]);
            loop {
                let curve = log.forecasts().curve(&series, range, View::Latest).await?;
                let seen = curve.position();
                yield curve;
                let touched = |received: &Received| match received {
                    Received::Event(event) => match &event.change.subject {
                        Subject::Forecast(change) => {
                            // A state's position is a lower bound: what it includes may come again.
                            (event.change.position.epoch != seen.epoch
                                || event.change.position.number > seen.number)
                                && change.series == series
                                && change.from.unix_timestamp() < range.to()
                                && change.to.unix_timestamp() > range.from()
                        }
                        _ => false,
                    },
                    Received::Lagged | Received::Resync(_) => true,
                };
                if wait(&mut subscriber, touched).await {
                    break;
                }
            }
        }
    }
}

/// Waits for a change that matters and takes what else is queued. True when
/// the subscriber was cut off and has to join again.
async fn wait(subscriber: &mut Subscriber, touched: impl Fn(&Received) -> bool) -> bool {
    loop {
        let received = subscriber.recv().await;
        if !touched(&received) {
            continue;
        }
        let mut received = Some(received);
        while let Some(next) = received {
            if matches!(next, Received::Lagged | Received::Resync(_)) {
                return true;
            }
            received = subscriber.try_recv();
        }
        return false;
    }
}
