//! What a query asks of the schema itself.

use std::sync::Arc;

use apollo_compiler::ExecutableDocument;
use apollo_compiler::collections::HashMap;
use apollo_compiler::executable::{Operation, Selection, SelectionSet};
use apollo_compiler::introspection;
use apollo_compiler::response::serde_json_bytes::ByteString;
use apollo_compiler::response::{GraphQLError, JsonMap, JsonValue, ResponseDataPathSegment};
use apollo_compiler::validation::Valid;
use async_graphql::{PathSegment, Pos, ServerError, Value, Variables};

use super::contract::Contract;
use super::{document, fault};
use crate::error::ApiError;

/// Lists of fields, input fields, interfaces or possible types within one
/// another: each multiplies the answer.
const DEEPEST: usize = 4;

/// Refuses an operation that goes round in the schema.
pub(super) fn check_depth(
    document: &ExecutableDocument,
    operation: &Operation,
) -> Result<(), ServerError> {
    let found = lists(document, &operation.selection_set, &mut HashMap::default());
    if found > DEEPEST {
        return Err(fault::too_complex(format!(
            "the introspection is too deep: {found} lists of fields or types lie in one another, at most {DEEPEST} may"
        )));
    }
    Ok(())
}

/// `known` has what fragments have; none is one of itself once it is valid.
fn lists<'a>(
    document: &'a ExecutableDocument,
    set: &'a SelectionSet,
    known: &mut HashMap<&'a str, usize>,
) -> usize {
    let multiplies = |name: &str| {
        set.ty.starts_with("__")
            && ["fields", "inputFields", "interfaces", "possibleTypes"].contains(&name)
    };
    let found = set.selections.iter().map(|selection| match selection {
        Selection::Field(field) => {
            let below = field.selection_set.as_ref();
            let below = below.map_or(0, |set| lists(document, set, known));
            usize::from(multiplies(&field.name)) + below
        }
        Selection::InlineFragment(fragment) => lists(document, &fragment.selection_set, known),
        Selection::FragmentSpread(spread) => {
            let name = spread.fragment_name.as_str();
            if let Some(found) = known.get(name) {
                return *found;
            }
            let fragment = document.fragments.get(name);
            let found = fragment.map_or(0, |f| lists(document, &f.selection_set, known));
            known.insert(name, found);
            found
        }
    });
    found.max().unwrap_or(0)
}

/// What a query asks of the schema itself, to be executed with the rest of it.
pub(crate) struct Introspection {
    pub(super) contract: Arc<Contract>,
    pub(super) document: Arc<Valid<ExecutableDocument>>,
    /// Its place among the document's operations.
    pub(super) operation: usize,
    pub(super) variables: Variables,
}

/// The answers to `__schema` and `__type` at the root of a query, by response key.
#[derive(Default)]
pub(crate) struct Introspected {
    pub(crate) data: JsonMap,
    pub(crate) errors: Vec<ServerError>,
}

impl Introspection {
    pub(crate) fn execute(&self) -> Introspected {
        let variables = self.variables.iter();
        let variables =
            variables.map(|(name, value)| (ByteString::from(name.as_str()), json(value)));
        let answered = introspection::partial_execute(
            &self.contract.schema,
            &self.contract.implementers,
            &self.document,
            document::nth(&self.document, self.operation),
            &Valid::assume_valid(variables.collect()),
        );
        match answered {
            Ok(answer) => Introspected {
                data: answer.data.unwrap_or_default(),
                errors: answer.errors.into_iter().map(of_field).collect(),
            },
            Err(error) => Introspected {
                data: JsonMap::new(),
                errors: vec![ApiError::bad_input(error.message().to_string()).into_server_error()],
            },
        }
    }
}

/// The error of a field.
fn of_field(error: GraphQLError) -> ServerError {
    let place = error.locations.first().map(|place| Pos {
        line: place.line,
        column: place.column,
    });
    let path = error.path.into_iter().map(|step| match step {
        ResponseDataPathSegment::Field(name) => PathSegment::Field(name.to_string()),
        ResponseDataPathSegment::ListIndex(index) => PathSegment::Index(index),
    });
    ServerError {
        path: path.collect(),
        ..fault::at(ApiError::bad_input(error.message), place)
    }
}

fn json(value: &Value) -> JsonValue {
    match value {
        Value::Null | Value::Binary(_) => JsonValue::Null,
        Value::Number(number) => JsonValue::Number(number.clone()),
        Value::String(text) => JsonValue::String(text.as_str().into()),
        Value::Boolean(truth) => JsonValue::Bool(*truth),
        Value::Enum(name) => JsonValue::String(name.as_str().into()),
        Value::List(items) => items.iter().map(json).collect(),
        Value::Object(object) => {
            let entries = object.iter();
            let entries = entries.map(|(key, value)| (ByteString::from(key.as_str()), json(value)));
            JsonValue::Object(entries.collect())
        }
    }
}
