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

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::serde::rfc3339;

use crate::forecast::SeriesKey;
use crate::notification::NotificationChange;
use crate::provider::ProviderKey;
use crate::unit::UnitKey;

/// One committed change, as the log keeps it, and as replicas tell one another:
/// what serde writes must read back as equal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Change {
    pub position: Position,
    pub operation: Operation,
    /// When its transaction wrote it, by the database's clock.
    #[serde(with = "rfc3339")]
    pub changed_at: OffsetDateTime,
    pub subject: Subject,
}

/// What the statement did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Operation {
    Insert,
    Update,
    Delete,
    /// More than the log can say: everything known of this kind is void.
    Resync,
}

/// What a change is about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Subject {
    Unit(UnitKey),
    Provider(ProviderKey),
    Forecast(ForecastChange),
    Notification(NotificationChange),
    /// Of an entity that this version does not know: a newer replica wrote it. It
    /// holds a position, and is passed on by name.
    Other(String),
    /// Of a [`Operation::Resync`], which names no row.
    Everything,
}

/// Versions of day curves of one series and run, within one UTC month.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ForecastChange {
    pub series: SeriesKey,
    pub series_id: i64,
    pub run_id: i64,
    /// Start of the touched delivery range, half-open.
    #[serde(with = "rfc3339")]
    pub from: OffsetDateTime,
    /// End of the touched delivery range.
    #[serde(with = "rfc3339")]
    pub to: OffsetDateTime,
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;
    use crate::forecast::Resolution;

    #[test]
    fn what_is_told_reads_back_as_equal() {
        let position = Position {
            epoch: Epoch(7),
            number: 12,
        };
        let subjects = [
            Subject::Unit("group:3".parse().unwrap()),
            Subject::Provider("p".parse().unwrap()),
            Subject::Forecast(ForecastChange {
                series: SeriesKey {
                    unit: "plant:12".parse().unwrap(),
                    provider: "borealis".parse().unwrap(),
                    resolution: Resolution::Hour,
                },
                series_id: 4,
                run_id: 9,
                from: datetime!(2024-05-01 00:00 UTC),
                to: datetime!(2024-05-02 00:00 UTC),
            }),
            Subject::Notification(NotificationChange {
                notification_id: None,
                user_id: Some(7),
                marked_at: Some(datetime!(2024-05-01 10:00:00.123456 UTC)),
            }),
            Subject::Other("ACTUAL".to_owned()),
            Subject::Everything,
        ];
        for subject in subjects {
            let change = Change {
                position,
                operation: Operation::Insert,
                // As fine as PostgreSQL's clock.
                changed_at: datetime!(2024-05-01 10:00:00.123456 UTC),
                subject,
            };
            let text = serde_json::to_string(&change).unwrap();
            let back: Change = serde_json::from_str(&text).unwrap();
            assert_eq!(back, change, "{text}");
        }
    }

    #[test]
    fn a_key_is_read_by_its_own_rules() {
        for text in [r#""plant:0""#, r#""turbine:1""#, "12"] {
            assert!(serde_json::from_str::<UnitKey>(text).is_err(), "{text}");
        }
        assert!(serde_json::from_str::<ProviderKey>(r#""A b""#).is_err());
        assert!(serde_json::from_str::<Position>(r#""1.2""#).is_err());
    }
}
