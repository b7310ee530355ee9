//! What makes SmartPulse live.
//!
//! The change log gets its positions and is tailed ([`change_log`]); replicas
//! tell one another what they have numbered ([`fanout`]); each
//! distributes what it has applied to its subscribers ([`hub`]), who
//! [`follow`](Span) it without a seam: nothing lost, nothing twice, in order.
//! Streams of [`forecast`]s, of [`notifications`] and of all [`changes`] are made
//! of that. Those who
//! ask for the same stream share one run of it ([`cohort`]).

mod budget;
pub mod change_log;
mod changes;
pub mod cohort;
mod error;
pub mod fanout;
mod follow;
pub mod forecast;
pub mod hub;
mod notifications;

pub use budget::Budget;
pub use changes::{Entity, changes};
pub use error::StreamError;
pub use follow::Span;
pub use notifications::{NotificationEvent, NotificationKind, notifications};
