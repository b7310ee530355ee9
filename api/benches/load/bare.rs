//! The limit: an axum server that answers fixed bytes.

use axum::Router;
use axum::body::Bytes;
use axum::http::header;
use axum::routing::post;

/// Answers every POST to `/graphql` with the given body.
pub(crate) fn serve(arguments: &[String]) {
    let body = Bytes::from(arguments.first().cloned().unwrap_or_default());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async move {
        let answer = move |_: Bytes| {
            let body = body.clone();
            async move {
                (
                    [(header::CONTENT_TYPE, "application/json; charset=utf-8")],
                    body,
                )
            }
        };
        let app = Router::new().route("/graphql", post(answer));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let address = listener.local_addr().expect("an address");
        eprintln!("{{\"address\":\"http://{address}\"}}");
        eprintln!("{{\"message\":\"ready\"}}");
        axum::serve(listener, app).await.expect("serving");
    });
}
