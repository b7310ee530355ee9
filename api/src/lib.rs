//! SmartPulse: GraphQL with live subscriptions over energy production forecasts.
//!
//! This crate alone knows HTTP and GraphQL. [`app`] puts the parts together,
//! for the binary and for tests alike.

mod alerts;
mod api_key;
pub mod app;
mod auth;
mod backup;
pub mod cli;
pub mod config;
mod database;
mod delivery;
mod demo;
mod drain;
mod error;
pub mod graphql;
mod healthcheck;
pub mod http;
mod import;
mod listener;
pub mod supervisor;
pub mod telemetry;
pub mod tls;
mod viewer;
mod websocket;
mod weight;
