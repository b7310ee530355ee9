//! Notifications, as their recipients and senders see them.

use std::sync::Arc;

use async_graphql::{Context, Enum, ID, InputObject, Json, Object, SimpleObject};
use domain::notification::{
    self as domain_notification, Attachment, Channel, InboxFilter, SendRequest, Severity, Target,
    Throttle,
};
use serde_json::Value;
use subscriptions::{NotificationEvent, NotificationKind};
use time::{Duration, OffsetDateTime};

use super::json::JsonObject;
use super::scalar::{DateTime, Position};
use crate::error::ApiError;
use crate::graphql::log;

/// How much a notification matters.
#[derive(Enum, Debug, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "Severity", name = "Severity")]
pub(crate) enum SeverityName {
    /// Good to know.
    Info,
    /// Somebody should look.
    Warning,
    /// Passes quiet hours, throttles and, unless the user says otherwise, preferences.
    Critical,
}

/// A way a notification reaches a user.
#[derive(Enum, Debug, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "Channel", name = "Channel")]
pub(crate) enum ChannelName {
    /// The list of notifications, live on all devices of the user.
    InApp,
    /// Mail.
    Email,
    /// Web push: browsers, also while the page is closed.
    WebPush,
    /// Firebase Cloud Messaging: mobile apps.
    Fcm,
    /// An HTTP address of the user's own.
    Webhook,
}

/// A notification in the viewer's list.
pub(crate) struct Notification {
    pub(crate) user_id: i64,
    pub(crate) notification: Arc<domain_notification::Notification>,
    /// When it came and was read, if that is known already.
    pub(crate) state: Option<(OffsetDateTime, Option<OffsetDateTime>)>,
}

impl Notification {
    pub(crate) fn received(user_id: i64, received: domain_notification::Received) -> Self {
        Self {
            user_id,
            state: Some((received.arrived_at, received.read_at)),
            notification: received.notification,
        }
    }

    async fn state(
        &self,
        ctx: &Context<'_>,
    ) -> Result<Option<(OffsetDateTime, Option<OffsetDateTime>)>, ApiError> {
        match self.state {
            Some(state) => Ok(Some(state)),
            None => {
                let reader = log(ctx).database().reader();
                let id = self.notification.id;
                Ok(domain_notification::recipient_state(reader, self.user_id, id).await?)
            }
        }
    }
}

/// The global id of a notification.
pub(crate) fn notification_id(id: i64) -> ID {
    format!("notification:{id}").into()
}

/// A notification in the viewer's list.
#[Object]
impl Notification {
    /// Its global id, for `node` and for marking it.
    pub(crate) async fn id(&self) -> ID {
        notification_id(self.notification.id)
    }

    /// Who sent it: a user, or `alert:` and the number of an alert rule.
    async fn sender(&self) -> &str {
        &self.notification.sender
    }

    /// One line.
    async fn title(&self) -> &str {
        &self.notification.title
    }

    /// Plain text; may be empty.
    async fn body(&self) -> &str {
        &self.notification.body
    }

    /// How much it matters.
    async fn severity(&self) -> SeverityName {
        self.notification.severity.into()
    }

    /// What it is about, such as `alert`: what preferences go by.
    async fn category(&self) -> &str {
        &self.notification.category
    }

    /// Whatever the app makes of it: a JSON object.
    async fn data(&self) -> Option<Json<Value>> {
        self.notification.data.clone().map(Json)
    }

    /// Where it leads: an address, or a path of the app.
    async fn link(&self) -> Option<&str> {
        self.notification.link.as_deref()
    }

    /// When it was sent.
    async fn created_at(&self) -> OffsetDateTime {
        self.notification.created_at
    }

    /// When it goes from the list by itself.
    async fn expires_at(&self) -> Option<OffsetDateTime> {
        self.notification.expires_at
    }

    /// When it came into the list; null if it has been taken off meanwhile.
    async fn arrived_at(&self, ctx: &Context<'_>) -> async_graphql::Result<Option<OffsetDateTime>> {
        Ok(self.state(ctx).await?.map(|(arrived_at, _)| arrived_at))
    }

    /// When the viewer read it, on whatever device; null while it is unread.
    async fn read_at(&self, ctx: &Context<'_>) -> async_graphql::Result<Option<OffsetDateTime>> {
        Ok(self.state(ctx).await?.and_then(|(_, read_at)| read_at))
    }
}

/// Which notifications; what is absent matches all, an empty list nothing.
#[derive(InputObject, Default)]
pub(crate) struct NotificationFilter {
    /// Only unread ones, or only read ones.
    unread: Option<bool>,
    /// Of one of these categories.
    categories: Option<Vec<String>>,
    /// Of one of these severities.
    severities: Option<Vec<SeverityName>>,
    /// Arrived then or later.
    since: Option<DateTime>,
    /// Arrived before.
    until: Option<DateTime>,
}

impl From<NotificationFilter> for InboxFilter {
    fn from(filter: NotificationFilter) -> Self {
        Self {
            unread: filter.unread,
            categories: filter.categories,
            severities: filter
                .severities
                .map(|all| all.into_iter().map(Into::into).collect()),
            since: filter.since.map(|at| at.0),
            until: filter.until.map(|at| at.0),
        }
    }
}

/// Whom a notification is for: everybody who is in any of these, once.
#[derive(Clone, Default, InputObject)]
pub(crate) struct NotificationTarget {
    /// Keys of users; each must exist.
    #[graphql(default)]
    users: Vec<String>,
    /// Keys of groups of users; each must exist.
    #[graphql(default)]
    groups: Vec<String>,
    /// Topics that users subscribed to; nobody need have.
    #[graphql(default)]
    topics: Vec<String>,
}

impl From<NotificationTarget> for Target {
    fn from(target: NotificationTarget) -> Self {
        Self {
            users: target.users,
            groups: target.groups,
            topics: target.topics,
        }
    }
}

/// Of one group a user gets no more over channels other than `IN_APP` than one in
/// an interval. What is critical passes.
#[derive(InputObject)]
pub(crate) struct NotificationThrottle {
    /// What belongs together, such as `alert:7`.
    group_key: String,
    /// The interval, from the first that passes on.
    seconds: i64,
}

/// A file that goes with a mail.
#[derive(InputObject)]
pub(crate) struct AttachmentInput {
    /// 1 to 200 characters, no slashes.
    file_name: String,
    /// Such as `text/csv`.
    media_type: String,
    /// The file itself, at most 10 MiB together with the others.
    content_base64: String,
}

/// A notification to be sent.
#[derive(InputObject)]
pub(crate) struct SendNotificationInput {
    /// Whom it is for.
    to: NotificationTarget,
    /// One line of 1 to 200 characters.
    title: String,
    /// Plain text of at most 10,000 characters.
    #[graphql(default)]
    body: String,
    /// How much it matters.
    #[graphql(default_with = "SeverityName::Info")]
    severity: SeverityName,
    /// What it is about, 1 to 100 characters: what preferences go by.
    #[graphql(default = "general")]
    category: String,
    /// Whatever the app makes of it: a JSON object of at most 64 KiB.
    data: Option<JsonObject>,
    /// Where it leads: an http or https address, or a path of the app.
    link: Option<String>,
    /// Over which channels, as far as each user has and wants them.
    #[graphql(default_with = "vec![ChannelName::InApp]")]
    channels: Vec<ChannelName>,
    /// The mail template that mails are written with; `plain` if absent.
    template: Option<String>,
    /// The template's variables: a JSON object.
    variables: Option<JsonObject>,
    /// Files that go with mails.
    #[graphql(default)]
    attachments: Vec<AttachmentInput>,
    /// Nothing is seen of it before; who wants it is looked at then.
    not_before: Option<DateTime>,
    /// Nobody needs it later: it goes from all lists, and no longer leaves.
    expires_at: Option<DateTime>,
    /// Keeps many of one kind from being too many.
    throttle: Option<NotificationThrottle>,
    /// The same key and input within 24 hours are answered again, not sent again;
    /// another input under the key is a `CONFLICT`.
    idempotency_key: Option<String>,
}

impl SendNotificationInput {
    pub(crate) fn into_domain(self) -> Result<SendRequest, ApiError> {
        use base64::Engine;
        use base64::engine::general_purpose::STANDARD;
        let mut attachments = Vec::with_capacity(self.attachments.len());
        for (i, attachment) in self.attachments.into_iter().enumerate() {
            let content = STANDARD.decode(&attachment.content_base64).map_err(|_| {
                ApiError::violation(
                    format!("attachments[{i}].contentBase64"),
                    "this is not base64",
                )
            })?;
            attachments.push(Attachment {
                file_name: attachment.file_name,
                media_type: attachment.media_type,
                content,
            });
        }
        Ok(SendRequest {
            to: self.to.into(),
            title: self.title,
            body: self.body,
            severity: self.severity.into(),
            category: self.category,
            data: self.data.map(|data| data.0),
            link: self.link,
            channels: self.channels.into_iter().map(Into::into).collect(),
            template: self.template,
            variables: self.variables.map(|variables| variables.0),
            attachments,
            not_before: self.not_before.map(|at| at.0),
            expires_at: self.expires_at.map(|at| at.0),
            throttle: self.throttle.map(|throttle| Throttle {
                group_key: throttle.group_key,
                interval: Duration::seconds(throttle.seconds),
            }),
            idempotency_key: self.idempotency_key,
        })
    }
}

/// What was sent.
#[derive(SimpleObject)]
pub(crate) struct SendNotificationPayload {
    /// The notification's global id, for `revokeNotification` and `deliveries`.
    pub(crate) notification_id: ID,
    /// How many users it is for.
    pub(crate) recipients: u64,
    /// The last change this call made: a read with it includes the call.
    pub(crate) position: Position,
}

/// Which notification to take back.
#[derive(InputObject)]
pub(crate) struct RevokeNotificationInput {
    /// As `sendNotification` gave it.
    pub(crate) notification_id: ID,
}

/// It is taken back.
#[derive(SimpleObject)]
pub(crate) struct RevokeNotificationPayload {
    /// The notification's global id.
    pub(crate) notification_id: ID,
    /// The last change this call made: a read with it includes the call.
    pub(crate) position: Position,
}

/// Which notifications of the viewer were read.
#[derive(InputObject)]
pub(crate) struct MarkNotificationsReadInput {
    /// Their global ids, at most 1,000.
    #[graphql(validator(max_items = 1000))]
    pub(crate) ids: Vec<ID>,
}

/// All of the viewer's notifications were read.
#[derive(InputObject, Default)]
pub(crate) struct MarkAllNotificationsReadInput {
    /// Those that had arrived by then: what the viewer could see. Now, if absent.
    pub(crate) until: Option<DateTime>,
}

/// Which notifications go from the viewer's list.
#[derive(InputObject)]
pub(crate) struct DeleteNotificationsInput {
    /// Their global ids, at most 1,000.
    #[graphql(validator(max_items = 1000))]
    pub(crate) ids: Vec<ID>,
}

/// What was marked read.
#[derive(SimpleObject)]
pub(crate) struct MarkNotificationsReadPayload {
    /// Those that were unread before; what is gone or never was the viewer's is
    /// left out.
    pub(crate) notification_ids: Vec<ID>,
    /// What is unread now.
    pub(crate) unread_count: i64,
    /// The last change this call made: a read with it includes the call.
    pub(crate) position: Position,
}

/// What went from the list.
#[derive(SimpleObject)]
pub(crate) struct DeleteNotificationsPayload {
    /// Those that were in it; what is gone or never was the viewer's is left out.
    pub(crate) notification_ids: Vec<ID>,
    /// What is unread now.
    pub(crate) unread_count: i64,
    /// The last change this call made: a read with it includes the call.
    pub(crate) position: Position,
}

impl From<MarkNotificationsReadPayload> for DeleteNotificationsPayload {
    fn from(marked: MarkNotificationsReadPayload) -> Self {
        Self {
            notification_ids: marked.notification_ids,
            unread_count: marked.unread_count,
            position: marked.position,
        }
    }
}

/// What happened to notifications of the viewer.
#[derive(Enum, Debug, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "NotificationKind")]
pub(crate) enum NotificationChangeKind {
    /// One came into the list.
    Arrived,
    /// Some were read, on whatever device.
    Read,
    /// The viewer took some off the list, on whatever device.
    Deleted,
    /// Its sender took it back, or it expired.
    Withdrawn,
}

/// Something that happened to notifications of the viewer, on whatever device.
pub(crate) struct NotificationChange {
    pub(crate) user_id: i64,
    pub(crate) event: NotificationEvent,
}

/// Something that happened to notifications of the viewer, on whatever device.
#[Object]
impl NotificationChange {
    /// Its place in the change log; subscribe with it as `after` to go on from here.
    async fn position(&self) -> Position {
        Position(self.event.position)
    }

    /// What happened.
    async fn kind(&self) -> NotificationChangeKind {
        self.event.kind.into()
    }

    /// When its transaction wrote it, by the database's clock.
    async fn changed_at(&self) -> OffsetDateTime {
        self.event.changed_at
    }

    /// What arrived; null of other kinds, and of what has been taken back since.
    async fn notification(&self) -> Option<Notification> {
        Some(Notification {
            user_id: self.user_id,
            notification: Arc::clone(self.event.notification.as_ref()?),
            state: None,
        })
    }

    /// Which notifications it is about. Empty when another program removed some:
    /// read the list anew.
    async fn notification_ids(&self) -> Vec<ID> {
        self.event
            .ids
            .iter()
            .copied()
            .map(notification_id)
            .collect()
    }

    /// What is unread now: as late as this change is told, later ones may be in it.
    async fn unread_count(&self, ctx: &Context<'_>) -> async_graphql::Result<i64> {
        let reader = log(ctx).database().reader();
        let count = domain_notification::unread_count(reader, self.user_id).await;
        Ok(count.map_err(ApiError::from)?)
    }
}
