//! Who is asking.

use std::future::{Future, pending};
use std::sync::Arc;

use domain::access::{Role, Roles};
use domain::unit::UnitKey;
use tokio::time::Instant;

use crate::auth::KeyInUse;
use crate::error::{ApiError, ErrorCode};

/// The authenticated caller of a request, by whatever transport it came.
#[derive(Debug, Clone)]
pub(crate) struct Viewer {
    /// The user's key; what is a user's own hangs on it.
    pub(crate) user: String,
    /// What it may do beyond reading.
    pub(crate) roles: Roles,
    /// The companies that it belongs to.
    pub(crate) companies: Arc<[UnitKey]>,
    /// When what it was let in by expires; a connection ends then.
    pub(crate) expires_at: Option<Instant>,
    /// The API key that it was let in by; a connection ends when it is revoked.
    pub(crate) api_key: Option<Arc<KeyInUse>>,
    /// The database has confirmed its key; else it was let in because the database
    /// cannot be asked, to read what memory has.
    pub(crate) confirmed: bool,
}

/// What of the data a viewer may see. Those of one scope share what is executed
/// and kept for any of them: what is a user's own needs a scope of that user.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Scope {
    /// The same for everybody who is let in.
    Everything,
    /// What is one user's own.
    User(String),
}

impl Viewer {
    /// The scope of what a field of the subscription root delivers.
    pub(crate) fn scope_of(&self, field: &str) -> Scope {
        match field {
            "notificationChanged" => Scope::User(self.user.clone()),
            // Forecasts are for everybody who is let in.
            _ => Scope::Everything,
        }
    }

    /// Whoever reaches an open server: an administrator, of a given name or
    /// `local`. `None` when the name is not one.
    pub(crate) fn named(name: Option<&str>) -> Option<Self> {
        let user = name.map_or("local", str::trim);
        domain::access::fault_of_user(user).is_none().then(|| Self {
            user: user.to_owned(),
            roles: Roles::from_iter([Role::Admin]),
            companies: Arc::default(),
            expires_at: None,
            api_key: None,
            confirmed: true,
        })
    }

    /// An error for who may not do what `role` is for.
    pub(crate) fn demand(&self, role: Role) -> Result<(), ApiError> {
        if self.roles.allow(role) {
            return Ok(());
        }
        let message = match role {
            Role::Admin => String::from("this takes the role ADMIN"),
            role => format!("this takes the role {role}, or ADMIN"),
        };
        Err(ApiError::new(ErrorCode::Forbidden, message))
    }

    /// Completes when what it was let in by is taken back.
    pub(crate) fn revoked(&self) -> impl Future<Output = ()> + Send + use<> {
        let api_key = self.api_key.clone();
        async move {
            match api_key {
                Some(key) => key.revoked().await,
                None => pending().await,
            }
        }
    }
}
