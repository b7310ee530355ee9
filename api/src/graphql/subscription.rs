//! The subscription root.

use async_graphql::{Context, Subscription};
use domain::forecast::SeriesKey;
use domain::provider::ProviderKey;
use subscriptions::forecast::{self as streams, ForecastFilter};
use time::OffsetDateTime;
use tokio_stream::{Stream, StreamExt};

use super::types::change::{ForecastChange, ForecastLive};
use super::types::forecast::Forecast;
use super::types::scalar::{Position, Resolution, UnitKey};
use super::{log, query};
use crate::error::ApiError;

pub(crate) struct Subscription;

/// What can be followed.
#[Subscription]
impl Subscription {
    /// Each committed change of the selected series, in order and once; with
    /// `after`, first all since then. A filter that is null or absent matches
    /// all, an empty list nothing.
    ///
    /// It ends with `POSITION_EXPIRED` when `after` is no longer kept, and with
    /// `RESYNC_REQUIRED` when more changed than the log can name; both say in
    /// `extensions.position` where to go on from after reading the state anew.
    #[allow(clippy::too_many_arguments, reason = "the arguments of the contract")]
    async fn forecast_changed(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Of one of these units.")] units: Option<Vec<UnitKey>>,
        #[graphql(desc = "By one of these providers.")] providers: Option<Vec<String>>,
        #[graphql(desc = "Of one of these resolutions.")] resolutions: Option<Vec<Resolution>>,
        #[graphql(desc = "Touching delivery periods from here on.")] from: Option<OffsetDateTime>,
        #[graphql(desc = "Touching delivery periods before here.")] to: Option<OffsetDateTime>,
        #[graphql(desc = "The last position already seen.")] after: Option<Position>,
    ) -> async_graphql::Result<impl Stream<Item = async_graphql::Result<ForecastChange>> + 'static>
    {
        if let (Some(from), Some(to)) = (from, to)
            && to <= from
        {
            return Err(ApiError::bad_input("`to` must be later than `from`").into());
        }
        let filter = ForecastFilter {
            units: units.map(|units| units.into_iter().map(|unit| unit.0).collect()),
            providers: providers
                .map(|keys| keys.iter().map(|key| provider_key(key)).collect())
                .transpose()?,
            resolutions: resolutions.map(|all| all.into_iter().map(Into::into).collect()),
            from,
            to,
        };
        require_known(ctx, &filter).await?;
        let changes = streams::changed(log(ctx).clone(), filter, after.map(|after| after.0));
        Ok(changes.map(|event| Ok(ForecastChange(event.map_err(ApiError::from)?))))
    }

    /// The curve now, then again whenever it changes. States that come faster
    /// than they are taken are passed over for the newest.
    async fn forecast_live(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "What produces.")] unit: UnitKey,
        #[graphql(desc = "Who forecasts: the provider's key.")] provider: String,
        #[graphql(desc = "The length of the delivery periods.")] resolution: Resolution,
        #[graphql(desc = "From the delivery period that this lies in…")] from: OffsetDateTime,
        #[graphql(desc = "…to the one that ends here or later.")] to: OffsetDateTime,
    ) -> async_graphql::Result<impl Stream<Item = async_graphql::Result<ForecastLive>> + 'static>
    {
        let series: SeriesKey = query::series_key(unit, &provider, resolution)?;
        let range = query::range(ctx, series.resolution, from, to)?;
        let forecasts = log(ctx).forecasts();
        forecasts.require(&series).await.map_err(ApiError::from)?;
        let curves = streams::live(log(ctx).clone(), series.clone(), range);
        Ok(curves.map(move |curve| {
            Ok(ForecastLive(Forecast {
                series: series.clone(),
                curve: curve.map_err(ApiError::from)?,
            }))
        }))
    }
}

/// No provider has a key that is none.
fn provider_key(key: &str) -> Result<ProviderKey, ApiError> {
    key.parse().map_err(|_| {
        let message = format!("there is no provider {key:?}");
        ApiError::unknown(message, Some("providers".to_owned()))
    })
}

/// An error for a filter that names a unit or provider that does not exist:
/// silence for ever would be a poor way to say so.
async fn require_known(ctx: &Context<'_>, filter: &ForecastFilter) -> Result<(), ApiError> {
    let forecasts = log(ctx).forecasts();
    if let Some(keys) = &filter.units {
        let units = forecasts.units(keys).await?;
        if let Some((key, _)) = keys.iter().zip(&units).find(|(_, unit)| unit.is_none()) {
            let message = format!("there is no unit {key}");
            return Err(ApiError::unknown(message, Some("units".to_owned())));
        }
    }
    for key in filter.providers.iter().flatten() {
        if forecasts.provider(key).await?.is_none() {
            let message = format!("there is no provider {key}");
            return Err(ApiError::unknown(message, Some("providers".to_owned())));
        }
    }
    Ok(())
}
