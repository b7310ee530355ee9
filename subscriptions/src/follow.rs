//! Following changes: past ones from memory or the log, new ones from the hub,
//! without a seam.

use std::sync::Arc;

use domain::change::{self, Change, PAGE, Position, Subject};
use futures_util::stream::BoxStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::{Stream, StreamExt};

use crate::StreamError;
use crate::change_log::ChangeLog;
use crate::hub::{Event, Received, Subscriber, Topic};

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
/// Pages that are read ahead of who takes them.
const PAGES_AHEAD: usize = 1;

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
    match span {
        Span::Live => {
            let subscriber = log.hub().join(topics.to_vec());
            Box::pin(live(log.clone(), topics.to_vec(), subscriber, admits))
        }
        Span::Past { after, until } => Box::pin(past(log.clone(), admits, after, until)),
    }
}

fn live(
    log: ChangeLog,
    topics: Vec<Topic>,
    mut subscriber: Subscriber,
    admits: impl Admit,
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
            Event::read_written(&batch, log.database()).await?;
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
                    let mut missed = Box::pin(past(log.clone(), admits.clone(), last, joined));
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
    after: Position,
    until: Position,
) -> impl Stream<Item = Result<Arc<Event>, StreamError>> + Send + 'static {
    async_stream::try_stream! {
        if after.epoch != until.epoch {
            Err(StreamError::PositionExpired { after, current: until })?;
        }
        if after.number > until.number {
            // Another replica is ahead of this one, unless nobody ever was there.
            let current = change::read_head(log.database().reader()).await?;
            if after.epoch != current.epoch || after.number > current.number {
                Err(StreamError::PositionExpired { after, current })?;
            }
        }
        let mut last = after;
        while last.number < until.number {
            let Some(events) = log.hub().recent_after(last) else {
                break;
            };
            let mut batch = Vec::new();
            for event in events {
                last = event.change.position;
                if last.number <= until.number && admits(&event.change) {
                    batch.push(event);
                }
            }
            for batch in batch.chunks(BATCH) {
                Event::read_written(batch, log.database()).await?;
                for event in batch {
                    yield Arc::clone(event);
                }
            }
        }
        if last.number < until.number {
            let (pages, mut read) = mpsc::channel(PAGES_AHEAD);
            let reader = read_pages(log.clone(), admits, last, until, pages);
            // It ends with this stream.
            let mut task = JoinSet::new();
            task.spawn(reader);
            while let Some(page) = read.recv().await {
                for event in page? {
                    yield event;
                }
            }
        }
    }
}

/// Reads the log between two positions, page by page.
async fn read_pages(
    log: ChangeLog,
    admits: impl Admit,
    mut last: Position,
    until: Position,
    pages: mpsc::Sender<Result<Vec<Arc<Event>>, StreamError>>,
) {
    while last.number < until.number {
        let page = read_page(&log, &admits, &mut last, until).await;
        let failed = page.is_err();
        if pages.send(page).await.is_err() || failed {
            return;
        }
    }
}

async fn read_page(
    log: &ChangeLog,
    admits: &impl Admit,
    last: &mut Position,
    until: Position,
) -> Result<Vec<Arc<Event>>, StreamError> {
    let page = change::read_after(log.database().reader(), last.number).await?;
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
    debug_assert!(page.changes.len() as u64 <= PAGE);
    let mut events = Vec::with_capacity(page.changes.len());
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
            events.push(Arc::new(Event::new(change)));
        }
    }
    Event::read_written(&events, log.database()).await?;
    Ok(events)
}
