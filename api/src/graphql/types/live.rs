//! A curve that is followed.

use async_graphql::{Enum, Object};
use domain::change::Position as DomainPosition;
use domain::forecast::Resolution;
use subscriptions::forecast::Difference;
use time::OffsetDateTime;

use super::forecast::{Forecast, instant};
use super::points::{PointSource, Points};
use super::scalar::Position;

/// In which form differences are told.
#[derive(Enum, Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ForecastDelta {
    /// As the points that are different.
    Points,
}

/// An update of a curve that is followed.
pub(crate) enum ForecastLive {
    Whole {
        forecast: Forecast,
    },
    Difference {
        resolution: Resolution,
        position: DomainPosition,
        difference: Difference,
    },
}

/// An update of a curve that is followed: the whole curve, which stands for all
/// that was told before, or what is different since the update before.
#[Object]
impl ForecastLive {
    /// The whole curve; null in an update that tells differences.
    async fn forecast(&self) -> Option<&Forecast> {
        match self {
            Self::Whole { forecast } => Some(forecast),
            Self::Difference { .. } => None,
        }
    }

    /// Of differences: the delivery periods that are different, as they are now.
    async fn changed(&self) -> Option<Points> {
        match self {
            Self::Whole { .. } => None,
            Self::Difference {
                resolution,
                difference,
                ..
            } => Some(Points {
                resolution: *resolution,
                points: PointSource::List(difference.changed.clone()),
            }),
        }
    }

    /// Of differences: starts of the delivery periods that have no value any more.
    async fn removed(&self) -> Option<Vec<OffsetDateTime>> {
        match self {
            Self::Whole { .. } => None,
            Self::Difference { difference, .. } => {
                Some(difference.removed.iter().copied().map(instant).collect())
            }
        }
    }

    /// The change log position that what was told so far includes at least.
    async fn position(&self) -> Position {
        Position(match self {
            Self::Whole { forecast } => forecast.curve.position(),
            Self::Difference { position, .. } => *position,
        })
    }
}
