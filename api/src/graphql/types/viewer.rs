//! The caller.

use async_graphql::{ID, Object};

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

    /// The user's name: `local` unless the `SmartPulse-User` header, or the
    /// field of that name in a websocket's init payload, says another.
    async fn user(&self) -> &str {
        &self.0.user
    }
}
