//! GraphQL types over domain values.

pub(super) mod access;
pub(super) mod alert;
pub(super) mod change;
pub(super) mod delivery;
pub(super) mod forecast;
pub(super) mod id;
pub(super) mod json;
pub(super) mod live;
pub(super) mod mail;
pub(super) mod notification;
pub(super) mod points;
pub(super) mod provider;
pub(super) mod scalar;
pub(super) mod unit;
pub(super) mod user;
pub(super) mod viewer;

use async_graphql::{ID, Interface, MaybeUndefined};
use domain::Patch;

use forecast::ForecastRun;
use notification::Notification;
use provider::Provider;
use unit::Unit;

/// Anything that has a global id.
#[derive(Interface)]
#[graphql(field(name = "id", ty = "ID", desc = "Its global id, for `node`."))]
pub(super) enum Node {
    Unit(Unit),
    Provider(Provider),
    ForecastRun(ForecastRun),
    Notification(Notification),
}

/// A field of an upsert: absent it is left as it is, null clears it.
pub(super) fn patch<T, U>(field: MaybeUndefined<T>, map: impl Fn(T) -> U) -> Patch<U> {
    match field {
        MaybeUndefined::Undefined => Patch::Keep,
        MaybeUndefined::Null => Patch::Clear,
        MaybeUndefined::Value(value) => Patch::Set(map(value)),
    }
}
