//! What this replica has numbered and others may want to know.

use std::sync::atomic::{AtomicBool, Ordering};

use domain::change::{LogPage, PAGE};
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Between the sequencer, which never waits, and whoever tells the others.
/// What is not fetched in time shrinks to the head: others then read the log.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    open: AtomicBool,
    pending: Mutex<Option<LogPage>>,
    arrived: Notify,
}

impl Outbox {
    /// From now on there is somebody who fetches.
    pub(crate) fn open(&self) {
        self.open.store(true, Ordering::SeqCst);
    }

    pub(super) fn put(&self, page: &LogPage) {
        if !self.open.load(Ordering::SeqCst) {
            return;
        }
        let mut pending = self.pending.lock();
        match pending.as_mut() {
            Some(last) if last.head.epoch == page.head.epoch => {
                last.head = page.head;
                let count = (last.changes.len() + page.changes.len()) as u64;
                // Where there are changes, they lead up to the head.
                if count > PAGE || page.changes.is_empty() {
                    last.changes.clear();
                } else {
                    last.changes.extend_from_slice(&page.changes);
                }
            }
            _ => *pending = Some(page.clone()),
        }
        drop(pending);
        self.arrived.notify_one();
    }

    /// What has been numbered since the last call; there may be gaps in it,
    /// which others have numbered.
    pub(crate) async fn next(&self) -> LogPage {
        loop {
            if let Some(page) = self.pending.lock().take() {
                return page;
            }
            self.arrived.notified().await;
        }
    }

    /// Forgets what nobody fetched: it is no news any more.
    pub(crate) fn clear(&self) {
        self.pending.lock().take();
    }
}

#[cfg(test)]
mod tests {
    use domain::change::{Change, Epoch, Operation, Position, Subject};
    use futures_util::FutureExt;
    use time::OffsetDateTime;

    use super::*;

    fn page(epoch: u32, numbers: std::ops::RangeInclusive<u64>) -> LogPage {
        let at = |number| Position {
            epoch: Epoch(epoch),
            number,
        };
        let change = |number| Change {
            position: at(number),
            operation: Operation::Update,
            changed_at: OffsetDateTime::UNIX_EPOCH,
            subject: Subject::Unit("plant:1".parse().unwrap()),
        };
        LogPage {
            head: at(*numbers.end()),
            changes: numbers.map(|number| (change(number), None)).collect(),
        }
    }

    fn fetch(outbox: &Outbox) -> Option<(Position, usize)> {
        let page = outbox.next().now_or_never()?;
        Some((page.head, page.changes.len()))
    }

    #[test]
    fn what_nobody_fetches_shrinks_to_the_head() {
        let outbox = Outbox::default();
        outbox.put(&page(1, 1..=2));
        assert_eq!(fetch(&outbox), None, "nobody was there to fetch it");
        outbox.open();
        outbox.put(&page(1, 1..=2));
        outbox.put(&page(1, 5..=5));
        let head = |number| page(1, number..=number).head;
        assert_eq!(fetch(&outbox), Some((head(5), 3)));
        outbox.put(&page(1, 6..=700));
        outbox.put(&page(1, 701..=1400));
        assert_eq!(fetch(&outbox), Some((head(1400), 0)));
        outbox.put(&page(1, 1401..=1402));
        let many = LogPage {
            changes: Vec::new(),
            ..page(1, 3000..=3000)
        };
        outbox.put(&many);
        assert_eq!(fetch(&outbox), Some((head(3000), 0)));
        outbox.put(&page(1, 3001..=3001));
        outbox.put(&page(2, 1..=1));
        assert_eq!(fetch(&outbox), Some((page(2, 1..=1).head, 1)));
        outbox.put(&page(2, 2..=2));
        outbox.clear();
        assert_eq!(fetch(&outbox), None);
    }
}
