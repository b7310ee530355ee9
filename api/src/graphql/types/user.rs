//! Users who can be notified, what they want, and where they are reached.

use async_graphql::{Context, ID, InputObject, MaybeUndefined, Object, SimpleObject};
use domain::notification::{
    self as domain_notification, GroupUpsert, Preference, QuietHours, RegisteredEndpoint,
    UserUpsert,
};
use time::OffsetDateTime;

use super::notification::ChannelName;
use super::patch;
use crate::error::ApiError;
use crate::graphql::log;

/// Who can be notified.
pub(crate) struct User(pub(crate) domain_notification::User);

/// Who can be notified.
#[Object]
impl User {
    /// What an authenticated caller is called.
    async fn key(&self) -> &str {
        &self.0.key
    }

    /// For people.
    async fn name(&self) -> &str {
        &self.0.name
    }

    /// Where mails go.
    async fn email(&self) -> Option<&str> {
        self.0.email.as_deref()
    }

    /// A language tag, such as `de-AT`: what mails are written in.
    async fn locale(&self) -> Option<&str> {
        self.0.locale.as_deref()
    }

    /// IANA name: what quiet hours go by.
    async fn time_zone(&self) -> &str {
        &self.0.time_zone
    }
}

/// What to write of a user: an absent field is left as it is, null clears it.
#[derive(InputObject)]
pub(crate) struct UserInput {
    /// 1 to 200 characters; creates the user if there is none.
    key: String,
    /// For people; the key for a new user who gives none.
    name: Option<String>,
    /// Where mails go.
    email: MaybeUndefined<String>,
    /// A language tag, such as `de-AT`.
    locale: MaybeUndefined<String>,
    /// IANA name; `UTC` for a new user who gives none.
    time_zone: Option<String>,
}

impl From<UserInput> for UserUpsert {
    fn from(input: UserInput) -> Self {
        Self {
            key: input.key,
            name: input.name,
            email: patch(input.email, |email| email),
            locale: patch(input.locale, |locale| locale),
            time_zone: input.time_zone,
        }
    }
}

/// The users to create or update.
#[derive(InputObject)]
pub(crate) struct UpsertUsersInput {
    /// All or none are written; at most 1,000.
    #[graphql(validator(max_items = 1000))]
    pub(crate) users: Vec<UserInput>,
}

/// The users as they are now.
#[derive(SimpleObject)]
pub(crate) struct UpsertUsersPayload {
    /// In the order given.
    pub(crate) users: Vec<User>,
}

/// What to write of a group of users: an absent field is left as it is.
#[derive(InputObject)]
pub(crate) struct UserGroupInput {
    /// 1 to 200 characters; creates the group if there is none.
    key: String,
    /// For people; the key for a new group that gives none.
    name: Option<String>,
    /// The keys of all its members, who must exist.
    members: Option<Vec<String>>,
}

impl From<UserGroupInput> for GroupUpsert {
    fn from(input: UserGroupInput) -> Self {
        Self {
            key: input.key,
            name: input.name,
            members: input.members,
        }
    }
}

/// The groups to create or update.
#[derive(InputObject)]
pub(crate) struct UpsertUserGroupsInput {
    /// All or none are written; at most 1,000.
    #[graphql(validator(max_items = 1000))]
    pub(crate) groups: Vec<UserGroupInput>,
}

/// They are written.
#[derive(SimpleObject)]
pub(crate) struct UpsertUserGroupsPayload {
    /// The keys, in the order given.
    pub(crate) keys: Vec<String>,
}

/// Whether the viewer wants something.
#[derive(SimpleObject)]
pub(crate) struct NotificationPreference {
    /// Of one category; of all, if null.
    category: Option<String>,
    /// Over one channel; over all, if null.
    channel: Option<ChannelName>,
    /// Whether it comes.
    enabled: bool,
}

/// Part of the viewer's local day; over midnight if it ends before it begins.
#[derive(SimpleObject)]
pub(crate) struct QuietHoursSetting {
    /// `HH:MM`, local.
    from: String,
    /// `HH:MM`, local; not part of it.
    until: String,
}

/// What the viewer wants to get, and how.
pub(crate) struct NotificationSettings(pub(crate) domain_notification::User);

/// What the viewer wants to get, and how.
#[Object]
impl NotificationSettings {
    /// The one of a category and a channel decides alone. Without it neither the
    /// category nor the channel may be off; where neither has one, the one of
    /// everything decides; without any, all comes.
    async fn preferences(
        &self,
        ctx: &Context<'_>,
    ) -> async_graphql::Result<Vec<NotificationPreference>> {
        let reader = log(ctx).database().reader();
        let preferences = domain_notification::preferences(reader, self.0.id)
            .await
            .map_err(ApiError::from)?;
        Ok(preferences
            .into_iter()
            .map(|preference| NotificationPreference {
                category: preference.category,
                channel: preference.channel.map(Into::into),
                enabled: preference.enabled.unwrap_or(true),
            })
            .collect())
    }

    /// When only what is critical leaves the server; the rest comes afterwards.
    async fn quiet_hours(&self) -> Option<QuietHoursSetting> {
        let time = |minutes: u16| format!("{:02}:{:02}", minutes / 60, minutes % 60);
        self.0.quiet_hours.map(|quiet| QuietHoursSetting {
            from: time(quiet.from),
            until: time(quiet.until),
        })
    }

    /// Whether what is critical comes although a preference says no.
    async fn critical_overrides(&self) -> bool {
        self.0.critical_overrides
    }

    /// Topics that the viewer subscribed to.
    async fn topics(&self, ctx: &Context<'_>) -> async_graphql::Result<Vec<String>> {
        let reader = log(ctx).database().reader();
        let topics = domain_notification::topics(reader, self.0.id).await;
        Ok(topics.map_err(ApiError::from)?)
    }

    /// Who it is about.
    async fn user(&self) -> User {
        User(self.0.clone())
    }
}

/// Whether the viewer wants something.
#[derive(InputObject)]
pub(crate) struct NotificationPreferenceInput {
    /// Of one category; of all, if absent.
    category: Option<String>,
    /// Over one channel; over all, if absent.
    channel: Option<ChannelName>,
    /// Whether it comes; null takes the preference back.
    enabled: Option<bool>,
}

impl From<NotificationPreferenceInput> for Preference {
    fn from(input: NotificationPreferenceInput) -> Self {
        Self {
            category: input.category,
            channel: input.channel.map(Into::into),
            enabled: input.enabled,
        }
    }
}

/// Part of the viewer's local day; over midnight if it ends before it begins.
#[derive(InputObject)]
pub(crate) struct QuietHoursInput {
    /// `HH:MM`, local.
    from: String,
    /// `HH:MM`, local; not part of it.
    until: String,
}

impl QuietHoursInput {
    pub(crate) fn into_domain(self) -> Result<QuietHours, ApiError> {
        let minutes = |field: &str, text: &str| {
            let read = || {
                let (hours, minutes) = text.split_once(':')?;
                let (hours, minutes): (u16, u16) = (hours.parse().ok()?, minutes.parse().ok()?);
                (text.len() == 5 && hours < 24 && minutes < 60).then_some(hours * 60 + minutes)
            };
            read().ok_or_else(|| {
                ApiError::violation(
                    format!("quietHours.{field}"),
                    "a time of day, such as 22:30",
                )
            })
        };
        Ok(QuietHours {
            from: minutes("from", &self.from)?,
            until: minutes("until", &self.until)?,
        })
    }
}

/// What the viewer wants from now on: what is absent is left as it is.
#[derive(InputObject)]
pub(crate) struct UpdateNotificationSettingsInput {
    /// Those given are set, the others left.
    #[graphql(default, validator(max_items = 200))]
    pub(crate) preferences: Vec<NotificationPreferenceInput>,
    /// When only what is critical leaves the server; null ends them.
    pub(crate) quiet_hours: MaybeUndefined<QuietHoursInput>,
    /// Whether what is critical comes although a preference says no.
    pub(crate) critical_overrides: Option<bool>,
    /// Topics to subscribe to.
    #[graphql(default, validator(max_items = 200))]
    pub(crate) subscribe: Vec<String>,
    /// Topics to unsubscribe from.
    #[graphql(default, validator(max_items = 200))]
    pub(crate) unsubscribe: Vec<String>,
    /// A language tag, such as `de-AT`: what mails are written in.
    pub(crate) locale: MaybeUndefined<String>,
    /// IANA name: what quiet hours go by.
    pub(crate) time_zone: Option<String>,
}

/// What the viewer wants now.
#[derive(SimpleObject)]
pub(crate) struct UpdateNotificationSettingsPayload {
    /// All of it.
    pub(crate) settings: Option<NotificationSettings>,
}

/// Where the viewer is reached on a channel that leaves the server.
pub(crate) struct Endpoint(pub(crate) RegisteredEndpoint);

/// Where the viewer is reached on a channel that leaves the server.
#[Object]
impl Endpoint {
    /// Its global id, for `unregisterEndpoint`.
    async fn id(&self) -> ID {
        format!("endpoint:{}", self.0.id).into()
    }

    /// On which channel.
    async fn channel(&self) -> ChannelName {
        self.0.channel.into()
    }

    /// A mail address, a push service's address, a device's token, a webhook's address.
    async fn address(&self) -> &str {
        &self.0.address
    }

    /// When it was registered first.
    async fn created_at(&self) -> OffsetDateTime {
        self.0.created_at
    }

    /// When it was given up: nothing goes there until it is registered again.
    async fn disabled_at(&self) -> Option<OffsetDateTime> {
        self.0.disabled_at
    }

    /// Why it was given up.
    async fn disabled_reason(&self) -> Option<&str> {
        self.0.disabled_reason.as_deref()
    }
}

/// A browser's push subscription, as `PushSubscription.toJSON()` has it.
#[derive(InputObject)]
pub(crate) struct RegisterWebPushInput {
    /// The push service's address.
    pub(crate) endpoint: String,
    /// The browser's public key, base64url.
    #[graphql(name = "p256dh")]
    pub(crate) p256dh: String,
    /// The browser's secret, base64url.
    pub(crate) auth: String,
}

/// A device with an app that takes messages of Firebase.
#[derive(InputObject)]
pub(crate) struct RegisterDeviceInput {
    /// As the Firebase SDK gave it to the app.
    pub(crate) token: String,
}

/// An address of the viewer's own that takes webhooks.
#[derive(InputObject)]
pub(crate) struct RegisterWebhookInput {
    /// https, and not of an internal network.
    pub(crate) url: String,
}

/// It is registered.
#[derive(SimpleObject)]
pub(crate) struct RegisterEndpointPayload {
    /// As it is now.
    pub(crate) endpoint: Endpoint,
}

/// It is registered.
#[derive(SimpleObject)]
pub(crate) struct RegisterWebhookPayload {
    /// As it is now.
    pub(crate) endpoint: Endpoint,
    /// What its messages are signed with, by Standard Webhooks. It is not shown again.
    pub(crate) secret: String,
}

/// Which webhook gets another secret.
#[derive(InputObject)]
pub(crate) struct RotateWebhookSecretInput {
    /// Its global id.
    pub(crate) id: ID,
}

/// It has another secret; what it was signed with last is signed with, too, until
/// the next rotation.
#[derive(SimpleObject)]
pub(crate) struct RotateWebhookSecretPayload {
    /// The new one. It is not shown again.
    pub(crate) secret: String,
}

/// Which endpoint to forget.
#[derive(InputObject)]
pub(crate) struct UnregisterEndpointInput {
    /// Its global id.
    pub(crate) id: ID,
}

/// It is forgotten.
#[derive(SimpleObject)]
pub(crate) struct UnregisterEndpointPayload {
    /// Its global id.
    pub(crate) id: ID,
}
