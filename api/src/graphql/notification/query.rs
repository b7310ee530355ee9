//! What can be asked of notifications.

use async_graphql::connection::{Connection, Edge, OpaqueCursor};
use async_graphql::{Context, Object};
use domain::access::Role;
use domain::json;
use domain::notification::delivery;
use domain::notification::{self as domain_notification, Channel, InboxCursor};
use time::OffsetDateTime;

use super::super::page::{Page, bad_cursor, decode_cursor};
use super::super::types::delivery::{Delivery, DeliveryFilter};
use super::super::types::json::JsonObject;
use super::super::types::mail::{MailPreview, MailTemplate};
use super::super::types::notification::{ChannelName, Notification, NotificationFilter};
use super::super::types::user::{Endpoint, NotificationSettings, User};
use super::super::{demand, log, viewer};
use super::own_user;
use crate::delivery::Channels;
use crate::error::ApiError;

type NotificationCursor = OpaqueCursor<(i64, i64)>;
type DeliveryCursor = OpaqueCursor<i64>;
type UserCursor = OpaqueCursor<String>;
pub(crate) type Notifications = Connection<NotificationCursor, Notification>;
pub(crate) type Deliveries = Connection<DeliveryCursor, Delivery>;
pub(crate) type Users = Connection<UserCursor, User>;

pub(crate) struct NotificationQuery;

/// An arrival to the microsecond, which is what the database keeps of it.
fn micros(at: OffsetDateTime) -> i64 {
    i64::try_from(at.unix_timestamp_nanos() / 1000).unwrap_or(i64::MAX)
}

fn place(cursor: Option<String>) -> Result<Option<InboxCursor>, ApiError> {
    let Some(cursor) = cursor else {
        return Ok(None);
    };
    let (micros, notification_id) = decode_cursor::<NotificationCursor>(&cursor)?.0;
    let arrived_at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1000)
        .map_err(|_| bad_cursor())?;
    Ok(Some(InboxCursor {
        arrived_at,
        notification_id,
    }))
}

/// What can be asked of notifications.
#[Object]
impl NotificationQuery {
    /// The viewer's notifications, the newest first, page by page.
    #[allow(
        clippy::too_many_arguments,
        reason = "the arguments of a Relay connection"
    )]
    async fn notifications(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which notifications; all if absent.")] filter: Option<NotificationFilter>,
        #[graphql(desc = "At most so many, from the start; 50 if neither is given, at most 500.")]
        first: Option<i32>,
        #[graphql(desc = "Only those after this cursor.")] after: Option<String>,
        #[graphql(desc = "At most so many, from the end; at most 500.")] last: Option<i32>,
        #[graphql(desc = "Only those before this cursor.")] before: Option<String>,
    ) -> async_graphql::Result<Notifications> {
        let page = Page::new(first, last)?;
        let (after, before) = (place(after)?, place(before)?);
        let reader = log(ctx).database().reader();
        let user = domain_notification::user(reader, &viewer(ctx).user).await;
        let Some(user) = user.map_err(ApiError::from)? else {
            return Ok(Connection::new(false, false));
        };
        let list = domain_notification::list(
            reader,
            user.id,
            &filter.unwrap_or_default().into(),
            after,
            before,
            page.to_read(),
            page.from_end,
        )
        .await
        .map_err(ApiError::from)?;
        Ok(
            page.connect(list, after.is_some(), before.is_some(), |received| {
                let cursor = (micros(received.arrived_at), received.notification.id);
                Edge::new(
                    OpaqueCursor(cursor),
                    Notification::received(user.id, received),
                )
            }),
        )
    }

    /// How many of the viewer's notifications are unread: exact, and as cheap with
    /// a million as with one.
    async fn unread_count(&self, ctx: &Context<'_>) -> async_graphql::Result<i64> {
        let reader = log(ctx).database().reader();
        let user = domain_notification::user(reader, &viewer(ctx).user).await;
        Ok(user
            .map_err(ApiError::from)?
            .map_or(0, |user| user.unread_count))
    }

    /// What the viewer wants to get, and how.
    async fn notification_settings(
        &self,
        ctx: &Context<'_>,
    ) -> async_graphql::Result<Option<NotificationSettings>> {
        own_user(ctx).await?;
        let reader = log(ctx).database().reader();
        let user = domain_notification::user(reader, &viewer(ctx).user).await;
        Ok(user.map_err(ApiError::from)?.map(NotificationSettings))
    }

    /// Where the viewer is reached on channels that leave the server.
    async fn endpoints(&self, ctx: &Context<'_>) -> async_graphql::Result<Vec<Endpoint>> {
        let user = own_user(ctx).await?;
        let reader = log(ctx).database().reader();
        let endpoints = domain_notification::endpoints(reader, user).await;
        Ok(endpoints
            .map_err(ApiError::from)?
            .into_iter()
            .map(Endpoint)
            .collect())
    }

    /// The key that a browser subscribes with (`applicationServerKey`), base64url;
    /// null where web push is not set up.
    async fn web_push_public_key(&self, ctx: &Context<'_>) -> Option<String> {
        let channels = ctx.data_unchecked::<Channels>();
        channels.web_push_public_key().map(str::to_owned)
    }

    /// Deliveries, the newest first, page by page: with the role SENDER all, else
    /// the viewer's own.
    #[allow(
        clippy::too_many_arguments,
        reason = "the arguments of a Relay connection"
    )]
    async fn deliveries(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which deliveries; all if absent.")] filter: Option<DeliveryFilter>,
        #[graphql(desc = "At most so many, from the start; 50 if neither is given, at most 500.")]
        first: Option<i32>,
        #[graphql(desc = "Only those after this cursor.")] after: Option<String>,
        #[graphql(desc = "At most so many, from the end; at most 500.")] last: Option<i32>,
        #[graphql(desc = "Only those before this cursor.")] before: Option<String>,
    ) -> async_graphql::Result<Deliveries> {
        let page = Page::new(first, last)?;
        let cursor = |cursor: Option<String>| {
            let decode = |cursor: String| decode_cursor::<DeliveryCursor>(&cursor);
            Ok::<_, ApiError>(cursor.map(decode).transpose()?.map(|cursor| cursor.0))
        };
        let (after, before) = (cursor(after)?, cursor(before)?);
        let mut filter = filter.unwrap_or_default().into_domain()?;
        let viewer = viewer(ctx);
        if !viewer.roles.allow(Role::Sender) {
            match &filter.user {
                Some(user) if *user != viewer.user => viewer.demand(Role::Sender)?,
                _ => filter.user = Some(viewer.user.clone()),
            }
        }
        let reader = log(ctx).database().reader();
        let list = delivery::list(
            reader,
            &filter,
            after,
            before,
            page.to_read(),
            page.from_end,
        )
        .await
        .map_err(ApiError::from)?;
        Ok(
            page.connect(list, after.is_some(), before.is_some(), |delivery| {
                Edge::new(OpaqueCursor(delivery.id), Delivery(delivery))
            }),
        )
    }

    /// Who can be notified, by key, page by page. It takes the role SENDER.
    async fn users(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "At most so many, from the start; 50 if neither is given, at most 500.")]
        first: Option<i32>,
        #[graphql(desc = "Only those after this cursor.")] after: Option<String>,
        #[graphql(desc = "At most so many, from the end; at most 500.")] last: Option<i32>,
        #[graphql(desc = "Only those before this cursor.")] before: Option<String>,
    ) -> async_graphql::Result<Users> {
        demand(ctx, Role::Sender)?;
        let page = Page::new(first, last)?;
        let cursor = |cursor: Option<String>| {
            let decode = |cursor: String| decode_cursor::<UserCursor>(&cursor);
            match cursor.map(decode).transpose()?.map(|cursor| cursor.0) {
                Some(key) if key.contains('\0') => Err(bad_cursor()),
                key => Ok(key),
            }
        };
        let (after, before) = (cursor(after)?, cursor(before)?);
        let reader = log(ctx).database().reader();
        let users = domain_notification::users(
            reader,
            after.as_deref(),
            before.as_deref(),
            page.to_read(),
            page.from_end,
        )
        .await
        .map_err(ApiError::from)?;
        Ok(
            page.connect(users, after.is_some(), before.is_some(), |user| {
                Edge::new(OpaqueCursor(user.key.clone()), User(user))
            }),
        )
    }

    /// The mail templates there are. It takes the role SENDER.
    async fn mail_templates(&self, ctx: &Context<'_>) -> async_graphql::Result<Vec<MailTemplate>> {
        demand(ctx, Role::Sender)?;
        let templates = ctx.data_unchecked::<Channels>().templates();
        Ok(templates.list().map(MailTemplate::from).collect())
    }

    /// A mail as it would be sent. It takes the role SENDER.
    async fn mail_preview(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The template's name.", default = "plain")] template: String,
        #[graphql(desc = "A language tag, such as `de-AT`.")] locale: Option<String>,
        #[graphql(desc = "The template's variables: a JSON object.")] variables: Option<JsonObject>,
        #[graphql(desc = "The notification's title.", default = "A title")] title: String,
        #[graphql(desc = "The notification's body.", default = "What there is to say.")]
        body: String,
    ) -> async_graphql::Result<MailPreview> {
        demand(ctx, Role::Sender)?;
        let channels = ctx.data_unchecked::<Channels>();
        let variables = variables.map(|variables| variables.0);
        if let Some(variables) = &variables {
            ApiError::check(json::faults("variables", variables))?;
        }
        let preview = channels.preview(
            &template,
            locale.as_deref(),
            variables.as_ref(),
            (&title, &body),
        );
        Ok(preview.map(MailPreview::from)?)
    }

    /// The channels that this server can send over.
    async fn channels(&self, ctx: &Context<'_>) -> Vec<ChannelName> {
        let channels = ctx.data_unchecked::<Channels>();
        Channel::ALL
            .into_iter()
            .filter(|channel| channels.has(*channel))
            .map(Into::into)
            .collect()
    }
}
