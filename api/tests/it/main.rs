//! SmartPulse as its users meet it: HTTP, websockets, real databases, real
//! processes.
#![cfg(test)]

mod alert;
mod auth;
mod batches;
mod bodies;
mod checker;
mod cli;
mod client;
mod connections;
mod cookbook;
mod deliveries;
mod deltas;
mod demo;
mod fanout;
mod feed;
mod graphql;
mod http;
mod limits;
mod live;
mod messages;
mod notifications;
mod ordering;
mod outage;
mod proxy;
mod real_data;
mod redis;
mod replicas;
mod server;
#[allow(dead_code, reason = "each who takes it in needs a part")]
#[path = "../smtp/server.rs"]
mod smtp;
mod specification;
mod wait;
mod wire;
