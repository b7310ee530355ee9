//! The operations of one connection.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use async_graphql::Response;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, Stream, StreamExt};
use subscriptions::cohort::Delivery;

use super::message::Id;
use crate::graphql::executor::Subscription;
use crate::graphql::frame::{Failure, Payload};

/// One operation, delivering until it is over.
pub(super) struct Operation {
    id: Id,
    /// Of all operations of the connection: an id may be used again.
    pub(super) number: u64,
    work: Work,
}

pub(super) enum Work {
    /// A query or a mutation.
    Answer(BoxFuture<'static, Response>),
    /// A subscription that is about to begin.
    Begin(BoxFuture<'static, Result<Subscription, Failure>>),
    Subscription(Box<Subscription>),
    Over,
}

/// What an operation has for its client.
pub(super) enum Output {
    Answer(Response),
    Delivery(Delivery<Payload>),
    Failed(Failure),
    Complete,
}

impl Operation {
    pub(super) fn new(id: Id, number: u64, work: Work) -> Self {
        Self { id, number, work }
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
        let output = loop {
            match &mut this.work {
                Work::Over => return Poll::Ready(None),
                Work::Answer(answer) => {
                    let response = ready!(answer.poll_unpin(cx));
                    this.work = Work::Over;
                    break Output::Answer(response);
                }
                Work::Begin(begin) => match ready!(begin.poll_unpin(cx)) {
                    Ok(subscription) => this.work = Work::Subscription(Box::new(subscription)),
                    Err(failure) => {
                        this.work = Work::Over;
                        break Output::Failed(failure);
                    }
                },
                Work::Subscription(subscription) => {
                    match ready!(subscription.poll_next_unpin(cx)) {
                        Some(delivery) => match &delivery.frame.payload {
                            Payload::Next(_) => break Output::Delivery(delivery),
                            Payload::Failed(failure) => {
                                let failure = failure.clone();
                                this.work = Work::Over;
                                break Output::Failed(failure);
                            }
                        },
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
