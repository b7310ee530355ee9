//! `smartpulse healthcheck`: what a container's health check runs, so that an
//! image needs no other program for it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;

/// Which server to ask, and for what.
#[derive(Args, Debug, Clone)]
pub(crate) struct HealthcheckArgs {
    /// Where the server listens
    #[arg(long, env = "SMARTPULSE_LISTEN", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,

    /// Ask only whether the process lives, not whether it is ready
    #[arg(long)]
    live: bool,

    /// How long to wait for the answer, in seconds
    #[arg(long, default_value_t = 3)]
    timeout_seconds: u64,
}

/// Fails unless the server answers that all is well.
pub(crate) async fn run(args: HealthcheckArgs) -> anyhow::Result<()> {
    let path = if args.live { "live" } else { "ready" };
    let url = format!("http://{}/health/{path}", reachable(args.listen));
    let response = reqwest::Client::builder()
        .timeout(Duration::from_secs(args.timeout_seconds))
        .no_proxy()
        .build()?
        .get(&url)
        .send()
        .await
        .with_context(|| format!("{url} does not answer"))?;
    let status = response.status();
    if !status.is_success() {
        let body = response.text().await.unwrap_or_default();
        bail!("{url} answers {status}: {}", body.trim());
    }
    Ok(())
}

/// An address of this machine for one that stands for all of its own.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}
