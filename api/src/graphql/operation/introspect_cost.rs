//! What the answer to an introspection weighs. The schema is known, and with it how
//! many objects each field of it answers with.

use apollo_compiler::collections::HashMap;
use apollo_compiler::executable::{Field, Selection, SelectionSet};
use apollo_compiler::schema::{ExtendedType, FieldDefinition};
use apollo_compiler::{ExecutableDocument, Schema, ast};

use super::cost::Cost;

/// Bytes of a description or a reason, about; of any other leaf.
const PROSE_BYTES: u64 = 300;
const LEAF_BYTES: u64 = 24;
/// How often a type is wrapped as a list or as one that may not be null: `[X!]!`.
const WRAPPINGS: usize = 3;

/// The types of a schema by what they have.
pub(super) struct Sizes {
    by_name: HashMap<String, usize>,
    types: Vec<Size>,
    directives: u64,
    directive_arguments: u64,
}

/// Each list names types by their place.
#[derive(Default)]
struct Size {
    fields: Vec<usize>,
    /// Of all its fields.
    arguments: Vec<usize>,
    input_fields: Vec<usize>,
    enum_values: usize,
    interfaces: Vec<usize>,
    possible_types: Vec<usize>,
}

/// How often each type is there, by its place.
type Counts = Vec<u64>;

/// The objects that a selection is answered for, one after the other.
enum Objects {
    Schema,
    /// Types, which may be wrapped so many times more.
    Types(Counts, usize),
    /// All fields of these types, and so on.
    Fields(Counts),
    Arguments(Counts),
    InputFields(Counts),
    Directives(u64),
    Leaves(u64),
}

impl Sizes {
    pub(super) fn of(schema: &Schema) -> Self {
        let names = schema.types.keys().enumerate();
        let by_name: HashMap<String, usize> =
            names.map(|(i, name)| (name.to_string(), i)).collect();
        let place = |name: &str| by_name.get(name).copied();
        let implementers = schema.implementers_map();
        let fields = |size: &mut Size, fields: Vec<&FieldDefinition>| {
            for field in fields {
                size.fields.extend(place(field.ty.inner_named_type()));
                let arguments = field.arguments.iter();
                size.arguments
                    .extend(arguments.filter_map(|of| place(of.ty.inner_named_type())));
            }
        };
        let size = |(name, ty): (&apollo_compiler::Name, &ExtendedType)| {
            let mut size = Size::default();
            match ty {
                ExtendedType::Object(of) => {
                    fields(&mut size, of.fields.values().map(|f| &**f).collect());
                    size.interfaces = (of.implements_interfaces.iter())
                        .filter_map(|name| place(name))
                        .collect();
                }
                ExtendedType::Interface(of) => {
                    fields(&mut size, of.fields.values().map(|f| &**f).collect());
                    let objects = implementers
                        .get(name)
                        .into_iter()
                        .flat_map(|of| &of.objects);
                    size.possible_types = objects.filter_map(|name| place(name)).collect();
                }
                ExtendedType::Union(of) => {
                    size.possible_types = of.members.iter().filter_map(|m| place(m)).collect();
                }
                ExtendedType::InputObject(of) => {
                    let fields = of.fields.values();
                    size.input_fields = fields
                        .filter_map(|of| place(of.ty.inner_named_type()))
                        .collect();
                }
                ExtendedType::Enum(of) => size.enum_values = of.values.len(),
                ExtendedType::Scalar(_) => {}
            }
            size
        };
        let directives = schema.directive_definitions.values();
        Self {
            types: schema.types.iter().map(size).collect(),
            directives: schema.directive_definitions.len() as u64,
            directive_arguments: directives.map(|of| of.arguments.len() as u64).sum(),
            by_name,
        }
    }

    /// What a field at the root of a query weighs that asks of the schema itself.
    pub(super) fn weigh(&self, document: &ExecutableDocument, fields: &[&Field]) -> Cost {
        let mut sum = (0, 0);
        for field in fields {
            let objects = match field.name.as_str() {
                "__schema" => Objects::Schema,
                _ => self.named(field),
            };
            if let Some(set) = &field.selection_set {
                sum = add(sum, self.set(document, set, &objects));
            }
        }
        Cost::fixed(sum.0, sum.1)
    }

    /// The type that `__type` asks for; any, if only its variables say.
    fn named(&self, field: &Field) -> Objects {
        let mut counts = vec![0; self.types.len()];
        match field.specified_argument_by_name("name").map(|name| &**name) {
            Some(ast::Value::String(name)) => {
                if let Some(place) = self.by_name.get(name.as_str()) {
                    counts[*place] = 1;
                }
            }
            _ => counts.fill(1),
        }
        Objects::Types(counts, WRAPPINGS)
    }

    /// Text and fields of a selection that is answered for each of some objects.
    fn set(
        &self,
        document: &ExecutableDocument,
        set: &SelectionSet,
        objects: &Objects,
    ) -> (u64, u64) {
        let times = self.count(objects);
        let mut sum = (times.saturating_mul(2), 0);
        for selection in &set.selections {
            let weight = match selection {
                Selection::Field(field) => {
                    let key = times.saturating_mul(field.response_name().len() as u64 + 4);
                    let below = match &field.selection_set {
                        Some(below) => self.set(document, below, &self.below(objects, &field.name)),
                        None => {
                            let bytes = match field.name.as_str() {
                                "description" | "deprecationReason" => PROSE_BYTES,
                                _ => LEAF_BYTES,
                            };
                            (times.saturating_mul(bytes), times)
                        }
                    };
                    add((key, 0), below)
                }
                Selection::InlineFragment(of) => self.set(document, &of.selection_set, objects),
                Selection::FragmentSpread(of) => match document.fragments.get(&of.fragment_name) {
                    Some(of) => self.set(document, &of.selection_set, objects),
                    None => (0, 0),
                },
            };
            sum = add(sum, weight);
        }
        sum
    }

    fn count(&self, objects: &Objects) -> u64 {
        match objects {
            Objects::Schema => 1,
            Objects::Types(counts, _) => counts.iter().fold(0, |sum, n| sum.saturating_add(*n)),
            Objects::Fields(counts) => self.sum(counts, |of| of.fields.len()),
            Objects::Arguments(counts) => self.sum(counts, |of| of.arguments.len()),
            Objects::InputFields(counts) => self.sum(counts, |of| of.input_fields.len()),
            Objects::Directives(count) | Objects::Leaves(count) => *count,
        }
    }

    fn sum(&self, counts: &Counts, each: impl Fn(&Size) -> usize) -> u64 {
        let types = self.types.iter().zip(counts);
        types.fold(0u64, |sum, (of, count)| {
            sum.saturating_add(count.saturating_mul(each(of) as u64))
        })
    }

    /// The objects that a field of each of these has.
    fn below(&self, objects: &Objects, field: &str) -> Objects {
        match (objects, field) {
            (Objects::Schema, "types") => Objects::Types(vec![1; self.types.len()], 0),
            (Objects::Schema, "directives") => Objects::Directives(self.directives),
            // The roots.
            (Objects::Schema, _) => Objects::Types(vec![1; self.types.len()], 0),
            (Objects::Types(counts, _), "fields") => Objects::Fields(counts.clone()),
            (Objects::Types(counts, _), "inputFields") => Objects::InputFields(counts.clone()),
            (Objects::Types(counts, _), "enumValues") => {
                Objects::Leaves(self.sum(counts, |of| of.enum_values))
            }
            (Objects::Types(counts, _), "interfaces") => self.types(counts, 0, |of| &of.interfaces),
            (Objects::Types(counts, _), "possibleTypes") => {
                self.types(counts, 0, |of| &of.possible_types)
            }
            (Objects::Types(counts, wrapped), _) => match wrapped {
                0 => Objects::Leaves(0),
                more => Objects::Types(counts.clone(), more - 1),
            },
            (Objects::Fields(counts), "args") => Objects::Arguments(counts.clone()),
            (Objects::Fields(counts), _) => self.types(counts, WRAPPINGS, |of| &of.fields),
            (Objects::Arguments(counts), _) => self.types(counts, WRAPPINGS, |of| &of.arguments),
            (Objects::InputFields(counts), _) => {
                self.types(counts, WRAPPINGS, |of| &of.input_fields)
            }
            (Objects::Directives(_), _) => Objects::Leaves(self.directive_arguments),
            (Objects::Leaves(count), _) => Objects::Leaves(*count),
        }
    }

    fn types(
        &self,
        counts: &Counts,
        wrapped: usize,
        named: impl Fn(&Size) -> &Vec<usize>,
    ) -> Objects {
        let mut found: Counts = vec![0; self.types.len()];
        for (of, count) in self.types.iter().zip(counts) {
            for place in named(of) {
                found[*place] = found[*place].saturating_add(*count);
            }
        }
        Objects::Types(found, wrapped)
    }
}

fn add(one: (u64, u64), other: (u64, u64)) -> (u64, u64) {
    (one.0.saturating_add(other.0), one.1.saturating_add(other.1))
}
