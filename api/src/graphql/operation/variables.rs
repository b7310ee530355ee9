//! What a request gives its variables, as it comes over a transport.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;

use async_graphql::{Name, ServerError, Value};
use async_graphql_value::Number;
use async_graphql_value::indexmap::IndexMap;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::fault;
use crate::error::ApiError;

/// At most this many values: each takes some seventy bytes, however short it is
/// written.
pub(crate) const MOST_VALUES: usize = 1_000_000;
/// How keys begin that serde_json keeps for itself: what has one is read as
/// something else than it is.
pub(super) const RESERVED_KEY: &str = "$serde_json::private::";
/// Names of keys that are remembered while values are read.
const MOST_NAMES: usize = 32;

/// Variables, as many of them as fit.
#[derive(Debug, Default)]
pub(crate) struct Variables {
    pub(super) values: BTreeMap<Name, Value>,
    refused: Option<Refused>,
}

/// Why variables are not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refused {
    TooMany,
    ReservedKey,
}

impl Variables {
    /// An error for variables that are not taken.
    pub(super) fn check(&self) -> Result<(), ServerError> {
        match self.refused {
            None => Ok(()),
            Some(Refused::TooMany) => Err(fault::too_complex(format!(
                "the variables hold more than {MOST_VALUES} values: send them in several requests"
            ))),
            Some(Refused::ReservedKey) => Err(reserved_key().into_server_error()),
        }
    }
}

/// The values of a value, those within lists and objects included; a long text or
/// key counts for as many as take its memory.
pub(super) fn count(value: &Value) -> usize {
    const BYTES_A_VALUE: usize = 64;
    1 + match value {
        Value::String(text) => text.len() / BYTES_A_VALUE,
        Value::List(items) => items.iter().map(count).sum(),
        Value::Object(object) => object
            .iter()
            .map(|(key, value)| key.len() / BYTES_A_VALUE + count(value))
            .sum(),
        _ => 0,
    }
}

/// The error of an object with a reserved key.
pub(super) fn reserved_key() -> ApiError {
    ApiError::bad_input(format!(
        "keys that begin with {RESERVED_KEY:?} are reserved: name it otherwise"
    ))
}

impl<'de> Deserialize<'de> for Variables {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let reading = Reading::default();
        let values = deserializer.deserialize_any(OfRequest(&reading))?;
        Ok(Self {
            values,
            refused: reading.refused.get(),
        })
    }
}

/// What is common to all values of a request while they are read.
#[derive(Default)]
struct Reading {
    count: Cell<usize>,
    refused: Cell<Option<Refused>>,
    /// Large inputs repeat a few keys over and over.
    names: RefCell<Vec<Name>>,
}

impl Reading {
    fn refuse(&self, why: Refused) {
        if self.refused.get().is_none() {
            self.refused.set(Some(why));
        }
    }

    fn name(&self, text: &str) -> Name {
        if text.starts_with(RESERVED_KEY) {
            self.refuse(Refused::ReservedKey);
        }
        let mut names = self.names.borrow_mut();
        if let Some(known) = names.iter().find(|name| name.as_str() == text) {
            return known.clone();
        }
        let name = Name::new(text);
        if names.len() < MOST_NAMES {
            names.push(name.clone());
        }
        name
    }
}

/// Reads all variables: an object, or null.
struct OfRequest<'r>(&'r Reading);

impl<'de> Visitor<'de> for OfRequest<'_> {
    type Value = BTreeMap<Name, Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("variables as an object, or null")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(BTreeMap::new())
    }

    fn visit_none<E>(self) -> Result<Self::Value, E> {
        Ok(BTreeMap::new())
    }

    fn visit_some<D: Deserializer<'de>>(self, of: D) -> Result<Self::Value, D::Error> {
        of.deserialize_any(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut values = BTreeMap::new();
        while let Some(name) = map.next_key_seed(Key(self.0))? {
            values.insert(name, map.next_value_seed(OfAnything(self.0))?);
        }
        Ok(values)
    }
}

/// Reads a key.
struct Key<'r>(&'r Reading);

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = Name;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Name, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = Name;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, text: &str) -> Result<Name, E> {
        Ok(self.0.name(text))
    }
}

/// Reads a value, and passes over what is more than may be.
#[derive(Clone, Copy)]
struct OfAnything<'r>(&'r Reading);

impl<'de> DeserializeSeed<'de> for OfAnything<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        let count = self.0.count.get() + 1;
        self.0.count.set(count);
        if count > MOST_VALUES {
            self.0.refuse(Refused::TooMany);
        }
        if self.0.refused.get().is_some() {
            deserializer.deserialize_ignored_any(IgnoredAny)?;
            return Ok(Value::Null);
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for OfAnything<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, of: D) -> Result<Value, D::Error> {
        of.deserialize_any(self)
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Value, E> {
        Ok(Value::Boolean(truth))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Number(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(Value::Number(number.into()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(Number::from_f64(number).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::String(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(Value::String(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut of: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = of.next_element_seed(self)? {
            if self.0.refused.get().is_none() {
                items.push(item);
            }
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut of: A) -> Result<Value, A::Error> {
        let mut object = IndexMap::new();
        while let Some(key) = of.next_key_seed(Key(self.0))? {
            let value = of.next_value_seed(self)?;
            if self.0.refused.get().is_none() {
                object.insert(key, value);
            }
        }
        Ok(Value::Object(object))
    }
}
