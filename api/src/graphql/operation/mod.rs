//! Operations from text to answer.
//!
//! A document is parsed and validated once (`document`). A request's variables
//! are coerced in place (`input`). A plan (`plan`) is what is left of an operation
//! once its variables are known to be absent or present: no fragment, no directive,
//! no field twice. async-graphql executes the plan's tree, and `complete` writes
//! the values that come of it as the plan says.
//!
//! async-graphql thus neither validates nor coerces, and what it makes of a
//! failed field is never what a client sees.

pub(crate) mod complete;
mod contract;
mod cost;
pub(crate) mod document;
mod fault;
mod input;
pub(crate) mod introspect;
mod introspect_cost;
mod literal;
pub(crate) mod plan;
mod rules;
mod scalar;
mod size;
pub(crate) mod variables;

pub(crate) use plan::TYPE_KEY;
