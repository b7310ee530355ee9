//! SmartPulse as its users meet it: HTTP, websockets, real databases, real
//! processes.
#![cfg(test)]

mod auth;
mod checker;
mod cli;
mod client;
mod cookbook;
mod deltas;
mod demo;
mod fanout;
mod feed;
mod graphql;
mod http;
mod limits;
mod live;
mod ordering;
mod real_data;
mod redis;
mod replicas;
mod server;
mod wait;
mod wire;
