//! SmartPulse as its users meet it: HTTP, websockets, real databases, real
//! processes.
#![cfg(test)]

mod client;
mod graphql;
mod http;
mod limits;
mod live;
mod ordering;
mod real_data;
mod server;
mod wait;
