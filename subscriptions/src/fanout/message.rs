//! What replicas say to one another: `{"v":1,"from":…,"head":…,"changes":[…]}`.
//!
//! `head` is the last position that the teller knows of. `changes`, of which the
//! last is at the head, it has numbered itself, each with its transaction's
//! number; there are none where they would be too many. Whoever cannot read a message still knows
//! that there is something to read in the log.

use domain::change::{Change, LogPage, Operation, Position};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Replicas of different versions may share a Redis while one replaces the other.
const VERSION: u32 = 1;
/// Nothing of ours is so large: it is not even looked into.
const LARGEST: usize = 1 << 20;

#[derive(Serialize)]
struct Told<'a> {
    v: u32,
    from: &'a str,
    head: Position,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    changes: &'a [(Change, Option<u64>)],
}

#[derive(Deserialize)]
struct Envelope<'a> {
    v: u32,
    from: &'a str,
    head: Position,
    #[serde(borrow)]
    changes: Option<&'a RawValue>,
}

/// What a message means to who hears it.
#[derive(Debug, PartialEq)]
pub(super) enum Message {
    /// Its own words.
    Own,
    /// Nothing that it does not know.
    Old,
    /// Changes that it may go on with.
    Changes(Vec<(Change, Option<u64>)>),
    /// There is something in the log.
    Look,
}

/// The message for a page, with its changes if it then has at most so many bytes.
pub(super) fn encode(from: &str, page: &LogPage, most_bytes: usize) -> Vec<u8> {
    let write = |changes| {
        let told = Told {
            v: VERSION,
            from,
            head: page.head,
            changes,
        };
        // Keys and numbers only: there is nothing in it that could not be written.
        serde_json::to_vec(&told).unwrap_or_default()
    };
    // What voids everything is left to the log, which also says what it voids.
    let plain = |(change, _): &(Change, _)| change.operation != Operation::Resync;
    if most_bytes > 0 && !page.changes.is_empty() && page.changes.iter().all(plain) {
        let message = write(&page.changes[..]);
        if message.len() <= most_bytes.min(LARGEST) {
            return message;
        }
    }
    write(&[])
}

/// Reads a message, no further than it takes to see what it means to `to`, who
/// has applied so much.
pub(super) fn decode(to: &str, applied: Position, message: &[u8]) -> Message {
    if message.len() > LARGEST {
        return Message::Look;
    }
    let Ok(envelope) = serde_json::from_slice::<Envelope<'_>>(message) else {
        return Message::Look;
    };
    if envelope.from == to {
        return Message::Own;
    }
    if envelope.v != VERSION || envelope.head.epoch != applied.epoch {
        return Message::Look;
    }
    if envelope.head.number <= applied.number {
        return Message::Old;
    }
    let changes = envelope
        .changes
        .and_then(|raw| serde_json::from_str::<Vec<(Change, Option<u64>)>>(raw.get()).ok());
    match changes {
        Some(changes)
            if (changes.last()).is_some_and(|(last, _)| last.position == envelope.head)
                && (changes.iter()).all(|(change, _)| change.operation != Operation::Resync) =>
        {
            Message::Changes(changes)
        }
        _ => Message::Look,
    }
}

#[cfg(test)]
mod tests {
    use domain::change::{Epoch, Subject};
    use time::OffsetDateTime;

    use super::*;

    const ALL: usize = 1 << 16;

    fn at(number: u64) -> Position {
        Position {
            epoch: Epoch(0xabc),
            number,
        }
    }

    fn page(operation: Operation, changes: u64) -> LogPage {
        let change = |number| Change {
            position: at(number),
            operation,
            changed_at: OffsetDateTime::UNIX_EPOCH,
            subject: Subject::Unit("plant:1".parse().unwrap()),
        };
        LogPage {
            head: at(changes),
            changes: (1..=changes).map(|n| (change(n), Some(n))).collect(),
        }
    }

    #[test]
    fn what_is_told_is_heard() {
        let told = page(Operation::Update, 3);
        let message = encode("a", &told, ALL);
        assert_eq!(
            decode("b", at(0), &message),
            Message::Changes(told.changes.clone())
        );
        assert_eq!(decode("a", at(0), &message), Message::Own);
        assert_eq!(decode("b", at(3), &message), Message::Old);
        let elsewhere = Position {
            epoch: Epoch(1),
            number: 0,
        };
        assert_eq!(decode("b", elsewhere, &message), Message::Look);
    }

    #[test]
    fn what_is_too_much_or_voids_everything_is_left_to_the_log() {
        for (page, most_bytes) in [
            (page(Operation::Update, 300), 16_384),
            (page(Operation::Update, 1), 0),
            (page(Operation::Resync, 1), ALL),
        ] {
            let message = encode("a", &page, most_bytes);
            assert!(message.len() < 100);
            assert_eq!(decode("b", at(0), &message), Message::Look);
            assert_eq!(decode("b", page.head, &message), Message::Old);
        }
    }

    #[test]
    fn what_cannot_be_read_is_a_reason_to_look() {
        let head = r#""head":"00000abc.7""#;
        for message in [
            String::new(),
            "no JSON".to_owned(),
            "[1]".to_owned(),
            r#"{"v":1,"from":"a","head":"7"}"#.to_owned(),
            format!(r#"{{"v":2,"from":"a",{head},"more":[]}}"#),
            format!(r#"{{"v":1,"from":"a",{head},"changes":[]}}"#),
            String::from_utf8(encode("a", &page(Operation::Update, 3), ALL))
                .unwrap()
                .replacen(".3", ".9", 1),
            format!(r#"{{"v":1,"from":"a",{head},"changes":[{{"of":"the future"}}]}}"#),
            format!(
                r#"{{"v":1,"from":"a",{head},"x":"{}"}}"#,
                "x".repeat(LARGEST)
            ),
        ] {
            assert_eq!(decode("b", at(0), message.as_bytes()), Message::Look);
        }
        assert_eq!(decode("b", at(0), &[0xff, 0]), Message::Look);
    }
}
