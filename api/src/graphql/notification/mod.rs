//! Notifications in the schema: what can be asked, changed and followed.

mod mutation;
mod query;
mod subscription;

pub(crate) use mutation::NotificationMutation;
pub(crate) use query::{Deliveries, NotificationQuery, Notifications, Users};
pub(crate) use subscription::NotificationSubscription;

use async_graphql::Context;
use domain::notification as domain_notification;

use super::{log, viewer};
use crate::error::ApiError;

/// The viewer as a user who can be notified: whoever comes is one from then on.
async fn own_user(ctx: &Context<'_>) -> Result<i64, ApiError> {
    let id = domain_notification::ensure_user(log(ctx).database(), &viewer(ctx).user).await;
    Ok(id?)
}
