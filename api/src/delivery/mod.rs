//! Notifications leave the server: the channels, and the workers that deliver.
//!
//! What is to be delivered stands in the database, as `domain::notification::
//! delivery` has it. A worker a channel takes what is due under a lease, attempts
//! it and writes down what came of it; replicas share the work that way, and what
//! a killed one had is taken over.

mod breaker;
mod brief;
mod channels;
pub(crate) mod email;
mod fcm;
mod jwt;
mod lifetime;
mod metrics;
mod outbound;
mod retry;
mod schedule;
mod web_push;
pub(crate) mod webhook;
mod worker;

pub(crate) use channels::{ChannelSettings, Channels, EmailOptions};
pub(crate) use metrics::DeliveryMetrics;
pub(crate) use schedule::run as run_schedule;
pub(crate) use worker::{Wake, Worker};
