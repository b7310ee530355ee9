//! Heavy operations beside light ones.
//!
//! The runtime has few threads, and whoever is polled keeps its thread until the
//! poll ends. An operation over five years of quarter-hours builds megabytes of
//! text in one go; twenty of them would keep everybody waiting. An operation that
//! turns out to be heavy goes on beside the runtime's threads, and only a few do so
//! at a time: a core is left for the light ones.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::task::Poll;
use std::thread::available_parallelism;

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{Notify, Semaphore};
use tokio::task::{block_in_place, yield_now};

/// An operation is heavy from this on: some milliseconds of work.
const HEAVY: usize = 5_000;
/// So many bytes of a request or an answer are as heavy as one delivery period.
const BYTES_A_PERIOD: usize = 50;

/// The turns that heavy operations take. Cores belong to the process, and so do
/// these.
static TURNS: LazyLock<Turns> = LazyLock::new(|| {
    let cores = available_parallelism().map_or(1, usize::from);
    Turns {
        free: Semaphore::new((cores - 1).max(1)),
        released: Notify::new(),
    }
});

/// Turns that nobody is given while waiting: an operation that is not polled just
/// now, such as a websocket's whose client takes nothing, would keep it.
struct Turns {
    free: Semaphore,
    released: Notify,
}

tokio::task_local! {
    /// What the operation weighs that is carried, in delivery periods.
    static WEIGHT: Arc<AtomicUsize>;
}

/// Adds delivery periods to what the operation weighs. To be awaited before the
/// work is done that they stand for.
pub(crate) async fn add(periods: usize) {
    let before = WEIGHT.try_with(|weight| weight.fetch_add(periods, Ordering::Relaxed));
    if before.is_ok_and(|before| before < HEAVY && before.saturating_add(periods) >= HEAVY) {
        // Whoever carries it looks again before it goes on.
        yield_now().await;
    }
}

/// Adds bytes of an answer to what the operation weighs.
pub(crate) async fn add_bytes(bytes: u64) {
    add(usize::try_from(bytes).unwrap_or(usize::MAX) / BYTES_A_PERIOD).await;
}

/// Carries an operation, asked for with so many bytes, to its end. What holds a
/// transaction is not to be carried: others wait for it.
pub(crate) async fn carry<F: Future>(request_bytes: usize, work: F) -> F::Output {
    let weight = Arc::new(AtomicUsize::new(request_bytes / BYTES_A_PERIOD));
    let mut work = pin!(WEIGHT.scope(Arc::clone(&weight), work));
    let mut released = pin!(None);
    poll_fn(|cx| {
        if weight.load(Ordering::Relaxed) < HEAVY {
            return work.as_mut().poll(cx);
        }
        loop {
            if let Ok(turn) = TURNS.free.try_acquire() {
                released.set(None);
                // Held for one poll: who waits for a database leaves the turn to others.
                let outcome = beside_the_runtime(|| work.as_mut().poll(cx));
                drop(turn);
                TURNS.released.notify_waiters();
                return outcome;
            }
            if released.is_none() {
                released.set(Some(TURNS.released.notified()));
            }
            let told = released.as_mut().as_pin_mut().map(|told| told.poll(cx));
            // One may have been released before this waited for it.
            if told.is_some_and(|told| told.is_pending()) && TURNS.free.available_permits() == 0 {
                return Poll::Pending;
            }
            released.set(None);
        }
    })
    .await
}

/// Lets other tasks go on on another thread meanwhile, where there are several.
fn beside_the_runtime<T>(work: impl FnOnce() -> T) -> T {
    match Handle::current().runtime_flavor() {
        RuntimeFlavor::MultiThread => block_in_place(work),
        _ => work(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::AtomicBool;

    use tokio::task::JoinSet;

    use super::*;

    /// Turns are the process's: tests that take them run one after the other.
    static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

    /// There is one thread, and it is not kept.
    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn light_work_goes_on_beside_heavy_work() {
        let _alone = ALONE.lock().await;
        let (begun, done) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
        let mut tasks = JoinSet::new();
        let (heavy_begun, heavy_done) = (Arc::clone(&begun), Arc::clone(&done));
        tasks.spawn(carry(0, async move {
            add(HEAVY).await;
            heavy_begun.wait();
            // Until the light work is done.
            heavy_done.wait();
        }));
        tokio::task::spawn_blocking(move || begun.wait())
            .await
            .unwrap();
        let mut light = JoinSet::new();
        light.spawn(carry(0, async { add(1).await }));
        light.join_all().await;
        tokio::task::spawn_blocking(move || done.wait())
            .await
            .unwrap();
        tasks.join_all().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn heavy_work_takes_turns() {
        let _alone = ALONE.lock().await;
        let most = TURNS.free.available_permits();
        let running = Arc::new(AtomicUsize::new(0));
        let too_many = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for _ in 0..4 * most {
            let (running, too_many) = (Arc::clone(&running), Arc::clone(&too_many));
            tasks.spawn(carry(HEAVY * BYTES_A_PERIOD, async move {
                for _ in 0..100 {
                    if running.fetch_add(1, Ordering::SeqCst) >= most {
                        too_many.store(true, Ordering::SeqCst);
                    }
                    std::thread::yield_now();
                    running.fetch_sub(1, Ordering::SeqCst);
                    yield_now().await;
                }
            }));
        }
        tasks.join_all().await;
        assert!(!too_many.load(Ordering::SeqCst));
        assert_eq!(TURNS.free.available_permits(), most);
    }

    /// Such as an operation of a websocket whose client takes nothing just now.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn one_that_waits_and_is_not_polled_keeps_no_turn() {
        let _alone = ALONE.lock().await;
        let most = TURNS.free.available_permits();
        let done = Arc::new(Barrier::new(most + 1));
        let mut tasks = JoinSet::new();
        for _ in 0..most {
            let done = Arc::clone(&done);
            tasks.spawn(carry(HEAVY * BYTES_A_PERIOD, async move {
                done.wait();
            }));
        }
        while TURNS.free.available_permits() > 0 {
            yield_now().await;
        }
        let heavy = HEAVY * BYTES_A_PERIOD;
        let mut waiting = pin!(carry(heavy, async {}));
        let first = poll_fn(|cx| Poll::Ready(waiting.as_mut().poll(cx).is_pending())).await;
        assert!(first, "all turns are taken");
        let after = carry(heavy, async {});
        tokio::task::spawn_blocking(move || done.wait())
            .await
            .unwrap();
        after.await;
        tasks.join_all().await;
        waiting.await;
    }

    #[tokio::test]
    async fn one_thread_alone_carries_all() {
        let _alone = ALONE.lock().await;
        let carried = carry(0, async {
            add(HEAVY).await;
            yield_now().await;
            7
        });
        assert_eq!(carried.await, 7);
        // What nobody carries weighs nothing.
        add(HEAVY).await;
    }
}
