//! Results as they come: server-sent events (graphql-sse, distinct
//! connections) and multipart (as Apollo Client reads it).

use std::future::pending;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response as HttpResponse};
use futures_util::future::BoxFuture;
use futures_util::{Stream, StreamExt};
use subscriptions::cohort::Delivery;
use tokio::time::{Instant, sleep_until};

use crate::drain::Drain;
use crate::graphql::executor::Subscription;
use crate::graphql::frame::{Failure, Payload};
use crate::graphql::live_metrics::LiveMetrics;

/// How results are written on a connection.
pub(super) trait Writing: Send + 'static {
    const TRANSPORT: &'static str;
    const CONTENT_TYPE: &'static str;

    /// Before any result.
    fn begin() -> String;
    /// A result; with the position that it brings a client to.
    fn next(result: &str, position: Option<&str>) -> String;
    /// After the last result.
    fn complete() -> String;
    /// While there is nothing to tell.
    fn heartbeat(position: Option<&str>) -> String;
}

/// `text/event-stream`
pub(super) struct EventStream;

impl Writing for EventStream {
    const TRANSPORT: &'static str = "sse";
    const CONTENT_TYPE: &'static str = "text/event-stream; charset=utf-8";

    fn begin() -> String {
        // The client is told at once that it is connected, and to come back
        // after a second when it is not.
        String::from("retry: 1000\n\n")
    }

    fn next(result: &str, position: Option<&str>) -> String {
        match position {
            Some(position) => format!("event: next\nid: {position}\ndata: {result}\n\n"),
            None => format!("event: next\ndata: {result}\n\n"),
        }
    }

    fn complete() -> String {
        // Without any data no client would dispatch it.
        String::from("event: complete\ndata:\n\n")
    }

    fn heartbeat(position: Option<&str>) -> String {
        match position {
            // No event, but the client remembers the position.
            Some(position) => format!("id: {position}\n\n"),
            None => String::from(":\n\n"),
        }
    }
}

/// `multipart/mixed`
///
/// A part ends with the next boundary, so that a client has it at once.
pub(super) struct Multipart;

impl Writing for Multipart {
    const TRANSPORT: &'static str = "multipart";
    const CONTENT_TYPE: &'static str = "multipart/mixed;boundary=\"graphql\";subscriptionSpec=1.0";

    fn begin() -> String {
        String::from("--graphql")
    }

    fn next(result: &str, _: Option<&str>) -> String {
        format!(
            "\r\ncontent-type: application/json; charset=utf-8\r\n\r\n{{\"payload\":{result}}}\r\n--graphql"
        )
    }

    fn complete() -> String {
        String::from("--\r\n")
    }

    fn heartbeat(_: Option<&str>) -> String {
        String::from("\r\ncontent-type: application/json; charset=utf-8\r\n\r\n{}\r\n--graphql")
    }
}

/// What a connection needs beside its subscription.
pub(super) struct Connection {
    pub(super) metrics: LiveMetrics,
    pub(super) drain: Drain,
    pub(super) heartbeat: Duration,
    /// When what its viewer was let in by expires.
    pub(super) expires_at: Option<Instant>,
    /// Completes when that is taken back.
    pub(super) revoked: BoxFuture<'static, ()>,
}

/// One result, then the end.
pub(super) fn once<W: Writing>(result: &str) -> HttpResponse {
    let text = W::begin() + &W::next(result, None) + &W::complete();
    response::<W>(Body::from(text))
}

/// Errors that kept a subscription from beginning.
pub(super) fn failed<W: Writing>(failure: &Failure) -> HttpResponse {
    once::<W>(&failure.result())
}

/// All results of a subscription.
pub(super) fn subscribed<W: Writing>(
    subscription: Subscription,
    connection: Connection,
) -> HttpResponse {
    let chunks = chunks::<W>(subscription, connection);
    let chunks = chunks.map(|text| Ok::<_, std::convert::Infallible>(Bytes::from(text)));
    response::<W>(Body::from_stream(chunks))
}

fn chunks<W: Writing>(
    mut subscription: Subscription,
    connection: Connection,
) -> impl Stream<Item = String> + Send + 'static {
    async_stream::stream! {
        let _open = connection.metrics.connection(W::TRANSPORT);
        let _held = connection.drain.hold();
        yield W::begin();
        let draining = connection.drain.turn();
        let expiring = async {
            match connection.expires_at {
                Some(at) => sleep_until(at).await,
                None => pending().await,
            }
        };
        let mut revoked = connection.revoked;
        tokio::pin!(draining, expiring);
        loop {
            let beat = Instant::now() + connection.heartbeat;
            let delivery = tokio::select! {
                biased;
                // Without `complete`: the client comes back, to another replica.
                () = &mut draining => {
                    connection.metrics.drained.inc();
                    let seen = subscription.seen().map(|position| position.to_string());
                    yield W::heartbeat(seen.as_deref());
                    break;
                }
                () = &mut expiring => break,
                () = &mut revoked => break,
                delivery = subscription.next() => delivery,
                () = sleep_until(beat) => {
                    let seen = subscription.seen().map(|position| position.to_string());
                    yield W::heartbeat(seen.as_deref());
                    continue;
                }
            };
            let Some(Delivery { frame, skipped }) = delivery else {
                yield W::complete();
                break;
            };
            match &frame.payload {
                Payload::Next(next) => {
                    let mut result = String::with_capacity(next.len());
                    next.write(skipped, &mut result);
                    let position = frame.position.map(|position| position.to_string());
                    yield W::next(&result, position.as_deref());
                }
                Payload::Failed(failure) => {
                    yield W::next(&failure.result(), None) + &W::complete();
                    break;
                }
            }
        }
    }
}

fn response<W: Writing>(body: Body) -> HttpResponse {
    let mut response = body.into_response();
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, W::CONTENT_TYPE),
        (header::CACHE_CONTROL, "no-cache, no-transform"),
        (header::VARY, "accept"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    // A reverse proxy must not collect events before it passes them on.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}
