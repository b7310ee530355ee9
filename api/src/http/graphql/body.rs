//! The body of a request: read whole, inflated if it is compressed, and never more
//! of it than is allowed.

use std::error::Error;
use std::io;
use std::pin::pin;

use async_compression::tokio::bufread::{BrotliDecoder, GzipDecoder};
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, StatusCode, header};
use futures_util::TryStreamExt;
use http_body_util::{BodyDataStream, BodyExt, Collected, LengthLimitError, Limited};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::Semaphore;
use tokio_util::io::StreamReader;

use crate::listener::BodyError;

/// So much is inflated before others have their turn.
const STEP: u64 = 256 << 10;
/// Steps of all bodies that are being inflated, together 256 MiB: what a client
/// sends is small, and it may take its time with the end of it.
static INFLATING: Semaphore = Semaphore::const_new(1024);

/// There are too many bodies to be inflated.
#[derive(Debug, thiserror::Error)]
#[error("too many compressed bodies")]
struct NoRoom;

/// Some programs begin UTF-8 with it.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// A body that is not taken.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) status: StatusCode,
    pub(super) message: String,
}

impl Refused {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { status, message }
    }

    fn too_large(most: usize) -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body is too large: at most {most} bytes are taken, inflated or not"),
        )
    }
}

/// The JSON text of a request.
pub(super) async fn read(
    headers: &HeaderMap,
    mut body: Body,
    most: usize,
) -> Result<Bytes, Refused> {
    let read = read_text(headers, &mut body, most).await;
    if read.is_err() {
        drain(body, most).await;
    }
    read
}

async fn read_text(headers: &HeaderMap, body: &mut Body, most: usize) -> Result<Bytes, Refused> {
    check_media_type(headers)?;
    let encoding = Encoding::of(headers)?;
    // What is compressed may not be more than what is plain.
    let body = Limited::new(body, most);
    let compressed = |body| StreamReader::new(BodyDataStream::new(body).map_err(io::Error::other));
    let read = match encoding {
        Encoding::Identity => body
            .collect()
            .await
            .map(Collected::to_bytes)
            .map_err(io::Error::other),
        Encoding::Gzip => {
            let mut decoder = GzipDecoder::new(compressed(body));
            decoder.multiple_members(true);
            inflate(decoder, most).await
        }
        Encoding::Brotli => {
            let mut decoder = BrotliDecoder::new(compressed(body));
            match inflate(&mut decoder, most).await {
                Ok(text) if text.len() <= most => {
                    // It says itself where it ends, and nothing may follow.
                    match decoder.into_inner().read_u8().await {
                        Ok(_) => Err(io::ErrorKind::InvalidData.into()),
                        Err(end) if end.kind() == io::ErrorKind::UnexpectedEof => Ok(text),
                        Err(error) => Err(error),
                    }
                }
                inflated => inflated,
            }
        }
    };
    let mut text = read.map_err(|error| unreadable(&error, encoding, most))?;
    if text.len() > most {
        return Err(Refused::too_large(most));
    }
    if text.starts_with(BYTE_ORDER_MARK) {
        text = text.slice(BYTE_ORDER_MARK.len()..);
    }
    Ok(text)
}

/// Takes the rest of a body that is refused, unless it is much: a client that is
/// still sending would find its connection broken, and not the answer.
async fn drain(body: Body, most: usize) {
    let mut rest = Limited::new(body, most);
    while let Some(Ok(_)) = rest.frame().await {}
}

/// A browser sends any other type across origins without asking first.
fn check_media_type(headers: &HeaderMap) -> Result<(), Refused> {
    let refuse = |what: String| {
        Err(Refused::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            format!("{what}: send the operation as application/json in UTF-8"),
        ))
    };
    let Some(value) = headers.get(header::CONTENT_TYPE) else {
        return refuse("there is no content-type".to_owned());
    };
    let text = String::from_utf8_lossy(value.as_bytes());
    let mut parts = text.split(';').map(str::trim);
    let media_type = parts.next().unwrap_or_default();
    if !media_type.eq_ignore_ascii_case("application/json") {
        return refuse(format!("content-type {media_type:?}"));
    }
    let charset = parts
        .filter_map(|parameter| parameter.split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("charset"))
        .map(|(_, charset)| charset.trim().trim_matches('"'));
    match charset {
        Some(other)
            if !["utf-8", "utf8"]
                .iter()
                .any(|utf8| other.eq_ignore_ascii_case(utf8)) =>
        {
            refuse(format!("charset {other:?}"))
        }
        _ => Ok(()),
    }
}

/// How a body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Identity,
    Gzip,
    Brotli,
}

impl Encoding {
    fn of(headers: &HeaderMap) -> Result<Self, Refused> {
        let Some(value) = headers.get(header::CONTENT_ENCODING) else {
            return Ok(Self::Identity);
        };
        let text = String::from_utf8_lossy(value.as_bytes());
        match text.trim().to_ascii_lowercase().as_str() {
            "" | "identity" => Ok(Self::Identity),
            "gzip" | "x-gzip" => Ok(Self::Gzip),
            "br" => Ok(Self::Brotli),
            other => Err(Refused::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                format!("content-encoding {other:?}: send the body plain, or as gzip or br"),
            )),
        }
    }
}

/// Inflates up to one step more than is taken.
async fn inflate(decoder: impl AsyncRead, most: usize) -> io::Result<Bytes> {
    let mut decoder = pin!(decoder);
    let mut text = Vec::new();
    let mut room = Vec::new();
    while text.len() <= most {
        // For as long as the body comes; what follows has limits of its own.
        room.push(
            INFLATING
                .try_acquire()
                .map_err(|_| io::Error::other(NoRoom))?,
        );
        if decoder.as_mut().take(STEP).read_to_end(&mut text).await? == 0 {
            break;
        }
        tokio::task::yield_now().await;
    }
    Ok(text.into())
}

fn unreadable(error: &io::Error, encoding: Encoding, most: usize) -> Refused {
    let broken = |what: &str| Refused::new(StatusCode::BAD_REQUEST, what);
    // An I/O error does not count what it wraps among its sources.
    let mut cause = error.get_ref().map(|inner| inner as &(dyn Error + 'static));
    while let Some(error) = cause {
        if error.is::<LengthLimitError>() {
            return Refused::too_large(most);
        }
        if error.is::<NoRoom>() {
            return Refused::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "too many compressed bodies come at once: try again, or send it plain",
            );
        }
        match error.downcast_ref::<BodyError>() {
            Some(BodyError::TimedOut) => {
                return Refused::new(
                    StatusCode::REQUEST_TIMEOUT,
                    "the body did not come in time: send it again, without pauses",
                );
            }
            Some(BodyError::Broken(_)) => return broken("the body broke off"),
            None => cause = error.source(),
        }
    }
    match encoding {
        Encoding::Identity => broken("the body could not be read"),
        Encoding::Gzip => broken("the body is not gzip, as its content-encoding says"),
        Encoding::Brotli => broken("the body is not br, as its content-encoding says"),
    }
}
