//! The tables as SeaORM sees them: one file a table, shaped like the table.
//!
//! No rule, no GraphQL, nothing for the wire. Instants are bound by
//! `domain::database`, because SQLite keeps them as text of a fixed width;
//! rows with instants are therefore written there, and read through these.

pub mod api_key;
pub mod change;
pub mod forecast_curve;
pub mod forecast_run;
pub mod idempotency_key;
pub mod provider;
pub mod series;
pub mod tick;
pub mod unit;
pub mod unit_capacity;
