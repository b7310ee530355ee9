//! Who is asking.

use tokio::time::Instant;

/// The authenticated caller of a request.
///
/// In open mode, the only one there is yet, whoever reaches the server is a
/// local administrator; a name may be given in the `SmartPulse-User` header or
/// the websocket's init payload, and keeps apart what belongs to a viewer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Viewer {
    pub(crate) user: String,
    /// When what it was let in by expires; a connection ends then.
    pub(crate) expires_at: Option<Instant>,
}

/// The header, and the field of a websocket's init payload.
pub(crate) const USER_HEADER: &str = "smartpulse-user";
pub(crate) const USER_FIELD: &str = "SmartPulse-User";

/// What of the data a viewer may see. Those of one scope share what is executed
/// and kept for any of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Scope {
    Everything,
}

impl Viewer {
    /// In open mode everybody sees everything.
    pub(crate) fn scope(&self) -> Scope {
        Scope::Everything
    }

    /// The viewer that a given name stands for; nameless, the administrator.
    /// `None` when the name is not one.
    pub(crate) fn named(name: Option<&str>) -> Option<Self> {
        let user = name.map_or("local", str::trim);
        let fits = (1..=200).contains(&user.chars().count()) && !user.chars().any(char::is_control);
        fits.then(|| Self {
            user: user.to_owned(),
            expires_at: None,
        })
    }
}
