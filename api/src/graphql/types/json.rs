//! JSON that callers give.

use std::borrow::Cow;

use async_graphql::registry::Registry;
use async_graphql::{InputType, InputValueError, InputValueResult, Json, Value};
use serde_json::Value as JsonValue;

/// A JSON object as the caller wrote it. (`Json` reads it through serde, which
/// takes some keys for its own.)
pub(crate) struct JsonObject(pub(crate) JsonValue);

impl InputType for JsonObject {
    type RawValueType = JsonValue;

    fn type_name() -> Cow<'static, str> {
        <Json<JsonValue> as InputType>::type_name()
    }

    fn create_type_info(registry: &mut Registry) -> String {
        <Json<JsonValue> as InputType>::create_type_info(registry)
    }

    fn parse(value: Option<Value>) -> InputValueResult<Self> {
        match value.unwrap_or_default() {
            object @ Value::Object(_) => Ok(Self(as_written(object))),
            other => {
                let kind = match other {
                    Value::Null => "null",
                    Value::Number(_) => "a number",
                    Value::String(_) | Value::Binary(_) | Value::Enum(_) => "a text",
                    Value::Boolean(_) => "a boolean",
                    Value::List(_) | Value::Object(_) => "a list",
                };
                let message = format!("expected a JSON object, not {kind}");
                Err(InputValueError::custom(message))
            }
        }
    }

    fn to_value(&self) -> Value {
        Value::from_json(self.0.clone()).unwrap_or_default()
    }

    fn as_raw_value(&self) -> Option<&Self::RawValueType> {
        Some(&self.0)
    }
}

fn as_written(value: Value) -> JsonValue {
    match value {
        Value::Null => JsonValue::Null,
        Value::Number(number) => JsonValue::Number(number),
        Value::String(text) => JsonValue::String(text),
        Value::Boolean(truth) => JsonValue::Bool(truth),
        Value::Binary(bytes) => JsonValue::String(String::from_utf8_lossy(&bytes).into_owned()),
        Value::Enum(name) => JsonValue::String(name.to_string()),
        Value::List(items) => JsonValue::Array(items.into_iter().map(as_written).collect()),
        Value::Object(map) => JsonValue::Object(
            map.into_iter()
                .map(|(key, value)| (key.to_string(), as_written(value)))
                .collect(),
        ),
    }
}
