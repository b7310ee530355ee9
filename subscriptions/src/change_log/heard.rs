//! What other replicas have told, until the log confirms it.
//!
//! Word of a change may come sooner than this replica could read it. What goes
//! on from the applied position is applied as told; it says nothing about what
//! a read includes, and as soon as the log is read the two are compared. A teller
//! of what is not there is of another database under the same name: none of
//! them is believed for a while.

use std::collections::VecDeque;
use std::mem;
use std::time::Duration;

use domain::change::{Change, PAGE, Position};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Changes told and not yet applied, or not yet confirmed; more are left to the log.
const MOST: usize = PAGE as usize / 2;
/// After a false word only the log is believed, for so long.
const DISTRUST: Duration = Duration::from_secs(60);

/// A change, with the number of the transaction that made it.
type Numbered = (Change, Option<u64>);

#[derive(Debug, Default)]
pub(crate) struct Heard {
    state: Mutex<State>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct State {
    told: Vec<Numbered>,
    /// There may be more in the log than was told.
    look: bool,
    /// Applied as told, and not found in the log yet.
    unconfirmed: VecDeque<Change>,
    distrusted_until: Option<Instant>,
}

/// What to do about what was heard.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Taken {
    /// These go on from the applied position.
    pub(super) changes: Vec<Numbered>,
    /// The log is to be looked at.
    pub(super) look: bool,
}

/// The log has something else than what was told.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Contradiction;

impl Heard {
    /// Another replica says that it has numbered these.
    pub(crate) fn tell(&self, mut changes: Vec<Numbered>) {
        let mut state = self.state.lock();
        let believed = (state.distrusted_until).is_none_or(|until| until <= Instant::now());
        if believed && state.told.len() + changes.len() <= MOST {
            state.told.append(&mut changes);
        } else {
            state.look = true;
        }
        drop(state);
        self.arrived.notify_one();
    }

    /// There may be more in the log than this replica knows of.
    pub(crate) fn look(&self) {
        self.state.lock().look = true;
        self.arrived.notify_one();
    }

    pub(super) async fn arrived(&self) {
        self.arrived.notified().await;
    }

    /// What to do about all that has come. What is taken counts as unconfirmed.
    pub(super) fn take(&self, applied: Position) -> Taken {
        let mut state = self.state.lock();
        let mut taken = Taken {
            changes: Vec::new(),
            look: mem::take(&mut state.look),
        };
        let mut next = applied.number + 1;
        for numbered in mem::take(&mut state.told) {
            let position = numbered.0.position;
            if position.epoch == applied.epoch && position.number < next {
                continue;
            }
            if position.epoch != applied.epoch
                || position.number > next
                || state.unconfirmed.len() == MOST
            {
                taken.look = true;
                break;
            }
            next += 1;
            state.unconfirmed.push_back(numbered.0.clone());
            taken.changes.push(numbered);
        }
        taken.look |= !taken.changes.is_empty();
        taken
    }

    /// From where the log is to be read: after what it has confirmed.
    pub(super) fn confirmed(&self, applied: Position) -> Position {
        match self.state.lock().unconfirmed.front() {
            Some(first) => Position {
                number: first.position.number - 1,
                ..applied
            },
            None => applied,
        }
    }

    /// Compares what was told with the log from the confirmed position on.
    pub(super) fn confirm(&self, read: &[Numbered]) -> Result<(), Contradiction> {
        let mut state = self.state.lock();
        for (change, _) in read {
            match state.unconfirmed.front() {
                Some(told) if told.position != change.position => {}
                Some(told) if told == change => {
                    state.unconfirmed.pop_front();
                }
                Some(_) => return Err(Contradiction),
                None => break,
            }
        }
        Ok(())
    }

    /// The log had something else than what was applied. Returns whether that
    /// was hearsay.
    pub(super) fn forget(&self) -> bool {
        let mut state = self.state.lock();
        let misled = !state.unconfirmed.is_empty();
        *state = State {
            distrusted_until: if misled {
                Some(Instant::now() + DISTRUST)
            } else {
                state.distrusted_until
            },
            ..State::default()
        };
        misled
    }
}

#[cfg(test)]
mod tests {
    use domain::change::{Epoch, Operation, Subject};
    use time::OffsetDateTime;

    use super::*;

    fn at(number: u64) -> Position {
        Position {
            epoch: Epoch(1),
            number,
        }
    }

    fn change(number: u64) -> Numbered {
        let change = Change {
            position: at(number),
            operation: Operation::Update,
            changed_at: OffsetDateTime::UNIX_EPOCH,
            subject: Subject::Unit("plant:1".parse().unwrap()),
        };
        (change, Some(number * 10))
    }

    fn changes(numbers: &[u64]) -> Vec<Numbered> {
        numbers.iter().copied().map(change).collect()
    }

    #[test]
    fn what_goes_on_is_taken_and_a_gap_is_left_to_the_log() {
        for (told, taken, look) in [
            (&[5, 6][..], &[5, 6][..], true),
            (&[3, 4, 5], &[5], true),
            (&[3, 4], &[], false),
            (&[6], &[], true),
            (&[5, 7, 8], &[5], true),
        ] {
            let heard = Heard::default();
            heard.tell(changes(told));
            let expect = Taken {
                changes: changes(taken),
                look,
            };
            assert_eq!(heard.take(at(4)), expect, "{told:?}");
            assert_eq!(heard.take(at(9)), Taken::default());
        }
        // Numbers of another history say nothing here.
        let heard = Heard::default();
        heard.tell(changes(&[5]));
        let elsewhere = Position {
            epoch: Epoch(2),
            number: 4,
        };
        let taken = heard.take(elsewhere);
        assert!(taken.changes.is_empty() && taken.look);
    }

    #[test]
    fn a_flood_is_left_to_the_log() {
        let heard = Heard::default();
        for number in 1..=100_000 {
            heard.tell(vec![change(number)]);
        }
        assert_eq!(heard.take(at(0)).changes.len(), MOST);
        heard.tell(vec![change(MOST as u64 + 1)]);
        let taken = heard.take(at(MOST as u64));
        assert!(taken.changes.is_empty() && taken.look);
    }

    #[test]
    fn what_was_told_is_compared_with_the_log() {
        let heard = Heard::default();
        heard.tell(changes(&[5, 6]));
        heard.take(at(4));
        assert_eq!(heard.confirmed(at(9)), at(4));
        // In between, changes of this replica's own.
        assert_eq!(heard.confirm(&changes(&[5])), Ok(()));
        heard.tell(changes(&[9]));
        heard.take(at(8));
        assert_eq!(heard.confirmed(at(9)), at(5));
        assert_eq!(heard.confirm(&changes(&[6, 7, 8, 9, 10])), Ok(()));
        assert_eq!(heard.confirmed(at(10)), at(10));
        assert!(!heard.forget(), "nothing was taken that the log had not");
    }

    #[tokio::test(start_paused = true)]
    async fn who_told_something_else_is_not_believed_for_a_while() {
        let heard = Heard::default();
        heard.tell(changes(&[5]));
        heard.take(at(4));
        let mut other = change(5);
        other.0.operation = Operation::Delete;
        assert_eq!(heard.confirm(&[other]), Err(Contradiction));
        assert!(heard.forget());
        heard.tell(changes(&[6]));
        let taken = heard.take(at(5));
        assert!(taken.changes.is_empty() && taken.look);
        tokio::time::sleep(DISTRUST).await;
        heard.tell(changes(&[6]));
        assert_eq!(heard.take(at(5)).changes.len(), 1);
    }
}
