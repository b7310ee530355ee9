//! The mutation root.

use async_graphql::{Context, Object};
use domain::Violation;
use domain::access::Role;
use domain::change::{Position as DomainPosition, Receipt};
use domain::forecast::{self as domain_forecast, SaveRequest};
use domain::provider::{self as domain_provider, ProviderError, ProviderKey, ProviderUpsert};
use domain::quote;
use domain::unit::{self as domain_unit, UnitUpsert};
use time::OffsetDateTime;

use super::types::access::{
    ApiKey, CreateApiKeyInput, CreateApiKeyPayload, RevokeApiKeyInput, RevokeApiKeyPayload,
};
use super::types::forecast::{ForecastRun, SaveForecastsInput, SaveForecastsPayload};
use super::types::provider::{Provider, UpsertProvidersInput, UpsertProvidersPayload};
use super::types::scalar::Position;
use super::types::unit::{Unit, UpsertUnitsInput, UpsertUnitsPayload};
use super::{demand, log, viewer};
use crate::auth::Keys;
use crate::error::ApiError;

pub(crate) struct ForecastMutation;

/// What can be changed of units, forecasts and access.
#[Object]
impl ForecastMutation {
    /// Creates or updates units, all or none. It takes the role PROVIDER.
    async fn upsert_units(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The units.")] input: UpsertUnitsInput,
    ) -> async_graphql::Result<UpsertUnitsPayload> {
        demand(ctx, Role::Provider)?;
        let units: Vec<UnitUpsert> = input.units.into_iter().map(Into::into).collect();
        let written = domain_unit::upsert(log(ctx).database(), &units).await;
        let position = acknowledge(ctx, written.map_err(ApiError::from)?).await?;
        let keys: Vec<_> = units.iter().map(|unit| unit.key).collect();
        let units = log(ctx).forecasts().units(&keys).await;
        Ok(UpsertUnitsPayload {
            units: units
                .map_err(ApiError::from)?
                .into_iter()
                .flatten()
                .map(Unit)
                .collect(),
            position: Position(position),
        })
    }

    /// Creates or updates providers, all or none. It takes the role PROVIDER.
    async fn upsert_providers(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The providers.")] input: UpsertProvidersInput,
    ) -> async_graphql::Result<UpsertProvidersPayload> {
        demand(ctx, Role::Provider)?;
        let mut violations = Vec::new();
        let mut providers = Vec::with_capacity(input.providers.len());
        for (i, provider) in input.providers.into_iter().enumerate() {
            match provider.key.parse() {
                Ok(key) => providers.push(ProviderUpsert {
                    key,
                    name: provider.name,
                }),
                Err(error) => {
                    let error: domain_provider::ParseProviderKeyError = error;
                    let path = format!("providers[{i}].key");
                    violations.push(Violation::new(path, error.to_string()));
                }
            }
        }
        if !violations.is_empty() {
            violations.truncate(Violation::MOST);
            return Err(ApiError::from(ProviderError::Invalid(violations)).into());
        }
        let written = domain_provider::upsert(log(ctx).database(), &providers).await;
        let position = acknowledge(ctx, written.map_err(ApiError::from)?).await?;
        let mut now = Vec::with_capacity(providers.len());
        for provider in &providers {
            let provider = log(ctx).forecasts().provider(&provider.key).await;
            now.extend(provider.map_err(ApiError::from)?.map(Provider));
        }
        Ok(UpsertProvidersPayload {
            providers: now,
            position: Position(position),
        })
    }

    /// Saves forecast runs: all of them or, if any value is bad, none. Every
    /// bad value is named in `extensions.violations`, at most 100. It takes the
    /// role PROVIDER.
    async fn save_forecasts(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The runs.")] input: SaveForecastsInput,
    ) -> async_graphql::Result<SaveForecastsPayload> {
        demand(ctx, Role::Provider)?;
        let mut runs = Vec::with_capacity(input.runs.len());
        for (i, run) in input.runs.into_iter().enumerate() {
            let provider = provider_key(&run.provider, i)?;
            runs.push(run.into_domain(provider));
        }
        let issued: Vec<_> = runs.iter().map(|run| run.issued_at).collect();
        let request = SaveRequest {
            runs,
            idempotency_key: input.idempotency_key,
        };
        let saved = domain_forecast::save(
            log(ctx).database(),
            &viewer(ctx).user,
            &request,
            OffsetDateTime::now_utc(),
        )
        .await
        .map_err(ApiError::from)?;
        let position = acknowledge(ctx, saved.receipt).await?;
        Ok(SaveForecastsPayload {
            runs: saved
                .run_ids
                .into_iter()
                .zip(issued)
                .map(|(id, issued_at)| ForecastRun { id, issued_at })
                .collect(),
            position: Position(position),
        })
    }

    /// Makes a key that lets a program in. It takes the role ADMIN.
    async fn create_api_key(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The key.")] input: CreateApiKeyInput,
    ) -> async_graphql::Result<CreateApiKeyPayload> {
        demand(ctx, Role::Admin)?;
        let created = keys(ctx).create(&input.into()).await;
        let (key, secret) = created.map_err(ApiError::from)?;
        Ok(CreateApiKeyPayload {
            api_key: ApiKey(key),
            secret: secret.reveal().to_owned(),
        })
    }

    /// Takes a key back, for good: it lets nobody in any more, and connections
    /// that it let in are closed, by this replica at once, by others within a
    /// minute. It takes the role ADMIN.
    async fn revoke_api_key(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which key.")] input: RevokeApiKeyInput,
    ) -> async_graphql::Result<RevokeApiKeyPayload> {
        demand(ctx, Role::Admin)?;
        let revoked = keys(ctx)
            .revoke(input.number()?)
            .await
            .map_err(ApiError::from)?;
        Ok(RevokeApiKeyPayload {
            api_key: ApiKey(revoked),
        })
    }
}

fn keys<'a>(ctx: &Context<'a>) -> &'a Keys {
    ctx.data_unchecked::<Keys>()
}

pub(super) async fn acknowledge(
    ctx: &Context<'_>,
    receipt: Receipt,
) -> Result<DomainPosition, ApiError> {
    Ok(log(ctx).acknowledge(receipt).await?)
}

/// No provider has a key that is none.
fn provider_key(key: &str, run: usize) -> Result<ProviderKey, ApiError> {
    key.parse().map_err(|_| {
        ApiError::unknown(
            format!("there is no provider {}", quote(key)),
            Some(format!("runs[{run}].provider")),
        )
    })
}
