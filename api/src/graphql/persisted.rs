//! Persisted queries: a hash in place of an operation. They are not supported, and
//! clients are told so in the words on which they send the operation itself.

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::params::Extensions;
use crate::error::{ApiError, ErrorCode};

/// A request without an operation.
#[derive(Deserialize)]
pub(crate) struct HashOnly {
    query: Option<IgnoredAny>,
    extensions: Extensions,
}

impl HashOnly {
    /// Whether it has a hash, and nothing else to execute.
    pub(crate) fn has_hash(&self) -> bool {
        self.query.is_none() && self.extensions.has_hash()
    }
}

/// Whether a request that could not be read has a hash in place of its operation.
pub(crate) fn is_hash_only(json: &[u8]) -> bool {
    serde_json::from_slice::<HashOnly>(json).is_ok_and(|request| request.has_hash())
}

/// Apollo Client and urql know it by this message, and some by the code.
pub(crate) fn not_supported() -> ApiError {
    ApiError::new(
        ErrorCode::PersistedQueryNotSupported,
        "PersistedQueryNotSupported",
    )
}
