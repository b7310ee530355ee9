//! What the fan-out counts.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

#[derive(Debug, Clone, Default)]
pub struct FanoutMetrics {
    /// Messages sent.
    pub published: Counter,
    /// Messages that came, this replica's own among them.
    pub received: Counter,
    /// Of these, its own, and what it knew already.
    pub ignored: Counter,
    /// Of these, those that only told it to look at the log.
    pub wake_ups: Counter,
    /// Messages that came faster than they were taken; the log has what they said.
    pub overflowed: Counter,
    /// 1 while there is a connection.
    pub connected: Gauge,
    /// Connections after the first.
    pub reconnects: Counter,
}
