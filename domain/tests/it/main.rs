//! The domain across its edge: the cache under threads, and every rule on real
//! databases. A test that takes a [`support::TestDb`] runs on SQLite and on
//! PostgreSQL.

#![cfg(test)]

mod coalescing;
