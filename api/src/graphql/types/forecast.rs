//! Forecasts.

use async_graphql::{Context, ID, InputObject, Object, OneofObject, SimpleObject};
use domain::forecast::{self as domain_forecast, Curve, SeriesKey};
use time::OffsetDateTime;

use super::id::number_of;
use super::points::{PointSource, Points, Values};
use super::provider::Provider;
use super::scalar::{DateTime, Position, Resolution, UnitKey};
use super::unit::Unit;
use crate::error::ApiError;
use crate::graphql::log;

/// The unit of a series, which the series itself proves to exist.
pub(super) async fn unit_of(ctx: &Context<'_>, series: &SeriesKey) -> Result<Unit, ApiError> {
    match log(ctx).forecasts().unit(series.unit).await? {
        Some(unit) => Ok(Unit(unit)),
        None => Err(domain_forecast::ForecastError::UnknownUnit {
            key: series.unit,
            path: None,
        }
        .into()),
    }
}

pub(super) async fn provider_of(
    ctx: &Context<'_>,
    series: &SeriesKey,
) -> Result<Provider, ApiError> {
    match log(ctx).forecasts().provider(&series.provider).await? {
        Some(provider) => Ok(Provider(provider)),
        None => Err(domain_forecast::ForecastError::UnknownProvider {
            key: series.provider.clone(),
            path: None,
        }
        .into()),
    }
}

/// A range of a series as one view sees it.
#[derive(Clone)]
pub(crate) struct Forecast {
    pub(crate) series: SeriesKey,
    pub(crate) curve: Curve,
}

pub(super) fn instant(seconds: i64) -> OffsetDateTime {
    // Ranges end before 2200.
    OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// A range of a series as one view sees it.
#[Object]
impl Forecast {
    /// What produces.
    async fn unit(&self, ctx: &Context<'_>) -> async_graphql::Result<Unit> {
        Ok(unit_of(ctx, &self.series).await?)
    }

    /// Who forecasts.
    async fn provider(&self, ctx: &Context<'_>) -> async_graphql::Result<Provider> {
        Ok(provider_of(ctx, &self.series).await?)
    }

    /// The length of its delivery periods.
    async fn resolution(&self) -> Resolution {
        self.series.resolution.into()
    }

    /// Start of the first delivery period: what was asked for, moved back to
    /// the start of the period it lies in.
    async fn from(&self) -> OffsetDateTime {
        instant(self.curve.range().from())
    }

    /// End of the last delivery period: what was asked for, moved forward to
    /// the end of the period it lies in.
    async fn to(&self) -> OffsetDateTime {
        instant(self.curve.range().to())
    }

    /// Only delivery periods that have a value, in order.
    async fn points(&self) -> Points {
        Points {
            resolution: self.series.resolution,
            points: PointSource::Curve(self.curve.clone()),
        }
    }

    /// MWh, one for each delivery period from `from`; null where there is none.
    /// The compact form for charts.
    async fn values(&self) -> Values {
        Values(self.curve.clone())
    }

    /// The change log position that this answer includes at least.
    async fn position(&self) -> Position {
        Position(self.curve.position())
    }
}

/// The value of one delivery period.
pub(crate) struct ForecastPoint {
    pub(super) resolution: domain_forecast::Resolution,
    pub(super) point: domain_forecast::Point,
}

/// The value of one delivery period.
#[Object]
impl ForecastPoint {
    /// Start of the delivery period.
    async fn delivery_start(&self) -> OffsetDateTime {
        instant(self.point.delivery_start)
    }

    /// End of the delivery period, which is the start of the next.
    async fn delivery_end(&self) -> OffsetDateTime {
        instant(self.point.delivery_start + self.resolution.seconds())
    }

    /// Energy in the delivery period, in MWh.
    async fn mwh(&self) -> f64 {
        self.point.mwh
    }

    /// Mean power over the delivery period, in MW: MWh divided by its hours.
    async fn mw(&self) -> f64 {
        self.point.mwh / self.resolution.hours()
    }

    /// When the provider made the forecast that the value is from.
    async fn issued_at(&self) -> OffsetDateTime {
        self.point.source.issued_at
    }

    /// The run that the value is from.
    async fn run(&self) -> ForecastRun {
        ForecastRun {
            id: self.point.source.run_id,
            issued_at: Some(self.point.source.issued_at),
        }
    }
}

/// One submission by a provider.
#[derive(Clone)]
pub(crate) struct ForecastRun {
    pub(crate) id: i64,
    /// If it is known already.
    pub(crate) issued_at: Option<OffsetDateTime>,
}

impl ForecastRun {
    async fn load(&self, ctx: &Context<'_>) -> Result<domain_forecast::Run, ApiError> {
        log(ctx)
            .forecasts()
            .run(self.id)
            .await?
            .ok_or_else(|| domain_forecast::ForecastError::UnknownRun(self.id).into())
    }
}

/// One submission by a provider.
#[Object]
impl ForecastRun {
    /// Its global id, for `node` and for the `runId` view.
    pub(crate) async fn id(&self) -> ID {
        format!("run:{}", self.id).into()
    }

    /// When the provider made it.
    async fn issued_at(&self, ctx: &Context<'_>) -> async_graphql::Result<OffsetDateTime> {
        match self.issued_at {
            Some(at) => Ok(at),
            None => Ok(self.load(ctx).await?.issued_at),
        }
    }

    /// When the server got it.
    async fn received_at(&self, ctx: &Context<'_>) -> async_graphql::Result<OffsetDateTime> {
        Ok(self.load(ctx).await?.received_at)
    }
}

/// Which versions count. Absent: the latest of each delivery period.
#[derive(OneofObject)]
pub(crate) enum ForecastView {
    /// What had been issued by this moment: versions with `issuedAt` at or before it.
    KnownAt(DateTime),
    /// What one run gave, by the run's id.
    RunId(ID),
}

impl ForecastView {
    pub(crate) fn to_domain(&self) -> Result<domain_forecast::View, ApiError> {
        match self {
            Self::KnownAt(at) => Ok(domain_forecast::View::KnownAt(at.0)),
            Self::RunId(id) => number_of("run", id, "view.runId").map(domain_forecast::View::Run),
        }
    }
}

/// One of several forecasts: the same arguments as `forecast`.
#[derive(InputObject)]
pub(crate) struct ForecastSelection {
    /// What produces.
    pub(crate) unit: UnitKey,
    /// Who forecasts: the provider's key.
    pub(crate) provider: String,
    /// The length of the delivery periods.
    pub(crate) resolution: Resolution,
    /// From the delivery period that this lies in…
    pub(crate) from: DateTime,
    /// …to the one that ends here or later.
    pub(crate) to: DateTime,
    /// Which versions count; the latest if absent.
    pub(crate) view: Option<ForecastView>,
}

/// Runs to be saved.
#[derive(InputObject)]
pub(crate) struct SaveForecastsInput {
    /// All or none are saved.
    pub(crate) runs: Vec<ForecastRunInput>,
    /// 1 to 200 characters, the viewer's own: the same key and runs within 24
    /// hours are answered again and not saved again; other runs under it are
    /// a `CONFLICT`.
    pub(crate) idempotency_key: Option<String>,
}

/// One run: values either as `points`, or as `start` and `values`.
#[derive(InputObject)]
pub(crate) struct ForecastRunInput {
    /// What produces.
    pub(crate) unit: UnitKey,
    /// Who forecasts: the provider's key.
    pub(crate) provider: String,
    /// The length of the delivery periods.
    pub(crate) resolution: Resolution,
    /// When the provider made it; when the server got it, if absent. A later
    /// one wins a delivery period, however late the other arrives.
    pub(crate) issued_at: Option<DateTime>,
    /// Any delivery periods, each once.
    pub(crate) points: Option<Vec<ForecastPointInput>>,
    /// Start of the first of consecutive delivery periods.
    pub(crate) start: Option<DateTime>,
    /// MWh of consecutive delivery periods; null says nothing about its period.
    pub(crate) values: Option<Vec<Option<f64>>>,
}

/// The value of one delivery period.
#[derive(InputObject)]
pub(crate) struct ForecastPointInput {
    /// A multiple of the resolution, in UTC.
    pub(crate) delivery_start: DateTime,
    /// Energy in the delivery period, in MWh.
    pub(crate) mwh: f64,
}

impl ForecastRunInput {
    pub(crate) fn into_domain(
        self,
        provider: domain::provider::ProviderKey,
    ) -> domain_forecast::NewRun {
        let values = match (self.points, self.start, self.values) {
            (Some(points), None, None) => domain_forecast::RunValues::Points(
                points
                    .into_iter()
                    .map(|point| (point.delivery_start.0, point.mwh))
                    .collect(),
            ),
            (None, Some(start), Some(values)) => domain_forecast::RunValues::From {
                start: start.0,
                values,
            },
            (None, None, None) => domain_forecast::RunValues::Unclear(
                "give values: either points, or start and values",
            ),
            (Some(_), ..) => domain_forecast::RunValues::Unclear(
                "give either points, or start and values, not both",
            ),
            (None, ..) => {
                domain_forecast::RunValues::Unclear("start and values go together: give both")
            }
        };
        domain_forecast::NewRun {
            unit: self.unit.0,
            provider,
            resolution: self.resolution.into(),
            issued_at: self.issued_at.map(|at| at.0),
            values,
        }
    }
}

/// What was saved.
#[derive(SimpleObject)]
pub(crate) struct SaveForecastsPayload {
    /// In the order given.
    pub(crate) runs: Vec<ForecastRun>,
    /// The last change of the save: a read with it includes the whole save.
    pub(crate) position: Position,
}
