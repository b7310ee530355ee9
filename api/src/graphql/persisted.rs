//! Persisted queries: a hash in place of an operation. They are not supported, and
//! clients are told so in the words on which they send the operation itself.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use crate::error::{ApiError, ErrorCode};

/// The extension that has the hash.
const EXTENSION: &str = "persistedQuery";

/// A request without an operation.
#[derive(Deserialize)]
pub(crate) struct HashOnly {
    query: Option<IgnoredAny>,
    extensions: Map<String, Value>,
}

impl HashOnly {
    /// Whether it has a hash, and nothing else to execute.
    pub(crate) fn has_hash(&self) -> bool {
        self.query.is_none() && is_hash(Some(&self.extensions))
    }
}

/// Whether a request that could not be read has a hash in place of its operation.
pub(crate) fn is_hash_only(json: &[u8]) -> bool {
    serde_json::from_slice::<HashOnly>(json).is_ok_and(|request| request.has_hash())
}

/// Whether extensions have a hash.
pub(crate) fn is_hash(extensions: Option<&Map<String, Value>>) -> bool {
    extensions
        .and_then(|extensions| extensions.get(EXTENSION))
        .is_some_and(Value::is_object)
}

/// Apollo Client and urql know it by this message, and some by the code.
pub(crate) fn not_supported() -> ApiError {
    ApiError::new(
        ErrorCode::PersistedQueryNotSupported,
        "PersistedQueryNotSupported",
    )
}
