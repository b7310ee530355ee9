//! What happens to a user's notifications, on whatever device.

use std::sync::Arc;

use domain::change::{Change, Operation, Position, Subject};
use domain::notification::Notification;
use time::OffsetDateTime;
use tokio_stream::{Stream, StreamExt};

use crate::change_log::ChangeLog;
use crate::follow::follow_for;
use crate::hub::{Event, Topic};
use crate::{Span, StreamError};

/// What happened to notifications of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotificationKind {
    Arrived,
    Read,
    /// The user took them off their list.
    Deleted,
    /// Its sender took it back, or it expired.
    Withdrawn,
}

/// Something that happened to notifications of a user.
#[derive(Debug, Clone)]
pub struct NotificationEvent {
    pub position: Position,
    pub changed_at: OffsetDateTime,
    pub kind: NotificationKind,
    /// What arrived, unless it was taken back.
    pub notification: Option<Arc<Notification>>,
    /// Which. Empty when another program removed some: what is listed must be
    /// read anew.
    pub ids: Vec<i64>,
}

/// What happens to the notifications of a user, by their id, in a span: in order
/// and once. It ends only by an error, or with the span.
pub fn notifications(
    log: &ChangeLog,
    user_id: i64,
    span: Span,
) -> impl Stream<Item = Result<NotificationEvent, StreamError>> + Send + 'static {
    let topics = [Topic::SharedNotifications, Topic::NotificationsOf(user_id)];
    let admits = move |change: &Change| match &change.subject {
        Subject::Notification(change) => change.user_id.is_none_or(|whose| whose == user_id),
        _ => false,
    };
    follow_for(user_id, log, &topics, admits, span)
        .filter_map(move |event| event.map(|event| see(&event, user_id)).transpose())
}

/// The event as the user sees it, if it concerns them.
fn see(event: &Event, user_id: i64) -> Option<NotificationEvent> {
    let Subject::Notification(change) = &event.change.subject else {
        return None;
    };
    let written = event
        .notified()
        .filter(|written| written.concerns(user_id))?;
    let kind = match (event.change.operation, change.notification_id) {
        (Operation::Insert, _) => NotificationKind::Arrived,
        (Operation::Delete, Some(_)) => NotificationKind::Withdrawn,
        (Operation::Delete, None) => NotificationKind::Deleted,
        (Operation::Update | Operation::Resync, _) => NotificationKind::Read,
    };
    Some(NotificationEvent {
        position: event.change.position,
        changed_at: event.change.changed_at,
        kind,
        notification: match kind {
            NotificationKind::Arrived => written.notification.clone(),
            NotificationKind::Read | NotificationKind::Deleted | NotificationKind::Withdrawn => {
                None
            }
        },
        ids: written.ids.to_vec(),
    })
}
