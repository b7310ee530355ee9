//! What a connection is doing, for the deadline that it is held to.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use http_body::{Frame, SizeHint};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

/// What a connection is doing.
pub(super) struct Activity {
    phase: Mutex<Phase>,
}

#[derive(Clone, Copy)]
enum Phase {
    /// The head of a request comes, or that of the first one is to come.
    Head { since: Instant },
    /// A request is being answered.
    Answering,
    /// Nothing since the last of an answer was written.
    Idle { since: Instant },
}

impl Activity {
    /// Of a connection that has just been accepted.
    pub(super) fn new() -> Self {
        let phase = Phase::Head {
            since: Instant::now(),
        };
        Self {
            phase: Mutex::new(phase),
        }
    }

    /// Bytes have come.
    pub(super) fn heard(&self) {
        let mut phase = self.phase.lock();
        if let Phase::Idle { .. } = *phase {
            *phase = Phase::Head {
                since: Instant::now(),
            };
        }
    }

    /// Bytes have gone. An answer is handed over whole and written little by little:
    /// its client is not idle while it takes it.
    pub(super) fn written(&self) {
        if let Phase::Idle { since } = &mut *self.phase.lock() {
            *since = Instant::now();
        }
    }

    /// The head of a request is there; it is being answered until what is
    /// returned is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> Answering {
        *self.phase.lock() = Phase::Answering;
        Answering(Arc::clone(self))
    }

    fn end(&self) {
        *self.phase.lock() = Phase::Idle {
            since: Instant::now(),
        };
    }

    /// Completes when a deadline is missed.
    ///
    /// It looks at the clock, and is not told of each request: that would cost
    /// every request a timer.
    pub(super) async fn overdue(&self, head: Duration, idle: Duration) {
        loop {
            let now = Instant::now();
            let due = match *self.phase.lock() {
                Phase::Head { since } => Some(since + head),
                Phase::Idle { since } => Some(since + idle),
                Phase::Answering => None,
            };
            // No deadline that begins from now on is missed before this.
            let mut look = now + head.min(idle);
            if let Some(at) = due {
                if at <= now {
                    return;
                }
                look = look.min(at);
            }
            sleep_until(look).await;
        }
    }
}

/// A request that is being answered.
pub(super) struct Answering(Arc<Activity>);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Answering {
    /// It is answered when this body has been handed over.
    pub(super) fn of(self, body: Body) -> Answer {
        Answer {
            body,
            _answering: self,
        }
    }
}

/// The body of an answer.
pub(super) struct Answer {
    body: Body,
    _answering: Answering,
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: Duration = Duration::from_secs(15);
    const IDLE: Duration = Duration::from_secs(90);

    /// Seconds from now until a deadline is missed.
    async fn overdue(activity: &Activity) -> u64 {
        let began = Instant::now();
        activity.overdue(HEAD, IDLE).await;
        began.elapsed().as_secs()
    }

    async fn seconds(number: u64) {
        tokio::time::sleep(Duration::from_secs(number)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_request_must_come_in_time() {
        let activity = Activity::new();
        seconds(5).await;
        // What comes byte by byte wins no time.
        activity.heard();
        assert_eq!(overdue(&activity).await, 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_kept_between_requests_but_not_within_one() {
        let activity = Arc::new(Activity::new());
        drop(activity.begin());
        assert_eq!(overdue(&activity).await, 90);

        drop(activity.begin());
        let ((), missed) = tokio::join!(
            async {
                seconds(20).await;
                activity.heard();
            },
            overdue(&activity)
        );
        assert_eq!(missed, 35);
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_answer_and_a_slow_client_are_no_silence() {
        let activity = Arc::new(Activity::new());
        let answering = activity.begin();
        let ((), missed) = tokio::join!(
            async {
                seconds(3600).await;
                drop(answering);
                // What was handed over takes its time on the way.
                for _ in 0..10 {
                    seconds(60).await;
                    activity.written();
                }
            },
            overdue(&activity)
        );
        assert_eq!(missed, 3600 + 600 + 90);
    }
}
