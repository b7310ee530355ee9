//! The connections that the server takes.

use std::time::Duration;

use clap::Args;

use super::seconds;
use crate::listener::{ConnectionSettings, Networks};

/// What connections are held to, over HTTP and before a websocket begins.
#[derive(Args, Debug, Clone)]
pub struct ConnectionArgs {
    /// Seconds that the head of a request may take
    #[arg(long, env = "SMARTPULSE_HTTP_HEAD_SECONDS", default_value_t = 15)]
    http_head_seconds: u32,

    /// Seconds that a connection is kept between two requests; above that of a proxy
    /// in front, which else finds connections closed
    #[arg(long, env = "SMARTPULSE_HTTP_IDLE_SECONDS", default_value_t = 90)]
    http_idle_seconds: u32,

    /// Seconds that the body of a request may take
    #[arg(long, env = "SMARTPULSE_HTTP_BODY_SECONDS", default_value_t = 120)]
    http_body_seconds: u32,

    /// Seconds that the next part of a body may take
    #[arg(
        long,
        env = "SMARTPULSE_HTTP_BODY_PROGRESS_SECONDS",
        default_value_t = 15
    )]
    http_body_progress_seconds: u32,

    /// Connections at once, websockets included; more are closed
    #[arg(long, env = "SMARTPULSE_HTTP_CONNECTIONS", default_value_t = 20_000)]
    http_connections: usize,

    /// Connections at once from one IPv4 address or IPv6 network of /64; this
    /// machine and the proxies named by --http-proxies may have all
    #[arg(
        long,
        env = "SMARTPULSE_HTTP_CONNECTIONS_PER_ADDRESS",
        default_value_t = 2_000
    )]
    http_connections_per_address: usize,

    /// Addresses or networks of proxies in front, such as `10.0.0.0/8,192.0.2.1`
    #[arg(long, env = "SMARTPULSE_HTTP_PROXIES")]
    http_proxies: Option<Networks>,
}

impl ConnectionArgs {
    /// `write`: how long a client may take nothing of what is written to it.
    pub(crate) fn settings(&self, write: Duration) -> ConnectionSettings {
        ConnectionSettings {
            head: seconds(self.http_head_seconds),
            idle: seconds(self.http_idle_seconds),
            body: seconds(self.http_body_seconds),
            body_progress: seconds(self.http_body_progress_seconds),
            write,
            most: self.http_connections.max(1),
            most_per_address: self.http_connections_per_address.max(1),
            proxies: self.http_proxies.clone().unwrap_or_default(),
        }
    }
}
