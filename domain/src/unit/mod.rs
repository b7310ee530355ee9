//! Units: what produces.

mod key;
mod store;

pub use key::{ParseUnitKeyError, UnitKey, UnitType};
pub use store::{UnitFilter, UnitSort, by_keys, page, upsert, write};

use sea_orm::DbErr;
use thiserror::Error;
use time::OffsetDateTime;

use crate::{Patch, Violation};

/// What produces: a plant, a group of units, a company.
#[derive(Debug, Clone, PartialEq)]
pub struct Unit {
    pub id: i64,
    pub key: UnitKey,
    pub name: String,
    /// IANA name; a delivery day is a date of this zone.
    pub time_zone: String,
    pub parent: Option<UnitKey>,
    /// Installed capacity, oldest first: each holds until the next.
    pub capacity: Vec<Capacity>,
}

/// Installed capacity from a moment on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Capacity {
    pub valid_from: OffsetDateTime,
    pub capacity_mw: f64,
}

impl Unit {
    /// The capacity at a moment, in MW; none before the first known.
    pub fn capacity_mw_at(&self, at: OffsetDateTime) -> Option<f64> {
        self.capacity
            .iter()
            .rev()
            .find(|capacity| capacity.valid_from <= at)
            .map(|capacity| capacity.capacity_mw)
    }
}

/// What to write of a unit.
#[derive(Debug, Clone)]
pub struct UnitUpsert {
    pub key: UnitKey,
    /// The key, for a new unit that gives none.
    pub name: Patch<String>,
    /// `UTC`, for a new unit that gives none.
    pub time_zone: Patch<String>,
    pub parent: Patch<UnitKey>,
    /// Installed capacity in MW, from `capacity_valid_from` on; cleared, the whole history goes.
    pub capacity_mw: Patch<f64>,
    /// The start of 1970, if absent: the capacity that always held.
    pub capacity_valid_from: Option<OffsetDateTime>,
}

/// Why units could not be read or written.
#[derive(Debug, Clone, Error)]
pub enum UnitError {
    #[error("{}; nothing was written", Violation::summary(.0))]
    Invalid(Vec<Violation>),
    #[error("the database failed")]
    Database(#[from] DbErr),
}
