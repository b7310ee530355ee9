//! What is counted of deliveries.

use domain::database::Database;
use domain::notification::{Channel, Outcome, delivery};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::Channels;

/// What is counted of deliveries.
#[derive(Debug, Clone, Default)]
pub(crate) struct DeliveryMetrics {
    /// Attempts, by channel and outcome.
    pub(crate) attempts: Family<[(&'static str, &'static str); 2], Counter>,
    /// Deliveries that wait, of all replicas, by channel.
    pub(crate) waiting: Family<[(&'static str, &'static str); 1], Gauge>,
    /// Hosts that this replica leaves alone, because they kept failing.
    pub(crate) open_breakers: Gauge,
}

impl DeliveryMetrics {
    /// Looks at what is not counted as it happens.
    pub(crate) async fn look(&self, db: &Database, channels: &Channels) {
        let open = i64::try_from(channels.open_breakers()).unwrap_or(i64::MAX);
        self.open_breakers.set(open);
        // A database that is gone just now has its own signs.
        let Ok(backlog) = delivery::backlog(db.reader()).await else {
            return;
        };
        for channel in Channel::OUTBOUND {
            let of_channel = backlog.iter().find(|(of, _)| *of == channel);
            let waiting = of_channel.map_or(0, |(_, waiting)| *waiting);
            let labels = [("channel", channel.as_str())];
            self.waiting.get_or_create(&labels).set(waiting);
        }
    }

    pub(super) fn attempted(&self, channel: Channel, outcome: &Outcome) {
        let outcome = match outcome {
            Outcome::Sent { .. } => "SENT",
            Outcome::Failed { .. } => "FAILED",
            Outcome::Postponed { .. } => "POSTPONED",
            Outcome::Rejected { .. } => "REJECTED",
            Outcome::Gone { .. } => "GONE",
            Outcome::Unknown { .. } => "UNKNOWN",
        };
        let labels = [("channel", channel.as_str()), ("outcome", outcome)];
        self.attempts.get_or_create(&labels).inc();
    }
}
