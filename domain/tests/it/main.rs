//! The domain across its edge: the cache under threads, and every rule on real
//! databases. A test that takes a [`support::TestDb`] runs on SQLite and on
//! PostgreSQL.

#![cfg(test)]

mod access;
mod alert;
mod allocation;
mod change_log;
mod coalescing;
mod connections;
mod delivery;
mod forecast_value;
mod idempotency;
mod notification;
mod opposite;
mod plain_sql;
mod precedence;
mod provider;
mod retention;
mod save;
mod support;
mod unit;
mod view;
