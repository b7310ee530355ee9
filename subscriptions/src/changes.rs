//! Every committed change, of whatever kind: the raw feed.

use std::sync::Arc;

use domain::change::Subject;
use tokio_stream::Stream;

use crate::change_log::ChangeLog;
use crate::follow::follow;
use crate::hub::{Event, Topic};
use crate::{Span, StreamError};

/// What a change can be of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entity {
    Unit,
    Provider,
    Forecast,
    /// One that this version does not know.
    Other,
}

impl Entity {
    /// What a change is of; `None` of one that voids everything, and of
    /// notifications.
    pub fn of(subject: &Subject) -> Option<Self> {
        match subject {
            Subject::Unit(_) => Some(Self::Unit),
            Subject::Provider(_) => Some(Self::Provider),
            Subject::Forecast(_) => Some(Self::Forecast),
            Subject::Other(_) => Some(Self::Other),
            // They are their recipients' alone.
            Subject::Notification(_) | Subject::Everything => None,
        }
    }
}

/// The changes of a span, of some entities, or of all. It ends only by an
/// error, or with the span.
pub fn changes(
    log: &ChangeLog,
    entities: Option<Vec<Entity>>,
    span: Span,
) -> impl Stream<Item = Result<Arc<Event>, StreamError>> + Send + 'static {
    let topics = match &entities {
        Some(entities) if entities.iter().all(|e| *e == Entity::Forecast) => match entities.len() {
            0 => vec![],
            _ => vec![Topic::Forecasts],
        },
        _ => vec![Topic::Everything],
    };
    let admits =
        move |change: &domain::change::Change| match (&entities, Entity::of(&change.subject)) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(entities), Some(entity)) => entities.contains(&entity),
        };
    follow(log, &topics, admits, span)
}
