//! What subscriptions deliver.

use async_graphql::{Context, Enum, Object};
use domain::change::Operation;
use subscriptions::forecast::ForecastEvent;
use time::OffsetDateTime;

use super::forecast::{Forecast, ForecastRun, provider_of, unit_of};
use super::points::{PointSource, Points};
use super::provider::Provider;
use super::scalar::{Position, Resolution};
use super::unit::Unit;

/// What was done to versions of a series.
#[derive(Enum, Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChangeOperation {
    /// A run was saved.
    Insert,
    /// Stored versions were rewritten, which only other programs do.
    Update,
    /// Stored versions were removed.
    Delete,
}

/// One committed change of a series: what one run wrote within one month.
pub(crate) struct ForecastChange(pub(crate) ForecastEvent);

/// One committed change of a series: what one run wrote within one month.
#[Object]
impl ForecastChange {
    /// Its place in the change log; subscribe with it as `after` to go on from here.
    async fn position(&self) -> Position {
        Position(self.0.position)
    }

    /// What produces.
    async fn unit(&self, ctx: &Context<'_>) -> async_graphql::Result<Unit> {
        Ok(unit_of(ctx, &self.0.series).await?)
    }

    /// Who forecasts.
    async fn provider(&self, ctx: &Context<'_>) -> async_graphql::Result<Provider> {
        Ok(provider_of(ctx, &self.0.series).await?)
    }

    /// The length of its delivery periods.
    async fn resolution(&self) -> Resolution {
        self.0.series.resolution.into()
    }

    /// What was done.
    async fn operation(&self) -> ChangeOperation {
        match self.0.operation {
            Operation::Insert => ChangeOperation::Insert,
            Operation::Update | Operation::Resync => ChangeOperation::Update,
            Operation::Delete => ChangeOperation::Delete,
        }
    }

    /// When its transaction wrote it, by the database's clock.
    async fn changed_at(&self) -> OffsetDateTime {
        self.0.changed_at
    }

    /// The run that wrote it.
    async fn run(&self) -> ForecastRun {
        ForecastRun {
            id: self.0.run_id,
            issued_at: self.0.points.first().map(|point| point.source.issued_at),
        }
    }

    /// Start of the touched delivery range, clipped to the subscription's.
    async fn from(&self) -> OffsetDateTime {
        self.0.from
    }

    /// End of the touched delivery range, clipped to the subscription's.
    async fn to(&self) -> OffsetDateTime {
        self.0.to
    }

    /// The values that this change wrote, however late it is delivered, clipped
    /// to the subscription's range.
    async fn points(&self) -> Points {
        Points {
            resolution: self.0.series.resolution,
            points: PointSource::List(self.0.points.clone()),
        }
    }
}

/// The latest state of a curve.
pub(crate) struct ForecastLive(pub(crate) Forecast);

/// The latest state of a curve.
#[Object]
impl ForecastLive {
    /// The curve as it is now.
    async fn forecast(&self) -> &Forecast {
        &self.0
    }

    /// The change log position that this state includes at least.
    async fn position(&self) -> Position {
        Position(self.0.curve.position())
    }
}
