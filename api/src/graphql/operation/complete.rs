//! Completion: what was executed becomes the text of an answer.
//!
//! The plan says which fields an answer has, in which order, and which may be
//! null. Where one that may not is missing, what was written of its nearest
//! nullable parent is cut off and null stands there instead.

use apollo_compiler::response::JsonMap;
use async_graphql::{PathSegment, ServerError, Value};

use super::plan::{Field, Fields, Plan, Shape, TYPE_KEY, Type};
use crate::error::{self, ApiError, ErrorCode};

/// Writes `{"data":…` and, if there are any, `,"errors":[…]`: a result up to where
/// its extensions may stand. An error is added where a value is missing and none
/// says why. What would become longer than `most` bytes is refused: what is stored,
/// or was given, decides about the length of a text, and no estimate knows it.
pub(crate) fn complete(
    plan: &Plan,
    data: &Value,
    introspected: &JsonMap,
    errors: &mut Vec<ServerError>,
    most: u64,
) -> Result<Vec<u8>, ApiError> {
    let mut out = Vec::with_capacity(1024);
    out.extend_from_slice(b"{\"data\":");
    let mut writer = Writer {
        out,
        path: Vec::new(),
        introspected,
        errors,
        most: usize::try_from(most).unwrap_or(usize::MAX),
    };
    let start = writer.out.len();
    match writer.object(&plan.root, data) {
        Ok(()) => {}
        Err(Stop::Missing) => {
            writer.out.truncate(start);
            writer.out.extend_from_slice(b"null");
        }
        Err(Stop::TooLong) => {
            let message = format!(
                "the answer has more than {most} bytes: ask for less, or in several requests"
            );
            return Err(ApiError::new(ErrorCode::TooComplex, message));
        }
    }
    let mut out = writer.out;
    if !errors.is_empty() {
        out.extend_from_slice(b",\"errors\":");
        write_json(&mut out, errors);
    }
    Ok(out)
}

struct Writer<'a> {
    out: Vec<u8>,
    path: Vec<Step<'a>>,
    introspected: &'a JsonMap,
    errors: &'a mut Vec<ServerError>,
    most: usize,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Key(&'a str),
    Index(usize),
}

/// Why something is not written.
enum Stop {
    /// A value that may not be null is missing: its parent is null, or its parent's.
    Missing,
    /// The answer has become too long.
    TooLong,
}

impl<'a> Writer<'a> {
    fn value(&mut self, ty: &'a Type, value: &'a Value) -> Result<(), Stop> {
        let start = self.out.len();
        let written = match (&ty.shape, value) {
            (_, Value::Null) => self.null(ty),
            // JSON text that a field has written itself.
            (_, Value::Binary(text)) => {
                if self.out.len().saturating_add(text.len()) > self.most {
                    return Err(Stop::TooLong);
                }
                self.out.extend_from_slice(text);
                Ok(())
            }
            (Shape::Leaf, leaf) => {
                write_leaf(&mut self.out, leaf);
                self.check_length()
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
            Err(Stop::Missing) if ty.nullable => {
                self.out.truncate(start);
                self.out.extend_from_slice(b"null");
                Ok(())
            }
            written => written,
        }
    }

    fn list(&mut self, item: &'a Type, items: &'a [Value]) -> Result<(), Stop> {
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

    fn object(&mut self, fields: &'a Fields, object: &'a Value) -> Result<(), Stop> {
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

    fn introspected(&mut self, field: &Field) -> Result<(), Stop> {
        match self.introspected.get(field.key.as_str()) {
            Some(answer) => {
                write_json(&mut self.out, answer);
                self.check_length()
            }
            None => self.null(&field.ty),
        }
    }

    fn check_length(&self) -> Result<(), Stop> {
        if self.out.len() > self.most {
            return Err(Stop::TooLong);
        }
        Ok(())
    }

    fn null(&mut self, ty: &Type) -> Result<(), Stop> {
        if ty.nullable {
            self.out.extend_from_slice(b"null");
            return Ok(());
        }
        if !self.is_explained() {
            self.add_error("a field that may not be null has no value");
        }
        Err(Stop::Missing)
    }

    /// A value that its type cannot have: a fault of ours.
    fn unfit(&mut self, ty: &Type) -> Result<(), Stop> {
        self.add_error("a field has a value that is not of its type");
        if ty.nullable {
            self.out.extend_from_slice(b"null");
            return Ok(());
        }
        Err(Stop::Missing)
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

#[cfg(test)]
mod tests {
    use apollo_compiler::ExecutableDocument;
    use serde_json::json;

    use super::super::contract::Contract;
    use super::*;

    const SCHEMA: &str = "
        type Query { a: A  n: A!  list: [A]  firm: [A!]  grid: [[Int!]]!  some: Some  any: [Any!]!  text: JSON }
        type A { x: Int  y: Int!  a: A  n: A!  list: [A!]! }
        type B implements Some { z: Int!  id: ID }
        type C implements Some { id: ID }
        interface Some { id: ID }
        union Any = B | C
        scalar JSON";

    /// The text of an answer, and paths of its errors, of which those of `failed`
    /// fields were there before.
    fn completed(query: &str, data: serde_json::Value, failed: &[&str]) -> (String, Vec<String>) {
        let contract = Contract::new(SCHEMA);
        let document = ExecutableDocument::parse_and_validate(&contract.schema, query, "test");
        let document = document.unwrap_or_else(|found| panic!("{query}: {found}"));
        let operation = document.operations.get(None).unwrap();
        let plan = Plan::new(&contract, &document, operation, 100, &|_| true, &|_| true);
        let plan = plan.unwrap_or_else(|error| panic!("{query}: {error}"));
        let mut errors: Vec<ServerError> = failed
            .iter()
            .map(|path| ServerError {
                path: path.split('.').map(segment).collect(),
                ..ServerError::new("failed", None)
            })
            .collect();
        let data = Value::from_json(data).unwrap();
        let written = complete(&plan, &data, &JsonMap::new(), &mut errors, u64::MAX).unwrap();
        let written: serde_json::Value =
            serde_json::from_str(&format!("{}}}", text(written.clone()))).unwrap_or_else(|error| {
                panic!("{error}: {}", text(written));
            });
        let paths = errors.iter().map(|error| {
            let path = serde_json::to_value(&error.path).unwrap();
            let steps = path.as_array().unwrap().iter().map(|step| match step {
                serde_json::Value::String(key) => key.clone(),
                index => index.to_string(),
            });
            steps.collect::<Vec<_>>().join(".")
        });
        (written["data"].to_string(), paths.collect())
    }

    fn segment(step: &str) -> PathSegment {
        match step.parse() {
            Ok(index) => PathSegment::Index(index),
            Err(_) => PathSegment::Field(step.to_owned()),
        }
    }

    #[test]
    fn null_comes_up_to_the_nearest_parent_that_may_be_null() {
        for (query, data, failed, expect, errors) in [
            // What failed was left out.
            (
                "{ a { y x } }",
                json!({ "a": { "y": 1 } }),
                vec!["a.x"],
                r#"{"a":{"x":null,"y":1}}"#,
                vec!["a.x"],
            ),
            (
                "{ a { x y } }",
                json!({ "a": { "x": 1 } }),
                vec!["a.y"],
                r#"{"a":null}"#,
                vec!["a.y"],
            ),
            (
                "{ n { y } }",
                json!({ "n": null }),
                vec!["n.y"],
                "null",
                vec!["n.y"],
            ),
            (
                "{ n { a { n { y } } } }",
                json!({ "n": { "a": { "n": {} } } }),
                vec!["n.a.n.y"],
                r#"{"n":{"a":null}}"#,
                vec!["n.a.n.y"],
            ),
            (
                "{ list { y } }",
                json!({ "list": [{ "y": 1 }, {}, null] }),
                vec!["list.1.y"],
                r#"{"list":[{"y":1},null,null]}"#,
                vec!["list.1.y"],
            ),
            (
                "{ firm { y } }",
                json!({ "firm": [{ "y": 1 }, {}] }),
                vec!["firm.1.y"],
                r#"{"firm":null}"#,
                vec!["firm.1.y"],
            ),
            (
                "{ a { list { list { y } } } }",
                json!({ "a": { "list": [{ "list": [{}] }] } }),
                vec!["a.list.0.list.0.y"],
                r#"{"a":null}"#,
                vec!["a.list.0.list.0.y"],
            ),
            (
                "{ grid }",
                json!({ "grid": [[1, 2], [3, null], []] }),
                vec![],
                r#"{"grid":[[1,2],null,[]]}"#,
                vec!["grid.1.1"],
            ),
            // A value that is missing without an error is one.
            (
                "{ a { y } }",
                json!({ "a": { "y": null } }),
                vec![],
                r#"{"a":null}"#,
                vec!["a.y"],
            ),
            (
                "{ n { y } }",
                json!({}),
                vec!["other"],
                "null",
                vec!["other", "n"],
            ),
            (
                "{ grid }",
                json!({ "grid": null }),
                vec![],
                "null",
                vec!["grid"],
            ),
            // So is one that its type cannot have.
            (
                "{ a { x } }",
                json!({ "a": [1] }),
                vec![],
                r#"{"a":null}"#,
                vec!["a"],
            ),
            (
                "{ list { y } }",
                json!({ "list": { "y": 1 } }),
                vec![],
                r#"{"list":null}"#,
                vec!["list"],
            ),
            (
                "{ some { id } }",
                json!({ "some": { "id": "1" } }),
                vec![],
                r#"{"some":null}"#,
                vec!["some"],
            ),
            // What is not asked for does not count, and neither does the order of values.
            (
                "{ a { x y } text }",
                json!({ "text": { "b": [1, "\u{1}\"é"], "a": null }, "a": { "z": 1, "y": 2, "x": 3 } }),
                vec![],
                r#"{"a":{"x":3,"y":2},"text":{"a":null,"b":[1,"\u0001\"é"]}}"#,
                vec![],
            ),
        ] {
            let (text, paths) = completed(query, data.clone(), &failed);
            let expect: serde_json::Value = serde_json::from_str(expect).unwrap();
            assert_eq!(text, expect.to_string(), "{query} {data}");
            assert_eq!(paths, errors, "{query} {data}");
        }
    }

    #[test]
    fn an_object_is_written_by_its_own_type() {
        let query = "{ any { ... on C { id } ... on B { z ...S } } some { id ... on B { z } } } fragment S on Some { id }";
        let b = json!({ ":type": "B", "z": 1, "id": "b" });
        let c = json!({ ":type": "C", "id": null });
        let (text, errors) = completed(query, json!({ "any": [b, c], "some": c }), &[]);
        assert_eq!(
            text,
            r#"{"any":[{"id":"b","z":1},{"id":null}],"some":{"id":null}}"#
        );
        assert!(errors.is_empty(), "{errors:?}");
        let b = json!({ ":type": "B", "id": "b" });
        let (text, _) = completed(query, json!({ "any": [], "some": b }), &["some.z"]);
        assert_eq!(text, r#"{"any":[],"some":null}"#);
    }
}
