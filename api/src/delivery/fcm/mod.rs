//! Firebase Cloud Messaging: notifications for mobile apps, by its HTTP v1 API.
//!
//! Each attempt bears the same tag, so that a second one replaces the first on the
//! device.

mod account;
mod fault;
#[cfg(test)]
mod tests;
mod token;

use std::time::Duration;

use domain::notification::{Content, Message, Outcome, Severity};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use self::account::Account;
pub(crate) use self::account::AccountError;
use self::token::Tokens;
use super::breaker::Breaker;
use super::brief::Brief;
use super::lifetime::lifetime;
use super::outbound::{Answer, NoAnswer, Outbound};

/// Where Google has it.
pub(crate) const BASE_URL: &str = "https://fcm.googleapis.com";

/// FCM takes 4096 bytes of what the device gets, Apple 4096 of what FCM makes of it;
/// the rest is room for the frame that Apple's needs.
const LONGEST_PAYLOAD: usize = 3800;

/// Not `Debug`: it holds a private key.
pub(crate) struct FcmSettings {
    /// The text of the service account's JSON key file. It also says where access
    /// tokens come from.
    pub(crate) service_account: String,
    /// [`BASE_URL`], or a stand-in for it.
    pub(crate) base_url: String,
}

pub(crate) struct Fcm {
    address: String,
    account: Account,
    tokens: Tokens,
    outbound: Outbound,
    breaker: Breaker,
}

impl Fcm {
    pub(crate) fn new(
        settings: &FcmSettings,
        outbound: Outbound,
        breaker: Breaker,
    ) -> Result<Self, AccountError> {
        let account = Account::parse(&settings.service_account)?;
        Ok(Self {
            address: format!(
                "{}/v1/projects/{}/messages:send",
                settings.base_url.trim_end_matches('/'),
                account.project_id
            ),
            account,
            tokens: Tokens::new(),
            outbound,
            breaker,
        })
    }

    pub(crate) async fn send(&self, message: &Message) -> Outcome {
        let now = OffsetDateTime::now_utc();
        let Some(lifetime) = lifetime(&message.content, now) else {
            return Outcome::Rejected {
                reason: "the notification has expired".to_owned(),
            };
        };
        let body = body(&message.content, &message.endpoint.address, lifetime, now);
        match self.attempt(&body).await {
            Ok(answer) if answer.status.is_success() => answer.sent(),
            Ok(answer) => fault::outcome(&answer),
            Err(no_answer) => no_answer.into(),
        }
    }

    /// A token that is refused before its time is replaced, once.
    async fn attempt(&self, body: &str) -> Result<Answer, NoAnswer> {
        let bearer = self.bearer().await?;
        let answer = self.post(bearer.clone(), body).await?;
        if !fault::is_access_refused(&answer) {
            return Ok(answer);
        }
        self.tokens.forget(&bearer).await;
        self.post(self.bearer().await?, body).await
    }

    async fn bearer(&self) -> Result<HeaderValue, NoAnswer> {
        self.tokens
            .bearer(&self.account, &self.outbound, &self.breaker)
            .await
    }

    async fn post(&self, bearer: HeaderValue, body: &str) -> Result<Answer, NoAnswer> {
        let headers = HeaderMap::from_iter([
            (AUTHORIZATION, bearer),
            (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        ]);
        self.outbound
            .post(&self.breaker, &self.address, headers, body.into())
            .await
    }
}

fn body(content: &Content, device: &str, lifetime: Duration, now: OffsetDateTime) -> String {
    let (android_priority, apns_priority) = priority(content.severity);
    let tag = format!("notification-{}", content.notification_id);
    let payload = Brief::fit(content, LONGEST_PAYLOAD, |brief| {
        format!(
            r#""notification":{},"data":{}"#,
            json!({"title": brief.title, "body": brief.body}),
            data(content, brief)
        )
    });
    let android = json!({
        "priority": android_priority,
        "ttl": format!("{}s", lifetime.as_secs()),
        "collapse_key": tag,
        "notification": {"tag": tag},
    });
    let apns = json!({
        "headers": {
            "apns-priority": apns_priority,
            "apns-expiration": (now + lifetime).unix_timestamp().to_string(),
            "apns-collapse-id": tag,
        },
    });
    let device = Value::from(device);
    format!(r#"{{"message":{{"token":{device},{payload},"android":{android},"apns":{apns}}}}}"#)
}

/// FCM takes only text. What an app adds goes whole under one key, so that it meets
/// neither ours nor those that FCM keeps for itself.
fn data(content: &Content, brief: &Brief<'_>) -> Value {
    let mut data = Map::new();
    data.insert("id".to_owned(), content.global_id().into());
    data.insert("severity".to_owned(), content.severity.as_str().into());
    data.insert("category".to_owned(), content.category.as_str().into());
    if let Some(link) = brief.link {
        data.insert("link".to_owned(), link.into());
    }
    if let Some(added) = brief.data {
        data.insert("data".to_owned(), added.to_string().into());
    }
    Value::Object(data)
}

/// Android's and Apple's. The lower ones may wait until somebody takes the phone up,
/// which is too late for a warning.
fn priority(severity: Severity) -> (&'static str, &'static str) {
    match severity {
        Severity::Info => ("NORMAL", "5"),
        Severity::Warning | Severity::Critical => ("HIGH", "10"),
    }
}
