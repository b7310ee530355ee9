//! What can be followed of notifications.

use async_graphql::{Context, Subscription};
use subscriptions::cohort::{Following, FrameKind};
use tokio_stream::{Stream, StreamExt};

use super::super::feed::{Feed, Note};
use super::super::log;
use super::super::types::notification::NotificationChange;
use super::super::types::scalar::Position;
use super::own_user;
use crate::error::ApiError;

pub(crate) struct NotificationSubscription;

/// What can be followed of notifications.
#[Subscription]
impl NotificationSubscription {
    /// What happens to the viewer's notifications, on whatever device: they arrive,
    /// are read, deleted or withdrawn; in order and once. With `after`, first all
    /// since then.
    ///
    /// It ends as `forecastChanged` does.
    async fn notification_changed(
        &self,
        ctx: &Context<'_>,
        // The executor sees to it: those who differ in it only share a run.
        #[graphql(name = "after", desc = "The last position already seen.")] _after: Option<
            Position,
        >,
    ) -> async_graphql::Result<
        impl Stream<Item = async_graphql::Result<NotificationChange>> + 'static,
    > {
        let user_id = own_user(ctx).await?;
        let feed = ctx.data_unchecked::<Feed>().clone();
        let changes = subscriptions::notifications(log(ctx), user_id, feed.span());
        feed.follows(Following::Events);
        Ok(changes.map(move |event| {
            let event = event.map_err(ApiError::from)?;
            feed.note(Note {
                kind: FrameKind::Event,
                position: event.position,
                committed_at: Some(event.changed_at),
                skipped: 0,
            });
            Ok(NotificationChange { user_id, event })
        }))
    }
}
