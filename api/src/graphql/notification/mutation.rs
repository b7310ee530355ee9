//! What can be changed of notifications.

use async_graphql::{Context, MaybeUndefined, Object};
use domain::Patch;
use domain::access::Role;
use domain::notification::delivery::{self, RetryFilter};
use domain::notification::{self as domain_notification, Channel, Marked, NewEndpoint, UserUpsert};
use serde_json::json;
use time::OffsetDateTime;

use super::super::mutation::acknowledge;
use super::super::types::delivery::{
    Delivery, RetryDeliveriesInput, RetryDeliveriesPayload, RetryDeliveryInput,
    RetryDeliveryPayload,
};
use super::super::types::id::number_of;
use super::super::types::notification::{
    DeleteNotificationsInput, DeleteNotificationsPayload, MarkAllNotificationsReadInput,
    MarkNotificationsReadInput, MarkNotificationsReadPayload, RevokeNotificationInput,
    RevokeNotificationPayload, SendNotificationInput, SendNotificationPayload, notification_id,
};
use super::super::types::patch;
use super::super::types::scalar::Position;
use super::super::types::user::{
    Endpoint, NotificationSettings, RegisterDeviceInput, RegisterEndpointPayload,
    RegisterWebPushInput, RegisterWebhookInput, RegisterWebhookPayload, RotateWebhookSecretInput,
    RotateWebhookSecretPayload, UnregisterEndpointInput, UnregisterEndpointPayload,
    UpdateNotificationSettingsInput, UpdateNotificationSettingsPayload, UpsertUserGroupsInput,
    UpsertUserGroupsPayload, UpsertUsersInput, UpsertUsersPayload, User,
};
use super::super::{demand, log, viewer};
use super::own_user;
use crate::delivery::{Channels, Wake, webhook};
use crate::error::ApiError;

pub(crate) struct NotificationMutation;

/// What can be changed of notifications.
#[Object]
impl NotificationMutation {
    /// Creates or updates users who can be notified, all or none. It takes the
    /// role ADMIN.
    async fn upsert_users(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The users.")] input: UpsertUsersInput,
    ) -> async_graphql::Result<UpsertUsersPayload> {
        demand(ctx, Role::Admin)?;
        let users: Vec<UserUpsert> = input.users.into_iter().map(Into::into).collect();
        let db = log(ctx).database();
        domain_notification::upsert_users(db, &users, OffsetDateTime::now_utc())
            .await
            .map_err(ApiError::from)?;
        let mut now = Vec::with_capacity(users.len());
        for user in &users {
            let user = domain_notification::user(db.writer(), &user.key).await;
            now.extend(user.map_err(ApiError::from)?.map(User));
        }
        Ok(UpsertUsersPayload { users: now })
    }

    /// Creates or updates groups of users, all or none. It takes the role ADMIN.
    async fn upsert_user_groups(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The groups.")] input: UpsertUserGroupsInput,
    ) -> async_graphql::Result<UpsertUserGroupsPayload> {
        demand(ctx, Role::Admin)?;
        let groups: Vec<_> = input.groups.into_iter().map(Into::into).collect();
        domain_notification::upsert_groups(log(ctx).database(), &groups)
            .await
            .map_err(ApiError::from)?;
        Ok(UpsertUserGroupsPayload {
            keys: groups.into_iter().map(|group| group.key).collect(),
        })
    }

    /// Sends a notification: to all it is for, or, if anything is wrong, to
    /// nobody. It is in their lists when this returns, unless it is to wait; what
    /// leaves the server is on its way then. It takes the role SENDER.
    async fn send_notification(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "What to send, and to whom.")] input: SendNotificationInput,
    ) -> async_graphql::Result<SendNotificationPayload> {
        demand(ctx, Role::Sender)?;
        let request = input.into_domain()?;
        ctx.data_unchecked::<Channels>().check(&request)?;
        let sent = domain_notification::send(
            log(ctx).database(),
            &viewer(ctx).user,
            &request,
            OffsetDateTime::now_utc(),
        )
        .await
        .map_err(ApiError::from)?;
        ctx.data_unchecked::<Wake>().wake();
        Ok(SendNotificationPayload {
            notification_id: notification_id(sent.notification_id),
            recipients: sent.recipients,
            position: Position(acknowledge(ctx, sent.receipt).await?),
        })
    }

    /// Takes a notification back: it goes from all lists, and what has not left
    /// yet stays here. It takes the role SENDER and is for who sent it; an ADMIN
    /// takes back any.
    async fn revoke_notification(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which.")] input: RevokeNotificationInput,
    ) -> async_graphql::Result<RevokeNotificationPayload> {
        demand(ctx, Role::Sender)?;
        let id = number_of(
            "notification",
            &input.notification_id,
            "input.notificationId",
        )?;
        let viewer = viewer(ctx);
        let sender = (!viewer.roles.allow(Role::Admin)).then_some(viewer.user.as_str());
        let db = log(ctx).database();
        let receipt = domain_notification::revoke(db, sender, id, OffsetDateTime::now_utc()).await;
        Ok(RevokeNotificationPayload {
            notification_id: input.notification_id,
            position: Position(acknowledge(ctx, receipt.map_err(ApiError::from)?).await?),
        })
    }

    /// Marks notifications of the viewer read, on all their devices.
    async fn mark_notifications_read(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which.")] input: MarkNotificationsReadInput,
    ) -> async_graphql::Result<MarkNotificationsReadPayload> {
        let user = own_user(ctx).await?;
        let ids = numbers(&input.ids)?;
        let db = log(ctx).database();
        let marked =
            domain_notification::mark_read(db, user, &ids, OffsetDateTime::now_utc()).await;
        Ok(marked_payload(ctx, user, marked.map_err(ApiError::from)?).await?)
    }

    /// Marks all notifications of the viewer read, on all their devices.
    async fn mark_all_notifications_read(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Until when; now, if absent.")] input: Option<
            MarkAllNotificationsReadInput,
        >,
    ) -> async_graphql::Result<MarkNotificationsReadPayload> {
        let user = own_user(ctx).await?;
        let now = OffsetDateTime::now_utc();
        let until = input.unwrap_or_default().until.map_or(now, |at| at.0);
        let db = log(ctx).database();
        let marked = domain_notification::mark_all_read(db, user, until, now).await;
        Ok(marked_payload(ctx, user, marked.map_err(ApiError::from)?).await?)
    }

    /// Takes notifications off the viewer's list, on all their devices.
    async fn delete_notifications(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which.")] input: DeleteNotificationsInput,
    ) -> async_graphql::Result<DeleteNotificationsPayload> {
        let user = own_user(ctx).await?;
        let ids = numbers(&input.ids)?;
        let db = log(ctx).database();
        let deleted = domain_notification::delete(db, user, &ids, OffsetDateTime::now_utc()).await;
        let deleted = marked_payload(ctx, user, deleted.map_err(ApiError::from)?).await?;
        Ok(deleted.into())
    }

    /// Sets what the viewer wants to get, and how.
    async fn update_notification_settings(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "What is absent is left as it is.")]
        input: UpdateNotificationSettingsInput,
    ) -> async_graphql::Result<UpdateNotificationSettingsPayload> {
        let id = own_user(ctx).await?;
        let quiet_hours = match input.quiet_hours {
            MaybeUndefined::Undefined => Patch::Keep,
            MaybeUndefined::Null => Patch::Clear,
            MaybeUndefined::Value(quiet) => Patch::Set(quiet.into_domain()?),
        };
        let settings = domain_notification::SettingsUpdate {
            preferences: input.preferences.into_iter().map(Into::into).collect(),
            quiet_hours,
            critical_overrides: input.critical_overrides,
            subscribe: input.subscribe,
            unsubscribe: input.unsubscribe,
            locale: patch(input.locale, |locale| locale),
            time_zone: input.time_zone,
        };
        let db = log(ctx).database();
        domain_notification::update_settings(db, id, &settings, OffsetDateTime::now_utc())
            .await
            .map_err(ApiError::from)?;
        let user = domain_notification::user(db.writer(), &viewer(ctx).user).await;
        Ok(UpdateNotificationSettingsPayload {
            settings: user.map_err(ApiError::from)?.map(NotificationSettings),
        })
    }

    /// Registers a browser of the viewer for web push. One that is registered
    /// already is the viewer's from then on.
    async fn register_web_push(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "As the browser's push manager gave it.")] input: RegisterWebPushInput,
    ) -> async_graphql::Result<RegisterEndpointPayload> {
        let web_push = ctx.data_unchecked::<Channels>().web_push()?;
        web_push
            .check_subscription(&input.endpoint, &input.p256dh, &input.auth)
            .await
            .map_err(ApiError::from)?;
        let endpoint = NewEndpoint {
            channel: Channel::WebPush,
            address: input.endpoint,
            secret: json!({ "p256dh": input.p256dh, "auth": input.auth }),
        };
        register(ctx, &endpoint).await
    }

    /// Registers a device of the viewer for Firebase Cloud Messaging. One that is
    /// registered already is the viewer's from then on.
    async fn register_device(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The device.")] input: RegisterDeviceInput,
    ) -> async_graphql::Result<RegisterEndpointPayload> {
        ctx.data_unchecked::<Channels>().require(Channel::Fcm)?;
        let fits = (1..=4096).contains(&input.token.len())
            && input.token.bytes().all(|byte| byte.is_ascii_graphic());
        if !fits {
            let message = "this is not a registration token: 1 to 4,096 characters of ASCII";
            return Err(ApiError::violation("token", message).into());
        }
        let endpoint = NewEndpoint {
            channel: Channel::Fcm,
            address: input.token,
            secret: json!({}),
        };
        register(ctx, &endpoint).await
    }

    /// Registers an address of the viewer's own for webhooks, or gives one that is
    /// registered another secret and another chance.
    async fn register_webhook(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The address.")] input: RegisterWebhookInput,
    ) -> async_graphql::Result<RegisterWebhookPayload> {
        let channels = ctx.data_unchecked::<Channels>();
        channels
            .outbound()
            .check_address(&input.url)
            .await
            .map_err(|error| ApiError::violation("url", error.to_string()))?;
        let secret = webhook::generate_secret();
        let endpoint = NewEndpoint {
            channel: Channel::Webhook,
            address: input.url,
            secret: json!({ "secrets": [&secret] }),
        };
        let registered = register(ctx, &endpoint).await?;
        Ok(RegisterWebhookPayload {
            endpoint: registered.endpoint,
            secret,
        })
    }

    /// Gives a webhook of the viewer another secret. Its messages are signed with
    /// the last one, too, so that the receiver can change over in peace.
    async fn rotate_webhook_secret(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which.")] input: RotateWebhookSecretInput,
    ) -> async_graphql::Result<RotateWebhookSecretPayload> {
        let user = own_user(ctx).await?;
        let id = number_of("endpoint", &input.id, "input.id")?;
        let secret = webhook::generate_secret();
        domain_notification::set_secret(log(ctx).database(), user, id, |known| {
            let last = known["secrets"][0].as_str();
            let secrets: Vec<&str> = [Some(secret.as_str()), last]
                .into_iter()
                .flatten()
                .collect();
            json!({ "secrets": secrets })
        })
        .await
        .map_err(ApiError::from)?;
        Ok(RotateWebhookSecretPayload { secret })
    }

    /// Forgets an endpoint of the viewer; what waits for it no longer leaves.
    async fn unregister_endpoint(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which.")] input: UnregisterEndpointInput,
    ) -> async_graphql::Result<UnregisterEndpointPayload> {
        let user = own_user(ctx).await?;
        let id = number_of("endpoint", &input.id, "input.id")?;
        domain_notification::unregister(log(ctx).database(), user, id, OffsetDateTime::now_utc())
            .await
            .map_err(ApiError::from)?;
        Ok(UnregisterEndpointPayload { id: input.id })
    }

    /// Tries a delivery again that failed, is dead, or of which nobody knows what
    /// came of it. It takes the role SENDER.
    async fn retry_delivery(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which.")] input: RetryDeliveryInput,
    ) -> async_graphql::Result<RetryDeliveryPayload> {
        demand(ctx, Role::Sender)?;
        let id = number_of("delivery", &input.id, "input.id")?;
        let db = log(ctx).database();
        delivery::retry(db, id, OffsetDateTime::now_utc())
            .await
            .map_err(ApiError::from)?;
        ctx.data_unchecked::<Wake>().wake();
        let delivery = delivery::delivery(db.writer(), id).await;
        Ok(RetryDeliveryPayload {
            delivery: delivery.map_err(ApiError::from)?.map(Delivery),
        })
    }

    /// Tries dead deliveries again, the oldest first. It takes the role SENDER.
    async fn retry_deliveries(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which; all, if absent.")] input: Option<RetryDeliveriesInput>,
    ) -> async_graphql::Result<RetryDeliveriesPayload> {
        demand(ctx, Role::Sender)?;
        let input = input.unwrap_or_default();
        let filter = RetryFilter {
            channel: input.channel.map(Into::into),
            since: input.since.map(|at| at.0),
            unknown: input.unknown,
        };
        let db = log(ctx).database();
        let retried = delivery::retry_all(db, &filter, OffsetDateTime::now_utc())
            .await
            .map_err(ApiError::from)?;
        ctx.data_unchecked::<Wake>().wake();
        Ok(RetryDeliveriesPayload { retried })
    }
}

fn numbers(ids: &[async_graphql::ID]) -> Result<Vec<i64>, ApiError> {
    ids.iter()
        .enumerate()
        .map(|(i, id)| number_of("notification", id, &format!("input.ids[{i}]")))
        .collect()
}

async fn marked_payload(
    ctx: &Context<'_>,
    user: i64,
    marked: Marked,
) -> Result<MarkNotificationsReadPayload, ApiError> {
    let position = acknowledge(ctx, marked.receipt).await?;
    let unread_count =
        domain_notification::unread_count(log(ctx).database().reader(), user).await?;
    Ok(MarkNotificationsReadPayload {
        notification_ids: marked.ids.into_iter().map(notification_id).collect(),
        unread_count,
        position: Position(position),
    })
}

async fn register(
    ctx: &Context<'_>,
    endpoint: &NewEndpoint,
) -> async_graphql::Result<RegisterEndpointPayload> {
    let user = own_user(ctx).await?;
    let db = log(ctx).database();
    let registered =
        domain_notification::register(db, user, endpoint, OffsetDateTime::now_utc()).await;
    Ok(RegisterEndpointPayload {
        endpoint: Endpoint(registered.map_err(ApiError::from)?),
    })
}
