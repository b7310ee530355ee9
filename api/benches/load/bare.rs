//! The limits: an axum server that answers fixed bytes, and one that sends them
//! to every websocket.

use axum::Router;
use axum::body::Bytes;
use axum::extract::ws::{Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::http::header;
use axum::routing::{get, post};
use tokio::sync::broadcast;

/// Answers every POST to `/graphql` with the given body.
pub(crate) fn serve(arguments: &[String]) {
    let body = Bytes::from(arguments.first().cloned().unwrap_or_default());
    run(move || {
        let answer = move |_: Bytes| {
            let body = body.clone();
            async move {
                (
                    [(header::CONTENT_TYPE, "application/json; charset=utf-8")],
                    body,
                )
            }
        };
        Router::new().route("/graphql", post(answer))
    });
}

/// Sends the body of a POST to `/publish/{times}` so often to each websocket, by
/// a broadcast channel and a task a socket.
pub(crate) fn broadcast() {
    run(|| {
        let (sender, _) = broadcast::channel::<Utf8Bytes>(1024);
        let joined = sender.clone();
        let join = move |upgrade: WebSocketUpgrade| {
            let receiver = joined.subscribe();
            async move {
                upgrade
                    .read_buffer_size(1024)
                    .protocols(["graphql-transport-ws"])
                    .on_upgrade(|socket| pass_on(socket, receiver))
            }
        };
        let publish = move |axum::extract::Path(times): axum::extract::Path<usize>,
                            text: String| {
            let text = Utf8Bytes::from(text);
            for _ in 0..times {
                sender.send(text.clone()).expect("receivers");
            }
            async {}
        };
        Router::new()
            .route("/graphql/ws", get(join))
            .route("/publish/{times}", post(publish))
    });
}

async fn pass_on(mut socket: WebSocket, mut receiver: broadcast::Receiver<Utf8Bytes>) {
    loop {
        tokio::select! {
            text = receiver.recv() => {
                let text = text.expect("no receiver lags");
                if socket.send(Message::Text(text)).await.is_err() {
                    return;
                }
            }
            message = socket.recv() => match message {
                Some(Ok(_)) => {}
                _ => return,
            },
        }
    }
}

fn run(app: impl FnOnce() -> Router) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async move {
        let app = app();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let address = listener.local_addr().expect("an address");
        eprintln!("{{\"address\":\"http://{address}\"}}");
        eprintln!("{{\"message\":\"ready\"}}");
        axum::serve(listener, app).await.expect("serving");
    });
}
