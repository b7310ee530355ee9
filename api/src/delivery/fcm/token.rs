//! Access tokens, which Google wants with every message.
//!
//! One is fetched at a time, whoever needs it; the others wait for it. It is renewed
//! before it ends. A refusal is remembered for a moment, so that those who waited do
//! not all go and hear it again.

use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use serde::Deserialize;
use time::OffsetDateTime;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::super::breaker::Breaker;
use super::super::outbound::{Answer, NoAnswer, Outbound};
use super::account::Account;
use crate::supervisor::chain;

/// Longer than a request takes, so that none sets out with a token that ends on
/// the way.
const RENEWED_BEFORE_END: Duration = Duration::from_secs(5 * 60);
const REFUSAL_KEPT: Duration = Duration::from_secs(10);

pub(super) struct Tokens {
    state: Mutex<State>,
}

enum State {
    None,
    Token { bearer: HeaderValue, until: Instant },
    Refused { reason: String, until: Instant },
}

#[derive(Deserialize)]
struct Granted {
    access_token: String,
    expires_in: u64,
}

impl Tokens {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::new(State::None),
        }
    }

    /// The value of `Authorization`.
    pub(super) async fn bearer(
        &self,
        account: &Account,
        outbound: &Outbound,
        breaker: &Breaker,
    ) -> Result<HeaderValue, NoAnswer> {
        let mut state = self.state.lock().await;
        let now = Instant::now();
        match &*state {
            State::Token { bearer, until } if *until > now => return Ok(bearer.clone()),
            State::Refused { reason, until } if *until > now => {
                return Err(NoAnswer::Broken {
                    reason: reason.clone(),
                    retry_after: Some(*until - now),
                });
            }
            State::None | State::Token { .. } | State::Refused { .. } => {}
        }
        match fetch(account, outbound, breaker).await {
            Ok((bearer, lifetime)) => {
                *state = State::Token {
                    bearer: bearer.clone(),
                    // One that lives shorter than that serves half its life.
                    until: now
                        + lifetime
                            .saturating_sub(RENEWED_BEFORE_END)
                            .max(lifetime / 2),
                };
                Ok(bearer)
            }
            Err((reason, retry_after)) => {
                *state = State::Refused {
                    reason: reason.clone(),
                    until: now + REFUSAL_KEPT,
                };
                Err(NoAnswer::Broken {
                    reason,
                    retry_after,
                })
            }
        }
    }

    /// Forgets a token that was refused, unless it has been replaced already.
    pub(super) async fn forget(&self, refused: &HeaderValue) {
        let mut state = self.state.lock().await;
        if matches!(&*state, State::Token { bearer, .. } if bearer == refused) {
            *state = State::None;
        }
    }
}

type Refusal = (String, Option<Duration>);

async fn fetch(
    account: &Account,
    outbound: &Outbound,
    breaker: &Breaker,
) -> Result<(HeaderValue, Duration), Refusal> {
    let grant = account.grant(OffsetDateTime::now_utc()).map_err(|_| {
        (
            "the request for an access token cannot be signed".to_owned(),
            None,
        )
    })?;
    let headers = HeaderMap::from_iter([(
        CONTENT_TYPE,
        HeaderValue::from_static("application/x-www-form-urlencoded"),
    )]);
    // A token is of letters that a form leaves as they are.
    let form = format!(
        "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion={grant}"
    );
    let answer = outbound
        .post(breaker, &account.token_uri, headers, form.into_bytes())
        .await
        .map_err(|error| {
            let retry_after = match &error {
                NoAnswer::Open(open) => Some(open.retry_after),
                NoAnswer::Address(_) | NoAnswer::Broken { .. } => None,
            };
            (format!("no access token: {}", chain(&error)), retry_after)
        })?;
    if !answer.status.is_success() {
        let reason = format!("no access token: {}", answer.summary());
        return Err((reason, answer.retry_after));
    }
    read(&answer).ok_or_else(|| ("no access token in the answer".to_owned(), None))
}

/// What is wrong with a token is not told: it is one nevertheless.
fn read(answer: &Answer) -> Option<(HeaderValue, Duration)> {
    let granted: Granted = serde_json::from_slice(&answer.body).ok()?;
    let mut bearer = HeaderValue::try_from(format!("Bearer {}", granted.access_token)).ok()?;
    bearer.set_sensitive(true);
    Some((bearer, Duration::from_secs(granted.expires_in.min(86_400))))
}
