//! graphql-transport-ws: any operations over one connection.

mod message;
mod operation;
mod session;

use std::sync::Arc;

use axum::extract::State;
use axum::extract::ws::{WebSocket, WebSocketUpgrade};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use serde_json::{Map, Value};

use crate::auth::Credentials;
use crate::error::ApiError;
use crate::http::{self, Shared};
use message::{Closing, PROTOCOL};
use session::Session;
pub(crate) use session::SocketSettings;

/// A connection mostly waits: small buffers, of which there are thousands.
const READ_BUFFER: usize = 1024;
/// A burst is written in few pieces: each costs more than what is in it. The
/// buffer is only as large as what was written together.
const WRITE_BUFFER: usize = 16 << 10;

/// `GET /graphql/ws`
pub(crate) async fn upgrade(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    if !is_same_origin(&headers) {
        return http::refuse(
            StatusCode::FORBIDDEN,
            ApiError::bad_input("websockets from pages of other origins are refused"),
        );
    }
    let said = Credentials::of_headers(&headers);
    let largest = shared.sockets.message_bytes;
    upgrade
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER)
        .max_message_size(largest)
        .max_frame_size(largest)
        .protocols([PROTOCOL])
        .on_upgrade(move |socket| connected(socket, shared, said))
}

async fn connected(socket: WebSocket, shared: Arc<Shared>, said: Credentials) {
    // It is passed on from future to future: by its address.
    let mut socket = Box::new(socket);
    let _held = shared.drain.hold();
    let _open = shared.executor.metrics().connection("websocket");
    if socket.protocol().is_none() {
        Box::pin(session::close(&mut socket, &Closing::unknown_protocol())).await;
        return;
    }
    let authenticate = |init: Option<Map<String, Value>>| {
        let (shared, said) = (Arc::clone(&shared), said.or_of_init(init.as_ref()));
        async move { shared.auth.authenticate(&said).await }
    };
    let executor = shared.executor.clone();
    let session = Session::new(socket, executor, shared.sockets, authenticate);
    session.serve(&shared.drain).await;
}

/// A browser lets any page open a websocket to any server and only says where
/// the page is from. Programs that are no browsers say nothing.
fn is_same_origin(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else {
        return true;
    };
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let from = origin
        .to_str()
        .ok()
        .and_then(|origin| origin.split_once("://"));
    matches!((from, host), (Some((_, from)), Some(host)) if from == host)
}

#[cfg(test)]
mod tests;
