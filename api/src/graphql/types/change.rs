//! Committed changes.

use std::sync::Arc;

use async_graphql::{Context, Enum, Object};
use domain::change::{Operation, Subject};
use subscriptions::Entity;
use subscriptions::forecast::ForecastEvent;
use subscriptions::hub::Event;
use time::OffsetDateTime;

use super::forecast::{ForecastRun, provider_of, unit_of};
use super::points::{PointSource, Points};
use super::provider::Provider;
use super::scalar::{Position, Resolution, UnitKey};
use super::unit::Unit;

/// What was done.
#[derive(Enum, Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChangeOperation {
    /// Something new was written: of a series, a run was saved.
    Insert,
    /// Something stored was rewritten: of a series, only other programs do that.
    Update,
    /// Something stored was removed.
    Delete,
}

impl From<Operation> for ChangeOperation {
    fn from(operation: Operation) -> Self {
        match operation {
            Operation::Insert => Self::Insert,
            Operation::Update | Operation::Resync => Self::Update,
            Operation::Delete => Self::Delete,
        }
    }
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

    /// The unit whose forecast changed. Null, with an error, if another program has
    /// deleted it since.
    async fn unit(&self, ctx: &Context<'_>) -> async_graphql::Result<Option<Unit>> {
        Ok(Some(unit_of(ctx, &self.0.series).await?))
    }

    /// The provider of the forecast. Null, with an error, if another program has
    /// deleted it since.
    async fn provider(&self, ctx: &Context<'_>) -> async_graphql::Result<Option<Provider>> {
        Ok(Some(provider_of(ctx, &self.0.series).await?))
    }

    /// The length of its delivery periods.
    async fn resolution(&self) -> Resolution {
        self.0.series.resolution.into()
    }

    /// What was done.
    async fn operation(&self) -> ChangeOperation {
        self.0.operation.into()
    }

    /// When its transaction wrote it, by the database's clock.
    async fn changed_at(&self) -> OffsetDateTime {
        self.0.changed_at
    }

    /// The run that wrote it. Null, with an error, if more of it is selected than the
    /// change itself says and another program has deleted it since.
    async fn run(&self) -> Option<ForecastRun> {
        Some(ForecastRun {
            id: self.0.run_id,
            issued_at: self.0.points.first().map(|point| point.source.issued_at),
        })
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

/// What a change is of.
#[derive(Enum, Debug, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "Entity")]
pub(crate) enum ChangeEntity {
    /// A unit, or its capacity.
    Unit,
    /// A provider.
    Provider,
    /// Versions of a series.
    Forecast,
    /// A kind that this replica does not know, written by a newer one. Clients
    /// that know it read it there.
    Other,
}

/// One committed change, of whatever.
pub(crate) struct Change(pub(crate) Arc<Event>);

/// One committed change, of whatever.
#[Object]
impl Change {
    /// Its place in the change log; subscribe with it as `after` to go on from here.
    async fn position(&self) -> Position {
        Position(self.0.change.position)
    }

    /// What it is of.
    async fn entity(&self) -> ChangeEntity {
        // A change that voids everything ends the feed.
        Entity::of(&self.0.change.subject)
            .unwrap_or(Entity::Forecast)
            .into()
    }

    /// What was done.
    async fn operation(&self) -> ChangeOperation {
        self.0.change.operation.into()
    }

    /// When its transaction wrote it, by the database's clock.
    async fn changed_at(&self) -> OffsetDateTime {
        self.0.change.changed_at
    }

    /// The unit that it is of, or whose forecast it is of.
    async fn unit(&self) -> Option<UnitKey> {
        match &self.0.change.subject {
            Subject::Unit(key) => Some(UnitKey(*key)),
            Subject::Forecast(forecast) => Some(UnitKey(forecast.series.unit)),
            Subject::Provider(_)
            | Subject::Notification(_)
            | Subject::Other(_)
            | Subject::Everything => None,
        }
    }

    /// The key of the provider that it is of, or whose forecast it is of.
    async fn provider(&self) -> Option<String> {
        match &self.0.change.subject {
            Subject::Provider(key) => Some(key.to_string()),
            Subject::Forecast(forecast) => Some(forecast.series.provider.to_string()),
            Subject::Unit(_)
            | Subject::Notification(_)
            | Subject::Other(_)
            | Subject::Everything => None,
        }
    }

    /// What it did to a series; null of other entities.
    async fn forecast(&self) -> Option<ForecastChange> {
        ForecastEvent::of(&self.0).map(ForecastChange)
    }
}
