//! Who may do what: roles, and the keys that let programs in.
//!
//! Of a key's secret only the hash is kept: whoever reads the database cannot
//! come in by what is there.

mod role;
mod secret;
mod store;

pub use role::{Role, Roles, UnknownRole};
pub use secret::{Hash, Secret};
pub use store::{by_hash, create, note_use, page, revoke, unrevoked};

use sea_orm::DbErr;
use thiserror::Error;
use time::OffsetDateTime;

use crate::Violation;
use crate::unit::{UnitKey, UnitType};

/// A key that lets a program in.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiKey {
    pub id: i64,
    pub name: String,
    /// The user that the program acts for.
    pub user: String,
    pub roles: Roles,
    pub companies: Vec<UnitKey>,
    pub hash: Hash,
    /// How the secret begins, for people to know it by.
    pub prefix: String,
    pub created_at: OffsetDateTime,
    pub expires_at: Option<OffsetDateTime>,
    pub revoked_at: Option<OffsetDateTime>,
    /// To the minute.
    pub last_used_at: Option<OffsetDateTime>,
}

/// What to make a key of.
#[derive(Debug, Clone)]
pub struct NewApiKey {
    pub name: String,
    pub user: String,
    pub roles: Roles,
    pub companies: Vec<UnitKey>,
    /// Never, if absent.
    pub expires_at: Option<OffsetDateTime>,
}

/// Why keys could not be read or written.
#[derive(Debug, Clone, Error)]
pub enum AccessError {
    #[error("{}; nothing was written", Violation::summary(.0))]
    Invalid(Vec<Violation>),
    #[error("there is no API key {0}")]
    UnknownKey(i64),
    #[error("the database failed")]
    Database(#[from] DbErr),
}

/// Companies that one caller may belong to.
const MOST_COMPANIES: usize = 100;

/// Why a text cannot name a user, if so.
pub fn fault_of_user(text: &str) -> Option<&'static str> {
    if !(1..=200).contains(&text.chars().count()) {
        Some("a user has 1 to 200 characters")
    } else if text.contains(char::is_control) {
        Some("a user has no control characters")
    } else if text.starts_with("alert:") {
        // It is what notifications of alert rules are from.
        Some("a user does not begin with `alert:`")
    } else {
        None
    }
}

/// Why a list of units cannot be a caller's companies, if so.
pub fn fault_of_companies(companies: &[UnitKey]) -> Option<&'static str> {
    if companies.len() > MOST_COMPANIES {
        Some("at most 100 companies are taken")
    } else if companies
        .iter()
        .any(|key| key.unit_type() != UnitType::Company)
    {
        Some("each must be a company's key, such as `company:1`")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_called_like_a_rule() {
        for (name, fits) in [
            ("ada", true),
            ("Ada Lovelace <ada@example.org>", true),
            ("alert", true),
            ("alert:7", false),
            ("", false),
            ("a\nb", false),
        ] {
            assert_eq!(fault_of_user(name).is_none(), fits, "{name:?}");
        }
    }
}
