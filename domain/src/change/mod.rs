//! The change log: what was committed, in which order.
//!
//! Triggers write the log; [`commit`] says which transaction to wait for;
//! `subscriptions` numbers changes after their commit and tails them. Every
//! other part of SmartPulse runs on the [`Position`]s given there.

mod log;
mod position;
mod transaction;

pub use log::{
    LogPage, PAGE, Tick, TickMode, begin_epoch, number_pending, prune, read_after, read_head, tick,
};
pub use position::{Epoch, ParsePositionError, Position};
pub use transaction::{Receipt, commit};

use time::OffsetDateTime;

use crate::forecast::SeriesKey;
use crate::notification::NotificationChange;
use crate::provider::ProviderKey;
use crate::unit::UnitKey;

/// One committed change, as the log keeps it.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    pub position: Position,
    pub operation: Operation,
    /// When its transaction wrote it, by the database's clock.
    pub changed_at: OffsetDateTime,
    pub subject: Subject,
}

/// What the statement did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Insert,
    Update,
    Delete,
    /// More than the log can say: everything known of this kind is void.
    Resync,
}

/// What a change is about.
#[derive(Debug, Clone, PartialEq)]
pub enum Subject {
    Unit(UnitKey),
    Provider(ProviderKey),
    Forecast(ForecastChange),
    Notification(NotificationChange),
    /// Of a [`Operation::Resync`], which names no row.
    Everything,
}

/// Versions of day curves of one series and run, within one UTC month.
#[derive(Debug, Clone, PartialEq)]
pub struct ForecastChange {
    pub series: SeriesKey,
    pub series_id: i64,
    pub run_id: i64,
    /// Start of the touched delivery range, half-open.
    pub from: OffsetDateTime,
    /// End of the touched delivery range.
    pub to: OffsetDateTime,
}
