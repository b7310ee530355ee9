//! Prometheus metrics.

use std::sync::Arc;
use std::time::Duration;

use async_graphql::ServerError;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use domain::forecast::Forecasts;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use subscriptions::change_log::ChangeLog;
use subscriptions::fanout::FanoutMetrics;

use super::Shared;
use crate::delivery::DeliveryMetrics;
use crate::error::{ErrorCode, code_of};
use crate::graphql::live_metrics::LiveMetrics;
use crate::listener::ConnectionMetrics;

type Labels = [(&'static str, &'static str); 1];

/// The registry, and what this crate counts itself.
pub(crate) struct Metrics {
    registry: Registry,
    request_seconds: Histogram,
    errors: Family<Labels, Counter>,
    cache_bytes: Family<Labels, Gauge>,
    cache_entries: Family<Labels, Gauge>,
    deliveries: DeliveryMetrics,
    forecasts: Forecasts,
}

impl Metrics {
    pub(crate) fn new(
        log: &ChangeLog,
        fanout: Option<&FanoutMetrics>,
        live: &LiveMetrics,
        connections: &ConnectionMetrics,
        deliveries: &DeliveryMetrics,
        worker_restarts: Counter,
    ) -> Self {
        let mut registry = Registry::with_prefix("smartpulse");
        let forecasts = log.forecasts().clone();

        let request_seconds = Histogram::new(exponential_buckets(0.0001, 2.0, 16));
        let errors = Family::<Labels, Counter>::default();
        registry.register(
            "request_seconds",
            "GraphQL requests over HTTP, by how long they took",
            request_seconds.clone(),
        );
        registry.register(
            "request_errors",
            "Errors in answers to GraphQL requests over HTTP, by code",
            errors.clone(),
        );
        registry.register(
            "worker_restarts",
            "Workers that failed and were started again",
            worker_restarts,
        );

        let part = registry.sub_registry_with_prefix("connections");
        part.register(
            "open",
            "Connections now, websockets among them",
            connections.open.clone(),
        );
        part.register(
            "refused",
            "Connections that were closed at once because there were too many",
            connections.refused.clone(),
        );
        part.register(
            "overdue",
            "Connections that were closed because no request came in time",
            connections.overdue.clone(),
        );

        registry.register(
            "delivery_attempts",
            "Attempts to deliver notifications, by channel and outcome",
            deliveries.attempts.clone(),
        );
        registry.register(
            "deliveries_waiting",
            "Deliveries of notifications that wait, by channel",
            deliveries.waiting.clone(),
        );
        registry.register(
            "delivery_breakers_open",
            "Hosts that this replica leaves alone, because they kept failing",
            deliveries.open_breakers.clone(),
        );

        let change_log = log.metrics().clone();
        let part = registry.sub_registry_with_prefix("change_log");
        part.register("ticks", "Numbering statements run", change_log.ticks);
        part.register(
            "failed_ticks",
            "Numbering statements that failed",
            change_log.failed_ticks,
        );
        part.register(
            "failed_reads",
            "Reads of the change log that failed",
            change_log.failed_reads,
        );
        part.register(
            "tick_seconds",
            "Numbering statements, by how long they took",
            change_log.tick_seconds,
        );
        part.register(
            "numbered",
            "Changes that this replica gave their position",
            change_log.numbered,
        );
        part.register(
            "overlooked",
            "Changes that only the slow scan found; anything but 0 is a bug",
            change_log.overlooked,
        );
        part.register("head", "The last position given", change_log.head);
        part.register("applied", "The last position applied", change_log.applied);
        part.register("changes", "Changes applied", change_log.changes);
        part.register(
            "lag_seconds",
            "Changes applied, by their age then",
            change_log.lag_seconds,
        );
        part.register(
            "resyncs",
            "Times that everything known had to be dropped",
            change_log.resyncs,
        );

        if let Some(fanout) = fanout.cloned() {
            let part = registry.sub_registry_with_prefix("fanout");
            part.register("connected", "1 while Redis is there", fanout.connected);
            part.register(
                "reconnects",
                "Connections to Redis after the first",
                fanout.reconnects,
            );
            part.register(
                "messages_published",
                "Messages to other replicas",
                fanout.published,
            );
            part.register(
                "messages_received",
                "Messages that came, own ones among them",
                fanout.received,
            );
            part.register(
                "messages_ignored",
                "Messages that were this replica's own, or told nothing new",
                fanout.ignored,
            );
            part.register(
                "messages_wake_ups",
                "Messages that only told this replica to look at the change log",
                fanout.wake_ups,
            );
            part.register(
                "messages_overflowed",
                "Messages that came faster than they were taken",
                fanout.overflowed,
            );
            part.register(
                "changes_applied",
                "Changes applied as another replica told them",
                change_log.heard,
            );
            part.register(
                "contradicted",
                "Times that other replicas had told what the change log does not have; \
                 anything but 0 means two databases under one prefix",
                change_log.contradicted,
            );
        }

        let hub = log.hub().metrics().clone();
        let part = registry.sub_registry_with_prefix("hub");
        part.register("subscribers", "Subscribers joined now", hub.subscribers);
        part.register("topics", "Topics with a subscriber now", hub.topics);
        part.register("delivered", "Events put into queues", hub.delivered);
        part.register(
            "lagged",
            "Subscribers cut off because their queue was full",
            hub.lagged,
        );

        let live = live.clone();
        let part = registry.sub_registry_with_prefix("live");
        part.register(
            "connections",
            "Websockets and HTTP streams now, by transport",
            live.connections,
        );
        part.register("operations", "Subscriptions now", live.cohorts.members);
        part.register(
            "cohorts",
            "Different subscriptions now: each is executed once a change",
            live.cohorts.cohorts,
        );
        part.register("frames", "Results made by executing", live.cohorts.frames);
        part.register(
            "held_bytes",
            "Memory of what is kept for subscribers",
            log.hub().budget().held().clone(),
        );
        part.register(
            "frames_delivered",
            "Results handed to subscribers",
            live.cohorts.delivered,
        );
        part.register(
            "lag_seconds",
            "Results made, by the age of their newest change then",
            live.lag_seconds,
        );
        part.register(
            "lagged",
            "Times that a subscriber was behind: it got events from the log, or the newest state",
            live.cohorts.lagged,
        );
        part.register(
            "stalled",
            "Connections let go because the client took nothing, or said nothing",
            live.stalled,
        );
        part.register(
            "resumed",
            "Subscriptions that began after a position",
            live.cohorts.resumed,
        );
        part.register(
            "expired",
            "Subscriptions that began after a position that is not kept",
            live.expired,
        );
        part.register("drained", "Connections sent away by a stop", live.drained);

        let part = registry.sub_registry_with_prefix("cache");
        let cache = forecasts.metrics().clone();
        part.register("hits", "Keys answered from memory", cache.hits);
        part.register(
            "loads",
            "Reads that loaded keys, each any number of them",
            cache.loads,
        );
        part.register("misses", "Keys loaded", cache.misses);
        part.register("joined", "Keys that joined a load under way", cache.joined);
        part.register("invalid", "Entries found out of date", cache.invalid);
        part.register("unkept", "Loads out of date when they ended", cache.unkept);
        part.register(
            "evicted",
            "Entries that went for room or age",
            cache.evicted,
        );
        let cache_bytes = Family::<Labels, Gauge>::default();
        let cache_entries = Family::<Labels, Gauge>::default();
        part.register("bytes", "Bytes of all entries, about", cache_bytes.clone());
        part.register("entries", "Entries, about", cache_entries.clone());

        Self {
            registry,
            request_seconds,
            errors,
            cache_bytes,
            cache_entries,
            deliveries: deliveries.clone(),
            forecasts,
        }
    }

    /// Counts one GraphQL request over HTTP.
    pub(crate) fn request(&self, took: Duration, errors: &[ServerError]) {
        self.request_seconds.observe(took.as_secs_f64());
        self.errors(errors);
    }

    /// Counts errors of requests.
    pub(crate) fn errors(&self, errors: &[ServerError]) {
        for error in errors {
            let code = code_of(error).as_str();
            self.errors.get_or_create(&[("code", code)]).inc();
        }
    }

    /// Counts a request that was not let in.
    pub(crate) fn refused(&self, code: ErrorCode) {
        let labels = [("code", code.as_str())];
        self.errors.get_or_create(&labels).inc();
    }

    fn encode(&self) -> Result<String, std::fmt::Error> {
        let gauge = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        for (name, (bytes, entries)) in self.forecasts.sizes() {
            let labels = [("cache", name)];
            self.cache_bytes.get_or_create(&labels).set(gauge(bytes));
            self.cache_entries
                .get_or_create(&labels)
                .set(gauge(entries));
        }
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// How long a scrape waits for what only the database knows.
const LOOK_PATIENCE: Duration = Duration::from_secs(1);

/// `GET /metrics`.
pub(super) async fn text(State(shared): State<Arc<Shared>>) -> Response {
    let db = shared.health.log.database();
    // Without it the rest is worth telling, most of all while the database is away.
    let look = shared.metrics.deliveries.look(db, &shared.channels);
    drop(tokio::time::timeout(LOOK_PATIENCE, look).await);
    match shared.metrics.encode() {
        Ok(text) => (
            [(
                header::CONTENT_TYPE,
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
            )],
            text,
        )
            .into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
