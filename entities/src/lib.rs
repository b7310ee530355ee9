//! The tables as SeaORM sees them: one file a table, shaped like the table.
//!
//! No rule, no GraphQL, nothing for the wire. Instants are bound by
//! `domain::database`, because SQLite keeps them as text of a fixed width;
//! rows with instants are therefore written there, and read through these.

pub mod alert_cursor;
pub mod alert_rule;
pub mod alert_state;
pub mod api_key;
pub mod change;
pub mod delivery;
pub mod endpoint;
pub mod forecast_curve;
pub mod forecast_run;
pub mod idempotency_key;
pub mod notification;
pub mod notification_attachment;
pub mod notification_preference;
pub mod notification_recipient;
pub mod notification_throttle;
pub mod provider;
pub mod series;
pub mod server_secret;
pub mod tick;
pub mod topic_subscription;
pub mod unit;
pub mod unit_capacity;
pub mod user_account;
pub mod user_group;
pub mod user_group_member;
