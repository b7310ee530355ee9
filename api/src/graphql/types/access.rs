//! Roles, and the keys that let programs in.

use async_graphql::{Enum, ID, InputObject, Object, SimpleObject};
use domain::access as domain_access;
use time::OffsetDateTime;

use super::id::number_of;
use super::scalar::{DateTime, UnitKey};
use crate::error::ApiError;

/// What a caller may do beyond reading.
#[derive(Enum, Debug, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "domain_access::Role")]
pub(crate) enum Role {
    /// Everything, other roles' parts included.
    Admin,
    /// Writes units and providers, and saves forecasts.
    Provider,
    /// Sends notifications, and reads how they were delivered.
    Sender,
}

/// A key that lets a program in.
pub(crate) struct ApiKey(pub(crate) domain_access::ApiKey);

/// A key that lets a program in. Its secret was shown when it was made, and is
/// not to be had again.
#[Object]
impl ApiKey {
    /// Names it for `revokeApiKey`.
    async fn id(&self) -> ID {
        format!("api-key:{}", self.0.id).into()
    }

    /// For people.
    async fn name(&self) -> &str {
        &self.0.name
    }

    /// The user that the program acts for.
    async fn user(&self) -> &str {
        &self.0.user
    }

    /// What it may do beyond reading.
    async fn roles(&self) -> Vec<Role> {
        self.0.roles.iter().map(Role::from).collect()
    }

    /// The companies that it belongs to.
    async fn companies(&self) -> Vec<UnitKey> {
        self.0.companies.iter().copied().map(UnitKey).collect()
    }

    /// How the secret begins, to know it by.
    async fn prefix(&self) -> &str {
        &self.0.prefix
    }

    /// When it was made.
    async fn created_at(&self) -> OffsetDateTime {
        self.0.created_at
    }

    /// From when on it lets nobody in; null for never.
    async fn expires_at(&self) -> Option<OffsetDateTime> {
        self.0.expires_at
    }

    /// When it was revoked; null if it was not.
    async fn revoked_at(&self) -> Option<OffsetDateTime> {
        self.0.revoked_at
    }

    /// When it last let somebody in, to the minute; null for never.
    async fn last_used_at(&self) -> Option<OffsetDateTime> {
        self.0.last_used_at
    }
}

/// The key to make.
#[derive(InputObject)]
pub(crate) struct CreateApiKeyInput {
    /// For people, 1 to 200 characters.
    name: String,
    /// The user that the program acts for: 1 to 200 characters.
    user: String,
    /// What it may do beyond reading; nothing, if empty.
    roles: Vec<Role>,
    /// Keys of the companies that it belongs to, at most 100.
    #[graphql(default)]
    companies: Vec<UnitKey>,
    /// From when on it lets nobody in; never, if absent.
    expires_at: Option<DateTime>,
}

/// The key that was made.
#[derive(SimpleObject)]
pub(crate) struct CreateApiKeyPayload {
    /// The key.
    pub(crate) api_key: ApiKey,
    /// What the program sends as its bearer token. It is not to be had again.
    pub(crate) secret: String,
}

/// The key to revoke.
#[derive(InputObject)]
pub(crate) struct RevokeApiKeyInput {
    /// As `ApiKey.id` gave it.
    id: ID,
}

/// The key as it is now.
#[derive(SimpleObject)]
pub(crate) struct RevokeApiKeyPayload {
    /// The key; one that was revoked before stays so since then.
    pub(crate) api_key: ApiKey,
}

impl From<CreateApiKeyInput> for domain_access::NewApiKey {
    fn from(input: CreateApiKeyInput) -> Self {
        Self {
            name: input.name,
            user: input.user,
            roles: input.roles.into_iter().map(Into::into).collect(),
            companies: input.companies.into_iter().map(|key| key.0).collect(),
            expires_at: input.expires_at.map(|at| at.0),
        }
    }
}

impl RevokeApiKeyInput {
    /// The key's number.
    pub(crate) fn number(&self) -> Result<i64, ApiError> {
        number_of("api-key", &self.id, "input.id")
    }
}
