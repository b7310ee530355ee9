//! Plans: what is left of an operation once it is known which variables are
//! absent and what its directives say.
//!
//! A plan's selections are those of the specification's `CollectFields`, for each
//! type that an object may have: no fragment, no directive, each response key once,
//! in the order of the document. It is there twice: as the tree that async-graphql
//! executes, and as the fields that the answer is written by.

use apollo_compiler::ExecutableDocument;
use apollo_compiler::ast;
use apollo_compiler::collections::{HashSet, IndexMap};
use apollo_compiler::executable as exe;
use apollo_compiler::schema::ExtendedType;
use async_graphql::parser::types::{
    self as tree, DocumentOperations, OperationDefinition, OperationType,
};
use async_graphql::{Name, Pos, Positioned, ServerError};
use async_graphql_value::Value;

use super::contract::Contract;
use super::cost::{Cost, Selected};
use super::rules::have_same_arguments;
use super::{fault, literal};
use crate::error::ApiError;
use crate::graphql::subscribed::Subscribed;

/// How an operation is executed and its answer written.
pub(crate) struct Plan {
    /// What async-graphql executes.
    pub(crate) document: tree::ExecutableDocument,
    pub(super) root: Fields,
    /// Root fields ask of the schema itself.
    pub(super) introspects: bool,
    /// Root fields ask for anything else.
    pub(crate) executes: bool,
    /// Of a subscription, what it is.
    pub(crate) subscribed: Option<Subscribed>,
    /// What an answer weighs.
    pub(super) cost: Cost,
    /// About what it takes in memory.
    pub(super) bytes: u32,
    /// Variables that more than one argument uses, and how many do.
    pub(super) copies: Box<[(Name, usize)]>,
}

/// The fields of an object, in the order of the answer.
pub(super) type Fields = Vec<Field>;

/// A field of an answer.
pub(super) struct Field {
    /// The response key, as async-graphql's object has it.
    pub(super) key: Name,
    /// The same as an answer has it: `"key":`.
    pub(super) prefix: Box<str>,
    pub(super) ty: Type,
    /// It asks of the schema itself, and is answered without async-graphql.
    pub(super) introspects: bool,
}

/// What a field answers with.
pub(super) struct Type {
    pub(super) nullable: bool,
    pub(super) shape: Shape,
}

pub(super) enum Shape {
    /// A scalar or an enum.
    Leaf,
    List(Box<Type>),
    Object(Fields),
    /// An interface or a union: fields by the object's type.
    Abstract(Vec<(Box<str>, Fields)>),
}

/// The key under which an object says its type where the answer has to know it.
/// No selection of a document can have it.
pub(crate) const TYPE_KEY: &str = ":type";

impl Plan {
    /// Refuses an operation in which fields under one response key differ, whatever
    /// its directives say, and one that writes out to more than `most_fields`.
    pub(super) fn check(
        contract: &Contract,
        document: &ExecutableDocument,
        operation: &exe::Operation,
        most_fields: usize,
    ) -> Result<(), ServerError> {
        let mut planner = Planner {
            contract,
            document,
            is_present: &|_| true,
            is_true: None,
            most_fields,
            fields: 0,
            values: 0,
        };
        let root_type = operation.object_type();
        planner.object(root_type, &[&operation.selection_set])?;
        Ok(())
    }

    /// Plans an operation of a valid document, of at most `most_fields`.
    pub(super) fn new(
        contract: &Contract,
        document: &ExecutableDocument,
        operation: &exe::Operation,
        most_fields: usize,
        is_present: &dyn Fn(&str) -> bool,
        is_true: &dyn Fn(&str) -> bool,
    ) -> Result<Self, ServerError> {
        let mut planner = Planner {
            contract,
            document,
            is_present,
            is_true: Some(is_true),
            most_fields,
            fields: 0,
            values: 0,
        };
        let root_type = operation.object_type();
        let (root, mut items, cost) = planner.object(root_type, &[&operation.selection_set])?;
        let ty = match operation.operation_type {
            ast::OperationType::Query => OperationType::Query,
            ast::OperationType::Mutation => OperationType::Mutation,
            ast::OperationType::Subscription => OperationType::Subscription,
        };
        let executes = !items.is_empty();
        if ty != OperationType::Subscription && may_be_empty(&root) {
            items.insert(0, type_selection(Pos::default()));
        }
        let mut definition = OperationDefinition {
            ty,
            variable_definitions: Vec::new(),
            directives: Vec::new(),
            selection_set: Positioned::new(tree::SelectionSet { items }, Pos::default()),
        };
        let subscribed = match ty {
            OperationType::Subscription => Subscribed::of(&mut definition),
            _ => None,
        };
        let copies = declare_variables(&mut definition);
        let text = document
            .sources
            .values()
            .map(|file| file.source_text().len());
        Ok(Self {
            introspects: root.iter().any(|field| field.introspects),
            executes,
            // Values are held twice: to be executed, and to be weighed.
            bytes: u32::try_from(
                512 + planner.fields * 500 + planner.values * 160 + text.sum::<usize>(),
            )
            .unwrap_or(u32::MAX),
            copies,
            root,
            cost,
            subscribed,
            document: tree::ExecutableDocument {
                operations: DocumentOperations::Single(Positioned::new(definition, Pos::default())),
                fragments: std::collections::HashMap::new(),
            },
        })
    }

    /// Whether a request's value of this variable is still needed.
    pub(super) fn uses(&self, variable: &Name) -> bool {
        let begins = self.subscribed.as_ref().and_then(|of| of.after_variable());
        begins == Some(variable) || self.variables().any(|name| name == variable)
    }

    /// The variables of what is executed.
    pub(crate) fn variables(&self) -> impl Iterator<Item = &Name> {
        let operations = self.document.operations.iter();
        let definitions = operations.flat_map(|(_, of)| &of.node.variable_definitions);
        definitions.map(|variable| &variable.node.name.node)
    }
}

struct Planner<'a> {
    contract: &'a Contract,
    document: &'a ExecutableDocument,
    is_present: &'a dyn Fn(&str) -> bool,
    /// Without it everything is selected.
    is_true: Option<&'a dyn Fn(&str) -> bool>,
    most_fields: usize,
    fields: usize,
    /// Values of arguments, those within lists and objects included.
    values: usize,
}

type Items = Vec<Positioned<tree::Selection>>;
type Groups<'a> = IndexMap<&'a str, Vec<&'a exe::Field>>;

impl<'a> Planner<'a> {
    /// The fields of an object of a type that is known.
    fn object(
        &mut self,
        ty: &str,
        sets: &[&'a exe::SelectionSet],
    ) -> Result<(Fields, Items, Cost), ServerError> {
        let mut groups = Groups::default();
        let mut spread = HashSet::default();
        for set in sets {
            self.collect(ty, set, &mut spread, &mut groups);
        }
        let (mut fields, mut items) = (Vec::with_capacity(groups.len()), Vec::new());
        let mut cost = Cost::default();
        for (key, group) in groups {
            self.fields += 1;
            if self.fields > self.most_fields {
                return Err(fault::too_complex(format!(
                    "the operation selects more than {} fields, fragments written out for each type",
                    self.most_fields
                )));
            }
            let first = group[0];
            if let Some(other) = group[1..].iter().find(|f| !have_same_arguments(first, f)) {
                let message = format!(
                    "fields under {} have different arguments: name one of them otherwise by an alias",
                    domain::quote(key)
                );
                let place = fault::place(other.name.location(), &self.document.sources);
                return Err(fault::at(ApiError::bad_input(message), Some(place)));
            }
            // An interface's field may be of a wider type than the object's.
            let definition = self.contract.schema.type_field(ty, &first.name);
            let field_type = definition.map_or(first.ty(), |definition| &definition.ty);
            let introspects = matches!(first.name.as_str(), "__schema" | "__type");
            let sets: Vec<_> = group
                .iter()
                .filter_map(|f| f.selection_set.as_ref())
                .collect();
            let pos = fault::place(first.name.location(), &self.document.sources);
            let shape = if introspects {
                let sizes = &self.contract.sizes;
                cost.absorb(sizes.weigh(self.document, &group));
                Shape::Leaf
            } else {
                let named_type = field_type.inner_named_type();
                let (shape, below, cost_below) = self.shape(named_type, &sets, pos)?;
                let selected = self.selection(first, below, pos)?;
                let of = Selected {
                    field: &selected,
                    parent: ty,
                    named_type,
                    is_list: field_type.is_list(),
                    key_bytes: key.len() as u64 + 4,
                };
                cost.add(of, cost_below);
                let selected = tree::Selection::Field(Positioned::new(selected, pos));
                items.push(Positioned::new(selected, pos));
                shape
            };
            fields.push(Field {
                key: Name::new(key),
                prefix: format!("\"{key}\":").into(),
                ty: wrap(field_type, shape),
                introspects,
            });
        }
        Ok((fields, items, cost))
    }

    /// What lies below a field of a named type.
    fn shape(
        &mut self,
        ty: &str,
        sets: &[&'a exe::SelectionSet],
        pos: Pos,
    ) -> Result<(Shape, Items, Cost), ServerError> {
        let possible: Vec<&str> = match self.contract.schema.types.get(ty) {
            Some(ExtendedType::Object(_)) => {
                let (fields, mut items, cost) = self.object(ty, sets)?;
                if may_be_empty(&fields) {
                    items.insert(0, type_selection(pos));
                }
                return Ok((Shape::Object(fields), items, cost));
            }
            Some(ExtendedType::Union(union)) => union.members.iter().map(|m| m.as_str()).collect(),
            Some(ExtendedType::Interface(_)) => {
                let objects = self
                    .contract
                    .schema
                    .types
                    .iter()
                    .filter_map(|(name, of)| match of {
                        ExtendedType::Object(of) if of.implements_interfaces.contains(ty) => {
                            Some(name.as_str())
                        }
                        _ => None,
                    });
                objects.collect()
            }
            _ => return Ok((Shape::Leaf, Vec::new(), Cost::default())),
        };
        let mut items = vec![type_selection(pos)];
        let mut shapes = Vec::with_capacity(possible.len());
        let mut cost = Cost::default();
        for name in possible {
            let (fields, below, of) = self.object(name, sets)?;
            cost.absorb(of);
            if !below.is_empty() {
                let on = Positioned::new(Name::new(name), pos);
                let condition = tree::TypeCondition { on };
                items.push(Positioned::new(
                    tree::Selection::InlineFragment(Positioned::new(
                        tree::InlineFragment {
                            type_condition: Some(Positioned::new(condition, pos)),
                            directives: Vec::new(),
                            selection_set: selection_set(below, pos),
                        },
                        pos,
                    )),
                    pos,
                ));
            }
            shapes.push((name.into(), fields));
        }
        Ok((Shape::Abstract(shapes), items, cost))
    }

    /// The specification's `CollectFields`.
    fn collect(
        &self,
        ty: &str,
        set: &'a exe::SelectionSet,
        spread: &mut HashSet<&'a str>,
        groups: &mut Groups<'a>,
    ) {
        for selection in &set.selections {
            if !self.is_selected(selection.directives()) {
                continue;
            }
            match selection {
                exe::Selection::Field(field) => {
                    groups.entry(field.response_name()).or_default().push(field);
                }
                exe::Selection::InlineFragment(fragment) => {
                    let condition = fragment.type_condition.as_ref();
                    if condition.is_none_or(|of| self.applies(of, ty)) {
                        self.collect(ty, &fragment.selection_set, spread, groups);
                    }
                }
                exe::Selection::FragmentSpread(of) => {
                    let fragment = self.document.fragments.get(&of.fragment_name);
                    if let Some(fragment) = fragment
                        && spread.insert(&of.fragment_name)
                        && self.applies(fragment.type_condition(), ty)
                    {
                        self.collect(ty, &fragment.selection_set, spread, groups);
                    }
                }
            }
        }
    }

    fn applies(&self, condition: &str, ty: &str) -> bool {
        condition == ty || self.contract.schema.is_subtype(condition, ty)
    }

    fn is_selected(&self, directives: &exe::DirectiveList) -> bool {
        let Some(is_true) = self.is_true else {
            return true;
        };
        directives.iter().all(|directive| {
            let expected = match directive.name.as_str() {
                "skip" => false,
                "include" => true,
                _ => return true,
            };
            let condition = directive.specified_argument_by_name("if");
            let condition = condition.is_some_and(|value| match &**value {
                ast::Value::Boolean(truth) => *truth,
                ast::Value::Variable(name) => is_true(name),
                _ => false,
            });
            condition == expected
        })
    }

    /// A field as async-graphql executes it.
    fn selection(
        &mut self,
        field: &exe::Field,
        below: Items,
        pos: Pos,
    ) -> Result<tree::Field, ServerError> {
        let mut arguments = Vec::with_capacity(field.arguments.len());
        for argument in &field.arguments {
            // One that is absent has its default.
            if literal::is_absent(&argument.value, self.is_present) {
                continue;
            }
            let place = |span| fault::place(span, &self.document.sources);
            let value = literal::value(&argument.value, self.is_present).ok_or_else(|| {
                let message = format!("{}: a number is beyond what there is", argument.name);
                let error = ApiError::bad_input(message);
                fault::at(error, Some(place(argument.value.location())))
            })?;
            self.values += literal::count(&argument.value);
            arguments.push((
                Positioned::new(Name::new(&argument.name), place(argument.name.location())),
                Positioned::new(value, place(argument.value.location())),
            ));
        }
        let alias = field.alias.as_ref();
        Ok(tree::Field {
            alias: alias.map(|alias| Positioned::new(Name::new(alias), pos)),
            name: Positioned::new(Name::new(&field.name), pos),
            arguments,
            directives: Vec::new(),
            selection_set: selection_set(below, pos),
        })
    }
}

/// Whether an object may come to have none of these fields: async-graphql leaves
/// out those that failed, and makes null of an object without any.
fn may_be_empty(fields: &Fields) -> bool {
    fields.iter().all(|field| field.ty.nullable)
}

fn wrap(ty: &ast::Type, shape: Shape) -> Type {
    let shape = match ty {
        ast::Type::Named(_) | ast::Type::NonNullNamed(_) => shape,
        ast::Type::List(item) | ast::Type::NonNullList(item) => {
            Shape::List(Box::new(wrap(item, shape)))
        }
    };
    Type {
        nullable: !ty.is_non_null(),
        shape,
    }
}

fn selection_set(items: Items, pos: Pos) -> Positioned<tree::SelectionSet> {
    Positioned::new(tree::SelectionSet { items }, pos)
}

/// Selects the type of an object.
fn type_selection(pos: Pos) -> Positioned<tree::Selection> {
    let field = tree::Field {
        alias: Some(Positioned::new(Name::new(TYPE_KEY), pos)),
        name: Positioned::new(Name::new("__typename"), pos),
        arguments: Vec::new(),
        directives: Vec::new(),
        selection_set: selection_set(Vec::new(), pos),
    };
    Positioned::new(tree::Selection::Field(Positioned::new(field, pos)), pos)
}

/// Declares the variables that are still used, and returns those that several
/// arguments use, with their number. Their values have been coerced: of their types
/// async-graphql need not know.
fn declare_variables(operation: &mut OperationDefinition) -> Box<[(Name, usize)]> {
    let mut used = IndexMap::default();
    visit_set(&operation.selection_set.node, &mut used);
    let ty = tree::Type {
        base: tree::BaseType::Named(Name::new("JSON")),
        nullable: true,
    };
    let declared = used.keys().map(|name| tree::VariableDefinition {
        name: Positioned::new(name.clone(), Pos::default()),
        var_type: Positioned::new(ty.clone(), Pos::default()),
        directives: Vec::new(),
        default_value: None,
    });
    let declared = declared.map(|variable| Positioned::new(variable, Pos::default()));
    operation.variable_definitions = declared.collect();
    used.into_iter().filter(|(_, uses)| *uses > 1).collect()
}

fn visit_set(set: &tree::SelectionSet, used: &mut IndexMap<Name, usize>) {
    for item in &set.items {
        match &item.node {
            tree::Selection::Field(field) => {
                for (_, value) in &field.node.arguments {
                    visit_value(&value.node, used);
                }
                visit_set(&field.node.selection_set.node, used);
            }
            tree::Selection::InlineFragment(fragment) => {
                visit_set(&fragment.node.selection_set.node, used);
            }
            tree::Selection::FragmentSpread(_) => {}
        }
    }
}

fn visit_value(value: &Value, used: &mut IndexMap<Name, usize>) {
    match value {
        Value::Variable(name) => *used.entry(name.clone()).or_default() += 1,
        Value::List(items) => items.iter().for_each(|item| visit_value(item, used)),
        Value::Object(fields) => fields.values().for_each(|value| visit_value(value, used)),
        _ => {}
    }
}
