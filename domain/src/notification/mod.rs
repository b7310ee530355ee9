//! Notifications: from an event to a person, over the channels they chose.
//!
//! A notification is written once, with a row for each recipient. It is
//! *published* at once or when its time comes: then it arrives in its
//! recipients' lists, and a [`delivery`] is queued for each endpoint that the
//! user's preferences allow. One transaction does it all, so nothing is ever
//! sent in half. Triggers note the change and count what is unread.

mod channel;
pub mod delivery;
mod endpoint;
mod inbox;
mod message;
mod preference;
mod publish;
mod quiet;
mod send;
mod settings;
mod severity;
mod user;
mod withdraw;
mod written;

pub use channel::{Channel, ParseChannelError};
pub use endpoint::{NewEndpoint, RegisteredEndpoint, endpoints, register, set_secret, unregister};
pub use inbox::{
    InboxCursor, InboxFilter, Marked, Notification, Received, delete, list, mark_all_read,
    mark_read, received, recipient_state, unread_count,
};
pub use message::{Addressee, Attachment, Content, Endpoint, Message, Outcome};
pub use preference::{Preference, preferences};
pub use publish::publish_due;
pub use quiet::QuietHours;
pub use send::{SendRequest, Sent, Target, Throttle, send, write};
pub use settings::{SettingsUpdate, update_settings};
pub use severity::{ParseSeverityError, Severity};
pub use user::{
    GroupUpsert, User, UserUpsert, ensure_user, topics, upsert_groups, upsert_users, user, users,
};
pub(crate) use user::{fault_of_key, require_keys};
pub use withdraw::{expire_due, forget_throttles, prune, revoke};
pub use written::{NotificationChange, Written, written};

use sea_orm::DbErr;
use thiserror::Error;

use crate::Violation;
use crate::idempotency::ClaimError;

/// Why notifications, or what they need, could not be read or written.
#[derive(Debug, Error)]
pub enum NotificationError {
    #[error("{}; nothing was written", Violation::summary(.0))]
    Invalid(Vec<Violation>),
    #[error("there is no {what}")]
    Unknown {
        /// Such as `user "ada"`.
        what: String,
        /// Where in the input it is named.
        path: Option<String>,
    },
    #[error("this idempotency key was used for another request within the last 24 hours")]
    IdempotencyConflict,
    /// It is not in a state in which this can be done.
    #[error("{0}")]
    Conflict(String),
    #[error("the database failed")]
    Database(#[from] DbErr),
}

impl NotificationError {
    pub(crate) fn unknown(what: impl Into<String>, path: impl Into<String>) -> Self {
        Self::Unknown {
            what: what.into(),
            path: Some(path.into()),
        }
    }

    /// An error if anything is wrong.
    pub(crate) fn check(mut violations: Vec<Violation>) -> Result<(), Self> {
        if violations.is_empty() {
            return Ok(());
        }
        violations.truncate(Violation::MOST);
        Err(Self::Invalid(violations))
    }
}

impl From<ClaimError> for NotificationError {
    fn from(error: ClaimError) -> Self {
        match error {
            ClaimError::Conflict => Self::IdempotencyConflict,
            ClaimError::Database(error) => error.into(),
        }
    }
}
