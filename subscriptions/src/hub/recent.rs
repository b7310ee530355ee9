//! The newest changes, in memory.

use std::collections::VecDeque;
use std::sync::Arc;

use domain::change::Position;

use super::Event;

/// Contiguous changes up to the last one published.
#[derive(Debug, Default)]
pub(super) struct Recent {
    events: VecDeque<Arc<Event>>,
}

impl Recent {
    /// So many are remembered.
    const MOST: usize = 2048;
    /// So many are handed out at once, while publishing waits.
    const PAGE: usize = 1024;

    pub(super) fn push(&mut self, event: Arc<Event>) {
        let position = event.change.position;
        let follows = self.events.back().is_none_or(|last| {
            let last = last.change.position;
            last.epoch == position.epoch && last.number + 1 == position.number
        });
        if !follows {
            self.events.clear();
        }
        if self.events.len() == Self::MOST {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    pub(super) fn clear(&mut self) {
        self.events.clear();
    }

    /// The next events after a position; `None` unless the very next is there.
    pub(super) fn after(&self, after: Position) -> Option<Vec<Arc<Event>>> {
        let first = self.events.front()?.change.position;
        if first.epoch != after.epoch || first.number > after.number + 1 {
            return None;
        }
        let skipped = usize::try_from(after.number + 1 - first.number).ok()?;
        let next: Vec<_> = self
            .events
            .iter()
            .skip(skipped)
            .take(Self::PAGE)
            .cloned()
            .collect();
        (!next.is_empty()).then_some(next)
    }
}

#[cfg(test)]
mod tests {
    use domain::change::{Change, Epoch, Operation, Subject};
    use time::OffsetDateTime;

    use super::*;

    fn at(number: u64) -> Position {
        Position {
            epoch: Epoch(1),
            number,
        }
    }

    fn remembering(numbers: impl IntoIterator<Item = u64>) -> Recent {
        let mut recent = Recent::default();
        for number in numbers {
            recent.push(Arc::new(Event::new(Change {
                position: at(number),
                operation: Operation::Insert,
                changed_at: OffsetDateTime::UNIX_EPOCH,
                subject: Subject::Provider("p".parse().unwrap()),
            })));
        }
        recent
    }

    fn numbers(recent: &Recent, after: u64) -> Option<Vec<u64>> {
        let events = recent.after(at(after))?;
        Some(events.iter().map(|e| e.change.position.number).collect())
    }

    #[test]
    fn gives_what_follows_without_a_gap_or_nothing() {
        let recent = remembering(5..=8);
        assert_eq!(numbers(&recent, 3), None);
        assert_eq!(numbers(&recent, 4), Some(vec![5, 6, 7, 8]));
        assert_eq!(numbers(&recent, 7), Some(vec![8]));
        assert_eq!(numbers(&recent, 8), None);
        assert_eq!(numbers(&recent, 90), None);
        let other = Position {
            epoch: Epoch(2),
            number: 5,
        };
        assert!(recent.after(other).is_none());
    }

    #[test]
    fn forgets_the_oldest_and_what_lies_before_a_gap() {
        let many = remembering(1..=(Recent::MOST as u64 + 3));
        assert_eq!(numbers(&many, 2), None);
        assert_eq!(numbers(&many, 3).map(|n| n[0]), Some(4));
        assert_eq!(numbers(&remembering([5, 6, 9, 10]), 6), None);
        assert_eq!(numbers(&remembering([5, 6, 9, 10]), 8), Some(vec![9, 10]));
    }
}
