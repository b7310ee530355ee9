//! The parts put together, and their life from start to stop.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use axum::Router;
use domain::cache::Clock;
use domain::database::{Database, Fault};
use domain::forecast::{self, Forecasts};
use domain::notification::Channel;
use domain::retention::{self, Retention};
use sea_orm::{DbBackend, DbErr};
use subscriptions::change_log::{self, ChangeLog, ChangeLogMetrics};
use subscriptions::fanout::{Fanout, FanoutMetrics};
use subscriptions::hub::{Hub, HubMetrics};
use time::OffsetDateTime;
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::alerts;
use crate::auth::Authenticator;
use crate::config::{
    DatabaseUrl, RedisUrl, SUBSCRIBER_QUEUE, ServeArgs, UnknownRedis, change_log_settings,
};
use crate::database::waiting;
use crate::delivery::{self, Channels, DeliveryMetrics, Wake};
use crate::drain::Drain;
use crate::graphql::executor::Executor;
use crate::graphql::operation::document::Documents;
use crate::http::{self, Health, Metrics};
use crate::listener::{ConnectionMetrics, ConnectionSettings, Listener};
use crate::supervisor::{Supervisor, Workers};

/// Parsed GraphQL documents and plans of their operations kept in memory, in bytes.
const DOCUMENT_BUDGET: u64 = 16 << 20;
/// How long a stop waits for requests and workers, and for connections beyond
/// the time over which they are sent away.
const STOP_PATIENCE: Duration = Duration::from_secs(10);
/// So much longer than a websocket may any connection take nothing.
const WRITE_GRACE: Duration = Duration::from_secs(5);
/// How long workers have to end their step at least, and connections to other
/// servers to close.
const CLOSE_PATIENCE: Duration = Duration::from_secs(2);
/// Between two attempts to warm up.
const WARM_UP_INTERVAL: Duration = Duration::from_millis(500);
/// How often old changes and idempotency keys are removed.
const RETENTION_INTERVAL: Duration = Duration::from_secs(60);

/// A server that is ready to run, with nothing running yet.
pub struct App {
    start: StartLine,
    shared: Arc<http::Shared>,
    log: ChangeLog,
    fanout: Option<Fanout>,
    wake: Wake,
    deliveries: DeliveryMetrics,
    delivery_lease: Duration,
    workers: Workers,
    retention: Retention,
    warm: Arc<AtomicBool>,
    stopping: Arc<AtomicBool>,
    drain: Drain,
    connections: ConnectionSettings,
    connection_metrics: ConnectionMetrics,
}

/// Refuses to listen where others could come who are not asked who they are.
pub(crate) fn check_access(args: &ServeArgs) -> anyhow::Result<()> {
    args.auth.settings()?;
    if args.listen.ip().is_loopback() || !args.auth.is_open() || args.allow_open_access {
        return Ok(());
    }
    bail!(
        "{} can be reached from other machines, and nobody is asked who they are: \
         let `serve` ask with --auth required, listen on 127.0.0.1, \
         or allow it with --allow-open-access",
        args.listen
    );
}

/// Lets the process have as many connections as the system allows: each is an
/// open file, of which many systems grant a thousand unless asked for more.
fn allow_connections(settings: ConnectionSettings) -> ConnectionSettings {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(files) => settings.within(files),
        Err(error) => {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the limit of open files could not be raised: connections may be refused early"
            );
            settings
        }
    }
}

/// Refuses addresses that cannot be meant, before anything is done.
pub(crate) fn check_addresses(args: &ServeArgs) -> anyhow::Result<()> {
    args.database.database_url.check()?;
    if let Some(url) = &args.redis.redis_url {
        url.check()?;
    }
    Ok(())
}

/// Listens where the options say.
pub(crate) async fn bind(args: &ServeArgs) -> anyhow::Result<TcpListener> {
    TcpListener::bind(args.listen).await.with_context(|| {
        format!(
            "cannot listen on {}: is the port taken? --listen takes another",
            args.listen
        )
    })
}

/// What the log says when the server begins.
struct StartLine {
    database_url: DatabaseUrl,
    redis_url: Option<RedisUrl>,
    replica: String,
    mode: &'static str,
}

impl App {
    /// Puts the parts together over an open, migrated database.
    pub async fn build(db: Database, args: &ServeArgs) -> anyhow::Result<Self> {
        let head = waiting("the change log", || change_log::boot(&db))
            .await
            .context("the change log could not be read")?;
        let clock = Arc::new(Clock::new(head));
        let forecasts = Forecasts::new(&db, clock, args.cache.settings());
        let hub = Hub::new(
            head,
            SUBSCRIBER_QUEUE,
            args.live.budget(),
            HubMetrics::default(),
        );
        let log = ChangeLog::new(
            db,
            forecasts,
            hub,
            change_log_settings(),
            ChangeLogMetrics::default(),
        );
        let fanout = fan_out(&log, args)?;
        let limits = args.limits.settings();
        let workers = Workers::default();
        let (warm, stopping) = <(Arc<AtomicBool>, Arc<AtomicBool>)>::default();
        let drain = Drain::new(args.live.drain());
        let settings = args.channels.settings(args.listen)?;
        let channels = Channels::open(log.database(), &settings).await?;
        let wake = Wake::default();
        let deliveries = DeliveryMetrics::default();
        let connection_metrics = ConnectionMetrics::default();
        let auth = Authenticator::new(args.auth.settings()?, log.database().clone());
        let executor = Executor::new(
            crate::graphql::schema(
                log.clone(),
                limits,
                auth.keys().clone(),
                channels.clone(),
                wake.clone(),
            ),
            Documents::new(limits, DOCUMENT_BUDGET),
            limits,
            log.clone(),
            args.live.settings(),
        );
        let shared = Arc::new(http::Shared {
            metrics: Metrics::new(
                &log,
                fanout.as_ref().map(Fanout::metrics),
                executor.metrics(),
                &connection_metrics,
                &deliveries,
                workers.restarts.clone(),
            ),
            executor,
            channels,
            auth,
            // A page of any site can reach it from a browser on this machine.
            only_local_hosts: args.auth.is_open()
                && args.listen.ip().is_loopback()
                && !args.allow_open_access,
            limits,
            health: Health {
                log: log.clone(),
                fanout: fanout.clone(),
                workers: workers.clone(),
                warm: Arc::clone(&warm),
                stopping: Arc::clone(&stopping),
            },
            sdl: crate::graphql::sdl(),
            drain: drain.clone(),
            sockets: args.live.sockets(),
            heartbeat: args.live.heartbeat(),
        });
        Ok(Self {
            start: StartLine {
                database_url: args.database.database_url.clone(),
                redis_url: fanout.as_ref().and(args.redis.redis_url.clone()),
                replica: args.replica(),
                mode: if args.auth.is_open() {
                    "open: every caller is a local administrator"
                } else {
                    "authentication is required"
                },
            },
            shared,
            log,
            fanout,
            wake,
            deliveries,
            delivery_lease: args.channels.delivery_lease(),
            workers,
            retention: Retention {
                changes: time::Duration::hours(args.retention_hours.into()),
                notifications: time::Duration::days(args.notification_retention_days.into()),
            },
            warm,
            stopping,
            drain,
            // A websocket's own limit comes first.
            connections: args
                .connections
                .settings(args.live.sockets().write_timeout + WRITE_GRACE),
            connection_metrics,
        })
    }

    /// Says in the log how it runs, if not as `serve` does.
    pub(crate) fn in_mode(mut self, mode: &'static str) -> Self {
        self.start.mode = mode;
        self
    }

    /// The change log it runs on.
    pub fn change_log(&self) -> &ChangeLog {
        &self.log
    }

    #[cfg(test)]
    pub(crate) fn executor(&self) -> &Executor {
        &self.shared.executor
    }

    /// Everything it answers, for the server and for tests.
    pub fn router(&self) -> Router {
        http::router(Arc::clone(&self.shared))
    }

    /// Serves until `stop` comes, then ends in order: no longer ready, sockets
    /// closed, requests answered, workers ended, pools closed.
    pub async fn run(
        self,
        listener: TcpListener,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> anyhow::Result<()> {
        let connections = allow_connections(self.connections.clone());
        // Workers outlive requests: a save waits for them to get its position.
        let stop_workers = CancellationToken::new();
        tracing::info!(
            address = %format!("http://{}", listener.local_addr()?),
            database = %self.start.database_url,
            redis = self.start.redis_url.as_ref().map(tracing::field::display),
            replica = self.start.replica,
            version = env!("CARGO_PKG_VERSION"),
            mode = self.start.mode,
            explorer = http::has_playground(),
            "listening"
        );
        let supervisor = self.start_workers(stop_workers.clone());

        let patience = self.drain.window() + STOP_PATIENCE;
        let (stopping, drain) = (Arc::clone(&self.stopping), self.drain.clone());
        let listener = Listener::new(listener, connections, self.connection_metrics.clone());
        let server = listener.serve(self.router(), async move {
            stop.await;
            tracing::info!("stopping");
            stopping.store(true, Ordering::SeqCst);
            drain.begin();
            // Whoever asks meanwhile is still told that this replica is not ready.
            drop(tokio::time::timeout(patience, drain.done()).await);
        });
        let (begun, drain) = (self.drain.begun().clone(), self.drain.clone());
        let serve = async {
            server.await;
            drain.done().await;
        };
        // One deadline for all that others hold open.
        let deadline = async {
            begun.cancelled().await;
            sleep(patience + STOP_PATIENCE).await;
        };
        tokio::select! {
            () = serve => {}
            () = deadline => tracing::warn!("requests or connections did not end in time"),
        }
        // A client that has gone may have left a write under way. It and the workers
        // share one deadline.
        let deadline = Instant::now() + STOP_PATIENCE;
        let finish = self.shared.executor.finish();
        if timeout_at(deadline, finish).await.is_err() {
            tracing::warn!("mutations did not end in time");
        }
        stop_workers.cancel();
        let left = deadline.saturating_duration_since(Instant::now());
        supervisor.join(left.max(CLOSE_PATIENCE)).await;
        self.close().await;
        tracing::info!("stopped");
        Ok(())
    }

    /// Closes what leads to other servers, which may have fallen silent: a process
    /// that is told to stop ends all the same.
    async fn close(&self) {
        let all = async {
            self.shared.channels.close().await;
            self.log.database().close().await
        };
        match tokio::time::timeout(CLOSE_PATIENCE, all).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the database could not be closed"
            ),
            Err(_) => tracing::warn!("connections to other servers did not close in time"),
        }
    }

    fn start_workers(&self, stop: CancellationToken) -> Supervisor {
        let mut supervisor = Supervisor::new(self.workers.clone(), stop);
        let log = self.log.clone();
        supervisor.start("sequencer", move |stop| log.sequencer().run(stop));
        let log = self.log.clone();
        supervisor.start("tail", move |stop| log.tail().run(stop));
        if let Some(fanout) = self.fanout.clone() {
            supervisor.start("fan-out", move |stop| fanout.clone().run(stop));
        }
        self.start_deliveries(&mut supervisor);
        let (db, retention) = (self.log.database().clone(), self.retention);
        supervisor.start("retention", move |stop| retain(db.clone(), retention, stop));
        let keys = self.shared.auth.keys().clone();
        supervisor.start("api-keys", move |stop| keys.clone().watch(stop));
        let (forecasts, warm) = (self.log.forecasts().clone(), Arc::clone(&self.warm));
        supervisor.start("warm-up", move |stop| {
            warm_up(forecasts.clone(), Arc::clone(&warm), stop)
        });
        supervisor
    }

    /// A worker for each channel that is set up, and what has its time.
    fn start_deliveries(&self, supervisor: &mut Supervisor) {
        for channel in Channel::OUTBOUND {
            if !self.shared.channels.has(channel) {
                continue;
            }
            let name = match channel {
                Channel::Email => "deliveries-email",
                Channel::WebPush => "deliveries-web-push",
                Channel::Fcm => "deliveries-fcm",
                Channel::Webhook => "deliveries-webhook",
                Channel::InApp => continue,
            };
            let (db, channels) = (self.log.database().clone(), self.shared.channels.clone());
            let (wake, metrics) = (self.wake.clone(), self.deliveries.clone());
            let lease = self.delivery_lease;
            supervisor.start(name, move |stop| {
                let worker = delivery::Worker::new(
                    db.clone(),
                    channels.clone(),
                    channel,
                    wake.clone(),
                    metrics.clone(),
                    lease,
                );
                worker.run(stop)
            });
        }
        let (log, wake) = (self.log.clone(), self.wake.clone());
        supervisor.start("schedule", move |stop| {
            delivery::run_schedule(log.clone(), wake.clone(), stop)
        });
        let (log, wake) = (self.log.clone(), self.wake.clone());
        supervisor.start("alerts", move |stop| {
            alerts::run(log.clone(), wake.clone(), stop)
        });
    }
}

/// The fan-out, if there are others to tell. An embedded file is one replica's
/// own: there is nobody, and an address that was meant for others does no harm.
fn fan_out(log: &ChangeLog, args: &ServeArgs) -> anyhow::Result<Option<Fanout>> {
    let Some(settings) = args.redis.settings() else {
        return Ok(None);
    };
    if log.database().backend() == DbBackend::Sqlite {
        tracing::warn!(
            "--redis-url is not used: an embedded SQLite database has one replica; several share a PostgreSQL"
        );
        return Ok(None);
    }
    let fanout = Fanout::new(log.clone(), settings, FanoutMetrics::default());
    Ok(Some(fanout.map_err(|_| UnknownRedis)?))
}

async fn warm_up(
    forecasts: Forecasts,
    warm: Arc<AtomicBool>,
    stop: CancellationToken,
) -> Result<(), forecast::ForecastError> {
    let loaded = loop {
        match forecasts.warm_up(OffsetDateTime::now_utc()).await {
            Ok(loaded) => break loaded,
            // It is not ready before: as soon as the database is back.
            Err(error) if Fault::behind(&error).passes() => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "warming up: trying again"
                );
            }
            Err(error) => return Err(error),
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = sleep(WARM_UP_INTERVAL) => {}
        }
    };
    warm.store(true, Ordering::SeqCst);
    tracing::info!(day_curves = loaded, "ready");
    Ok(())
}

/// Removes what is older than it is kept.
async fn retain(db: Database, retention: Retention, stop: CancellationToken) -> Result<(), DbErr> {
    while !stop.is_cancelled() {
        if retention::sweep(&db, retention).await? {
            continue;
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = sleep(RETENTION_INTERVAL) => {}
        }
    }
    Ok(())
}
