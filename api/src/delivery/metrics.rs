//! What is counted of deliveries.

use domain::notification::{Channel, Outcome};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

/// What is counted of deliveries.
#[derive(Debug, Clone, Default)]
pub(crate) struct DeliveryMetrics {
    /// Attempts, by channel and outcome.
    pub(crate) attempts: Family<[(&'static str, &'static str); 2], Counter>,
}

impl DeliveryMetrics {
    pub(super) fn attempted(&self, channel: Channel, outcome: &Outcome) {
        let outcome = match outcome {
            Outcome::Sent { .. } => "SENT",
            Outcome::Failed { .. } => "FAILED",
            Outcome::Rejected { .. } => "REJECTED",
            Outcome::Gone { .. } => "GONE",
            Outcome::Unknown { .. } => "UNKNOWN",
        };
        let labels = [("channel", channel.as_str()), ("outcome", outcome)];
        self.attempts.get_or_create(&labels).inc();
    }
}
