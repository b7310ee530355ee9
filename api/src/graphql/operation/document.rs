//! Documents: parsed, held to limits and validated once, before anything else
//! happens.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use apollo_compiler::ExecutableDocument;
use apollo_compiler::ast;
use apollo_compiler::executable as exe;
use apollo_compiler::parser::Parser;
use apollo_compiler::validation::Valid;
use async_graphql::parser::types::OperationType;
use async_graphql::{Name, Pos, ServerError, Value};

use super::contract::Contract;
use super::input::{InputType, Place, Unfit};
use super::introspect::Introspection;
use super::plan::Plan;
use super::rules::{self, Uses};
use super::size::Outline;
use super::variables::{MOST_VALUES, Variables, count};
use super::{fault, introspect, literal};
use crate::error::ApiError;
use crate::graphql::Limits;

/// Documents by their text, and plans of their operations. Apps send the same few
/// over and over, and parsing costs more than answering.
#[derive(Clone)]
pub(crate) struct Documents {
    contract: Arc<Contract>,
    documents: Cache<String, Document>,
    plans: Cache<PlanKey, Plan>,
    limits: Limits,
}

/// What apollo-compiler takes for the end of a line, each of which it remembers.
const ENDS_LINE: [char; 7] = [
    '\n', '\r', '\u{b}', '\u{c}', '\u{85}', '\u{2028}', '\u{2029}',
];

type Cache<K, V> = moka::sync::Cache<K, Arc<V>, rustc_hash::FxBuildHasher>;

/// A valid document within the limits.
struct Document {
    /// Of all documents since the start.
    number: u64,
    valid: Arc<Valid<ExecutableDocument>>,
    operations: Vec<Operation>,
    bytes: u32,
}

/// An operation of a document.
struct Operation {
    name: Option<Box<str>>,
    kind: OperationType,
    variables: Vec<Variable>,
}

/// A variable as its operation declares it.
struct Variable {
    name: Name,
    ty: InputType,
    default: Option<Value>,
    /// A `@skip` or `@include` goes by it.
    decides: bool,
    place: Pos,
}

/// What a plan depends on.
#[derive(Debug, PartialEq, Eq, Hash)]
struct PlanKey {
    document: u64,
    operation: usize,
    /// Of the operation's variables, in order.
    states: Box<[State]>,
}

/// What a plan has to know of a variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum State {
    Absent,
    Present,
    /// It decides what is selected.
    Is(bool),
}

/// An operation of a request: what is to be executed, and with which values.
pub(crate) struct Prepared {
    pub(crate) plan: Arc<Plan>,
    /// Only those that the plan uses.
    pub(crate) variables: async_graphql::Variables,
    pub(crate) kind: OperationType,
    /// What the answer weighs, about, in bytes.
    pub(crate) cost: u64,
    /// What the query asks of the schema itself.
    pub(crate) introspection: Option<Introspection>,
}

impl Documents {
    /// Keeps documents and plans of up to `budget_bytes`.
    pub(crate) fn new(limits: Limits, budget_bytes: u64) -> Self {
        let half = budget_bytes / 2;
        let documents = moka::sync::Cache::builder()
            .max_capacity(half)
            .weigher(|_: &String, document: &Arc<Document>| document.bytes);
        let plans = moka::sync::Cache::builder().max_capacity(half).weigher(
            |key: &PlanKey, plan: &Arc<Plan>| {
                let key = u32::try_from(key.states.len() + 64).unwrap_or(u32::MAX);
                plan.bytes.saturating_add(key)
            },
        );
        Self {
            contract: Arc::new(Contract::new(&crate::graphql::sdl())),
            documents: documents.build_with_hasher(rustc_hash::FxBuildHasher),
            plans: plans.build_with_hasher(rustc_hash::FxBuildHasher),
            limits,
        }
    }

    /// Makes of a request's document and variables what is to be executed.
    pub(crate) fn prepare(
        &self,
        text: &str,
        operation_name: Option<&str>,
        variables: Variables,
    ) -> Result<Prepared, Vec<ServerError>> {
        variables.check().map_err(only)?;
        let document = self.document(text)?;
        let index = document.find(operation_name).map_err(only)?;
        let operation = &document.operations[index];
        let mut variables = self.coerce(operation, variables)?;
        let key = PlanKey {
            document: document.number,
            operation: index,
            states: operation.states(&variables),
        };
        let plan = match self.plans.get(&key) {
            Some(plan) => plan,
            None => {
                let plan = Arc::new(self.plan(&document, &key).map_err(only)?);
                self.plans.insert(key, Arc::clone(&plan));
                plan
            }
        };
        // Each use of a variable is given a copy of its value, also to be weighed.
        let copies = plan.copies.iter().map(|(name, uses)| {
            let values = variables.get(name).map_or(0, count);
            values.saturating_mul(*uses)
        });
        if copies.fold(0, usize::saturating_add) > MOST_VALUES {
            return Err(only(fault::too_complex(format!(
                "the values of variables, counted for each use, are more than {MOST_VALUES}: use a large variable once, or send several requests"
            ))));
        }
        let cost = plan.cost.bytes(&variables);
        let most = self.limits.answer_bytes;
        if cost > most {
            return Err(only(fault::too_complex(format!(
                "the answer would weigh about {cost} bytes, at most {most} are allowed: ask for less, or in several requests"
            ))));
        }
        let introspection = plan.introspects.then(|| Introspection {
            contract: Arc::clone(&self.contract),
            document: document.valid.clone(),
            operation: index,
            variables: variables.clone(),
        });
        variables.retain(|name, _| plan.uses(name));
        Ok(Prepared {
            plan,
            variables,
            kind: operation.kind,
            cost,
            introspection,
        })
    }

    /// The document, parsed now or before.
    fn document(&self, text: &str) -> Result<Arc<Document>, Vec<ServerError>> {
        if let Some(document) = self.documents.get(text) {
            return Ok(document);
        }
        let document = Arc::new(parse(text, &self.contract, &self.limits)?);
        self.documents
            .insert(text.to_owned(), Arc::clone(&document));
        Ok(document)
    }

    /// The values of the operation's variables; of others nothing is kept.
    fn coerce(
        &self,
        operation: &Operation,
        mut given: Variables,
    ) -> Result<async_graphql::Variables, Vec<ServerError>> {
        let mut coerced = async_graphql::Variables::default();
        let mut faults = Vec::new();
        for variable in &operation.variables {
            let mut unfit = Vec::new();
            let value = match given.values.remove(&variable.name) {
                Some(mut value) => {
                    let place = Place::Variable(&variable.name);
                    let inputs = &self.contract.inputs;
                    inputs.coerce(&variable.ty, &mut value, place, &mut unfit);
                    if variable.decides && value == Value::Null {
                        unfit.push(Unfit {
                            path: place.to_string(),
                            message: "expected true or false, since a directive goes by it".into(),
                        });
                    }
                    Some(value)
                }
                None => variable.default.clone(),
            };
            match value {
                Some(value) => {
                    coerced.insert(variable.name.clone(), value);
                }
                None if !variable.ty.is_nullable() => unfit.push(Unfit {
                    path: format!("${}", variable.name),
                    message: format!("expected {}, and it is missing", variable.ty.text()),
                }),
                None => {}
            }
            let unfit = unfit.into_iter().map(|unfit| {
                let message = format!("{}: {}", unfit.path, unfit.message);
                let error = ApiError::violation(unfit.path, message);
                fault::at(error, Some(variable.place))
            });
            faults.extend(unfit);
        }
        faults.truncate(fault::MOST_FAULTS);
        if faults.is_empty() {
            Ok(coerced)
        } else {
            Err(faults)
        }
    }

    fn plan(&self, document: &Document, key: &PlanKey) -> Result<Plan, ServerError> {
        let variables = document.operations[key.operation].variables.iter();
        let states = variables.zip(&key.states);
        let states = states.map(|(variable, state)| (variable.name.as_str(), *state));
        let states: std::collections::HashMap<&str, State> = states.collect();
        Plan::new(
            &self.contract,
            &document.valid,
            document.executable(key.operation),
            self.limits.tokens,
            &|name| matches!(states.get(name), Some(State::Present | State::Is(_))),
            &|name| states.get(name) == Some(&State::Is(true)),
        )
    }
}

fn only(error: ServerError) -> Vec<ServerError> {
    vec![error]
}

impl Document {
    /// The operation of this name, or the only one.
    fn find(&self, name: Option<&str>) -> Result<usize, ServerError> {
        let found = match (name, &self.operations[..]) {
            (None, [_]) => Ok(0),
            (None, []) => Err(ApiError::bad_input("the document has no operation")),
            (None, _) => Err(ApiError::bad_input(
                "the document has several operations: name one as operationName",
            )),
            (Some(name), all) => all
                .iter()
                .position(|of| of.name.as_deref() == Some(name))
                .ok_or_else(|| {
                    let name = domain::quote(name);
                    ApiError::bad_input(format!("the document has no operation named {name}"))
                }),
        };
        found.map_err(ApiError::into_server_error)
    }

    fn executable(&self, index: usize) -> &exe::Operation {
        nth(&self.valid, index)
    }
}

/// An operation by its place in the list that was made of the same document.
pub(super) fn nth(document: &ExecutableDocument, index: usize) -> &exe::Operation {
    let mut operations = document.operations.iter();
    operations
        .nth(index)
        .unwrap_or_else(|| unreachable!("an operation of the document"))
}

impl Operation {
    fn states(&self, variables: &async_graphql::Variables) -> Box<[State]> {
        let states = self
            .variables
            .iter()
            .map(|variable| match variables.get(&variable.name) {
                Some(Value::Boolean(truth)) if variable.decides => State::Is(*truth),
                Some(_) => State::Present,
                None => State::Absent,
            });
        states.collect()
    }
}

/// Levels of selections, lists and objects within one another. The parser and
/// all that come after it call themselves for each, and have only so much stack;
/// no field or value of the schema needs as many.
const DEEPEST_NESTING: usize = 64;

/// A document may be so long. Of what is within its tokens, a text or a comment,
/// nothing else has a limit.
const LONGEST_DOCUMENT: usize = 256 << 10;

fn parse(text: &str, contract: &Contract, limits: &Limits) -> Result<Document, Vec<ServerError>> {
    if text.len() > LONGEST_DOCUMENT {
        return Err(only(fault::too_complex(format!(
            "the document has {} bytes, at most {LONGEST_DOCUMENT} are allowed: send values as variables",
            text.len()
        ))));
    }
    // The lexer counts what stands between two tokens, too.
    let most_tokens = limits.tokens.saturating_mul(2);
    let mut parser = Parser::new()
        .token_limit(most_tokens)
        .recursion_limit(DEEPEST_NESTING);
    let parsed = parser.parse_ast(text, "document");
    if parser.tokens_reached() > most_tokens {
        return Err(only(fault::too_complex(format!(
            "the document has more than {} tokens",
            limits.tokens
        ))));
    }
    if parser.recursion_reached() > DEEPEST_NESTING {
        return Err(only(fault::too_complex(format!(
            "the document is too deep: more than {DEEPEST_NESTING} selections, lists or objects lie in one another"
        ))));
    }
    let parsed = parsed.map_err(|found| fault::of_document(&found.errors))?;
    let outline = Outline::of(&parsed).map_err(only)?;
    measure(&outline, limits).map_err(only)?;
    if outline.has_empty_set() {
        let error = ApiError::bad_input("a selection set is empty: select at least one field");
        return Err(only(error.into_server_error()));
    }
    let validate = |document: &ast::Document| {
        let validated = document.to_executable_validate(&contract.schema);
        validated.map_err(|found| fault::of_document(&found.errors))
    };
    if let Some(without) = rules::without_null_defaults(&parsed) {
        validate(&without)?;
    }
    let valid = validate(&parsed)?;
    let mut faults = rules::check(contract, &parsed, &valid);
    let mut operations = Vec::with_capacity(valid.operations.len());
    for operation in valid.operations.iter() {
        introspect::check_depth(&valid, operation).map_err(only)?;
        let uses = Uses::of(&parsed, operation.name.as_ref());
        faults.extend(uses.undeclared(operation, &valid));
        if faults.len() >= fault::MOST_FAULTS {
            break;
        }
        operations.push(read_operation(contract, &valid, operation, &uses));
    }
    if !faults.is_empty() {
        faults.truncate(fault::MOST_FAULTS);
        return Err(faults);
    }
    for operation in valid.operations.iter() {
        Plan::check(contract, &valid, operation, limits.tokens).map_err(only)?;
    }
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    Ok(Document {
        number: NUMBER.fetch_add(1, Ordering::Relaxed),
        valid: Arc::new(valid),
        operations,
        // A field is two tokens, and some two hundred bytes.
        bytes: u32::try_from(
            1024 + text.len() * 2
                + text.matches(ENDS_LINE).count() * 32
                + parser.tokens_reached() * 100,
        )
        .unwrap_or(u32::MAX),
    })
}

/// Holds a document to the limits.
fn measure(outline: &Outline<'_>, limits: &Limits) -> Result<(), ServerError> {
    if outline.selections() > limits.tokens {
        return Err(fault::too_complex(format!(
            "the document selects more than {} fields, fragments written out",
            limits.tokens
        )));
    }
    let aliases = outline.aliases();
    if aliases > limits.aliases {
        return Err(fault::too_complex(format!(
            "the document has {aliases} aliases, at most {} are allowed: ask for several series with `forecasts`",
            limits.aliases
        )));
    }
    let deepest = outline.depth();
    if deepest > limits.depth {
        return Err(fault::too_complex(format!(
            "the document is too deep: {deepest} fields lie in one another, at most {} may",
            limits.depth
        )));
    }
    Ok(())
}

fn read_operation(
    contract: &Contract,
    document: &ExecutableDocument,
    operation: &exe::Operation,
    uses: &Uses<'_>,
) -> Operation {
    let variables = operation.variables.iter().filter_map(|of| {
        let ty = contract.inputs.resolve(&of.ty)?;
        let name = of.name.as_str();
        let default = of.default_value.as_ref();
        let default = default.and_then(|default| literal::constant(default));
        let default = default.map(|mut default| {
            let place = Place::Variable(name);
            // It is valid: what changes is how it is written.
            contract
                .inputs
                .coerce(&ty, &mut default, place, &mut Vec::new());
            default
        });
        Some(Variable {
            name: Name::new(name),
            ty,
            default,
            decides: uses.decides(name),
            place: fault::place(of.location(), &document.sources),
        })
    });
    Operation {
        name: operation.name.as_ref().map(|name| name.as_str().into()),
        kind: match operation.operation_type {
            ast::OperationType::Query => OperationType::Query,
            ast::OperationType::Mutation => OperationType::Mutation,
            ast::OperationType::Subscription => OperationType::Subscription,
        },
        variables: variables.collect(),
    }
}
