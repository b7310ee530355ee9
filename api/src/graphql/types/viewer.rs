//! The caller.

use async_graphql::{ID, Object};

use super::access::Role;
use super::scalar::UnitKey;
use crate::viewer;

/// Who is asking.
pub(crate) struct Viewer(pub(crate) viewer::Viewer);

/// Who is asking.
#[Object]
impl Viewer {
    /// Its global id.
    async fn id(&self) -> ID {
        format!("viewer:{}", self.0.user).into()
    }

    /// The user: of the API key, or what the token has as `sub`. On a server that
    /// is open, `local` unless the `SmartPulse-User` header, or the field of that
    /// name in a websocket's init payload, says another.
    async fn user(&self) -> &str {
        &self.0.user
    }

    /// What it may do beyond reading.
    async fn roles(&self) -> Vec<Role> {
        self.0.roles.iter().map(Role::from).collect()
    }

    /// The companies that it belongs to.
    async fn companies(&self) -> Vec<UnitKey> {
        self.0.companies.iter().copied().map(UnitKey).collect()
    }
}
