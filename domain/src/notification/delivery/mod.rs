//! Deliveries: notifications on their way out of the server.
//!
//! A delivery is QUEUED, then LEASED by a replica that attempts it, then SENT.
//! If the attempt fails it is FAILED and due again later, until it is DEAD. A
//! lease that runs out is taken over: by another attempt where that had not begun,
//! or on a channel where what is sent twice is received once; else what came of it
//! is UNKNOWN, and stays so until somebody decides. What was SENT is never sent
//! again.
//!
//! Those of one user on one channel leave in order, one after the other; one
//! that failed steps out of the line and does not hold up the others.

mod cancel;
mod lease;
mod list;
mod retry;
mod settle;

pub(super) use cancel::cancel;
pub use lease::{Lease, Leased, begin, extend, lease, release};
pub use list::{Delivery, DeliveryFilter, backlog, delivery, list};
pub use retry::{RetryFilter, retry, retry_all};
pub use settle::{Settlement, settle};

use std::fmt;
use std::str::FromStr;

use sea_orm::DbBackend;

/// The deliveries that meet a condition, as a subquery that locks them in order of
/// their ids: of two statements that write the same rows neither waits for the other
/// while the other waits for it.
fn in_order(backend: DbBackend, condition: &str) -> String {
    let lock = match backend {
        DbBackend::Postgres => "FOR UPDATE",
        _ => "",
    };
    format!("(SELECT id FROM delivery WHERE {condition} ORDER BY id {lock})")
}

/// How far a delivery has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum DeliveryState {
    /// Waits for its first attempt.
    Queued,
    /// A replica is at it.
    Leased,
    /// The other side has taken it.
    Sent,
    /// The last attempt failed; it is tried again.
    Failed,
    /// It is not tried again by itself.
    Dead,
    /// It may have been taken or not, and is not tried again by itself.
    Unknown,
    /// Its user did not want it, or had enough.
    Suppressed,
    /// The notification was withdrawn, or the endpoint given up, before it left.
    Cancelled,
}

impl DeliveryState {
    pub const ALL: [Self; 8] = [
        Self::Queued,
        Self::Leased,
        Self::Sent,
        Self::Failed,
        Self::Dead,
        Self::Unknown,
        Self::Suppressed,
        Self::Cancelled,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "QUEUED",
            Self::Leased => "LEASED",
            Self::Sent => "SENT",
            Self::Failed => "FAILED",
            Self::Dead => "DEAD",
            Self::Unknown => "UNKNOWN",
            Self::Suppressed => "SUPPRESSED",
            Self::Cancelled => "CANCELLED",
        }
    }
}

impl fmt::Display for DeliveryState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is not a state of a delivery")]
pub struct ParseDeliveryStateError;

impl FromStr for DeliveryState {
    type Err = ParseDeliveryStateError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or(ParseDeliveryStateError)
    }
}
