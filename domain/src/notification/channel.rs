//! The ways a notification reaches a user.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A way a notification reaches a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Channel {
    /// The list of notifications, live on all devices of the user.
    InApp,
    Email,
    /// Web push: browsers, also while the page is closed.
    WebPush,
    /// Firebase Cloud Messaging: mobile apps.
    Fcm,
    /// An HTTP address of the user's own.
    Webhook,
}

impl Channel {
    pub const ALL: [Self; 5] = [
        Self::InApp,
        Self::Email,
        Self::WebPush,
        Self::Fcm,
        Self::Webhook,
    ];

    /// Those whose deliveries leave the server, and may fail.
    pub const OUTBOUND: [Self; 4] = [Self::Email, Self::WebPush, Self::Fcm, Self::Webhook];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::InApp => "IN_APP",
            Self::Email => "EMAIL",
            Self::WebPush => "WEB_PUSH",
            Self::Fcm => "FCM",
            Self::Webhook => "WEBHOOK",
        }
    }

    /// Whether what is sent twice is received once: a webhook carries the same id,
    /// a push message the same tag, which replaces the first. Mail does not.
    pub fn is_idempotent(self) -> bool {
        match self {
            Self::InApp | Self::WebPush | Self::Fcm | Self::Webhook => true,
            Self::Email => false,
        }
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a channel is IN_APP, EMAIL, WEB_PUSH, FCM or WEBHOOK")]
pub struct ParseChannelError;

impl FromStr for Channel {
    type Err = ParseChannelError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|channel| channel.as_str() == text)
            .ok_or(ParseChannelError)
    }
}
