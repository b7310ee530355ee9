//! What a request says, by whatever transport.

use domain::change::Position;
use serde::Deserialize;

use super::operation::variables::Variables;
use crate::error::ApiError;

/// The parameters of a GraphQL request.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Params {
    pub(crate) query: String,
    #[serde(default)]
    pub(crate) operation_name: Option<String>,
    #[serde(default)]
    pub(crate) variables: Variables,
    #[serde(default)]
    pub(crate) extensions: Option<serde_json::Map<String, serde_json::Value>>,
}

/// The position that an answer must include, in a request's extensions.
pub(crate) const MIN_POSITION: &str = "minPosition";

impl Params {
    /// Whether the answer is to say what it costs.
    pub(crate) fn asks_cost(&self) -> bool {
        let cost = self.extensions.as_ref().and_then(|e| e.get("cost"));
        cost == Some(&serde_json::Value::Bool(true))
    }

    /// The position that the answer must include.
    pub(crate) fn min_position(&self) -> Result<Option<Position>, ApiError> {
        use serde_json::Value;
        match self.extensions.as_ref().and_then(|e| e.get(MIN_POSITION)) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => parse_position("extensions.minPosition", text).map(Some),
            Some(_) => Err(ApiError::bad_input(
                "extensions.minPosition is not a position: it is no text",
            )),
        }
    }
}

/// A position that stands outside of a document.
pub(crate) fn parse_position(place: &str, text: &str) -> Result<Position, ApiError> {
    text.parse()
        .map_err(|error| ApiError::bad_input(format!("{place} is not a position: {error}")))
}
