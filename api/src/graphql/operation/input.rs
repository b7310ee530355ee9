//! Coercion of input by the specification's rules, in place: what was read is
//! changed where it has to be, and never copied.

use std::fmt;

use apollo_compiler::collections::HashMap;
use apollo_compiler::schema::{ExtendedType, InputObjectType};
use apollo_compiler::{Schema, ast};
use async_graphql::{Name, Value};

use super::fault::MOST_FAULTS;
use super::{literal, scalar};

/// Every type of input of a schema.
pub(super) struct Inputs {
    types: Vec<Kind>,
    by_name: HashMap<String, usize>,
}

/// A type of input, wrapped as a variable, an argument or a field has it.
#[derive(Debug, Clone)]
pub(super) struct InputType {
    nullable: bool,
    of: Of,
    /// As it is written, for messages.
    text: Box<str>,
}

#[derive(Debug, Clone)]
enum Of {
    List(Box<InputType>),
    Named(usize),
}

enum Kind {
    Int,
    Float,
    String,
    Boolean,
    Id,
    Scalar(scalar::Check),
    Enum(Vec<Name>),
    Object(Object),
    /// Not a type of input.
    Output,
}

struct Object {
    name: Box<str>,
    fields: HashMap<Name, Field>,
    one_of: bool,
}

struct Field {
    ty: InputType,
    default: Option<Value>,
}

/// Bytes of a key in a path.
const LONGEST_KEY: usize = 60;

/// A value that is not what its place takes.
#[derive(Debug)]
pub(super) struct Unfit {
    /// `$input.units[0].capacityMw`
    pub(super) path: String,
    pub(super) message: String,
}

/// The path to a value, from the inside out.
#[derive(Clone, Copy)]
pub(super) enum Place<'a> {
    Variable(&'a str),
    Argument(&'a str),
    Key(&'a Place<'a>, &'a str),
    Index(&'a Place<'a>, usize),
}

impl Inputs {
    pub(super) fn new(schema: &Schema) -> Self {
        let names = schema.types.keys().enumerate();
        let mut inputs = Self {
            types: Vec::with_capacity(schema.types.len()),
            by_name: names.map(|(i, name)| (name.to_string(), i)).collect(),
        };
        for (name, ty) in &schema.types {
            let kind = match ty {
                ExtendedType::Scalar(_) => match name.as_str() {
                    "Int" => Kind::Int,
                    "Float" => Kind::Float,
                    "String" => Kind::String,
                    "Boolean" => Kind::Boolean,
                    "ID" => Kind::Id,
                    // One that has no check is checked by what reads it.
                    custom => Kind::Scalar(scalar::check(custom).unwrap_or(|_| Ok(()))),
                },
                ExtendedType::Enum(of) => Kind::Enum(of.values.keys().map(Name::new).collect()),
                ExtendedType::InputObject(of) => Kind::Object(inputs.object(of)),
                ExtendedType::Object(_) | ExtendedType::Interface(_) | ExtendedType::Union(_) => {
                    Kind::Output
                }
            };
            inputs.types.push(kind);
        }
        inputs
    }

    fn object(&self, of: &InputObjectType) -> Object {
        let fields = of.fields.iter().filter_map(|(name, field)| {
            let default = field.default_value.as_ref();
            let field = Field {
                ty: self.resolve(&field.ty)?,
                default: default.and_then(|literal| literal::constant(literal)),
            };
            Some((Name::new(name), field))
        });
        Object {
            name: of.name.as_str().into(),
            fields: fields.collect(),
            one_of: of
                .directives
                .iter()
                .any(|directive| directive.name == "oneOf"),
        }
    }

    /// A type of the schema; `None` if there is none of that name.
    pub(super) fn resolve(&self, ty: &ast::Type) -> Option<InputType> {
        let of = match ty {
            ast::Type::Named(name) | ast::Type::NonNullNamed(name) => {
                Of::Named(*self.by_name.get(name.as_str())?)
            }
            ast::Type::List(item) | ast::Type::NonNullList(item) => {
                Of::List(Box::new(self.resolve(item)?))
            }
        };
        Some(InputType {
            nullable: !ty.is_non_null(),
            of,
            text: ty.to_string().into(),
        })
    }

    /// Makes of a value what its type has it be; tells what cannot be.
    pub(super) fn coerce(
        &self,
        ty: &InputType,
        value: &mut Value,
        place: Place<'_>,
        unfit: &mut Vec<Unfit>,
    ) {
        if unfit.len() >= MOST_FAULTS {
            return;
        }
        if *value == Value::Null {
            if !ty.nullable {
                unfit.push(place.refuse(format!("expected {}, which is not null", ty.text)));
            }
            return;
        }
        match &ty.of {
            Of::Named(index) => self.coerce_named(*index, ty, value, place, unfit),
            Of::List(item) => {
                if !matches!(value, Value::List(_)) {
                    *value = Value::List(vec![std::mem::take(value)]);
                    if let Value::List(items) = value {
                        return self.coerce(item, &mut items[0], place, unfit);
                    }
                }
                let Value::List(items) = value else { return };
                for (i, value) in items.iter_mut().enumerate() {
                    self.coerce(item, value, Place::Index(&place, i), unfit);
                }
            }
        }
    }

    fn coerce_named(
        &self,
        index: usize,
        ty: &InputType,
        value: &mut Value,
        place: Place<'_>,
        unfit: &mut Vec<Unfit>,
    ) {
        let fits = match (&self.types[index], &mut *value) {
            (Kind::Int, Value::Number(number)) => number
                .as_i64()
                .is_some_and(|number| i32::try_from(number).is_ok()),
            (Kind::Float, Value::Number(_))
            | (Kind::String | Kind::Id, Value::String(_))
            | (Kind::Boolean, Value::Boolean(_)) => true,
            (Kind::Id, Value::Number(number)) if number.is_i64() || number.is_u64() => {
                *value = Value::String(number.to_string());
                true
            }
            (Kind::Enum(values), Value::String(text)) => {
                values.iter().any(|value| value.as_str() == text)
            }
            (Kind::Enum(values), Value::Enum(name)) => values.contains(name),
            (Kind::Scalar(check), value) => {
                if let Err(message) = check(value) {
                    unfit.push(place.refuse(format!("{message}; got {}", Shown(value))));
                }
                return;
            }
            (Kind::Object(object), Value::Object(_)) => {
                return self.coerce_object(object, value, place, unfit);
            }
            _ => false,
        };
        if !fits {
            let expected = self.expected(index, ty);
            unfit.push(place.refuse(format!("expected {expected}; got {}", Shown(value))));
        }
    }

    fn coerce_object(
        &self,
        object: &Object,
        value: &mut Value,
        place: Place<'_>,
        unfit: &mut Vec<Unfit>,
    ) {
        let Value::Object(given) = value else { return };
        for (name, value) in given.iter_mut() {
            if unfit.len() >= MOST_FAULTS {
                return;
            }
            let at = Place::Key(&place, name.as_str());
            match object.fields.get(name) {
                Some(field) => self.coerce(&field.ty, value, at, unfit),
                None => unfit.push(at.refuse(object.unknown(name))),
            }
        }
        if object.one_of {
            if given.len() != 1 || given.values().any(|value| *value == Value::Null) {
                unfit.push(place.refuse(format!(
                    "expected exactly one of the fields {}, and not null",
                    object.names()
                )));
            }
            return;
        }
        for (name, field) in &object.fields {
            if given.contains_key(name) {
                continue;
            }
            match &field.default {
                Some(default) => {
                    given.insert(name.clone(), default.clone());
                }
                None if !field.ty.nullable => {
                    let message = format!("the field {name} ({}) is missing", field.ty.text);
                    unfit.push(place.refuse(message));
                }
                None => {}
            }
        }
    }

    /// What a place takes, in words.
    fn expected(&self, index: usize, ty: &InputType) -> String {
        match &self.types[index] {
            Kind::Int => "a whole number of 32 bits".to_owned(),
            Kind::Float => "a number".to_owned(),
            Kind::String => "a text".to_owned(),
            Kind::Boolean => "true or false".to_owned(),
            Kind::Id => "an id, as a text or a whole number".to_owned(),
            Kind::Enum(values) => {
                let values: Vec<&str> = values.iter().map(Name::as_str).collect();
                format!("one of {}", values.join(", "))
            }
            Kind::Object(object) => format!("an object ({})", object.name),
            Kind::Scalar(_) | Kind::Output => ty.text.to_string(),
        }
    }

    /// Checks what validation leaves open in a literal: scalars that GraphQL does
    /// not define.
    pub(super) fn check_literal(
        &self,
        ty: &InputType,
        literal: &ast::Value,
        place: Place<'_>,
        unfit: &mut Vec<Unfit>,
    ) {
        if unfit.len() >= MOST_FAULTS {
            return;
        }
        let index = match (&ty.of, literal) {
            (_, ast::Value::Null | ast::Value::Variable(_)) => return,
            (Of::List(item), ast::Value::List(literals)) => {
                for (i, literal) in literals.iter().enumerate() {
                    self.check_literal(item, literal, Place::Index(&place, i), unfit);
                }
                return;
            }
            (Of::List(item), single) => return self.check_literal(item, single, place, unfit),
            (Of::Named(index), _) => *index,
        };
        match (&self.types[index], literal) {
            (Kind::Object(object), ast::Value::Object(entries)) => {
                for (name, literal) in entries {
                    if let Some(field) = object.fields.get(name.as_str()) {
                        let at = Place::Key(&place, name.as_str());
                        self.check_literal(&field.ty, literal, at, unfit);
                    }
                }
            }
            (Kind::Scalar(check), literal) => match literal::value(literal, &|_| false) {
                Some(value) => {
                    let value = value.into_const().unwrap_or_default();
                    if let Err(message) = check(&value) {
                        unfit.push(place.refuse(format!("{message}; got {}", Shown(&value))));
                    }
                }
                None => unfit.push(place.refuse("a number is beyond what there is".to_owned())),
            },
            _ => {}
        }
    }
}

impl InputType {
    pub(super) fn is_nullable(&self) -> bool {
        self.nullable
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }
}

impl Object {
    fn names(&self) -> String {
        let mut names: Vec<&str> = self.fields.keys().map(Name::as_str).collect();
        names.sort_unstable();
        names.join(", ")
    }

    fn unknown(&self, name: &str) -> String {
        format!(
            "{} has no field {}; it has {}",
            self.name,
            domain::quote(name),
            self.names()
        )
    }
}

impl Place<'_> {
    fn refuse(&self, message: String) -> Unfit {
        Unfit {
            path: self.to_string(),
            message,
        }
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable(name) => write!(f, "${name}"),
            Self::Argument(name) => f.write_str(name),
            Self::Key(parent, key) => {
                let mut key = (*key).to_owned();
                domain::clip(&mut key, LONGEST_KEY);
                write!(f, "{parent}.{key}")
            }
            Self::Index(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

/// A value as a message shows it: short, whatever the client sent.
struct Shown<'a>(&'a Value);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Value::Null => f.write_str("null"),
            Value::Number(number) => write!(f, "{number}"),
            Value::Boolean(truth) => write!(f, "{truth}"),
            Value::String(text) => write!(f, "{}", domain::quote(text)),
            Value::Enum(name) => write!(f, "{}", domain::quote(name)),
            Value::List(_) => f.write_str("a list"),
            Value::Object(_) => f.write_str("an object"),
            Value::Binary(_) => f.write_str("bytes"),
        }
    }
}
