//! Units.

use std::sync::Arc;

use async_graphql::{Context, Enum, ID, InputObject, MaybeUndefined, Object, SimpleObject};
use domain::unit as domain_unit;
use time::OffsetDateTime;

use super::patch;
use super::scalar::{DateTime, Position, UnitKey, UnitType};
use crate::graphql::log;

/// What produces: a power plant, a group of units, a company.
pub(crate) struct Unit(pub(crate) Arc<domain_unit::Unit>);

/// What produces: a power plant, a group of units, a company.
#[Object]
impl Unit {
    /// Its global id, for `node`.
    pub(crate) async fn id(&self) -> ID {
        format!("unit:{}", self.0.key).into()
    }

    /// Names it in every argument: `plant:12345`.
    async fn key(&self) -> UnitKey {
        UnitKey(self.0.key)
    }

    /// The kind of unit.
    #[graphql(name = "type")]
    async fn unit_type(&self) -> UnitType {
        self.0.key.unit_type().into()
    }

    /// For people.
    async fn name(&self) -> &str {
        &self.0.name
    }

    /// IANA name, such as `Europe/Istanbul`: a delivery day is a date of this zone.
    async fn time_zone(&self) -> &str {
        &self.0.time_zone
    }

    /// The group or company it belongs to.
    async fn parent(&self, ctx: &Context<'_>) -> async_graphql::Result<Option<Unit>> {
        let Some(key) = self.0.parent else {
            return Ok(None);
        };
        let unit = log(ctx).forecasts().unit(key).await;
        Ok(unit.map_err(crate::error::ApiError::from)?.map(Unit))
    }

    /// Installed capacity in MW; null before the first known.
    async fn capacity_mw(
        &self,
        #[graphql(desc = "At this moment; now if absent.")] at: Option<DateTime>,
    ) -> Option<f64> {
        self.0
            .capacity_mw_at(at.map_or_else(OffsetDateTime::now_utc, |at| at.0))
    }

    /// Installed capacity over time, oldest first.
    async fn capacity_history(&self) -> Vec<Capacity> {
        self.0
            .capacity
            .iter()
            .map(|capacity| Capacity {
                valid_from: capacity.valid_from,
                capacity_mw: capacity.capacity_mw,
            })
            .collect()
    }
}

/// Installed capacity from a moment on.
#[derive(SimpleObject)]
pub(crate) struct Capacity {
    /// It holds from here until the next.
    valid_from: OffsetDateTime,
    /// MW.
    capacity_mw: f64,
}

/// Which units; what is null or absent matches all, an empty list nothing.
#[derive(InputObject, Default)]
pub(crate) struct UnitFilter {
    /// One of these.
    pub(crate) keys: Option<Vec<UnitKey>>,
    /// Of one of these types.
    pub(crate) types: Option<Vec<UnitType>>,
    /// Directly below this unit.
    pub(crate) parent: Option<UnitKey>,
    /// With this in its name, in any case.
    pub(crate) name_contains: Option<String>,
}

/// How units are sorted.
#[derive(Enum, Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UnitOrder {
    /// By type, then number.
    KeyAsc,
    /// By type, then number, from the end.
    KeyDesc,
    /// By name.
    NameAsc,
    /// By name, from the end.
    NameDesc,
}

/// What to write of a unit: an absent field is left as it is, null clears it.
#[derive(InputObject)]
pub(crate) struct UnitInput {
    /// Creates the unit if there is none.
    pub(crate) key: UnitKey,
    /// For people, 1 to 200 characters; the key for a new unit that gives none.
    pub(crate) name: MaybeUndefined<String>,
    /// IANA name; `UTC` for a new unit that gives none.
    pub(crate) time_zone: MaybeUndefined<String>,
    /// The group or company it belongs to; it may be created by the same call.
    pub(crate) parent: MaybeUndefined<UnitKey>,
    /// Installed capacity in MW; null clears its whole history.
    pub(crate) capacity_mw: MaybeUndefined<f64>,
    /// Since when the capacity holds; always, if absent.
    pub(crate) capacity_valid_from: Option<DateTime>,
}

/// The units to create or update.
#[derive(InputObject)]
pub(crate) struct UpsertUnitsInput {
    /// All or none are written; at most 1,000.
    #[graphql(validator(max_items = 1000))]
    pub(crate) units: Vec<UnitInput>,
}

/// The units as they are now.
#[derive(SimpleObject)]
pub(crate) struct UpsertUnitsPayload {
    /// In the order given.
    pub(crate) units: Vec<Unit>,
    /// The last change this call made: a read with it includes the call.
    pub(crate) position: Position,
}

impl From<UnitInput> for domain_unit::UnitUpsert {
    fn from(input: UnitInput) -> Self {
        Self {
            key: input.key.0,
            name: patch(input.name, |name| name),
            time_zone: patch(input.time_zone, |zone| zone),
            parent: patch(input.parent, |parent| parent.0),
            capacity_mw: patch(input.capacity_mw, |mw| mw),
            capacity_valid_from: input.capacity_valid_from.map(|at| at.0),
        }
    }
}

impl From<UnitFilter> for domain_unit::UnitFilter {
    fn from(filter: UnitFilter) -> Self {
        Self {
            keys: filter
                .keys
                .map(|keys| keys.into_iter().map(|key| key.0).collect()),
            unit_types: filter
                .types
                .map(|types| types.into_iter().map(Into::into).collect()),
            parent: filter.parent.map(|key| key.0),
            name_contains: filter.name_contains,
        }
    }
}
