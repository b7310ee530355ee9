//! Compressing answers, for clients that accept it.

use tower_http::CompressionLevel;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{NotForContentType, Predicate, SizeAbove};

/// A smaller answer fits into a packet or two, compressed or not.
const FROM_BYTES: u64 = 2 << 10;
/// Numbers compress well; a higher level takes several times as long for little.
const LEVEL: CompressionLevel = CompressionLevel::Precise(4);

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
