//! The body of a request, which must come in time.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep_until};

use super::ConnectionSettings;

/// Why a body ends early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("the body did not come in time")]
    TimedOut,
    #[error("the body broke off")]
    Broken(#[source] hyper::Error),
}

/// A body with two deadlines: one for the whole, and one for the next part. Most
/// bodies come with their heads, and need no timer.
pub(super) struct TimedBody {
    body: Incoming,
    until: Instant,
    progress: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    ended: Arc<AtomicBool>,
}

impl TimedBody {
    pub(super) fn new(body: Incoming, settings: &ConnectionSettings) -> Self {
        Self {
            body,
            until: Instant::now() + settings.body,
            progress: settings.body_progress,
            timer: None,
            ended: Arc::default(),
        }
    }

    /// Whether all of the body has been taken, as it will be known later; `None`
    /// where there is none.
    pub(super) fn taken(&self) -> Option<Taken> {
        (!self.body.is_end_stream()).then(|| Taken(Arc::clone(&self.ended)))
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let (until, progress) = (self.until, self.progress);
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(sleep_until(until.min(Instant::now() + progress))));
        timer.as_mut().poll(cx)
    }
}

/// Whether a body has been taken to its end.
pub(super) struct Taken(Arc<AtomicBool>);

impl Taken {
    pub(super) fn is_whole(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Body for TimedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(frame) => {
                self.timer = None;
                if frame.is_none() || self.body.is_end_stream() {
                    self.ended.store(true, Ordering::Relaxed);
                }
                Poll::Ready(frame.map(|frame| frame.map_err(BodyError::Broken)))
            }
            Poll::Pending => self.poll_timer(cx).map(|()| Some(Err(BodyError::TimedOut))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
