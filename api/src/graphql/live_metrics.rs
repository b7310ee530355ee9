//! What live operations count.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use subscriptions::cohort::CohortMetrics;
use time::OffsetDateTime;

use super::frame::Payload;
use crate::error::ErrorCode;

/// A transport, as the label of a metric.
pub(crate) type Transport = [(&'static str, &'static str); 1];

/// What live operations count, over all transports.
#[derive(Debug, Clone)]
pub(crate) struct LiveMetrics {
    pub(crate) cohorts: CohortMetrics,
    /// Connections now.
    pub(crate) connections: Family<Transport, Gauge>,
    /// Connections closed because the client took nothing, or said nothing.
    pub(crate) stalled: Counter,
    /// Connections closed by a stop.
    pub(crate) drained: Counter,
    /// Subscriptions that began at a position that is not kept.
    pub(crate) expired: Counter,
    /// Frames, by the age of their newest change when they were made.
    pub(crate) lag_seconds: Histogram,
}

impl Default for LiveMetrics {
    fn default() -> Self {
        Self {
            cohorts: CohortMetrics::default(),
            connections: Family::default(),
            stalled: Counter::default(),
            drained: Counter::default(),
            expired: Counter::default(),
            lag_seconds: Histogram::new(exponential_buckets(0.0005, 2.0, 18)),
        }
    }
}

impl LiveMetrics {
    /// Counts a frame that was made, for a whole cohort or for one who catches up.
    pub(super) fn frame(&self, payload: &Payload, is_shared: bool) {
        match payload {
            // What is made again of the past is as old as it is.
            Payload::Next(next) if is_shared => {
                if let Some(at) = next.committed_at() {
                    let age = (OffsetDateTime::now_utc() - at).as_seconds_f64();
                    self.lag_seconds.observe(age.max(0.0));
                }
            }
            Payload::Failed(failure) if failure.code == ErrorCode::PositionExpired => {
                self.expired.inc();
            }
            Payload::Next(_) | Payload::Failed(_) => {}
        }
    }

    /// Counts a connection until the guard is dropped.
    pub(crate) fn connection(&self, transport: &'static str) -> ConnectionGuard {
        let gauge = self
            .connections
            .get_or_create(&[("transport", transport)])
            .clone();
        gauge.inc();
        ConnectionGuard(gauge)
    }
}

/// A connection that is counted.
pub(crate) struct ConnectionGuard(Gauge);

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}
