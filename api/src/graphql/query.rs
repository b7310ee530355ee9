//! The query root.

use async_graphql::connection::{Connection, Edge, OpaqueCursor};
use async_graphql::{Context, ID, Object};
use domain::access::{self as domain_access, Role};
use domain::forecast::{DeliveryRange, ForecastError, SeriesKey};
use domain::notification;
use domain::provider::{self as domain_provider, ProviderKey};
use domain::quote;
use domain::unit::{self as domain_unit, UnitKey as DomainUnitKey, UnitSort};
use futures_util::future::join_all;

use super::page::{Page, bad_cursor, decode_cursor};
use super::types::access::ApiKey;
use super::types::forecast::{Forecast, ForecastRun, ForecastSelection, ForecastView};
use super::types::id::{number_of, split_id};
use super::types::notification::Notification;
use super::types::provider::Provider;
use super::types::scalar::{DateTime, Position, Resolution, UnitKey};
use super::types::unit::{Unit, UnitFilter, UnitOrder};
use super::types::{Node, viewer};
use super::{Limits, demand, log, spend};
use crate::error::{ApiError, ErrorCode};
use crate::weight;

type UnitCursor = OpaqueCursor<(String, String)>;
type ProviderCursor = OpaqueCursor<String>;
type ApiKeyCursor = OpaqueCursor<i64>;
pub(super) type Units = Connection<UnitCursor, Unit>;
pub(super) type Providers = Connection<ProviderCursor, Provider>;
pub(super) type ApiKeys = Connection<ApiKeyCursor, ApiKey>;

pub(crate) struct ForecastQuery;

/// What can be asked of units, forecasts and access.
#[Object]
impl ForecastQuery {
    /// Anything that has a global id; null if there is none of that id.
    async fn node(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "As some `id` field gave it.")] id: ID,
    ) -> async_graphql::Result<Option<Node>> {
        let forecasts = log(ctx).forecasts();
        let unknown = || {
            let message = format!(
                "`id`: expected a global id such as `unit:plant:12345`, `provider:provider-a`, \
                 `run:5307` or `notification:17`, not {}",
                quote(&id)
            );
            ApiError::violation("id", message)
        };
        Ok(match split_id(&id) {
            Some(("unit", key)) => {
                let key = key.parse::<DomainUnitKey>().map_err(|_| unknown())?;
                let unit = forecasts.unit(key).await.map_err(ApiError::from)?;
                unit.map(|unit| Unit(unit).into())
            }
            Some(("provider", key)) => {
                let key = key.parse::<ProviderKey>().map_err(|_| unknown())?;
                let provider = forecasts.provider(&key).await.map_err(ApiError::from)?;
                provider.map(|provider| Provider(provider).into())
            }
            Some(("run", _)) => {
                let number = number_of("run", &id, "id")?;
                forecasts
                    .run(number)
                    .await
                    .map_err(ApiError::from)?
                    .map(|run| {
                        ForecastRun {
                            id: run.id,
                            issued_at: Some(run.issued_at),
                        }
                        .into()
                    })
            }
            Some(("notification", _)) => {
                let number = number_of("notification", &id, "id")?;
                let reader = log(ctx).database().reader();
                let user = notification::user(reader, &super::viewer(ctx).user).await;
                match user.map_err(ApiError::from)? {
                    Some(user) => notification::received(reader, user.id, number)
                        .await
                        .map_err(ApiError::from)?
                        .map(|received| Notification::received(user.id, received).into()),
                    None => None,
                }
            }
            _ => return Err(unknown().into()),
        })
    }

    /// Who is asking.
    async fn viewer(&self, ctx: &Context<'_>) -> viewer::Viewer {
        viewer::Viewer(super::viewer(ctx).clone())
    }

    /// The last change log position that this replica has applied: from where to
    /// follow changes, when the state is read after it.
    async fn position(&self, ctx: &Context<'_>) -> Position {
        Position(log(ctx).applied())
    }

    /// One unit; null if there is none of that key.
    async fn unit(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Such as `plant:12345`.")] key: UnitKey,
    ) -> async_graphql::Result<Option<Unit>> {
        let unit = log(ctx).forecasts().unit(key.0).await;
        Ok(unit.map_err(ApiError::from)?.map(Unit))
    }

    /// Units, page by page.
    #[allow(
        clippy::too_many_arguments,
        reason = "the arguments of a Relay connection"
    )]
    async fn units(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which units; all if absent.")] filter: Option<UnitFilter>,
        #[graphql(desc = "How they are sorted; by key if absent.")] order_by: Option<UnitOrder>,
        #[graphql(desc = "At most so many, from the start; 50 if neither is given, at most 500.")]
        first: Option<i32>,
        #[graphql(desc = "Only those after this cursor.")] after: Option<String>,
        #[graphql(desc = "At most so many, from the end; at most 500.")] last: Option<i32>,
        #[graphql(desc = "Only those before this cursor.")] before: Option<String>,
    ) -> async_graphql::Result<Units> {
        let filter = filter.unwrap_or_default().into();
        let order = match order_by.unwrap_or(UnitOrder::KeyAsc) {
            UnitOrder::KeyAsc => (UnitSort::Key, false),
            UnitOrder::KeyDesc => (UnitSort::Key, true),
            UnitOrder::NameAsc => (UnitSort::Name, false),
            UnitOrder::NameDesc => (UnitSort::Name, true),
        };
        let page = Page::new(first, last)?;
        let decode = |cursor: Option<String>| -> Result<_, ApiError> {
            let Some(cursor) = cursor else {
                return Ok(None);
            };
            let (name, key) = decode_cursor::<UnitCursor>(&cursor)?.0;
            let key = key.parse::<DomainUnitKey>().map_err(|_| bad_cursor())?;
            if name.contains('\0') {
                return Err(bad_cursor());
            }
            Ok(Some((name, key)))
        };
        let (after, before) = (decode(after)?, decode(before)?);
        let units = domain_unit::page(
            log(ctx).database().reader(),
            &filter,
            order,
            after.as_ref().map(|(name, key)| (name.as_str(), *key)),
            before.as_ref().map(|(name, key)| (name.as_str(), *key)),
            page.to_read(),
            page.from_end,
        )
        .await
        .map_err(ApiError::from)?;
        Ok(
            page.connect(units, after.is_some(), before.is_some(), |unit| {
                let cursor = OpaqueCursor((unit.name.clone(), unit.key.to_string()));
                Edge::new(cursor, Unit(unit.into()))
            }),
        )
    }

    /// One provider; null if there is none of that key.
    async fn provider(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Such as `provider-a`.")] key: String,
    ) -> async_graphql::Result<Option<Provider>> {
        let Ok(key) = key.parse::<ProviderKey>() else {
            return Ok(None);
        };
        let provider = log(ctx).forecasts().provider(&key).await;
        Ok(provider.map_err(ApiError::from)?.map(Provider))
    }

    /// Providers by key, page by page.
    async fn providers(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "At most so many, from the start; 50 if neither is given, at most 500.")]
        first: Option<i32>,
        #[graphql(desc = "Only those after this cursor.")] after: Option<String>,
        #[graphql(desc = "At most so many, from the end; at most 500.")] last: Option<i32>,
        #[graphql(desc = "Only those before this cursor.")] before: Option<String>,
    ) -> async_graphql::Result<Providers> {
        let page = Page::new(first, last)?;
        let decode = |cursor: Option<String>| -> Result<Option<ProviderKey>, ApiError> {
            let Some(cursor) = cursor else {
                return Ok(None);
            };
            let key = decode_cursor::<ProviderCursor>(&cursor)?.0;
            key.parse().map(Some).map_err(|_| bad_cursor())
        };
        let (after, before) = (decode(after)?, decode(before)?);
        let providers = domain_provider::page(
            log(ctx).database().reader(),
            after.as_ref(),
            before.as_ref(),
            page.to_read(),
            page.from_end,
        )
        .await
        .map_err(ApiError::from)?;
        Ok(
            page.connect(providers, after.is_some(), before.is_some(), |provider| {
                let cursor = OpaqueCursor(provider.key.to_string());
                Edge::new(cursor, Provider(provider.into()))
            }),
        )
    }

    /// Keys that let programs in, oldest first, page by page. It takes the role
    /// ADMIN.
    async fn api_keys(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "At most so many, from the start; 50 if neither is given, at most 500.")]
        first: Option<i32>,
        #[graphql(desc = "Only those after this cursor.")] after: Option<String>,
        #[graphql(desc = "At most so many, from the end; at most 500.")] last: Option<i32>,
        #[graphql(desc = "Only those before this cursor.")] before: Option<String>,
    ) -> async_graphql::Result<ApiKeys> {
        demand(ctx, Role::Admin)?;
        let page = Page::new(first, last)?;
        let decode = |cursor: Option<String>| -> Result<Option<i64>, ApiError> {
            let cursor = cursor.map(|cursor| decode_cursor::<ApiKeyCursor>(&cursor));
            Ok(cursor.transpose()?.map(|cursor| cursor.0))
        };
        let (after, before) = (decode(after)?, decode(before)?);
        let keys = domain_access::page(
            log(ctx).database().reader(),
            after,
            before,
            page.to_read(),
            page.from_end,
        )
        .await
        .map_err(ApiError::from)?;
        Ok(
            page.connect(keys, after.is_some(), before.is_some(), |key| {
                Edge::new(OpaqueCursor(key.id), ApiKey(key))
            }),
        )
    }

    /// A range of a series, in one view. Null, with an error that has its path,
    /// when the unit or provider is unknown: one bad line does not empty a
    /// dashboard.
    #[allow(clippy::too_many_arguments, reason = "the arguments of the contract")]
    async fn forecast(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "What produces.")] unit: UnitKey,
        #[graphql(desc = "Who forecasts: the provider's key.")] provider: String,
        #[graphql(desc = "The length of the delivery periods.")] resolution: Resolution,
        #[graphql(desc = "From the delivery period that this lies in…")] from: DateTime,
        #[graphql(desc = "…to the one that ends here or later.")] to: DateTime,
        #[graphql(desc = "Which versions count; the latest of each delivery period if absent.")]
        view: Option<ForecastView>,
    ) -> Option<async_graphql::Result<Forecast>> {
        let selection = ForecastSelection {
            unit,
            provider,
            resolution,
            from,
            to,
            view,
        };
        let forecast = match asked(ctx, &selection) {
            Ok(asked) => read(ctx, asked).await,
            Err(error) => Err(error),
        };
        Some(forecast.map_err(Into::into))
    }

    /// Several forecasts at once, in the order asked for; null, with an error
    /// that has its path, where one failed.
    async fn forecasts(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "At most 1,000.", validator(max_items = 1000))] selections: Vec<
            ForecastSelection,
        >,
    ) -> Vec<Option<async_graphql::Result<Forecast>>> {
        // Each selection with what it asks for, or why it cannot be answered.
        let asked: Vec<_> = (selections.iter())
            .map(|selection| asked(ctx, selection))
            .collect();
        let wanted: Vec<_> = asked.iter().flatten().cloned().collect();
        if wanted.len() > 1 {
            log(ctx).forecasts().load_together(&wanted).await;
        }
        let reads = asked
            .into_iter()
            .map(|asked| async { read(ctx, asked?).await });
        join_all(reads)
            .await
            .into_iter()
            .map(|outcome| Some(outcome.map_err(async_graphql::Error::from)))
            .collect()
    }
}

/// What a selection asks for.
type Asked = (SeriesKey, DeliveryRange, domain::forecast::View);

fn asked(ctx: &Context<'_>, selection: &ForecastSelection) -> Result<Asked, ApiError> {
    let series = series_key(selection.unit, &selection.provider, selection.resolution)?;
    let range = range(ctx, series.resolution, selection.from, selection.to)?;
    let view = match &selection.view {
        Some(view) => view.to_domain()?,
        None => domain::forecast::View::Latest,
    };
    Ok((series, range, view))
}

async fn read(ctx: &Context<'_>, (series, range, view): Asked) -> Result<Forecast, ApiError> {
    weight::add(range.periods()).await;
    let curve = log(ctx).forecasts().curve(&series, range, view).await?;
    Ok(Forecast { series, curve })
}

/// The range asked for, taken off what the request may ask for.
pub(super) fn range(
    ctx: &Context<'_>,
    resolution: domain::forecast::Resolution,
    from: DateTime,
    to: DateTime,
) -> Result<DeliveryRange, ApiError> {
    let most = ctx.data_unchecked::<Limits>().points;
    let range =
        DeliveryRange::covering(resolution, from.0, to.0, most).map_err(ForecastError::from)?;
    spend(ctx, range.periods())?;
    Ok(range)
}

pub(super) fn series_key(
    unit: UnitKey,
    provider: &str,
    resolution: Resolution,
) -> Result<SeriesKey, ApiError> {
    Ok(SeriesKey {
        unit: unit.0,
        provider: provider_key(provider)?,
        resolution: resolution.into(),
    })
}

/// No provider has a key that is none.
pub(super) fn provider_key(key: &str) -> Result<ProviderKey, ApiError> {
    key.parse().map_err(|_| {
        let message = format!("there is no provider {}", quote(key));
        ApiError::new(ErrorCode::NotFound, message)
    })
}
