//! What a subscription asks for, in a form that is equal for all who ask for the
//! same: made from what was parsed, and what is then executed.

use std::collections::HashSet;
use std::fmt::Write;

use async_graphql::parser::types::{
    Directive, DocumentOperations, ExecutableDocument, Field, OperationDefinition, Selection,
    SelectionSet, TypeCondition,
};
use async_graphql::{Name, Positioned};
use async_graphql_value::{ConstValue, Value};

use crate::error::ApiError;

/// A subscription by itself: its one field stands at the root, nothing else of
/// its document is left, and where it begins is taken out.
pub(crate) struct Subscribed {
    pub(crate) document: ExecutableDocument,
    /// The document as text, however it was laid out.
    pub(crate) text: Box<str>,
    /// Its field, whatever the document calls it.
    pub(crate) field: Box<str>,
    /// Its `after`, if it has one.
    pub(crate) after: Option<After>,
}

/// Where a subscription is to begin, as its document says it.
pub(crate) struct After {
    value: Value,
    /// Of the variable, if it is one.
    default: Option<ConstValue>,
}

impl After {
    /// The value, with what a request gives its variables.
    pub(crate) fn value(&self, variables: &async_graphql::Variables) -> Option<ConstValue> {
        match &self.value {
            Value::Variable(name) => variables.get(name).or(self.default.as_ref()).cloned(),
            literal => literal.clone().into_const(),
        }
    }
}

impl Subscribed {
    pub(crate) fn new(
        document: &ExecutableDocument,
        operation: &Positioned<OperationDefinition>,
    ) -> Result<Self, ApiError> {
        let mut fields = Vec::new();
        let set = &operation.node.selection_set.node;
        root_fields(document, set, &mut HashSet::new(), &mut fields)?;
        let [field] = fields[..] else {
            return Err(ApiError::bad_input(
                "a subscription selects one field: open one for each",
            ));
        };
        if field.node.name.node.starts_with("__") {
            return Err(ApiError::bad_input(
                "a subscription selects a field of `Subscription`, not one of introspection",
            ));
        }
        let (mut field, mut operation) = (field.clone(), operation.clone());
        let name = field.node.name.node.as_str().into();
        let place = field
            .node
            .arguments
            .iter()
            .position(|(name, _)| name.node == "after");
        let after = place.map(|place| field.node.arguments.remove(place).1.node);
        operation.node.selection_set.node.items =
            vec![Positioned::new(Selection::Field(field), operation.pos)];
        let mut fragments = document.fragments.clone();
        let mut used = Used::default();
        used.visit_operation(&operation.node, document);
        fragments.retain(|name, _| used.fragments.contains(name));
        let after = after.map(|value| {
            let mut default = None;
            if let Value::Variable(name) = &value
                && !used.variables.contains(name)
            {
                let declared = &mut operation.node.variable_definitions;
                if let Some(place) = declared.iter().position(|d| d.node.name.node == *name) {
                    let variable = declared.remove(place).node;
                    default = variable.default_value.map(|value| value.node);
                }
            }
            After { value, default }
        });
        let document = ExecutableDocument {
            operations: DocumentOperations::Single(operation),
            fragments,
        };
        Ok(Self {
            text: print(&document).into(),
            document,
            field: name,
            after,
        })
    }

    /// The variables that it still has.
    pub(crate) fn variables(&self) -> impl Iterator<Item = &Name> {
        let definitions = match &self.document.operations {
            DocumentOperations::Single(operation) => operation.node.variable_definitions.as_slice(),
            DocumentOperations::Multiple(_) => &[],
        };
        definitions.iter().map(|variable| &variable.node.name.node)
    }
}

/// The type of a subscription's root.
const ROOT_TYPE: &str = "Subscription";

/// The fields at the root, through fragments.
fn root_fields<'a>(
    document: &'a ExecutableDocument,
    set: &'a SelectionSet,
    spread: &mut HashSet<&'a Name>,
    fields: &mut Vec<&'a Positioned<Field>>,
) -> Result<(), ApiError> {
    for item in &set.items {
        if !item.node.directives().is_empty() {
            return Err(ApiError::bad_input(
                "the field of a subscription cannot be skipped or included: it is all there is",
            ));
        }
        let (condition, below) = match &item.node {
            Selection::Field(field) => {
                fields.push(field);
                continue;
            }
            Selection::InlineFragment(fragment) => (
                fragment.node.type_condition.as_ref(),
                &fragment.node.selection_set.node,
            ),
            Selection::FragmentSpread(of) => {
                let name = &of.node.fragment_name.node;
                let fragment = document.fragments.get(name);
                let Some(fragment) = fragment.filter(|_| spread.insert(name)) else {
                    continue;
                };
                let fragment = &fragment.node;
                (Some(&fragment.type_condition), &fragment.selection_set.node)
            }
        };
        if condition.is_some_and(|of| of.node.on.node != ROOT_TYPE) {
            return Err(ApiError::bad_input(
                "a fragment at the root of a subscription is one on `Subscription`",
            ));
        }
        root_fields(document, below, spread, fields)?;
    }
    Ok(())
}

/// What an operation uses of its document.
#[derive(Default)]
struct Used {
    fragments: HashSet<Name>,
    variables: HashSet<Name>,
}

impl Used {
    fn visit_operation(&mut self, operation: &OperationDefinition, document: &ExecutableDocument) {
        self.visit_directives(&operation.directives);
        self.visit_set(&operation.selection_set.node, document);
    }

    fn visit_set(&mut self, set: &SelectionSet, document: &ExecutableDocument) {
        for item in &set.items {
            self.visit_directives(item.node.directives());
            match &item.node {
                Selection::Field(field) => {
                    for (_, value) in &field.node.arguments {
                        self.visit_value(&value.node);
                    }
                    self.visit_set(&field.node.selection_set.node, document);
                }
                Selection::InlineFragment(fragment) => {
                    self.visit_set(&fragment.node.selection_set.node, document);
                }
                Selection::FragmentSpread(spread) => {
                    let name = &spread.node.fragment_name.node;
                    let fragment = document.fragments.get(name);
                    if let Some(fragment) = fragment.filter(|_| self.fragments.insert(name.clone()))
                    {
                        self.visit_directives(&fragment.node.directives);
                        self.visit_set(&fragment.node.selection_set.node, document);
                    }
                }
            }
        }
    }

    fn visit_directives(&mut self, directives: &[Positioned<Directive>]) {
        for (_, value) in directives.iter().flat_map(|d| &d.node.arguments) {
            self.visit_value(&value.node);
        }
    }

    fn visit_value(&mut self, value: &Value) {
        match value {
            Value::Variable(name) => {
                self.variables.insert(name.clone());
            }
            Value::List(items) => items.iter().for_each(|item| self.visit_value(item)),
            Value::Object(fields) => fields.values().for_each(|value| self.visit_value(value)),
            _ => {}
        }
    }
}

/// A document as text. Two have the same only if they are the same but for
/// layout, comments, and the order of fragments.
fn print(document: &ExecutableDocument) -> String {
    let mut text = String::new();
    for (name, operation) in document.operations.iter() {
        let operation = &operation.node;
        let _ = write!(text, "{} {}", operation.ty, name.map_or("", Name::as_str));
        if !operation.variable_definitions.is_empty() {
            text.push('(');
            for variable in &operation.variable_definitions {
                let variable = &variable.node;
                let _ = write!(text, "${}: {}", variable.name, variable.var_type);
                if let Some(default) = &variable.default_value {
                    let _ = write!(text, " = {}", default.node);
                }
                print_directives(&variable.directives, &mut text);
                text.push(' ');
            }
            text.push(')');
        }
        print_directives(&operation.directives, &mut text);
        print_set(&operation.selection_set.node, &mut text);
    }
    let mut fragments: Vec<_> = document.fragments.iter().collect();
    fragments.sort_by_key(|(name, _)| *name);
    for (name, fragment) in fragments {
        let fragment = &fragment.node;
        let _ = write!(
            text,
            " fragment {name} on {}",
            fragment.type_condition.node.on
        );
        print_directives(&fragment.directives, &mut text);
        print_set(&fragment.selection_set.node, &mut text);
    }
    text
}

fn print_set(set: &SelectionSet, text: &mut String) {
    if set.items.is_empty() {
        return;
    }
    text.push_str(" { ");
    for item in &set.items {
        match &item.node {
            Selection::Field(field) => {
                let field = &field.node;
                if let Some(alias) = &field.alias {
                    let _ = write!(text, "{alias}: ");
                }
                text.push_str(field.name.node.as_str());
                print_arguments(&field.arguments, text);
                print_directives(&field.directives, text);
                print_set(&field.selection_set.node, text);
            }
            Selection::FragmentSpread(spread) => {
                let _ = write!(text, "...{}", spread.node.fragment_name);
                print_directives(&spread.node.directives, text);
            }
            Selection::InlineFragment(fragment) => {
                text.push_str("...");
                if let Some(Positioned {
                    node: TypeCondition { on },
                    ..
                }) = &fragment.node.type_condition
                {
                    let _ = write!(text, " on {on}");
                }
                print_directives(&fragment.node.directives, text);
                print_set(&fragment.node.selection_set.node, text);
            }
        }
        text.push(' ');
    }
    text.push('}');
}

fn print_arguments(arguments: &[(Positioned<Name>, Positioned<Value>)], text: &mut String) {
    if arguments.is_empty() {
        return;
    }
    text.push('(');
    for (name, value) in arguments {
        let _ = write!(text, "{name}: {} ", value.node);
    }
    text.push(')');
}

fn print_directives(directives: &[Positioned<Directive>], text: &mut String) {
    for directive in directives {
        let _ = write!(text, " @{}", directive.node.name);
        print_arguments(&directive.node.arguments, text);
    }
}

#[cfg(test)]
mod tests {
    use async_graphql::parser::parse_query;

    use super::*;

    fn subscribed(text: &str) -> Result<Subscribed, ApiError> {
        let document = parse_query(text).unwrap();
        let (_, operation) = document.operations.iter().next().unwrap();
        Subscribed::new(&document, operation)
    }

    fn text(document: &str) -> String {
        subscribed(document).unwrap().text.into()
    }

    #[test]
    fn those_who_ask_for_the_same_have_the_same_text() {
        let plain = text("subscription { changes(entities: [UNIT]) { position unit } }");
        for same in [
            "subscription{changes(entities:[UNIT]){position,unit}}",
            "# where\nsubscription { changes(entities: [UNIT]) { position # what\r unit } }",
            "subscription { ...F } fragment F on Subscription { changes(entities: [UNIT]) { position unit } }",
            "subscription { ... on Subscription { changes(entities: [UNIT]) { position unit } } }",
            "subscription($a: Position) { changes(after: $a, entities: [UNIT]) { position unit } }",
            "subscription { changes(entities: [UNIT], after: \"1.2\") { position unit } }",
        ] {
            assert_eq!(text(same), plain, "{same}");
        }
        for other in [
            "subscription { changes(entities: [PROVIDER]) { position unit } }",
            "subscription { changes(entities: []) { position unit } }",
            "subscription { changes { position unit } }",
            "subscription { x: changes(entities: [UNIT]) { position unit } }",
            "subscription { changes(entities: [UNIT]) { unit position } }",
            "subscription { changes(entities: [UNIT]) { position unit @skip(if: true) } }",
            "subscription { changes(entities: [UNIT]) { position: unit } }",
            // What a comment hides from a careless eye.
            "subscription { changes #\r(entities: [])\n { position unit } }",
            "subscription($e: [ChangeEntity!] = [UNIT]) { changes(entities: $e) { position unit } }",
        ] {
            assert_ne!(text(other), plain, "{other}");
        }
        let with = |literal: &str| text(&format!("subscription {{ a(b: {literal}) {{ c }} }}"));
        let literals = [
            "\"x y\"", "\"x  y\"", "\"$x\"", "$x", "X", "\"X\"", "1", "1.0", "\"1\"", "{ a: 1 }",
            "[1]",
        ];
        let different: HashSet<String> = literals.iter().map(|literal| with(literal)).collect();
        assert_eq!(different.len(), literals.len());
    }

    #[test]
    fn its_text_is_its_document() {
        for document in [
            "subscription { a }",
            "subscription N($a: [Int!]! = [1, 2], $b: X) { f: a(b: $b, c: [$a, { d: \"\\\"\\n\" }]) { g @x(y: 1.5) ...G ... on T @z { e } ... { f } } } fragment G on T { g ...H } fragment H on T { h }",
        ] {
            let once = subscribed(document).unwrap();
            assert_eq!(text(&once.text), *once.text);
        }
    }

    #[test]
    fn where_it_begins_is_found_wherever_it_stands() {
        let none = async_graphql::Variables::default();
        let some = async_graphql::Variables::from_json(serde_json::json!({ "a": "1.5" }));
        let value = |text: &str, variables| {
            let after = subscribed(text).unwrap().after;
            after.and_then(|after| after.value(variables))
        };
        for (text, without, with) in [
            ("subscription { a }", None, None),
            (
                "subscription { a(after: \"1.2\") }",
                Some("1.2"),
                Some("1.2"),
            ),
            ("subscription($a: P) { a(after: $a) }", None, Some("1.5")),
            (
                "subscription($a: P = \"1.3\") { ...F } fragment F on Subscription { a(after: $a) }",
                Some("1.3"),
                Some("1.5"),
            ),
        ] {
            let expect = |text: Option<&str>| text.map(ConstValue::from);
            assert_eq!(value(text, &none), expect(without), "{text}");
            assert_eq!(value(text, &some), expect(with), "{text}");
        }
        // A variable that has another use stays.
        let used = subscribed("subscription($a: P) { a(after: $a, b: [{ c: $a }]) }").unwrap();
        assert_eq!(used.variables().count(), 1);
        let only = subscribed("subscription($a: P, $b: Q) { a(after: $a, b: $b) }").unwrap();
        assert_eq!(
            only.variables().map(Name::as_str).collect::<Vec<_>>(),
            ["b"]
        );
    }

    #[test]
    fn it_has_one_field() {
        for text in [
            "subscription { a b }",
            "subscription { a ...F } fragment F on Subscription { b }",
            "subscription { ...F } fragment F on Subscription { ...F }",
            "subscription { __typename }",
            "subscription { a @include(if: true) }",
            "subscription { ...F @skip(if: true) } fragment F on Subscription { a }",
            "subscription { ...F } fragment F on Query { a }",
            "subscription { ... on Query { a } }",
        ] {
            assert!(subscribed(text).is_err(), "{text}");
        }
    }
}
