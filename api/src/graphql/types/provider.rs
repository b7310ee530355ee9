//! Providers.

use std::sync::Arc;

use async_graphql::{ID, InputObject, Object, SimpleObject};
use domain::provider as domain_provider;

use super::scalar::Position;

/// Who forecasts.
pub(crate) struct Provider(pub(crate) Arc<domain_provider::Provider>);

/// Who forecasts.
#[Object]
impl Provider {
    /// Its global id, for `node`.
    pub(crate) async fn id(&self) -> ID {
        format!("provider:{}", self.0.key).into()
    }

    /// Names it in every argument: `provider-a`.
    async fn key(&self) -> &str {
        self.0.key.as_str()
    }

    /// For people.
    async fn name(&self) -> &str {
        &self.0.name
    }
}

/// What to write of a provider.
#[derive(InputObject)]
pub(crate) struct ProviderInput {
    /// 1 to 64 characters of a-z, 0-9, `.`, `_` and `-`; creates the provider if there is none.
    pub(crate) key: String,
    /// For people, 1 to 200 characters; left as it is if absent, the key for a new provider.
    pub(crate) name: Option<String>,
}

/// The providers to create or update.
#[derive(InputObject)]
pub(crate) struct UpsertProvidersInput {
    /// All or none are written; at most 1,000.
    #[graphql(validator(max_items = 1000))]
    pub(crate) providers: Vec<ProviderInput>,
}

/// The providers as they are now.
#[derive(SimpleObject)]
pub(crate) struct UpsertProvidersPayload {
    /// In the order given.
    pub(crate) providers: Vec<Provider>,
    /// The last change this call made: a read with it includes the call.
    pub(crate) position: Position,
}
