//! A change on its way to subscribers.

use std::sync::{Arc, OnceLock};

use domain::change::{Change, ForecastChange, Operation, Subject};
use domain::database::Database;
use domain::forecast::{self, RunDay};
use domain::notification::{self, NotificationChange, Written};
use sea_orm::DbErr;
use tokio::sync::Semaphore;

use crate::budget::{Budget, Held};

/// Bytes of an event, about, without what it wrote.
pub(crate) const OF_AN_EVENT: usize = 512;

/// A change on its way to subscribers, who share what it wrote.
#[derive(Debug)]
pub struct Event {
    pub change: Change,
    /// The one user it is for; of a shared event, none.
    for_user: Option<i64>,
    written: OnceLock<Vec<RunDay>>,
    /// The memory of what it wrote, once, however many have the event.
    held: OnceLock<Held>,
    notified: OnceLock<Written>,
    /// One permit: to read what stands behind a change of notifications. Closed
    /// once that is there.
    notifying: Semaphore,
}

impl Event {
    pub fn new(change: Change) -> Self {
        Self::seen_by(change, None)
    }

    /// One that is not shared: of notifications it is read what one user sees.
    pub(crate) fn seen_by(change: Change, for_user: Option<i64>) -> Self {
        Self {
            change,
            for_user,
            written: OnceLock::new(),
            held: OnceLock::new(),
            notified: OnceLock::new(),
            notifying: Semaphore::new(1),
        }
    }

    /// The versions that the change wrote: nothing for one that wrote none,
    /// `None` before they were [read](Self::read_written).
    pub fn written(&self) -> Option<&[RunDay]> {
        match self.writing() {
            Some(_) => self.written.get().map(Vec::as_slice),
            None => Some(&[]),
        }
    }

    /// What stands behind a change of notifications; `None` before it was
    /// [read](Self::read_written), and of other changes.
    pub fn notified(&self) -> Option<&Written> {
        self.notified.get()
    }

    /// Memory of the event and what it wrote, about: it can be told before that is
    /// read.
    pub(crate) fn bytes(&self) -> usize {
        const OF_A_VALUE: usize = 16;
        const OF_A_NOTIFICATION: usize = 8 << 10;
        if let Subject::Notification(_) = self.change.subject {
            return OF_AN_EVENT + OF_A_NOTIFICATION;
        }
        let values = self.writing().map_or(0, |change| {
            let seconds = (change.to - change.from).whole_seconds();
            usize::try_from(seconds / change.series.resolution.seconds()).unwrap_or(0)
        });
        OF_AN_EVENT + values * OF_A_VALUE
    }

    /// Whether others may have to wait for who [reads](Self::read_written) this.
    pub(crate) fn holds_up_others(&self) -> bool {
        self.for_user.is_none() && self.unread_notification().is_some()
    }

    /// Reads what some events wrote, those that nobody has read yet, at once. They
    /// are in the log's order.
    pub(crate) async fn read_written(
        events: &[Arc<Self>],
        db: &Database,
        budget: &Budget,
    ) -> Result<(), DbErr> {
        Self::read_notified(events, db).await?;
        Self::read_forecasts(events, db).await?;
        for event in events {
            event.held.get_or_init(|| budget.hold(event.bytes()));
        }
        Ok(())
    }

    async fn read_forecasts(events: &[Arc<Self>], db: &Database) -> Result<(), DbErr> {
        let unread: Vec<(&Arc<Self>, &ForecastChange)> = events
            .iter()
            .filter(|event| event.written.get().is_none())
            .filter_map(|event| Some((event, event.writing()?)))
            .collect();
        if unread.is_empty() {
            return Ok(());
        }
        let changes: Vec<&ForecastChange> = unread.iter().map(|(_, change)| *change).collect();
        let written = forecast::written(db.reader(), &changes).await?;
        for ((event, _), written) in unread.iter().zip(written) {
            // Another subscriber may have read the same meanwhile.
            event.written.get_or_init(|| written);
        }
        Ok(())
    }

    /// A shared notification may have thousands of followers, who all come for it
    /// at once, and as many recipients: one follower reads for all. Who fails or
    /// goes away lets the next one try.
    async fn read_notified(events: &[Arc<Self>], db: &Database) -> Result<(), DbErr> {
        let mut unread: Vec<(&Arc<Self>, &NotificationChange)> = events
            .iter()
            .filter_map(|event| Some((event, event.unread_notification()?)))
            .collect();
        while let Some(for_user) = unread.first().map(|(event, _)| event.for_user) {
            let (alike, others): (Vec<_>, Vec<_>) = unread
                .into_iter()
                .partition(|(event, _)| event.for_user == for_user);
            unread = others;
            let mut claimed = Vec::with_capacity(alike.len());
            // All claim in the log's order: two cannot wait for each other.
            for (event, change) in alike {
                // Closed is what somebody else has read meanwhile.
                if let Ok(permit) = event.notifying.acquire().await {
                    claimed.push((event, change, permit));
                }
            }
            if claimed.is_empty() {
                continue;
            }
            let changes: Vec<_> = claimed
                .iter()
                .map(|(event, change, _)| (*change, event.change.operation))
                .collect();
            let written = notification::written(db.reader(), &changes, for_user).await?;
            for ((event, ..), written) in claimed.iter().zip(written) {
                event.notified.get_or_init(|| written);
                // Wakes all who wait, at once.
                event.notifying.close();
            }
        }
        Ok(())
    }

    /// What it changed of notifications, if that is still to be read.
    fn unread_notification(&self) -> Option<&NotificationChange> {
        match &self.change.subject {
            Subject::Notification(change) if self.notified.get().is_none() => Some(change),
            _ => None,
        }
    }

    /// What it changed of forecasts, if it wrote any.
    fn writing(&self) -> Option<&ForecastChange> {
        match (&self.change.subject, self.change.operation) {
            (Subject::Forecast(change), Operation::Insert | Operation::Update) => Some(change),
            _ => None,
        }
    }
}
