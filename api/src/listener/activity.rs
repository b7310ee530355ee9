//! What a connection is doing, for the deadline that it is held to.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::Version;
use http_body::{Frame, SizeHint};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

/// What a connection is doing.
pub(super) struct Activity {
    state: Mutex<State>,
}

struct State {
    phase: Phase,
    /// Over HTTP/2 a byte that comes between requests need not begin one: it may
    /// be of a ping.
    multiplexed: bool,
}

#[derive(Clone, Copy)]
enum Phase {
    /// The head of a request comes, or that of the first one is to come.
    Head { since: Instant },
    /// So many requests are being answered.
    Answering(usize),
    /// Nothing since a request was answered.
    Idle { since: Instant },
}

/// The deadline that a connection has missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Overdue {
    Head,
    Idle,
}

impl Activity {
    /// Of a connection that has just been accepted.
    pub(super) fn new() -> Self {
        let phase = Phase::Head {
            since: Instant::now(),
        };
        Self {
            state: Mutex::new(State {
                phase,
                multiplexed: false,
            }),
        }
    }

    /// Bytes have come.
    pub(super) fn heard(&self) {
        let mut state = self.state.lock();
        if let (Phase::Idle { .. }, false) = (state.phase, state.multiplexed) {
            state.phase = Phase::Head {
                since: Instant::now(),
            };
        }
    }

    /// The head of a request is there; it is being answered until what is
    /// returned is dropped.
    pub(super) fn begin(self: &Arc<Self>, version: Version) -> Answering {
        let mut state = self.state.lock();
        state.multiplexed |= version == Version::HTTP_2;
        state.phase = match state.phase {
            Phase::Answering(requests) => Phase::Answering(requests + 1),
            Phase::Head { .. } | Phase::Idle { .. } => Phase::Answering(1),
        };
        Answering(Arc::clone(self))
    }

    fn end(&self) {
        let mut state = self.state.lock();
        state.phase = match state.phase {
            Phase::Answering(requests) if requests > 1 => Phase::Answering(requests - 1),
            _ => Phase::Idle {
                since: Instant::now(),
            },
        };
    }

    /// Completes when a deadline is missed.
    ///
    /// It looks at the clock, and is not told of each request: that would cost
    /// every request a timer.
    pub(super) async fn overdue(&self, head: Duration, idle: Duration) -> Overdue {
        loop {
            let now = Instant::now();
            let due = match self.state.lock().phase {
                Phase::Head { since } => Some((since + head, Overdue::Head)),
                Phase::Idle { since } => Some((since + idle, Overdue::Idle)),
                Phase::Answering(_) => None,
            };
            // No deadline that begins from now on is missed before this.
            let mut look = now + head.min(idle);
            if let Some((at, what)) = due {
                if at <= now {
                    return what;
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
    /// It is answered when this body has been written.
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

    /// Seconds from now until a deadline is missed, and which.
    async fn overdue(activity: &Activity) -> (u64, Overdue) {
        let began = Instant::now();
        let what = activity.overdue(HEAD, IDLE).await;
        (began.elapsed().as_secs(), what)
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
        assert_eq!(overdue(&activity).await, (10, Overdue::Head));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_kept_between_requests_but_not_within_one() {
        let activity = Arc::new(Activity::new());
        drop(activity.begin(Version::HTTP_11));
        assert_eq!(overdue(&activity).await, (90, Overdue::Idle));

        drop(activity.begin(Version::HTTP_11));
        let (first_byte, missed) = tokio::join!(
            async {
                seconds(20).await;
                activity.heard();
            },
            overdue(&activity)
        );
        let () = first_byte;
        assert_eq!(missed, (35, Overdue::Head));
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_answer_is_no_silence() {
        let activity = Arc::new(Activity::new());
        let (first, second) = (
            activity.begin(Version::HTTP_2),
            activity.begin(Version::HTTP_2),
        );
        let (_, missed) = tokio::join!(
            async {
                seconds(3600).await;
                drop(first);
                seconds(3600).await;
                drop(second);
                seconds(10).await;
                // A ping begins no request.
                activity.heard();
            },
            overdue(&activity)
        );
        assert_eq!(missed, (7290, Overdue::Idle));
    }
}
