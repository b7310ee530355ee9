//! The mutation root.

use async_graphql::{Context, Object};
use domain::Violation;
use domain::change::{Position as DomainPosition, Receipt};
use domain::forecast::{self as domain_forecast, SaveRequest};
use domain::provider::{self as domain_provider, ProviderError, ProviderKey, ProviderUpsert};
use domain::unit::{self as domain_unit, UnitUpsert};
use time::OffsetDateTime;

use super::log;
use super::types::forecast::{ForecastRun, SaveForecastsInput, SaveForecastsPayload};
use super::types::provider::{Provider, UpsertProvidersInput, UpsertProvidersPayload};
use super::types::scalar::Position;
use super::types::unit::{Unit, UpsertUnitsInput, UpsertUnitsPayload};
use crate::error::ApiError;
use crate::viewer::Viewer;

pub(crate) struct Mutation;

/// What can be changed. Each answers when the change has its position and this
/// replica has applied it: a read after it includes it.
#[Object]
impl Mutation {
    /// Creates or updates units, all or none.
    async fn upsert_units(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The units.")] input: UpsertUnitsInput,
    ) -> async_graphql::Result<UpsertUnitsPayload> {
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

    /// Creates or updates providers, all or none.
    async fn upsert_providers(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The providers.")] input: UpsertProvidersInput,
    ) -> async_graphql::Result<UpsertProvidersPayload> {
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
    /// bad value is named in `extensions.violations`, at most 100.
    async fn save_forecasts(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The runs.")] input: SaveForecastsInput,
    ) -> async_graphql::Result<SaveForecastsPayload> {
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
        let viewer = &ctx.data_unchecked::<Viewer>().user;
        let saved = domain_forecast::save(
            log(ctx).database(),
            viewer,
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
}

async fn acknowledge(ctx: &Context<'_>, receipt: Receipt) -> Result<DomainPosition, ApiError> {
    Ok(log(ctx).acknowledge(receipt).await?)
}

/// No provider has a key that is none.
fn provider_key(key: &str, run: usize) -> Result<ProviderKey, ApiError> {
    key.parse().map_err(|_| {
        ApiError::unknown(
            format!("there is no provider {key:?}"),
            Some(format!("runs[{run}].provider")),
        )
    })
}
