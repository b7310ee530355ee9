//! What a subscription asks for, in a form that is equal for all who ask for the
//! same: made from its plan's tree, which is then executed.

use std::fmt::Write;

use async_graphql::parser::types::{OperationDefinition, Selection, SelectionSet};
use async_graphql::{Name, Positioned, Variables};
use async_graphql_value::{ConstValue, Value};

/// A subscription, apart from where it begins.
pub(crate) struct Subscribed {
    /// What it selects, as text.
    pub(crate) text: Box<str>,
    /// Its field, whatever the document calls it.
    pub(crate) field: Box<str>,
    /// Where it begins, as its document says it.
    after: Option<Value>,
}

impl Subscribed {
    /// Takes where it begins out of a subscription; `None` if it selects nothing.
    pub(crate) fn of(operation: &mut OperationDefinition) -> Option<Self> {
        let set = &mut operation.selection_set.node;
        let field = set.items.iter_mut().find_map(|item| match &mut item.node {
            Selection::Field(field) => Some(&mut field.node),
            _ => None,
        })?;
        let arguments = &mut field.arguments;
        let place = arguments.iter().position(|(name, _)| name.node == "after");
        let after = place.map(|place| arguments.remove(place).1.node);
        let field = field.name.node.as_str().into();
        Some(Self {
            text: print(set).into(),
            field,
            after,
        })
    }

    /// The variable that says where it begins.
    pub(crate) fn after_variable(&self) -> Option<&Name> {
        match &self.after {
            Some(Value::Variable(name)) => Some(name),
            _ => None,
        }
    }

    /// Where it begins, with what a request gives its variables.
    pub(crate) fn after(&self, variables: &Variables) -> Option<ConstValue> {
        match self.after.as_ref()? {
            Value::Variable(name) => variables.get(name).cloned(),
            literal => literal.clone().into_const(),
        }
    }
}

/// The selections of a plan as text: two plans have the same only if they select
/// the same.
fn print(set: &SelectionSet) -> String {
    let mut text = String::new();
    print_set(set, &mut text);
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
                print_set(&field.selection_set.node, text);
            }
            Selection::InlineFragment(fragment) => {
                text.push_str("...");
                if let Some(condition) = &fragment.node.type_condition {
                    let _ = write!(text, " on {}", condition.node.on);
                }
                print_set(&fragment.node.selection_set.node, text);
            }
            // A plan has none.
            Selection::FragmentSpread(_) => {}
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

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use async_graphql::parser::types::OperationType;
    use serde_json::json;

    use super::*;
    use crate::graphql::Limits;
    use crate::graphql::operation::document::{Documents, Prepared};

    fn documents() -> Documents {
        let limits = Limits {
            depth: 15,
            tokens: 1000,
            aliases: 10,
            points: 1000,
            answer_bytes: 1 << 20,
            body_bytes: 1000,
            operation_timeout: std::time::Duration::from_secs(1),
        };
        Documents::new(limits, 1 << 20)
    }

    fn prepare(documents: &Documents, text: &str, variables: serde_json::Value) -> Prepared {
        let variables = serde_json::from_value(variables).unwrap();
        let prepared = documents.prepare(text, None, variables);
        prepared.unwrap_or_else(|errors| panic!("{text}: {errors:?}"))
    }

    fn text(documents: &Documents, text: &str) -> String {
        let prepared = prepare(documents, text, json!({ "u": "plant:1", "v": "plant:1" }));
        assert_eq!(prepared.kind, OperationType::Subscription);
        prepared.plan.subscribed.as_ref().unwrap().text.to_string()
    }

    #[test]
    fn those_who_ask_for_the_same_have_the_same_text() {
        let documents = documents();
        let plain = text(
            &documents,
            "subscription { changes(entities: [UNIT]) { position unit } }",
        );
        for same in [
            "subscription{changes(entities:[UNIT]){position,unit}}",
            "# where\nsubscription { changes(entities: [UNIT]) { position # what\r unit } }",
            "subscription { ...F } fragment F on Subscription { changes(entities: [UNIT]) { position unit } }",
            "subscription { ... on Subscription { changes(entities: [UNIT]) { position unit } } }",
            "subscription { changes(entities: [UNIT]) { position ...F } } fragment F on Change { unit position }",
            "subscription { changes(entities: [UNIT]) { position unit forecast @skip(if: true) { from } } }",
            "subscription($a: Position) { changes(after: $a, entities: [UNIT]) { position unit } }",
            "subscription { changes(entities: [UNIT], after: \"0000000a.2\") { position unit } }",
        ] {
            assert_eq!(text(&documents, same), plain, "{same}");
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
            assert_ne!(text(&documents, other), plain, "{other}");
        }
        let with = |declared: &str, unit: &str| {
            text(
                &documents,
                &format!(
                    "subscription{declared} {{ forecastLive(provider: \"$u\", resolution: PT1H, from: \"2026-01-01T00:00:00Z\", to: \"2026-01-02T00:00:00Z\", unit: {unit}) {{ position }} }}"
                ),
            )
        };
        let texts = [
            with("($u: UnitKey!)", "$u"),
            with("($v: UnitKey!)", "$v"),
            with("", "\"plant:1\""),
            with("", "\"plant:2\""),
        ];
        let different: HashSet<&String> = texts.iter().collect();
        assert_eq!(different.len(), texts.len());
    }

    #[test]
    fn where_it_begins_is_found_wherever_it_stands() {
        let documents = documents();
        let (two, three, five) = ("0000000a.2", "0000000a.3", "0000000a.5");
        for (text, without, with) in [
            ("subscription { changes { position } }", None, None),
            (
                "subscription { changes(after: \"0000000a.2\") { position } }",
                Some(two),
                Some(two),
            ),
            (
                "subscription($a: Position) { changes(after: $a) { position } }",
                None,
                Some(five),
            ),
            (
                "subscription($a: Position = \"0000000a.3\") { ...F } fragment F on Subscription { changes(after: $a) { position } }",
                Some(three),
                Some(five),
            ),
        ] {
            for (variables, expect) in [(json!(null), without), (json!({ "a": five }), with)] {
                let prepared = prepare(&documents, text, variables);
                let subscribed = prepared.plan.subscribed.as_ref().unwrap();
                let after = subscribed.after(&prepared.variables);
                assert_eq!(after, expect.map(ConstValue::from), "{text}");
                // It is no part of what is executed.
                assert_eq!(prepared.plan.variables().count(), 0, "{text}");
            }
        }
    }
}
