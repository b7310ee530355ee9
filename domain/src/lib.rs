//! Every rule and query of SmartPulse.
//!
//! No HTTP, no GraphQL, no Redis, no environment, no clock: "now" is an
//! argument. What is written here reaches subscribers through the change log
//! that triggers write in the same transaction, so nothing here publishes.

pub mod access;
pub mod alert;
pub mod cache;
pub mod change;
pub mod database;
pub mod forecast;
pub mod idempotency;
mod instant;
pub mod json;
pub mod notification;
mod patch;
pub mod provider;
mod quote;
pub mod retention;
pub mod server_secret;
mod text;
pub mod unit;
mod violation;

pub use instant::{ParseInstantError, parse_instant};
pub use patch::Patch;
pub use quote::{Quoted, clip, quote};
pub use violation::Violation;
