//! The subscription root.

use std::time::Duration;

use async_graphql::{Context, Subscription};
use domain::forecast::SeriesKey;
use domain::provider::ProviderKey;
use domain::quote;
use subscriptions::cohort::{Following, FrameKind};
use subscriptions::forecast::{self as streams, ForecastFilter, LiveOptions, Update};
use tokio_stream::{Stream, StreamExt};

use super::feed::{Feed, Note};
use super::types::change::{Change, ChangeEntity, ForecastChange};
use super::types::forecast::Forecast;
use super::types::live::{ForecastDelta, ForecastLive};
use super::types::scalar::{DateTime, Position, Resolution, UnitKey};
use super::{log, query};
use crate::error::ApiError;

/// Updates a second that may be asked for.
const MOST_RATE: f64 = 1000.0;
/// Seconds between two updates that may be asked for.
const LONGEST_INTERVAL: f64 = 3600.0;

pub(crate) struct ForecastSubscription;

/// What can be followed of forecasts, and the log as a whole.
#[Subscription]
impl ForecastSubscription {
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
        #[graphql(desc = "Touching delivery periods from here on.")] from: Option<DateTime>,
        #[graphql(desc = "Touching delivery periods before here.")] to: Option<DateTime>,
        // The executor sees to it: those who differ in it only share a run.
        #[graphql(name = "after", desc = "The last position already seen.")] _after: Option<
            Position,
        >,
    ) -> async_graphql::Result<impl Stream<Item = async_graphql::Result<ForecastChange>> + 'static>
    {
        let (from, to) = (from.map(|at| at.0), to.map(|at| at.0));
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
        let feed = ctx.data_unchecked::<Feed>().clone();
        let changes = streams::changed(log(ctx), filter, feed.span());
        feed.follows(Following::Events);
        Ok(changes.map(move |change| {
            let change = change.map_err(ApiError::from)?;
            feed.note(Note {
                kind: FrameKind::Event,
                position: change.position,
                committed_at: Some(change.changed_at),
                skipped: 0,
            });
            Ok(ForecastChange(change))
        }))
    }

    /// The curve now, then again whenever it changes. States that come faster
    /// than they are taken are passed over for the newest;
    /// `extensions.skipped` says how many changes have no update of their own.
    #[allow(clippy::too_many_arguments, reason = "the arguments of the contract")]
    async fn forecast_live(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "What produces.")] unit: UnitKey,
        #[graphql(desc = "Who forecasts: the provider's key.")] provider: String,
        #[graphql(desc = "The length of the delivery periods.")] resolution: Resolution,
        #[graphql(desc = "From the delivery period that this lies in…")] from: DateTime,
        #[graphql(desc = "…to the one that ends here or later.")] to: DateTime,
        #[graphql(
            desc = "After the first update, only what is different; whole curves if absent."
        )]
        delta: Option<ForecastDelta>,
        #[graphql(
            desc = "MWh by which a delivery period must differ from what was told before, or come or go, to be told. Any difference, of its run too, if absent."
        )]
        min_delta: Option<f64>,
        #[graphql(
            desc = "Updates a second at most, above 0 and up to 1,000; what comes faster is told together, never without the last."
        )]
        max_rate: Option<f64>,
    ) -> async_graphql::Result<impl Stream<Item = async_graphql::Result<ForecastLive>> + 'static>
    {
        let series: SeriesKey = query::series_key(unit, &provider, resolution)?;
        let range = query::range(ctx, series.resolution, from, to)?;
        let options = LiveOptions {
            differences: delta == Some(ForecastDelta::Points),
            min_delta: min_delta.map(least_difference).transpose()?,
            interval: max_rate.map(interval).transpose()?.unwrap_or_default(),
        };
        let forecasts = log(ctx).forecasts();
        forecasts.require(&series).await.map_err(ApiError::from)?;
        let feed = ctx.data_unchecked::<Feed>().clone();
        let updates = streams::live(log(ctx), series.clone(), range, options, feed.joiners());
        feed.follows(Following::State);
        Ok(updates.map(move |update| {
            let update = update.map_err(ApiError::from)?;
            feed.note(Note {
                kind: match update.update {
                    Update::State(_) => FrameKind::State,
                    Update::Snapshot(_) => FrameKind::Snapshot,
                    Update::Difference(_) => FrameKind::Difference,
                },
                position: update.position,
                committed_at: update.changed_at,
                skipped: update.skipped,
            });
            let series = series.clone();
            Ok(match update.update {
                Update::State(curve) | Update::Snapshot(curve) => ForecastLive::Whole {
                    forecast: Forecast { series, curve },
                },
                Update::Difference(difference) => ForecastLive::Difference {
                    resolution: series.resolution,
                    position: update.position,
                    difference,
                },
            })
        }))
    }

    /// Every committed change, of whatever, in order and once; with `after`,
    /// first all since then. For other systems that keep up with this one: keep
    /// the position of the last change that was worked off, and resume with it.
    ///
    /// It ends as `forecastChanged` does.
    async fn changes(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Of these entities; of all if absent.")] entities: Option<
            Vec<ChangeEntity>,
        >,
        // The executor sees to it: those who differ in it only share a run.
        #[graphql(name = "after", desc = "The last position already seen.")] _after: Option<
            Position,
        >,
    ) -> async_graphql::Result<impl Stream<Item = async_graphql::Result<Change>> + 'static> {
        let feed = ctx.data_unchecked::<Feed>().clone();
        let entities = entities.map(|all| all.into_iter().map(Into::into).collect());
        let changes = subscriptions::changes(log(ctx), entities, feed.span());
        feed.follows(Following::Events);
        Ok(changes.map(move |event| {
            let event = event.map_err(ApiError::from)?;
            feed.note(Note {
                kind: FrameKind::Event,
                position: event.change.position,
                committed_at: Some(event.change.changed_at),
                skipped: 0,
            });
            Ok(Change(event))
        }))
    }
}

fn least_difference(mwh: f64) -> Result<f64, ApiError> {
    if mwh.is_finite() && mwh >= 0.0 {
        Ok(mwh)
    } else {
        Err(ApiError::bad_input(
            "`minDelta` is a number of MWh, 0 or more",
        ))
    }
}

/// The time between two updates at a rate.
fn interval(a_second: f64) -> Result<Duration, ApiError> {
    if a_second > 0.0 && a_second <= MOST_RATE {
        Ok(Duration::from_secs_f64(
            (1.0 / a_second).min(LONGEST_INTERVAL),
        ))
    } else {
        Err(ApiError::bad_input(format!(
            "`maxRate` is a number of updates a second, above 0 and up to {MOST_RATE}"
        )))
    }
}

/// No provider has a key that is none.
fn provider_key(key: &str) -> Result<ProviderKey, ApiError> {
    key.parse().map_err(|_| {
        let message = format!("there is no provider {}", quote(key));
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
