//! The one way out: the HTTP client of the push and webhook channels.
//!
//! It calls only addresses that the guard lets through, follows no redirect (it
//! could lead past the guard), uses no proxy, and reads no more of an answer than
//! is worth keeping. What it fails with never holds the address: those of webhooks
//! and push subscriptions are secrets themselves.

mod address;
mod answer;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use domain::notification::Outcome;
use reqwest::Url;
use reqwest::header::HeaderMap;
use reqwest::redirect::Policy;

pub(crate) use self::address::AddressError;
use self::address::AddressGuard;
pub(crate) use self::answer::Answer;
use super::breaker::{Breaker, Open};
use crate::supervisor::chain;

const USER_AGENT: &str = concat!("SmartPulse/", env!("CARGO_PKG_VERSION"));
/// Idle connections kept for a host: a burst to one push service reuses them.
const IDLE_PER_HOST: usize = 32;

#[derive(Debug, Clone)]
pub(crate) struct OutboundSettings {
    /// Also call hosts of internal networks, and over plain HTTP.
    pub(crate) allow_private: bool,
    pub(crate) connect_timeout: Duration,
    /// For the whole request, the name's look-up and the connection included.
    pub(crate) timeout: Duration,
}

/// The client cannot be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OutboundError {
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
    #[error("the HTTP client cannot be set up")]
    Client(#[from] reqwest::Error),
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoAnswer {
    /// The address itself is not to be called.
    #[error(transparent)]
    Address(#[from] AddressError),
    #[error(transparent)]
    Open(#[from] Open),
    /// It broke on the way, or was not begun.
    #[error("{reason}")]
    Broken {
        reason: String,
        retry_after: Option<Duration>,
    },
}

/// A request that broke off may have been taken. It still counts as failed, not as
/// unknown: all that goes out here carries an id by which the second replaces the
/// first, so that trying again is right either way.
impl From<NoAnswer> for Outcome {
    fn from(no_answer: NoAnswer) -> Self {
        let reason = chain(&no_answer);
        match no_answer {
            NoAnswer::Address(_) => Self::Rejected { reason },
            NoAnswer::Open(Open { retry_after }) => Self::Postponed {
                reason,
                after: retry_after,
            },
            NoAnswer::Broken { retry_after, .. } => Self::Failed {
                reason,
                retry_after,
            },
        }
    }
}

/// The client. Its copies share their connections.
#[derive(Debug, Clone)]
pub(crate) struct Outbound {
    client: reqwest::Client,
    guard: AddressGuard,
}

impl Outbound {
    pub(crate) fn new(settings: &OutboundSettings) -> Result<Self, OutboundError> {
        let guard = AddressGuard::new(settings.allow_private);
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls()?)
            .dns_resolver(Arc::new(guard))
            .redirect(Policy::none())
            .no_proxy()
            .referer(false)
            .https_only(!settings.allow_private)
            .user_agent(USER_AGENT)
            .connect_timeout(settings.connect_timeout)
            .timeout(settings.timeout)
            .pool_max_idle_per_host(IDLE_PER_HOST)
            .build()?;
        Ok(Self { client, guard })
    }

    /// Says whether an address may be called, for when somebody registers it. It is
    /// judged again at every call.
    pub(crate) async fn check_address(&self, address: &str) -> Result<(), AddressError> {
        self.guard.check(address).await
    }

    /// Posts a body, if the breaker lets its host be called.
    pub(crate) async fn post(
        &self,
        breaker: &Breaker,
        address: &str,
        headers: HeaderMap,
        body: Vec<u8>,
    ) -> Result<Answer, NoAnswer> {
        let url = self.guard.parse(address)?;
        let permit = breaker.enter(&host(&url))?;
        match self
            .client
            .post(url)
            .headers(headers)
            .body(body)
            .send()
            .await
        {
            Ok(response) => {
                let answer = Answer::read(response).await;
                if answer.is_host_failure() {
                    permit.failed();
                } else {
                    permit.succeeded();
                }
                Ok(answer)
            }
            Err(error) => {
                permit.failed();
                Err(NoAnswer::Broken {
                    reason: reason(error),
                    retry_after: None,
                })
            }
        }
    }
}

/// What stands or falls together: a host's ports are different servers.
fn host(url: &Url) -> String {
    format!(
        "{}:{}",
        url.host_str().unwrap_or_default(),
        url.port_or_known_default().unwrap_or_default()
    )
}

fn reason(error: reqwest::Error) -> String {
    let what = if error.is_connect() {
        "no connection"
    } else if error.is_timeout() {
        "no answer in time"
    } else {
        "the connection broke"
    };
    format!("{what}: {}", chain(&error.without_url()))
}

/// The provider is named here rather than installed for the process, so that no
/// other library's choice changes ours. The roots are built in, since a container
/// image often has none; the system's are added for networks with their own.
fn tls() -> Result<rustls::ClientConfig, rustls::Error> {
    let mut roots = rustls::RootCertStore {
        roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
    };
    let system = rustls_native_certs::load_native_certs();
    let (added, ignored) = roots.add_parsable_certificates(system.certs);
    tracing::debug!(added, ignored, "took the system's root certificates");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}
