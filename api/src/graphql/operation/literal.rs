//! Literals of a document as values.

use apollo_compiler::ast;
use async_graphql_value::indexmap::IndexMap;
use async_graphql_value::{ConstValue, Name, Number, Value};

/// A literal without variables; `None` if a number is beyond what there is.
pub(super) fn constant(literal: &ast::Value) -> Option<ConstValue> {
    value(literal, &|_| true)?.into_const()
}

/// A literal. Where a variable of an object's entry is absent, so is the entry;
/// an absent item of a list is null.
pub(super) fn value(literal: &ast::Value, is_present: &dyn Fn(&str) -> bool) -> Option<Value> {
    Some(match literal {
        ast::Value::Null => Value::Null,
        ast::Value::Enum(name) => Value::Enum(Name::new(name)),
        ast::Value::Variable(name) if is_present(name) => Value::Variable(Name::new(name)),
        ast::Value::Variable(_) => Value::Null,
        ast::Value::String(text) => Value::String(text.clone()),
        ast::Value::Boolean(truth) => Value::Boolean(*truth),
        ast::Value::Int(digits) => Value::Number(number(digits.as_str())?),
        ast::Value::Float(digits) => Value::Number(number(digits.as_str())?),
        ast::Value::List(items) => {
            let items = items.iter().map(|item| value(item, is_present));
            Value::List(items.collect::<Option<_>>()?)
        }
        ast::Value::Object(entries) => {
            let mut object = IndexMap::with_capacity(entries.len());
            for (key, entry) in entries {
                if !is_absent(entry, is_present) {
                    object.insert(Name::new(key), value(entry, is_present)?);
                }
            }
            Value::Object(object)
        }
    })
}

/// The values of a literal, those within lists and objects included.
pub(super) fn count(literal: &ast::Value) -> usize {
    1 + match literal {
        ast::Value::List(items) => items.iter().map(|item| count(item)).sum(),
        ast::Value::Object(entries) => entries.iter().map(|(_, entry)| count(entry)).sum(),
        _ => 0,
    }
}

/// Whether a literal is a variable without a value.
pub(super) fn is_absent(literal: &ast::Value, is_present: &dyn Fn(&str) -> bool) -> bool {
    matches!(literal, ast::Value::Variable(name) if !is_present(name))
}

/// A number, an integer as long as it is one of 64 bits.
fn number(digits: &str) -> Option<Number> {
    digits
        .parse::<i64>()
        .map(Number::from)
        .ok()
        .or_else(|| digits.parse::<u64>().map(Number::from).ok())
        .or_else(|| Number::from_f64(digits.parse().ok()?))
}
