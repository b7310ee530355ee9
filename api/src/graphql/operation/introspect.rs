//! What a query asks of the schema itself.

use apollo_compiler::ExecutableDocument;
use apollo_compiler::collections::HashMap;
use apollo_compiler::executable::{Operation, Selection, SelectionSet};
use apollo_compiler::introspection;
use apollo_compiler::response::serde_json_bytes::ByteString;
use apollo_compiler::response::{JsonMap, JsonValue};
use apollo_compiler::validation::Valid;
use async_graphql::{ServerError, Value, Variables};

use super::contract::Contract;
use super::fault;
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

/// The answers to `__schema` and `__type` at the root of a query.
pub(super) fn execute(
    contract: &Contract,
    document: &Valid<ExecutableDocument>,
    operation: &Operation,
    variables: &Variables,
) -> Result<JsonMap, ServerError> {
    let variables = variables.iter();
    let variables = variables.map(|(name, value)| (ByteString::from(name.as_str()), json(value)));
    let answered = introspection::partial_execute(
        &contract.schema,
        &contract.implementers,
        document,
        operation,
        &Valid::assume_valid(variables.collect()),
    );
    match answered {
        Ok(answer) => Ok(answer.data.unwrap_or_default()),
        Err(error) => Err(ApiError::bad_input(error.message().to_string()).into_server_error()),
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
