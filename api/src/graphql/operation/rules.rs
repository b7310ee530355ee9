//! Rules of validation that apollo-compiler does not hold documents to.

use apollo_compiler::ast::{self, Definition, Selection};
use apollo_compiler::collections::{HashMap, HashSet};
use apollo_compiler::executable as exe;
use apollo_compiler::parser::SourceSpan;
use apollo_compiler::{ExecutableDocument, Name, Node};
use async_graphql::ServerError;

use super::contract::Contract;
use super::fault;
use super::input::{Place, Unfit};
use crate::error::ApiError;

/// The faults of a document that is valid by what apollo-compiler knows: values
/// of scalars that GraphQL does not define, and keys that are given twice.
pub(super) fn check(
    contract: &Contract,
    parsed: &ast::Document,
    valid: &ExecutableDocument,
) -> Vec<ServerError> {
    let mut faults = Vec::new();
    for operation in valid.operations.iter() {
        check_operation(contract, valid, operation, &mut faults);
    }
    for fragment in valid.fragments.values() {
        check_arguments(contract, valid, &fragment.selection_set, &mut faults);
    }
    let mut repeated = Vec::new();
    for definition in &parsed.definitions {
        let set = match definition {
            Definition::OperationDefinition(of) => {
                for variable in &of.variables {
                    let default = variable.default_value.iter();
                    default.for_each(|value| add_repeated(value, &mut repeated));
                }
                arguments(&of.directives).for_each(|value| add_repeated(value, &mut repeated));
                &of.selection_set
            }
            Definition::FragmentDefinition(of) => &of.selection_set,
            _ => continue,
        };
        each(set, &mut |selection| {
            values(selection).for_each(|value| add_repeated(value, &mut repeated));
        });
    }
    faults.extend(repeated.into_iter().map(|key| {
        let message = format!(
            "the key {} is given twice in one object",
            domain::quote(key)
        );
        let place = fault::place(key.location(), &valid.sources);
        fault::at(ApiError::bad_input(message), Some(place))
    }));
    faults
}

/// What an operation uses, its fragments included.
#[derive(Default)]
pub(super) struct Uses<'a> {
    variables: HashMap<&'a str, Option<SourceSpan>>,
    deciding: HashSet<&'a str>,
}

impl<'a> Uses<'a> {
    /// Of the operation of this name.
    pub(super) fn of(document: &'a ast::Document, name: Option<&Name>) -> Self {
        let mut fragments = HashMap::default();
        let mut uses = Self::default();
        let mut sets: Vec<&[Selection]> = Vec::new();
        for definition in &document.definitions {
            match definition {
                Definition::OperationDefinition(of) if of.name.as_ref() == name => {
                    arguments(&of.directives).for_each(|value| uses.add(value));
                    sets.push(&of.selection_set);
                }
                Definition::FragmentDefinition(of) => {
                    fragments.insert(of.name.as_str(), &of.selection_set[..]);
                }
                _ => {}
            }
        }
        while let Some(set) = sets.pop() {
            each(set, &mut |selection| {
                values(selection).for_each(|value| uses.add(value));
                for value in arguments(directives(selection)) {
                    if let ast::Value::Variable(name) = &**value {
                        uses.deciding.insert(name);
                    }
                }
                if let Selection::FragmentSpread(of) = selection {
                    // Once: it is not looked at again.
                    sets.extend(fragments.remove(of.fragment_name.as_str()));
                }
            });
        }
        uses
    }

    /// Whether a `@skip` or `@include` goes by this variable.
    pub(super) fn decides(&self, variable: &str) -> bool {
        self.deciding.contains(variable)
    }

    /// Variables that the operation does not declare: apollo-compiler does not look
    /// for them in values of scalars that GraphQL does not define.
    pub(super) fn undeclared(
        &self,
        operation: &exe::Operation,
        document: &ExecutableDocument,
    ) -> Vec<ServerError> {
        let declared = |name: &str| operation.variables.iter().any(|of| of.name == name);
        let mut missing: Vec<_> = self
            .variables
            .iter()
            .filter(|(name, _)| !declared(name))
            .collect();
        missing.sort_unstable_by_key(|(name, _)| **name);
        let told = missing.into_iter().take(fault::MOST_FAULTS);
        let faults = told.map(|(name, span)| {
            let message = format!(
                "the variable {} is not declared",
                domain::quote(&format!("${name}"))
            );
            let place = fault::place(*span, &document.sources);
            fault::at(ApiError::bad_input(message), Some(place))
        });
        faults.collect()
    }

    fn add(&mut self, value: &'a Node<ast::Value>) {
        match &**value {
            ast::Value::Variable(name) => {
                self.variables.entry(name).or_insert(name.location());
            }
            ast::Value::List(items) => items.iter().for_each(|item| self.add(item)),
            ast::Value::Object(entries) => entries.iter().for_each(|(_, entry)| self.add(entry)),
            _ => {}
        }
    }
}

/// Visits each selection of a set and of the sets below, without what fragments
/// have.
fn each<'a>(set: &'a [Selection], visit: &mut impl FnMut(&'a Selection)) {
    for selection in set {
        visit(selection);
        match selection {
            Selection::Field(of) => each(of.selection_set.as_deref().unwrap_or_default(), visit),
            Selection::InlineFragment(of) => each(&of.selection_set, visit),
            Selection::FragmentSpread(_) => {}
        }
    }
}

fn directives(selection: &Selection) -> &ast::DirectiveList {
    match selection {
        Selection::Field(of) => &of.directives,
        Selection::FragmentSpread(of) => &of.directives,
        Selection::InlineFragment(of) => &of.directives,
    }
}

fn arguments(directives: &ast::DirectiveList) -> impl Iterator<Item = &Node<ast::Value>> {
    let arguments = directives.iter().flat_map(|of| &of.arguments);
    arguments.map(|argument| &argument.value)
}

/// The values of a selection's arguments and directives.
fn values(selection: &Selection) -> impl Iterator<Item = &Node<ast::Value>> {
    let own: &[_] = match selection {
        Selection::Field(of) => &of.arguments,
        _ => &[],
    };
    let own = own.iter().map(|argument| &argument.value);
    own.chain(arguments(directives(selection)))
}

/// Adds keys that an object of the value has twice.
fn add_repeated<'a>(value: &'a Node<ast::Value>, found: &mut Vec<&'a Name>) {
    match &**value {
        ast::Value::List(items) => items.iter().for_each(|item| add_repeated(item, found)),
        ast::Value::Object(entries) => {
            let mut keys = HashSet::default();
            for (key, entry) in entries {
                if !keys.insert(key) && found.len() < fault::MOST_FAULTS {
                    found.push(key);
                }
                add_repeated(entry, found);
            }
        }
        _ => {}
    }
}

/// Whether two fields under one response key have the same arguments, in any
/// order. apollo-compiler takes lists for equal that begin with the same items.
pub(super) fn have_same_arguments(one: &exe::Field, other: &exe::Field) -> bool {
    let find = |name: &Name| other.arguments.iter().find(|of| of.name == *name);
    one.arguments.len() == other.arguments.len()
        && (one.arguments.iter())
            .all(|of| find(&of.name).is_some_and(|other| is_same(&of.value, &other.value)))
}

fn is_same(one: &ast::Value, other: &ast::Value) -> bool {
    match (one, other) {
        (ast::Value::List(one), ast::Value::List(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(a, b)| is_same(a, b))
        }
        (ast::Value::Object(one), ast::Value::Object(other)) => {
            let find = |key: &Name| other.iter().find(|(of, _)| of == key);
            one.len() == other.len()
                && (one.iter()).all(|(key, a)| find(key).is_some_and(|(_, b)| is_same(a, b)))
        }
        (one, other) => one == other,
    }
}

/// The document as it is valid or not: apollo-compiler takes a default that is null
/// for one that makes a nullable variable fit where null does not. `None` if there
/// is no such default.
pub(super) fn without_null_defaults(document: &ast::Document) -> Option<ast::Document> {
    let is_null = |variable: &ast::VariableDefinition| {
        let default = variable.default_value.as_ref();
        default.is_some_and(|default| default.is_null())
    };
    let mut found = None;
    for (i, definition) in document.definitions.iter().enumerate() {
        let ast::Definition::OperationDefinition(of) = definition else {
            continue;
        };
        if !of.variables.iter().any(|variable| is_null(variable)) {
            continue;
        }
        let mut operation = of.clone();
        for variable in &mut operation.make_mut().variables {
            if is_null(variable) {
                variable.make_mut().default_value = None;
            }
        }
        let copy = found.get_or_insert_with(|| document.clone());
        copy.definitions[i] = ast::Definition::OperationDefinition(operation);
    }
    found
}

fn check_operation(
    contract: &Contract,
    document: &ExecutableDocument,
    operation: &exe::Operation,
    faults: &mut Vec<ServerError>,
) {
    for variable in &operation.variables {
        if let (Some(ty), Some(default)) = (
            contract.inputs.resolve(&variable.ty),
            &variable.default_value,
        ) {
            let mut unfit = Vec::new();
            let place = Place::Variable(&variable.name);
            contract
                .inputs
                .check_literal(&ty, default, place, &mut unfit);
            tell(document, default.location(), unfit, faults);
        }
    }
    check_arguments(contract, document, &operation.selection_set, faults);
}

fn check_arguments(
    contract: &Contract,
    document: &ExecutableDocument,
    set: &exe::SelectionSet,
    faults: &mut Vec<ServerError>,
) {
    for selection in &set.selections {
        match selection {
            exe::Selection::Field(field) => {
                for argument in &field.arguments {
                    let defined = field.definition.argument_by_name(&argument.name);
                    let ty = defined.and_then(|of| contract.inputs.resolve(&of.ty));
                    if let Some(ty) = ty {
                        let mut unfit = Vec::new();
                        let place = Place::Argument(&argument.name);
                        let inputs = &contract.inputs;
                        inputs.check_literal(&ty, &argument.value, place, &mut unfit);
                        tell(document, argument.value.location(), unfit, faults);
                    }
                }
                if let Some(set) = &field.selection_set {
                    check_arguments(contract, document, set, faults);
                }
            }
            exe::Selection::InlineFragment(fragment) => {
                check_arguments(contract, document, &fragment.selection_set, faults);
            }
            exe::Selection::FragmentSpread(_) => {}
        }
    }
}

fn tell(
    document: &ExecutableDocument,
    span: Option<SourceSpan>,
    unfit: Vec<Unfit>,
    faults: &mut Vec<ServerError>,
) {
    for unfit in unfit {
        let message = format!("{}: {}", unfit.path, unfit.message);
        let place = fault::place(span, &document.sources);
        faults.push(fault::at(
            ApiError::violation(unfit.path, message),
            Some(place),
        ));
    }
}
