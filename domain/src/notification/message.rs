//! What a channel is given, and what it says came of it.

use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;

use super::{Channel, Severity};

/// One notification for one user at one of their endpoints.
#[derive(Debug, Clone)]
pub struct Message {
    pub delivery_id: i64,
    /// The first is 1.
    pub attempt: u32,
    pub content: Arc<Content>,
    pub addressee: Addressee,
    pub endpoint: Endpoint,
}

/// What a notification says, the same for all its recipients.
#[derive(Debug, Clone, PartialEq)]
pub struct Content {
    pub notification_id: i64,
    pub title: String,
    pub body: String,
    pub severity: Severity,
    /// What it is about, such as `alert`: what preferences go by.
    pub category: String,
    /// Whatever an app makes of it: a JSON object.
    pub data: Option<serde_json::Value>,
    /// Where it leads: an address, or a path of the app.
    pub link: Option<String>,
    /// The mail template that it is written with, if not the plain one.
    pub template: Option<String>,
    /// The template's variables: a JSON object.
    pub variables: Option<serde_json::Value>,
    pub attachments: Vec<Attachment>,
    pub created_at: OffsetDateTime,
    /// After this nobody needs it any more.
    pub expires_at: Option<OffsetDateTime>,
}

impl Content {
    /// What clients call the notification.
    pub fn global_id(&self) -> String {
        format!("notification:{}", self.notification_id)
    }
}

/// A file that goes with a mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    pub file_name: String,
    pub media_type: String,
    pub content: Vec<u8>,
}

/// Whom a message is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addressee {
    pub user_key: String,
    pub name: String,
    /// A language tag such as `de-AT`.
    pub locale: Option<String>,
    /// An IANA time zone.
    pub time_zone: String,
}

/// Where a user is reached on a channel.
#[derive(Debug, Clone, PartialEq)]
pub struct Endpoint {
    pub id: i64,
    pub channel: Channel,
    /// A mail address, a push service's address, a device's token, a webhook's address.
    pub address: String,
    /// What it takes to talk to it: of web push `{"p256dh", "auth"}`, of a webhook
    /// `{"secrets": [newest, …]}`. Never logged.
    pub secret: serde_json::Value,
}

/// What came of an attempt to deliver a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The other side took it; with what it answered, if it is worth keeping.
    Sent { answer: Option<String> },
    /// Not this time: to be tried again, not before `retry_after` if it said so.
    Failed {
        reason: String,
        retry_after: Option<Duration>,
    },
    /// It was not attempted after all, and is due again after that: this does not
    /// count.
    Postponed { reason: String, after: Duration },
    /// Nor will it ever: the message is refused.
    Rejected { reason: String },
    /// The endpoint no longer exists: it is not to be used again.
    Gone { reason: String },
    /// It may have been taken, or not: the line broke between the last byte and
    /// the answer.
    Unknown { reason: String },
}
