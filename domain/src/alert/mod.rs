//! Alert rules: what somebody wants to be told of, before they have to look.
//!
//! A rule is a [`Condition`] on the forecasts of a unit by a provider. Each kind
//! of condition is a pure function of what is known at a moment and of what the
//! rule remembers, in a file of its own. The [`Evaluator`] asks it as the change
//! log goes on, and by the clock; [`dry_run`] asks the same function over the
//! past.
//!
//! What a rule fires, what it remembers and how far the log has been looked at
//! are written by one transaction, under one version of the cursor: however many
//! replicas evaluate and whenever one is killed, a firing is neither lost nor
//! doubled.

mod dry_run;
mod evaluator;
mod firing;
mod late;
mod load;
mod moment;
mod revision;
mod rule;
mod store;
mod team;
mod threshold;
mod versions;
mod window;
mod words;

pub use dry_run::{DryFiring, DryRun, dry_run};
pub use evaluator::{Evaluator, Restart, Stepped};
pub use firing::Firing;
pub use late::Late;
pub use revision::{Direction, Measure, PercentOf, Requires, Revision};
pub use rule::{Condition, Definition, Rule};
pub use store::{create, delete, mute, rule, rules, update};
pub use threshold::{Quantity, Side, Threshold};

use sea_orm::DbErr;
use thiserror::Error;

use crate::Violation;
use crate::notification::NotificationError;

/// Why alert rules could not be read, written or evaluated.
#[derive(Debug, Error)]
pub enum AlertError {
    #[error("{}; nothing was written", Violation::summary(.0))]
    Invalid(Vec<Violation>),
    /// What was asked has no answer. Nobody meant to write anything.
    #[error("{}", Violation::summary(.0))]
    Unanswerable(Vec<Violation>),
    #[error("there is no {what}")]
    Unknown {
        /// Such as `unit plant:1`.
        what: String,
        /// Where in the input it is named.
        path: Option<String>,
    },
    /// There are as many as there may be.
    #[error("{0}")]
    Full(String),
    /// It takes more work than one request may ask for.
    #[error("{0}")]
    TooMuch(String),
    #[error("the database failed")]
    Database(#[from] DbErr),
}

impl AlertError {
    fn unknown(what: impl Into<String>, path: impl Into<String>) -> Self {
        Self::Unknown {
            what: what.into(),
            path: Some(path.into()),
        }
    }
}

impl From<NotificationError> for AlertError {
    fn from(error: NotificationError) -> Self {
        match error {
            NotificationError::Invalid(violations) => Self::Invalid(violations),
            NotificationError::Unknown { what, path } => Self::Unknown { what, path },
            // Nothing here has a key or a state that another request could be in.
            NotificationError::IdempotencyConflict | NotificationError::Conflict(_) => {
                Self::Full(error.to_string())
            }
            NotificationError::Database(error) => Self::Database(error),
        }
    }
}
