//! Which machine a request means.
//!
//! A browser lets a page talk to the host it came from, and whoever owns that
//! host's name may let it stand for 127.0.0.1 (DNS rebinding). An open server on
//! this machine would then be open to every page. What tells such a request is
//! the name that it asks for.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;

use super::{Shared, refuse};
use crate::error::{ApiError, ErrorCode};

/// Refuses requests that mean another machine, where it matters.
pub(super) async fn check(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Response {
    if !shared.only_local_hosts || is_local(&request) {
        return next.run(request).await;
    }
    refuse(
        StatusCode::MISDIRECTED_REQUEST,
        ApiError::new(
            ErrorCode::Forbidden,
            "this server asks nobody who they are, and so only answers to localhost: \
             start it with --auth required, or with --allow-open-access",
        ),
    )
}

/// No browser leaves the host out.
fn is_local(request: &Request) -> bool {
    let header = request.headers().get(header::HOST);
    let of_header = header.map(|host| host.to_str().is_ok_and(names_this_machine));
    let of_address = request.uri().authority().map(Authority::as_str);
    of_header.unwrap_or(true) && of_address.is_none_or(names_this_machine)
}

fn names_this_machine(authority: &str) -> bool {
    let Ok(authority) = authority.parse::<Authority>() else {
        return false;
    };
    let host = authority.host();
    let ip = host
        .strip_prefix('[')
        .and_then(|ip| ip.strip_suffix(']'))
        .unwrap_or(host);
    match ip.parse::<IpAddr>() {
        Ok(ip) => ip.is_loopback(),
        Err(_) => host
            .strip_suffix('.')
            .unwrap_or(host)
            .eq_ignore_ascii_case("localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_local() {
        for local in [
            "localhost",
            "LocalHost:8080",
            "localhost.:80",
            "127.0.0.1",
            "127.1.2.3:9",
            "[::1]",
            "[::1]:8080",
        ] {
            assert!(names_this_machine(local), "{local}");
        }
        for other in [
            "",
            ":8080",
            "example.com",
            "localhost.example.com",
            "127.0.0.1.example.com",
            "10.0.0.1:8080",
            "0.0.0.0",
            "[2001:db8::1]",
            "notlocalhost",
            "127.0.0.1@example.com",
        ] {
            assert!(!names_this_machine(other), "{other}");
        }
    }
}
