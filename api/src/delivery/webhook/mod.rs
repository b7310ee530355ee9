//! Webhooks: notifications for an HTTP address of the user's own, by Standard
//! Webhooks (<https://www.standardwebhooks.com>).
//!
//! Every attempt of a delivery brings the same id and the same body, so that a
//! receiver can tell what it already has; the time and the signatures are new, so
//! that nobody can replay an old request. While secrets rotate a request is signed
//! with each of them.
//!
//! The scheme's own crate is only for the tests: it takes no rotating secrets, and
//! would bring another base64 and another HMAC for these few lines.

mod secret;
#[cfg(test)]
mod tests;

use domain::notification::{Content, Message, Outcome};
use reqwest::StatusCode;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, InvalidHeaderValue};
use serde::Deserialize;
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

pub(crate) use self::secret::{Secret, SecretError, generate_secret};
use super::breaker::Breaker;
use super::outbound::{Answer, Outbound};

const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

pub(crate) struct Webhook {
    outbound: Outbound,
    breaker: Breaker,
}

/// An endpoint's secrets as they are stored, the newest first.
#[derive(Deserialize)]
struct Secrets {
    secrets: Vec<String>,
}

/// Why a request cannot be made, now or later.
#[derive(Debug, thiserror::Error)]
enum RequestError {
    #[error("the webhook has no secret to sign with")]
    NoSecret,
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error("a time cannot be written")]
    Time(#[from] time::error::Format),
    #[error("a signature does not fit into a header")]
    Header(#[from] InvalidHeaderValue),
}

impl Webhook {
    pub(crate) fn new(outbound: Outbound, breaker: Breaker) -> Self {
        Self { outbound, breaker }
    }

    pub(crate) async fn send(&self, message: &Message) -> Outcome {
        let (headers, body) = match request(message, OffsetDateTime::now_utc()) {
            Ok(request) => request,
            Err(error) => {
                return Outcome::Rejected {
                    reason: error.to_string(),
                };
            }
        };
        let address = &message.endpoint.address;
        match self
            .outbound
            .post(&self.breaker, address, headers, body)
            .await
        {
            Ok(answer) => outcome(&answer),
            Err(no_answer) => no_answer.into(),
        }
    }
}

/// Only 410 ends an endpoint. All else that is not a success is tried again, also
/// what looks like our fault: a receiver that is being deployed answers 404, one
/// whose proxy lost its settings 401, and somebody mends it within the three days.
/// A redirect is a failure too: who registered the address did not register where
/// it leads.
fn outcome(answer: &Answer) -> Outcome {
    match answer.status {
        status if status.is_success() => answer.sent(),
        StatusCode::GONE => answer.gone(),
        _ => answer.failed(),
    }
}

fn request(message: &Message, now: OffsetDateTime) -> Result<(HeaderMap, Vec<u8>), RequestError> {
    let id = format!("msg_{}", message.delivery_id);
    let body = body(message)?.into_bytes();
    let timestamp = now.unix_timestamp();
    let secrets = Secrets::deserialize(&message.endpoint.secret)
        .map_err(|_| RequestError::NoSecret)?
        .secrets;
    let mut signatures = Vec::new();
    for secret in &secrets {
        signatures.push(Secret::parse(secret)?.sign(&id, timestamp, &body));
    }
    if signatures.is_empty() {
        return Err(RequestError::NoSecret);
    }
    let headers = HeaderMap::from_iter([
        (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (ID, HeaderValue::try_from(id)?),
        (TIMESTAMP, HeaderValue::from(timestamp)),
        (SIGNATURE, HeaderValue::try_from(signatures.join(" "))?),
    ]);
    Ok((headers, body))
}

/// Depends on nothing but the message, so that it is the same at every attempt.
fn body(message: &Message) -> Result<String, time::error::Format> {
    let content: &Content = &message.content;
    let created_at = content.created_at.format(&Rfc3339)?;
    let expires_at = content
        .expires_at
        .map(|at| at.format(&Rfc3339))
        .transpose()?;
    let body = json!({
        "type": "notification.sent",
        "timestamp": created_at,
        "data": {
            // As GraphQL has it: an app marks it read by this.
            "id": content.global_id(),
            "userKey": message.addressee.user_key,
            "title": content.title,
            "body": content.body,
            "severity": content.severity.as_str(),
            "category": content.category,
            "link": content.link,
            "data": content.data,
            "createdAt": created_at,
            "expiresAt": expires_at,
        },
    });
    Ok(body.to_string())
}
