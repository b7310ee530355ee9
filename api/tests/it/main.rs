//! SmartPulse as its users meet it: HTTP, websockets, real databases, real
//! processes.
#![cfg(test)]

mod client;
mod ordering;
mod server;
