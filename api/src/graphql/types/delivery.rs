//! Deliveries: notifications on their way out of the server.

use async_graphql::{Enum, ID, InputObject, Object, SimpleObject};
use domain::notification::delivery::{
    Delivery as DomainDelivery, DeliveryFilter as DomainFilter, DeliveryState,
};
use time::OffsetDateTime;

use super::id::number_of;
use super::notification::{ChannelName, notification_id};
use super::scalar::DateTime;
use crate::error::ApiError;

/// How far a delivery has come.
#[derive(Enum, Debug, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "DeliveryState", name = "DeliveryState")]
pub(crate) enum DeliveryStateName {
    /// Waits for its first attempt.
    Queued,
    /// A replica is at it.
    Leased,
    /// The other side has taken it. It is never sent again.
    Sent,
    /// The last attempt failed; it is tried again at `nextAttemptAt`.
    Failed,
    /// It is not tried again by itself.
    Dead,
    /// It may have been taken or not, and is not tried again by itself.
    Unknown,
    /// Its user did not want it, or had enough.
    Suppressed,
    /// The notification was withdrawn, or the endpoint given up, before it left.
    Cancelled,
}

/// One notification for one user at one of their endpoints.
pub(crate) struct Delivery(pub(crate) DomainDelivery);

/// One notification for one user at one of their endpoints.
#[Object]
impl Delivery {
    /// Its global id, for `retryDelivery`.
    async fn id(&self) -> ID {
        format!("delivery:{}", self.0.id).into()
    }

    /// The global id of the notification.
    async fn notification_id(&self) -> ID {
        notification_id(self.0.notification_id)
    }

    /// The key of the user it is for.
    async fn user(&self) -> &str {
        &self.0.user_key
    }

    /// Over which channel.
    async fn channel(&self) -> ChannelName {
        self.0.channel.into()
    }

    /// How far it has come.
    async fn state(&self) -> DeliveryStateName {
        self.0.state.into()
    }

    /// How often it was attempted.
    async fn attempts(&self) -> i32 {
        self.0.attempts
    }

    /// When it is due, while it waits: quiet hours and retries put it off.
    async fn next_attempt_at(&self) -> Option<OffsetDateTime> {
        self.0.next_attempt_at
    }

    /// When it was queued.
    async fn created_at(&self) -> OffsetDateTime {
        self.0.created_at
    }

    /// When it was sent or given up.
    async fn finished_at(&self) -> Option<OffsetDateTime> {
        self.0.finished_at
    }

    /// What the other side answered when it took it.
    async fn answer(&self) -> Option<&str> {
        self.0.answer.as_deref()
    }

    /// Why the last attempt failed, or why there was none.
    async fn last_error(&self) -> Option<&str> {
        self.0.last_error.as_deref()
    }
}

/// Which deliveries; what is absent matches all, an empty list nothing.
#[derive(InputObject, Default)]
pub(crate) struct DeliveryFilter {
    /// In one of these states.
    states: Option<Vec<DeliveryStateName>>,
    /// Over one of these channels.
    channels: Option<Vec<ChannelName>>,
    /// Of one notification, by its global id.
    notification_id: Option<ID>,
    /// For one user, by their key.
    user: Option<String>,
}

impl DeliveryFilter {
    pub(crate) fn into_domain(self) -> Result<DomainFilter, ApiError> {
        let number = |id: ID| number_of("notification", &id, "filter.notificationId");
        Ok(DomainFilter {
            states: self
                .states
                .map(|all| all.into_iter().map(Into::into).collect()),
            channels: self
                .channels
                .map(|all| all.into_iter().map(Into::into).collect()),
            notification_id: self.notification_id.map(number).transpose()?,
            user: self.user,
        })
    }
}

/// Which delivery to try again.
#[derive(InputObject)]
pub(crate) struct RetryDeliveryInput {
    /// Its global id.
    pub(crate) id: ID,
}

/// It waits to be tried again.
#[derive(SimpleObject)]
pub(crate) struct RetryDeliveryPayload {
    /// As it stands now.
    pub(crate) delivery: Option<Delivery>,
}

/// Which dead deliveries to try again; what is absent matches all.
#[derive(InputObject, Default)]
pub(crate) struct RetryDeliveriesInput {
    /// Over this channel.
    pub(crate) channel: Option<ChannelName>,
    /// Given up then or later.
    pub(crate) since: Option<DateTime>,
    /// Those in state `UNKNOWN`, too: some may be received twice.
    #[graphql(default)]
    pub(crate) unknown: bool,
}

/// They wait to be tried again.
#[derive(SimpleObject)]
pub(crate) struct RetryDeliveriesPayload {
    /// How many; at most 10,000 by one call.
    pub(crate) retried: u64,
}
