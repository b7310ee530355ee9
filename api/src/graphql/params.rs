//! What a request says, by whatever transport.

use std::fmt;

use domain::change::Position;
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

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
    pub(crate) extensions: Option<Extensions>,
}

/// What a request's extensions may say. Anything else is passed over, unread.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Extensions {
    min_position: Option<Word>,
    cost: Option<Word>,
    persisted_query: Option<Word>,
}

/// A short value, or none that could be meant.
#[derive(Debug, PartialEq, Eq)]
enum Word {
    Text(String),
    Truth(bool),
    Object,
    Other,
}

impl Extensions {
    /// Whether there is a persisted query's hash.
    pub(crate) fn has_hash(&self) -> bool {
        self.persisted_query == Some(Word::Object)
    }
}

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Word;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON value")
            }

            fn visit_str<E>(self, text: &str) -> Result<Word, E> {
                Ok(Word::Text(text.to_owned()))
            }

            fn visit_bool<E>(self, truth: bool) -> Result<Word, E> {
                Ok(Word::Truth(truth))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Word, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Word::Object)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Word, A::Error> {
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Word::Other)
            }

            fn visit_i64<E>(self, _: i64) -> Result<Word, E> {
                Ok(Word::Other)
            }

            fn visit_u64<E>(self, _: u64) -> Result<Word, E> {
                Ok(Word::Other)
            }

            fn visit_f64<E>(self, _: f64) -> Result<Word, E> {
                Ok(Word::Other)
            }
        }
        deserializer.deserialize_any(Read)
    }
}

impl Params {
    /// Whether the answer is to say what it costs.
    pub(crate) fn asks_cost(&self) -> bool {
        let cost = self.extensions.as_ref().and_then(|e| e.cost.as_ref());
        cost == Some(&Word::Truth(true))
    }

    /// The position that the answer must include.
    pub(crate) fn min_position(&self) -> Result<Option<Position>, ApiError> {
        let given = (self.extensions.as_ref()).and_then(|e| e.min_position.as_ref());
        match given {
            None => Ok(None),
            Some(Word::Text(text)) => parse_position("extensions.minPosition", text).map(Some),
            Some(_) => Err(ApiError::bad_input(
                "extensions.minPosition is not a position: expected a text, as a `position` field gave it",
            )),
        }
    }
}

/// A position that stands outside of a document.
pub(crate) fn parse_position(place: &str, text: &str) -> Result<Position, ApiError> {
    text.parse()
        .map_err(|error| ApiError::bad_input(format!("{place} is not a position: {error}")))
}
