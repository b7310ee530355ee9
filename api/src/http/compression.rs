//! Compressing answers, for clients that accept it.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use http_body::Frame;
use tower_http::CompressionLevel;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{NotForContentType, Predicate, SizeAbove};

/// A smaller answer fits into a packet or two, compressed or not.
const FROM_BYTES: u64 = 2 << 10;
/// Numbers compress well; a higher level takes several times as long for little.
const LEVEL: CompressionLevel = CompressionLevel::Precise(4);
/// So many pieces are compressed in one go: a millisecond or so.
const PIECES: u32 = 8;

/// Compresses large answers. Streams stay as they are: a compressor would keep
/// an event back until it has enough.
pub(super) fn layer() -> CompressionLayer<impl Predicate> {
    let is_worth_it = SizeAbove::new(FROM_BYTES)
        .and(NotForContentType::const_new("text/event-stream"))
        .and(NotForContentType::const_new("multipart/mixed"));
    CompressionLayer::new()
        .quality(LEVEL)
        .compress_when(is_worth_it)
}

/// Forgets what forbids a plain answer: the layer would refuse with 406 what is
/// carried out by then.
pub(super) async fn allow_plain(mut request: Request) -> Request {
    let forbids = |value: &HeaderValue| {
        let text = value.to_str().unwrap_or_default().replace([' ', '\t'], "");
        text.split(',').any(|coding| {
            let (name, quality) = coding.split_once(";q=").unwrap_or((coding, "1"));
            let is_zero = quality.parse::<f32>().is_ok_and(|quality| quality == 0.0);
            is_zero && ["identity", "*"].contains(&name.to_ascii_lowercase().as_str())
        })
    };
    let headers = request.headers_mut();
    if headers.get_all(header::ACCEPT_ENCODING).iter().any(forbids) {
        headers.remove(header::ACCEPT_ENCODING);
    }
    request
}

/// Lets others have their turn while a large answer is compressed.
pub(super) async fn in_turns(response: Response) -> Response {
    if !response.headers().contains_key(header::CONTENT_ENCODING) {
        return response;
    }
    response.map(|body| Body::new(InTurns { body, pieces: 0 }))
}

struct InTurns {
    body: Body,
    pieces: u32,
}

impl http_body::Body for InTurns {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.pieces == PIECES {
            self.pieces = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.pieces += 1;
        Pin::new(&mut self.body).poll_frame(cx)
    }
}
