//! The operations of one connection.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, Stream, StreamExt};
use subscriptions::cohort::{Delivery, SharedFrame};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::PollSemaphore;

use super::message::Id;
use crate::graphql::answer::Answer;
use crate::graphql::executor::Subscription;
use crate::graphql::frame::{Failure, Payload};

/// One operation, delivering until it is over.
pub(super) struct Operation {
    id: Id,
    /// Of all operations of the connection: an id may be used again.
    pub(super) number: u64,
    work: Work,
    /// Those of the connection that catch up hold a permit of these.
    catching_up: PollSemaphore,
    permit: Option<OwnedSemaphorePermit>,
    waker: Option<Waker>,
}

pub(super) enum Work {
    /// A query or a mutation.
    Answer(BoxFuture<'static, Answer>),
    /// A subscription that is about to begin.
    Begin(BoxFuture<'static, Result<Subscription, Failure>>),
    Subscription(Box<Subscription>),
    Over,
}

/// What an operation has for its client.
pub(super) enum Output {
    Answer(Answer),
    Next {
        frame: Arc<SharedFrame<Payload>>,
        skipped: u64,
    },
    Failed(Failure),
    Complete,
}

impl Operation {
    /// `catching_up` has a permit for each subscription of the connection that may
    /// catch up at the same time.
    pub(super) fn new(id: Id, number: u64, work: Work, catching_up: Arc<Semaphore>) -> Self {
        Self {
            id,
            number,
            work,
            catching_up: PollSemaphore::new(catching_up),
            permit: None,
            waker: None,
        }
    }

    /// Lets go of what it does; nothing more comes of it.
    pub(super) fn end(&mut self) {
        self.work = Work::Over;
        self.permit = None;
        // It has to be looked at once more to be forgotten.
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// It is a query or a mutation.
    pub(super) fn is_answering(&self) -> bool {
        matches!(self.work, Work::Answer(_))
    }

    /// It is a subscription of which nothing is known yet.
    pub(super) fn is_beginning(&self) -> bool {
        matches!(self.work, Work::Begin(_))
    }

    pub(super) fn subscription(&self) -> Option<&Subscription> {
        match &self.work {
            Work::Subscription(subscription) => Some(subscription),
            _ => None,
        }
    }
}

impl Stream for Operation {
    type Item = (Id, u64, Output);

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        match &mut this.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            None => this.waker = Some(cx.waker().clone()),
        }
        let output = loop {
            match &mut this.work {
                Work::Over => return Poll::Ready(None),
                Work::Answer(answer) => {
                    let answer = ready!(answer.poll_unpin(cx));
                    this.work = Work::Over;
                    break Output::Answer(answer);
                }
                Work::Begin(begin) => match ready!(begin.poll_unpin(cx)) {
                    Ok(subscription) => this.work = Work::Subscription(Box::new(subscription)),
                    Err(failure) => {
                        this.work = Work::Over;
                        break Output::Failed(failure);
                    }
                },
                Work::Subscription(subscription) => {
                    if subscription.is_behind() && this.permit.is_none() {
                        this.permit = ready!(this.catching_up.poll_acquire(cx));
                    }
                    let polled = subscription.poll_next_unpin(cx);
                    if !subscription.is_behind() {
                        this.permit = None;
                    }
                    match ready!(polled) {
                        Some(Delivery { frame, skipped }) => {
                            if matches!(frame.payload, Payload::Failed(_)) {
                                this.work = Work::Over;
                            }
                            break Output::Next { frame, skipped };
                        }
                        None => {
                            this.work = Work::Over;
                            break Output::Complete;
                        }
                    }
                }
            }
        };
        Poll::Ready(Some((this.id.clone(), this.number, output)))
    }
}
