//! Completion: what was executed becomes the text of an answer.
//!
//! The plan says which fields an answer has, in which order, and which may be
//! null. Where one that may not is missing, what was written of its nearest
//! nullable parent is cut off and null stands there instead.

use apollo_compiler::response::JsonMap;
use async_graphql::{PathSegment, ServerError, Value};

use super::plan::{Field, Fields, Plan, Shape, TYPE_KEY, Type};
use crate::error::{self, ApiError};

/// Writes `{"data":…` and, if there are any, `,"errors":[…]`: a result up to where
/// its extensions may stand. An error is added where a value is missing and none
/// says why.
pub(crate) fn complete(
    plan: &Plan,
    data: &Value,
    introspected: &JsonMap,
    errors: &mut Vec<ServerError>,
) -> Vec<u8> {
    let mut writer = Writer {
        out: b"{\"data\":".to_vec(),
        path: Vec::new(),
        introspected,
        errors,
    };
    let start = writer.out.len();
    if writer.object(&plan.root, data).is_err() {
        writer.out.truncate(start);
        writer.out.extend_from_slice(b"null");
    }
    let mut out = writer.out;
    if !errors.is_empty() {
        out.extend_from_slice(b",\"errors\":");
        write_json(&mut out, errors);
    }
    out
}

struct Writer<'a> {
    out: Vec<u8>,
    path: Vec<Step<'a>>,
    introspected: &'a JsonMap,
    errors: &'a mut Vec<ServerError>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Key(&'a str),
    Index(usize),
}

/// A value that may not be null is missing: its parent is null, or its parent's.
struct Missing;

impl<'a> Writer<'a> {
    fn value(&mut self, ty: &'a Type, value: &'a Value) -> Result<(), Missing> {
        let start = self.out.len();
        let written = match (&ty.shape, value) {
            (_, Value::Null) => self.null(ty),
            // JSON text that a field has written itself.
            (_, Value::Binary(text)) => {
                self.out.extend_from_slice(text);
                Ok(())
            }
            (Shape::Leaf, leaf) => {
                write_leaf(&mut self.out, leaf);
                Ok(())
            }
            (Shape::List(item), Value::List(items)) => self.list(item, items),
            (Shape::Object(fields), Value::Object(_)) => self.object(fields, value),
            (Shape::Abstract(types), Value::Object(object)) => {
                let name = match object.get(TYPE_KEY) {
                    Some(Value::String(name)) => name.as_str(),
                    _ => "",
                };
                match types.iter().find(|(of, _)| **of == *name) {
                    Some((_, fields)) => self.object(fields, value),
                    None => self.unfit(ty),
                }
            }
            _ => self.unfit(ty),
        };
        match written {
            Err(Missing) if ty.nullable => {
                self.out.truncate(start);
                self.out.extend_from_slice(b"null");
                Ok(())
            }
            written => written,
        }
    }

    fn list(&mut self, item: &'a Type, items: &'a [Value]) -> Result<(), Missing> {
        self.out.push(b'[');
        for (i, value) in items.iter().enumerate() {
            if i > 0 {
                self.out.push(b',');
            }
            self.path.push(Step::Index(i));
            let written = self.value(item, value);
            self.path.pop();
            written?;
        }
        self.out.push(b']');
        Ok(())
    }

    fn object(&mut self, fields: &'a Fields, object: &'a Value) -> Result<(), Missing> {
        self.out.push(b'{');
        for (i, field) in fields.iter().enumerate() {
            if i > 0 {
                self.out.push(b',');
            }
            self.out.extend_from_slice(field.prefix.as_bytes());
            self.path.push(Step::Key(&field.key));
            let written = if field.introspects {
                self.introspected(field)
            } else {
                self.value(&field.ty, find(object, field, i))
            };
            self.path.pop();
            written?;
        }
        self.out.push(b'}');
        Ok(())
    }

    fn introspected(&mut self, field: &Field) -> Result<(), Missing> {
        match self.introspected.get(field.key.as_str()) {
            Some(answer) => {
                write_json(&mut self.out, answer);
                Ok(())
            }
            None => self.null(&field.ty),
        }
    }

    fn null(&mut self, ty: &Type) -> Result<(), Missing> {
        if ty.nullable {
            self.out.extend_from_slice(b"null");
            return Ok(());
        }
        if !self.is_explained() {
            self.add_error("a field that may not be null has no value");
        }
        Err(Missing)
    }

    /// A value that its type cannot have: a fault of ours.
    fn unfit(&mut self, ty: &Type) -> Result<(), Missing> {
        self.add_error("a field has a value that is not of its type");
        if ty.nullable {
            self.out.extend_from_slice(b"null");
            return Ok(());
        }
        Err(Missing)
    }

    /// Whether an error says why there is nothing here.
    fn is_explained(&self) -> bool {
        self.errors.iter().any(|error| {
            error.path.len() >= self.path.len()
                && self.path.iter().zip(&error.path).all(|steps| match steps {
                    (Step::Key(key), PathSegment::Field(field)) => *key == field,
                    (Step::Index(index), PathSegment::Index(of)) => index == of,
                    _ => false,
                })
        })
    }

    fn add_error(&mut self, what: &'static str) {
        let path = self.path.iter().map(|step| match step {
            Step::Key(key) => PathSegment::Field((*key).to_owned()),
            Step::Index(index) => PathSegment::Index(*index),
        });
        let path: Vec<PathSegment> = path.collect();
        tracing::error!(?path, "{what}");
        let mut error = [ServerError {
            path,
            ..ApiError::panicked().into_server_error()
        }];
        error::finish(&mut error);
        self.errors.extend(error);
    }
}

const NULL: &Value = &Value::Null;

/// The value of a field; what failed was left out, and is null. Values mostly
/// come in the order of the plan.
fn find<'v>(object: &'v Value, field: &Field, index: usize) -> &'v Value {
    let Value::Object(object) = object else {
        return NULL;
    };
    match object.get_index(index) {
        Some((key, value)) if *key == field.key => value,
        _ => object.get(&field.key).unwrap_or(NULL),
    }
}

/// A value as JSON.
pub(crate) fn json_of(value: &Value) -> Box<str> {
    let mut out = Vec::new();
    write_leaf(&mut out, value);
    text(out).into()
}

/// What was written: JSON of what was text before.
pub(crate) fn text(written: Vec<u8>) -> String {
    String::from_utf8(written).unwrap_or_else(|error| unreachable!("JSON is text: {error}"))
}

/// A scalar, whatever it is made of.
fn write_leaf(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Boolean(true) => out.extend_from_slice(b"true"),
        Value::Boolean(false) => out.extend_from_slice(b"false"),
        Value::Number(number) => write_json(out, number),
        Value::String(text) => write_json(out, text),
        Value::Enum(name) => write_json(out, name),
        Value::Binary(text) => out.extend_from_slice(text),
        Value::List(items) => {
            out.push(b'[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write_leaf(out, item);
            }
            out.push(b']');
        }
        Value::Object(object) => {
            out.push(b'{');
            for (i, (key, value)) in object.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write_json(out, key);
                out.push(b':');
                write_leaf(out, value);
            }
            out.push(b'}');
        }
    }
}

fn write_json(out: &mut Vec<u8>, value: &impl serde::Serialize) {
    // Into memory, and of keys that are text: there is nothing to fail.
    serde_json::to_writer(out, value)
        .unwrap_or_else(|error| unreachable!("a value is JSON: {error}"));
}
