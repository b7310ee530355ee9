//! A change on its way to subscribers.

use std::sync::{Arc, OnceLock};

use domain::change::{Change, ForecastChange, Operation, Subject};
use domain::database::Database;
use domain::forecast::{self, RunDay};
use domain::notification::{self, NotificationChange, Written};
use sea_orm::DbErr;

/// A change on its way to subscribers, who share what it wrote.
#[derive(Debug)]
pub struct Event {
    pub change: Change,
    written: OnceLock<Vec<RunDay>>,
    notified: OnceLock<Written>,
}

impl Event {
    pub fn new(change: Change) -> Self {
        Self {
            change,
            written: OnceLock::new(),
            notified: OnceLock::new(),
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

    /// Reads what some events wrote, those that nobody has read yet, at once.
    pub async fn read_written(events: &[Arc<Self>], db: &Database) -> Result<(), DbErr> {
        Self::read_notified(events, db).await?;
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

    async fn read_notified(events: &[Arc<Self>], db: &Database) -> Result<(), DbErr> {
        let unread: Vec<(&Arc<Self>, &NotificationChange)> = events
            .iter()
            .filter(|event| event.notified.get().is_none())
            .filter_map(|event| match &event.change.subject {
                Subject::Notification(change) => Some((event, change)),
                _ => None,
            })
            .collect();
        if unread.is_empty() {
            return Ok(());
        }
        let changes: Vec<_> = unread
            .iter()
            .map(|(event, change)| (*change, event.change.operation))
            .collect();
        let written = notification::written(db.reader(), &changes).await?;
        for ((event, _), written) in unread.iter().zip(written) {
            event.notified.get_or_init(|| written);
        }
        Ok(())
    }

    /// What it changed of forecasts, if it wrote any.
    fn writing(&self) -> Option<&ForecastChange> {
        match (&self.change.subject, self.change.operation) {
            (Subject::Forecast(change), Operation::Insert | Operation::Update) => Some(change),
            _ => None,
        }
    }
}
