//! SmartPulse as its users meet it: HTTP, websockets, real databases, real
//! processes.
#![cfg(test)]

mod cli;
mod client;
mod cookbook;
mod demo;
mod graphql;
mod http;
mod limits;
mod live;
mod ordering;
mod real_data;
mod server;
mod wait;
