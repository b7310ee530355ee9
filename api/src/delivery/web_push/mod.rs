//! Web push: notifications for browsers, also while the page is closed.
//!
//! A message is encrypted for the browser (RFC 8291), so that the push service in
//! between learns only whom it is for, how urgent it is and how long to keep it
//! (RFC 8030). Each attempt bears the same topic and the same tag, so that a second
//! one replaces the first in the service and on the screen.

mod subscription;
#[cfg(test)]
mod tests;
mod vapid;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::notification::{Content, Message, Outcome, Severity};
use reqwest::header::{
    AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue,
    InvalidHeaderValue,
};
use reqwest::{StatusCode, Url};
use serde::Deserialize;
use serde_json::json;
use time::OffsetDateTime;

use self::subscription::Keys;
pub(crate) use self::subscription::SubscriptionError;
use self::vapid::Vapid;
pub(crate) use self::vapid::{VapidError, generate_key};
use super::breaker::Breaker;
use super::brief::Brief;
use super::lifetime::lifetime;
use super::outbound::{Answer, NoAnswer, Outbound};
use crate::supervisor::chain;

const TTL: HeaderName = HeaderName::from_static("ttl");
const URGENCY: HeaderName = HeaderName::from_static("urgency");
const TOPIC: HeaderName = HeaderName::from_static("topic");

/// Every service takes 4096 bytes (RFC 8030, section 7.2), of which the encryption
/// needs 103.
const LONGEST_PAYLOAD: usize = 3993;

/// Not `Debug`: it holds a private key.
pub(crate) struct WebPushSettings {
    /// The VAPID private key, 32 bytes in base64url. Browsers subscribe to its
    /// public half: with a new key all of them must subscribe again.
    pub(crate) private_key: String,
    /// Where push services reach whoever runs this server: `mailto:` or `https:`.
    pub(crate) subject: String,
}

pub(crate) struct WebPush {
    vapid: Vapid,
    outbound: Outbound,
    breaker: Breaker,
}

/// A browser's keys, as they are stored.
#[derive(Deserialize)]
struct Secret {
    p256dh: String,
    auth: String,
}

/// Why a request cannot be made, now or later.
#[derive(Debug, thiserror::Error)]
enum RequestError {
    #[error("the notification has expired")]
    Expired,
    #[error("the subscription has no keys")]
    NoKeys,
    #[error(transparent)]
    Keys(#[from] SubscriptionError),
    #[error("the push service's address is not a URL")]
    Address,
    #[error("the message cannot be encrypted")]
    Encryption(#[from] web_push_native::Error),
    #[error("a value does not fit into a header")]
    Header(#[from] InvalidHeaderValue),
}

impl WebPush {
    pub(crate) fn new(
        settings: &WebPushSettings,
        outbound: Outbound,
        breaker: Breaker,
    ) -> Result<Self, VapidError> {
        Ok(Self {
            vapid: Vapid::new(&settings.private_key, &settings.subject)?,
            outbound,
            breaker,
        })
    }

    /// What a browser subscribes with (its `applicationServerKey`), in base64url.
    pub(crate) fn public_key(&self) -> &str {
        self.vapid.public_key()
    }

    /// Says whether a subscription can be used, for when a browser registers it.
    pub(crate) async fn check_subscription(
        &self,
        endpoint: &str,
        p256dh: &str,
        auth: &str,
    ) -> Result<(), SubscriptionError> {
        Keys::parse(p256dh, auth)?;
        Ok(self.outbound.check_address(endpoint).await?)
    }

    pub(crate) async fn send(&self, message: &Message) -> Outcome {
        match self.attempt(message).await {
            Ok(outcome) => outcome,
            Err(error) => Outcome::Rejected {
                reason: chain(&error),
            },
        }
    }

    async fn attempt(&self, message: &Message) -> Result<Outcome, RequestError> {
        let content = &message.content;
        let lifetime = lifetime(content, OffsetDateTime::now_utc()).ok_or(RequestError::Expired)?;
        let secret =
            Secret::deserialize(&message.endpoint.secret).map_err(|_| RequestError::NoKeys)?;
        let keys = Keys::parse(&secret.p256dh, &secret.auth)?;
        let service = Url::parse(&message.endpoint.address).map_err(|_| RequestError::Address)?;
        let body = web_push_native::encrypt(payload(content).into(), &keys.public, &keys.auth)?;
        let headers = HeaderMap::from_iter([
            (
                CONTENT_TYPE,
                HeaderValue::from_static("application/octet-stream"),
            ),
            (CONTENT_ENCODING, HeaderValue::from_static("aes128gcm")),
            (TTL, HeaderValue::from(lifetime.as_secs())),
            (URGENCY, HeaderValue::from_static(urgency(content.severity))),
            (TOPIC, HeaderValue::try_from(topic(content))?),
        ]);
        let authorization = self.vapid.authorization(&service)?;
        let sent = self.post(&service, &headers, &authorization, &body).await;
        let sent = match sent {
            // A token that is refused before its time is replaced, once.
            Ok(answer) if is_access_refused(&answer) => {
                self.vapid.forget(&service, &authorization);
                let authorization = self.vapid.authorization(&service)?;
                self.post(&service, &headers, &authorization, &body).await
            }
            sent => sent,
        };
        Ok(match sent {
            Ok(answer) => outcome(&answer),
            Err(no_answer) => no_answer.into(),
        })
    }

    async fn post(
        &self,
        service: &Url,
        headers: &HeaderMap,
        authorization: &HeaderValue,
        body: &[u8],
    ) -> Result<Answer, NoAnswer> {
        let mut headers = headers.clone();
        headers.insert(AUTHORIZATION, authorization.clone());
        self.outbound
            .post(&self.breaker, service.as_str(), headers, body.to_vec())
            .await
    }
}

fn is_access_refused(answer: &Answer) -> bool {
    matches!(
        answer.status,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN
    )
}

fn outcome(answer: &Answer) -> Outcome {
    match answer.status {
        status if status.is_success() => answer.sent(),
        StatusCode::NOT_FOUND | StatusCode::GONE => answer.gone(),
        // Our key is not the one the browser subscribed to, or our clock is off:
        // whoever runs the server mends that, and the message is as good as before.
        // Taking it for the end of the subscription would, with a wrong key
        // configured, delete them all.
        _ if is_access_refused(answer) => answer.failed(),
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => answer.failed(),
        // Of other clients' errors the same message would only meet again.
        status if status.is_client_error() => answer.rejected(),
        _ => answer.failed(),
    }
}

/// What the page's service worker gets.
fn payload(content: &Content) -> String {
    Brief::fit(content, LONGEST_PAYLOAD, |brief| {
        json!({
            // As GraphQL has it: an app marks it read by this.
            "id": content.global_id(),
            "title": brief.title,
            "body": brief.body,
            "severity": content.severity.as_str(),
            "category": content.category,
            "link": brief.link,
            "data": brief.data,
            "tag": topic(content),
        })
        .to_string()
    })
}

/// Of base64url's letters and no more than 32, as RFC 8030 wants it, and decodable,
/// which some services check.
fn topic(content: &Content) -> String {
    URL_SAFE_NO_PAD.encode(content.notification_id.to_be_bytes())
}

fn urgency(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "low",
        Severity::Warning => "normal",
        Severity::Critical => "high",
    }
}
