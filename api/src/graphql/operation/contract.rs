//! The schema, as documents are validated against it and input is coerced.

use apollo_compiler::Schema;
use apollo_compiler::collections::HashMap;
use apollo_compiler::schema::Implementers;
use apollo_compiler::validation::Valid;

use super::input::Inputs;
use super::introspect_cost::Sizes;

/// Read once from the schema's text, which is what clients read, too.
pub(super) struct Contract {
    pub(super) schema: Valid<Schema>,
    pub(super) implementers: HashMap<apollo_compiler::Name, Implementers>,
    pub(super) inputs: Inputs,
    pub(super) sizes: Sizes,
}

impl Contract {
    pub(super) fn new(sdl: &str) -> Self {
        let schema = Schema::parse_and_validate(sdl, "schema.graphql");
        // At start-up, and the same text at each.
        let schema = schema.unwrap_or_else(|found| panic!("the schema is not valid: {found}"));
        Self {
            implementers: schema.implementers_map(),
            inputs: Inputs::new(&schema),
            sizes: Sizes::of(&schema),
            schema,
        }
    }
}
