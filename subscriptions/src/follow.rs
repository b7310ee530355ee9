//! Following changes: past ones from memory or the log, new ones from the hub,
//! without a seam.

use std::collections::HashSet;
use std::iter::Peekable;
use std::sync::Arc;
use std::time::Duration;

use domain::change::{self, Change, Operation, PAGE, Position, Subject};
use domain::forecast::ForecastError;
use futures_util::stream::BoxStream;
use sea_orm::DbErr;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_stream::{Stream, StreamExt};

use crate::StreamError;
use crate::change_log::ChangeLog;
use crate::hub::{Event, OF_AN_EVENT, Received, Subscriber, Topic};

/// Which changes a run follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    /// Those to come, without end.
    Live,
    /// Those after one position and up to another.
    Past { after: Position, until: Position },
}

/// Events that were queued together are looked up together, so many at most.
const BATCH: usize = 256;
/// A read that failed is tried again after this, and twice that, and so on…
pub(crate) const FIRST_WAIT: Duration = Duration::from_millis(50);
/// …up to this.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// Parts of pages that are read ahead of who takes them.
const PARTS_AHEAD: usize = 1;
/// What the changes of a part wrote takes about so many bytes at most, or is one
/// change's.
const PART_BYTES: usize = 256 << 10;
/// Changes of a page, and bytes of a part, while the budget of all subscribers is
/// spent: thousands may catch up at the same time.
const SCARCE_PAGE: u64 = 64;
const SCARCE_PART_BYTES: usize = 16 << 10;

/// Which changes are wanted.
pub(crate) trait Admit: Fn(&Change) -> bool + Clone + Send + Sync + 'static {}
impl<F: Fn(&Change) -> bool + Clone + Send + Sync + 'static> Admit for F {}

/// The changes of a span that `admits` admits, in order and once, with what they
/// wrote. Of a live span the hub is joined before this returns.
pub(crate) fn follow(
    log: &ChangeLog,
    topics: &[Topic],
    admits: impl Admit,
    span: Span,
) -> BoxStream<'static, Result<Arc<Event>, StreamError>> {
    start(log, topics, admits, None, span)
}

/// [`follow`] for one user: of past changes of notifications only what they see
/// is read, not all recipients. `admits` admits no change of other users alone.
pub(crate) fn follow_for(
    user_id: i64,
    log: &ChangeLog,
    topics: &[Topic],
    admits: impl Admit,
    span: Span,
) -> BoxStream<'static, Result<Arc<Event>, StreamError>> {
    start(log, topics, admits, Some(user_id), span)
}

fn start(
    log: &ChangeLog,
    topics: &[Topic],
    admits: impl Admit,
    for_user: Option<i64>,
    span: Span,
) -> BoxStream<'static, Result<Arc<Event>, StreamError>> {
    match span {
        Span::Live => {
            let subscriber = log.hub().join(topics.to_vec());
            let topics = topics.to_vec();
            Box::pin(live(log.clone(), topics, subscriber, admits, for_user))
        }
        Span::Past { after, until } => Box::pin(past(log.clone(), admits, for_user, after, until)),
    }
}

fn live(
    log: ChangeLog,
    topics: Vec<Topic>,
    mut subscriber: Subscriber,
    admits: impl Admit,
    for_user: Option<i64>,
) -> impl Stream<Item = Result<Arc<Event>, StreamError>> + Send + 'static {
    async_stream::try_stream! {
        let mut last = subscriber.joined_at();
        loop {
            let mut received = Some(subscriber.recv().await);
            let mut batch = Vec::new();
            let mut end = None;
            while let Some(next) = received {
                match next {
                    Received::Event(event) if event.change.position.number <= last.number => {}
                    Received::Event(event) => {
                        last = event.change.position;
                        if admits(&event.change) {
                            batch.push(event);
                        }
                    }
                    ended => {
                        end = Some(ended);
                        break;
                    }
                }
                if batch.len() == BATCH {
                    break;
                }
                received = subscriber.try_recv();
            }
            read_shared(&log, &batch).await?;
            for event in batch {
                yield event;
            }
            match end {
                None => {}
                Some(Received::Resync(position)) => Err(StreamError::ResyncRequired { position })?,
                Some(_) => {
                    // Joined first: what is published from here on waits in the queue.
                    subscriber = log.hub().join(topics.clone());
                    let joined = subscriber.joined_at();
                    let missed = past(log.clone(), admits.clone(), for_user, last, joined);
                    let mut missed = Box::pin(missed);
                    while let Some(event) = missed.next().await {
                        yield event?;
                    }
                    last = joined;
                }
            }
        }
    }
}

/// The changes between two positions: from memory as far as it goes back, else
/// from the log, where the next page is read while this one is taken.
fn past(
    log: ChangeLog,
    admits: impl Admit,
    for_user: Option<i64>,
    after: Position,
    until: Position,
) -> impl Stream<Item = Result<Arc<Event>, StreamError>> + Send + 'static {
    async_stream::try_stream! {
        if after.epoch != until.epoch || after.number > until.number {
            // Another replica is ahead of this one, unless nobody ever was there.
            let current = change::read_head(log.database().reader()).await?;
            if after.epoch != current.epoch || after.number > current.number {
                Err(StreamError::PositionExpired { after, current })?;
            }
            if after.epoch != until.epoch {
                Err(StreamError::NotReached { after, current: until })?;
            }
        }
        let mut last = after;
        let mut remembered = Vec::new();
        while last.number < until.number {
            let Some(events) = log.hub().recent_after(last) else {
                break;
            };
            for event in events {
                last = event.change.position;
                if last.number <= until.number && admits(&event.change) {
                    remembered.push(event);
                }
            }
        }
        if let Some(user_id) = for_user {
            forget_taken_back(&mut remembered, user_id);
        }
        // Let go one by one: the hub forgets them, and then this stream alone has them.
        while !remembered.is_empty() {
            let batch: Vec<_> = remembered.drain(..BATCH.min(remembered.len())).collect();
            read_shared(&log, &batch).await?;
            for event in batch {
                yield event;
            }
        }
        drop(remembered);
        if last.number < until.number {
            let (parts, mut read) = mpsc::channel(PARTS_AHEAD);
            let reader = read_pages(log.clone(), admits, for_user, last, until, parts);
            // It ends with this stream.
            let mut task = JoinSet::new();
            task.spawn(reader);
            while let Some(part) = read.recv().await {
                for event in part? {
                    yield event;
                }
            }
            if let Some(Err(_)) = task.join_next().await {
                Err(ForecastError::Aborted)?;
            }
        }
    }
}

/// Events that are remembered still say what came and was taken back since: such
/// are read anew, for the user alone.
fn forget_taken_back(events: &mut [Arc<Event>], user_id: i64) {
    let removed: HashSet<Option<i64>> = events
        .iter()
        .filter(|event| event.change.operation == Operation::Delete)
        .filter_map(|event| match &event.change.subject {
            Subject::Notification(change) => Some(change.notification_id),
            _ => None,
        })
        .collect();
    for event in events {
        let (Subject::Notification(change), Operation::Insert) =
            (&event.change.subject, event.change.operation)
        else {
            continue;
        };
        // What the user took off the list has no id here: it may be any.
        if removed.contains(&None) || removed.contains(&change.notification_id) {
            *event = Arc::new(Event::seen_by(event.change.clone(), Some(user_id)));
        }
    }
}

/// Reads what events wrote that are shared. Others may wait for it, so it goes on
/// in a task: whoever polls this stream may be held up by a slow client.
async fn read_shared(log: &ChangeLog, events: &[Arc<Event>]) -> Result<(), StreamError> {
    if !events.iter().any(|event| event.holds_up_others()) {
        return Ok(read_written(log, events).await?);
    }
    let (log, events) = (log.clone(), events.to_vec());
    // It ends with the stream, and then the next one reads.
    let mut task = JoinSet::new();
    task.spawn(async move { read_written(&log, &events).await });
    match task.join_next().await {
        Some(Ok(outcome)) => Ok(outcome?),
        Some(Err(_)) | None => Err(ForecastError::Aborted.into()),
    }
}

/// Reads what events wrote. One failure of the database ends no stream, of which
/// there may be thousands: it is tried again for a moment.
async fn read_written(log: &ChangeLog, events: &[Arc<Event>]) -> Result<(), DbErr> {
    let mut wait = FIRST_WAIT;
    loop {
        match Event::read_written(events, log.database(), log.hub().budget()).await {
            Err(error) if wait <= LONGEST_WAIT => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "what changes wrote could not be read, and is tried again"
                );
                sleep(wait).await;
                wait *= 2;
            }
            outcome => return outcome,
        }
    }
}

/// Reads the log between two positions page by page, and what a page's changes
/// wrote part by part.
async fn read_pages(
    log: ChangeLog,
    admits: impl Admit,
    for_user: Option<i64>,
    mut last: Position,
    until: Position,
    parts: mpsc::Sender<Result<Vec<Arc<Event>>, StreamError>>,
) {
    let budget = log.hub().budget();
    while last.number < until.number {
        let mut events = Vec::new();
        // Whoever comes back after long may wait a little: writers may not.
        let Ok(turn) = log.readers().acquire().await else {
            return;
        };
        // Asked at the last moment: many may have waited for a turn.
        let most = if budget.is_spent() { SCARCE_PAGE } else { PAGE };
        let outcome = read_page(&log, &admits, for_user, &mut last, until, &mut events, most).await;
        drop(turn);
        // What came before a failure, or before all was void, comes all the same.
        let mut rest = events.into_iter().peekable();
        while rest.peek().is_some() {
            let _held = budget.hold(rest.len() * OF_AN_EVENT);
            // Before it is read: what waits for room would take memory, too.
            let Ok(room) = parts.reserve().await else {
                return;
            };
            let part_bytes = if budget.is_spent() {
                SCARCE_PART_BYTES
            } else {
                PART_BYTES
            };
            let part = next_part(&mut rest, part_bytes);
            let Ok(turn) = log.readers().acquire().await else {
                return;
            };
            let read = read_written(&log, &part).await;
            drop(turn);
            let failure = read.is_err();
            let part = read.map(|()| part).map_err(StreamError::from);
            room.send(part);
            if failure {
                return;
            }
        }
        if let Err(error) = outcome {
            // Whoever has gone does not want to know.
            drop(parts.send(Err(error)).await);
            return;
        }
    }
}

/// The next changes that are read together: up to `most` bytes of them, or one.
fn next_part(
    events: &mut Peekable<impl Iterator<Item = Arc<Event>>>,
    most: usize,
) -> Vec<Arc<Event>> {
    let mut part = Vec::new();
    let mut bytes = 0;
    while let Some(event) = events.next_if(|event| part.is_empty() || bytes + event.bytes() <= most)
    {
        bytes += event.bytes();
        part.push(event);
    }
    part
}

async fn read_page(
    log: &ChangeLog,
    admits: &impl Admit,
    for_user: Option<i64>,
    last: &mut Position,
    until: Position,
    events: &mut Vec<Arc<Event>>,
    most: u64,
) -> Result<(), StreamError> {
    let page = change::read_after(log.database().reader(), last.number, most).await?;
    let continues = match page.changes.first() {
        Some((first, _)) => first.position.number == last.number + 1,
        None => false,
    };
    if page.head.epoch != last.epoch || !continues {
        return Err(StreamError::PositionExpired {
            after: *last,
            current: page.head,
        });
    }
    debug_assert!(page.changes.len() as u64 <= most);
    for (change, _) in page.changes {
        if change.position.number > until.number {
            break;
        }
        if change.subject == Subject::Everything {
            return Err(StreamError::ResyncRequired {
                position: change.position,
            });
        }
        *last = change.position;
        if admits(&change) {
            events.push(Arc::new(Event::seen_by(change, for_user)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use domain::change::{Epoch, ForecastChange};
    use domain::forecast::{Resolution, SeriesKey};
    use time::{Duration, OffsetDateTime};

    use super::*;

    /// A change of so many days of quarter-hours.
    fn event(number: u64, days: i64) -> Arc<Event> {
        let from = OffsetDateTime::UNIX_EPOCH;
        let epoch = Epoch(1);
        let series = SeriesKey {
            unit: "plant:1".parse().unwrap(),
            provider: "p".parse().unwrap(),
            resolution: Resolution::QuarterHour,
        };
        Arc::new(Event::new(Change {
            position: Position { epoch, number },
            operation: Operation::Insert,
            changed_at: from,
            subject: Subject::Forecast(ForecastChange {
                series_id: 1,
                series,
                run_id: 1,
                from,
                to: from + Duration::days(days),
            }),
        }))
    }

    fn parts(days: &[i64]) -> Vec<usize> {
        let events = (1..).zip(days).map(|(number, days)| event(number, *days));
        let mut rest = events.peekable();
        std::iter::from_fn(|| {
            rest.peek()
                .is_some()
                .then(|| next_part(&mut rest, PART_BYTES).len())
        })
        .collect()
    }

    #[test]
    fn what_is_read_together_has_a_limit_in_bytes() {
        assert_eq!(parts(&[]), [0; 0]);
        // Small changes are read a hundred at a time, those of a month a few.
        assert_eq!(parts(&[1; 300]), [128, 128, 44]);
        assert_eq!(parts(&[31; 12]), [5, 5, 2]);
        // One that is larger than a part comes alone.
        assert_eq!(parts(&[1, 400, 1]), [1, 1, 1]);
    }
}
