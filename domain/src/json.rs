//! JSON that callers give, and JSON that is stored.
//!
//! What is stored must read back as what was given. What does not read back,
//! because an earlier version or another program wrote it, must not keep
//! anybody from the rows beside it.

use std::fmt::Display;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{Violation, quote};

/// serde_json gives a meaning of its own to keys that begin so: an object with
/// one is written as text, but not read back.
const RESERVED: &str = "$serde_json::private::";
/// serde_json reads no deeper than 128; what the value is wrapped in counts, too.
const DEEPEST: usize = 100;

/// Every part of a value that could not be read back, with its path. The value
/// itself is at `path`. At most [`Violation::MOST`] are listed.
pub fn faults(path: &str, value: &Value) -> Vec<Violation> {
    let mut faults = Vec::new();
    // A list of what is left to look at: recursion would be as deep as the value.
    let mut left = vec![(path.to_owned(), value, 1)];
    while let Some((path, value, depth)) = left.pop() {
        if faults.len() == Violation::MOST {
            break;
        }
        if depth > DEEPEST {
            let message = format!("JSON is nested at most {DEEPEST} levels deep");
            faults.push(Violation::new(path, message));
            continue;
        }
        match value {
            Value::Object(map) => {
                for (key, value) in map.iter().rev() {
                    let path = format!("{path}[{}]", quote(key));
                    if key.starts_with(RESERVED) {
                        let message = format!("a key must not begin with `{RESERVED}`");
                        faults.push(Violation::new(path, message));
                    } else {
                        left.push((path, value, depth + 1));
                    }
                }
            }
            Value::Array(items) => {
                for (i, value) in items.iter().enumerate().rev() {
                    left.push((format!("{path}[{i}]"), value, depth + 1));
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    faults
}

/// Reads a stored value; `None`, with a warning in the log, if it cannot be read.
/// `what` names it.
pub(crate) fn stored<T: DeserializeOwned>(text: &str, what: impl Display) -> Option<T> {
    match serde_json::from_str(text) {
        Ok(value) => Some(value),
        Err(error) => {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "{what} is passed over: its JSON cannot be read"
            );
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(value: &Value, expect: &[&str]) {
        let faults = faults("data", value);
        let paths: Vec<&str> = faults.iter().map(|fault| fault.path.as_str()).collect();
        assert_eq!(paths, expect, "{value}");
        if expect.is_empty() {
            assert_eq!(
                stored::<Value>(&value.to_string(), "it").as_ref(),
                Some(value)
            );
        }
    }

    fn nested(levels: usize) -> Value {
        (1..levels).fold(json!([]), |inner, _| json!([inner]))
    }

    #[test]
    fn what_passes_reads_back_as_equal() {
        check(
            &json!({ "a": [1, 2.5, null, { "$serde": "x" }], "ü": 1e300 }),
            &[],
        );
        check(&nested(DEEPEST), &[]);
        for token in ["RawValue", "Number", ""] {
            let key = format!("{RESERVED}{token}");
            check(&json!({ &key: "x" }), &[&format!("data[\"{key}\"]")]);
            check(
                &json!({ "a": [0, { "b": 1, &key: "x" }], &key: 1 }),
                &[
                    &format!("data[\"{key}\"]"),
                    &format!("data[\"a\"][1][\"{key}\"]"),
                ],
            );
        }
        let deep = format!("data{}", "[0]".repeat(DEEPEST));
        check(&nested(DEEPEST + 1), &[&deep]);
    }

    #[test]
    fn what_cannot_be_read_is_nothing() {
        for text in ["", "{", r#"{"$serde_json::private::RawValue": "x"}"#] {
            assert_eq!(stored::<Value>(text, "it"), None, "{text}");
        }
    }
}
