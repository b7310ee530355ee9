//! What the change log counts.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

#[derive(Debug, Clone)]
pub struct ChangeLogMetrics {
    /// Numbering statements run.
    pub ticks: Counter,
    /// Numbering statements that failed.
    pub failed_ticks: Counter,
    /// Reads of the log that failed.
    pub failed_reads: Counter,
    /// How long each tick took, in seconds.
    pub tick_seconds: Histogram,
    /// Changes that this replica gave their position.
    pub numbered: Counter,
    /// Rows that only the slow scan found. Anything but 0 is a bug.
    pub overlooked: Counter,
    /// The head this replica last saw.
    pub head: Gauge,
    /// The last position it has applied.
    pub applied: Gauge,
    /// Changes it has applied.
    pub changes: Counter,
    /// Of these, the changes that were applied as another replica told them.
    pub heard: Counter,
    /// Times that others had told what was not in the log.
    pub contradicted: Counter,
    /// From the change's transaction to its application, in seconds.
    pub lag_seconds: Histogram,
    /// Times that everything known had to be dropped.
    pub resyncs: Counter,
}

impl Default for ChangeLogMetrics {
    fn default() -> Self {
        let seconds = || Histogram::new(exponential_buckets(0.0005, 2.0, 14));
        Self {
            ticks: Counter::default(),
            failed_ticks: Counter::default(),
            failed_reads: Counter::default(),
            tick_seconds: seconds(),
            numbered: Counter::default(),
            overlooked: Counter::default(),
            head: Gauge::default(),
            applied: Gauge::default(),
            changes: Counter::default(),
            heard: Counter::default(),
            contradicted: Counter::default(),
            lag_seconds: seconds(),
            resyncs: Counter::default(),
        }
    }
}
