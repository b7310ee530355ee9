//! Leaves a host alone that keeps failing.
//!
//! After some failures in a row nothing is sent to a host for a while. Then one
//! request tries it: if it fails too, the host is left alone for longer. Only hosts
//! that fail are remembered, and of those no more than a fixed number.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rand::RngExt;
use tokio::time::Instant;

#[derive(Debug, Clone)]
pub(crate) struct BreakerSettings {
    /// So many failures in a row open it.
    pub(crate) failures: u32,
    /// How long a host is first left alone; it doubles with each probe that fails.
    pub(crate) cool_down: Duration,
    pub(crate) longest: Duration,
    /// How many failing hosts are remembered.
    pub(crate) hosts: usize,
}

/// The host is being left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the host failed too often in a row and is left alone for now")]
pub(crate) struct Open {
    pub(crate) retry_after: Duration,
}

/// One breaker for all hosts. Its copies share what they know.
#[derive(Debug, Clone)]
pub(crate) struct Breaker {
    settings: BreakerSettings,
    hosts: Arc<Mutex<Hosts>>,
}

#[derive(Debug, Default)]
struct Hosts {
    by_name: HashMap<Box<str>, Host>,
    last_probe: u64,
}

#[derive(Debug)]
struct Host {
    state: State,
    /// What it is left alone for the next time.
    cool_down: Duration,
    /// When it last failed.
    failed_at: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed {
        failures: u32,
    },
    Open {
        until: Instant,
    },
    /// One request, known by its number, tries the host.
    HalfOpen {
        probe: u64,
    },
}

impl Breaker {
    pub(crate) fn new(settings: BreakerSettings) -> Self {
        Self {
            settings,
            hosts: Arc::default(),
        }
    }

    /// Asks whether the host may be called. Say with the permit what came of it.
    pub(crate) fn enter(&self, host: &str) -> Result<Permit, Open> {
        let mut hosts = self.hosts.lock();
        let next_probe = hosts.last_probe + 1;
        let probe = match hosts.by_name.get_mut(host) {
            None => None,
            Some(known) => match known.state {
                State::Closed { .. } => None,
                State::Open { until } => {
                    let left = until.saturating_duration_since(Instant::now());
                    if !left.is_zero() {
                        return Err(Open { retry_after: left });
                    }
                    known.state = State::HalfOpen { probe: next_probe };
                    hosts.last_probe = next_probe;
                    Some(next_probe)
                }
                // The probe ends within a request's time: about as long as this.
                State::HalfOpen { .. } => {
                    return Err(Open {
                        retry_after: self.settings.cool_down,
                    });
                }
            },
        };
        Ok(Permit {
            breaker: self.clone(),
            host: host.into(),
            probe,
        })
    }

    /// How many hosts are being left alone.
    pub(crate) fn open_hosts(&self) -> usize {
        let now = Instant::now();
        let hosts = self.hosts.lock();
        hosts
            .by_name
            .values()
            .filter(|host| match host.state {
                State::Closed { .. } => false,
                State::Open { until } => until > now,
                State::HalfOpen { .. } => true,
            })
            .count()
    }

    fn fail(&self, name: &str, own_probe: Option<u64>) {
        let now = Instant::now();
        let mut hosts = self.hosts.lock();
        if !hosts.by_name.contains_key(name) {
            hosts.make_room(self.settings.hosts);
        }
        let host = hosts.by_name.entry(name.into()).or_insert(Host {
            state: State::Closed { failures: 0 },
            cool_down: self.settings.cool_down,
            failed_at: now,
        });
        host.failed_at = now;
        match host.state {
            State::Closed { failures } if failures + 1 < self.settings.failures => {
                host.state = State::Closed {
                    failures: failures + 1,
                };
            }
            State::Closed { .. } => host.open(now, self.settings.longest),
            State::HalfOpen { probe } if own_probe == Some(probe) => {
                host.open(now, self.settings.longest);
            }
            // Sent before it opened: this is no news.
            State::HalfOpen { .. } | State::Open { .. } => {}
        }
    }

    fn succeed(&self, name: &str, own_probe: Option<u64>) {
        let mut hosts = self.hosts.lock();
        let well = match hosts.by_name.get(name).map(|host| host.state) {
            None | Some(State::Open { .. }) => false,
            Some(State::Closed { .. }) => true,
            Some(State::HalfOpen { probe }) => own_probe == Some(probe),
        };
        if well {
            hosts.by_name.remove(name);
        }
    }

    /// Lets another request be the probe.
    fn give_up(&self, name: &str, own_probe: u64) {
        let mut hosts = self.hosts.lock();
        if let Some(host) = hosts.by_name.get_mut(name)
            && host.state == (State::HalfOpen { probe: own_probe })
        {
            host.state = State::Open {
                until: Instant::now(),
            };
        }
    }
}

impl Hosts {
    /// Forgets the host whose failure is the longest ago, first of those that are
    /// not being left alone.
    fn make_room(&mut self, most: usize) {
        if self.by_name.len() < most {
            return;
        }
        let oldest = self
            .by_name
            .iter()
            .min_by_key(|(_, host)| (!matches!(host.state, State::Closed { .. }), host.failed_at))
            .map(|(name, _)| name.clone());
        if let Some(name) = oldest {
            self.by_name.remove(&name);
        }
    }
}

impl Host {
    /// The time is spread, so that hosts that fell together do not rise together.
    fn open(&mut self, now: Instant, longest: Duration) {
        let wait = self.cool_down.mul_f64(rand::rng().random_range(0.5..1.5));
        self.state = State::Open { until: now + wait };
        self.cool_down = (self.cool_down * 2).min(longest);
    }
}

/// Leave to call a host once. Dropped without a word it counts as neither.
#[derive(Debug)]
#[must_use]
pub(crate) struct Permit {
    breaker: Breaker,
    host: Box<str>,
    probe: Option<u64>,
}

impl Permit {
    pub(crate) fn succeeded(self) {
        self.breaker.succeed(&self.host, self.probe);
    }

    pub(crate) fn failed(self) {
        self.breaker.fail(&self.host, self.probe);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        // After a word the probe is over, and this finds nothing to free.
        if let Some(probe) = self.probe {
            self.breaker.give_up(&self.host, probe);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const COOL_DOWN: Duration = Duration::from_secs(10);

    fn breaker(hosts: usize) -> Breaker {
        Breaker::new(BreakerSettings {
            failures: 3,
            cool_down: COOL_DOWN,
            longest: COOL_DOWN * 4,
            hosts,
        })
    }

    fn fail(breaker: &Breaker, host: &str, times: u32) {
        for _ in 0..times {
            breaker.enter(host).unwrap().failed();
        }
    }

    fn wait(breaker: &Breaker, host: &str) -> Duration {
        breaker.enter(host).unwrap_err().retry_after
    }

    #[tokio::test(start_paused = true)]
    async fn it_opens_after_failures_in_a_row_and_only_for_that_host() {
        let breaker = breaker(10);
        fail(&breaker, "a", 2);
        breaker.enter("a").unwrap().succeeded();
        fail(&breaker, "a", 2);
        assert!(breaker.enter("a").is_ok());
        fail(&breaker, "a", 1);
        let wait = wait(&breaker, "a");
        assert!(
            wait >= COOL_DOWN / 2 && wait < COOL_DOWN * 3 / 2,
            "{wait:?}"
        );
        assert!(breaker.enter("b").is_ok());
        assert_eq!(breaker.open_hosts(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn one_probe_decides() {
        let breaker = breaker(10);
        fail(&breaker, "a", 3);
        advance(wait(&breaker, "a")).await;
        let probe = breaker.enter("a").unwrap();
        assert_eq!(wait(&breaker, "a"), COOL_DOWN);
        probe.succeeded();
        assert_eq!(breaker.open_hosts(), 0);
        let (one, two) = (breaker.enter("a").unwrap(), breaker.enter("a").unwrap());
        one.succeeded();
        two.succeeded();
        assert!(breaker.hosts.lock().by_name.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn each_failed_probe_doubles_the_wait_up_to_the_longest() {
        let breaker = breaker(10);
        fail(&breaker, "a", 3);
        for times in [1, 2, 4, 4, 4] {
            let wait = wait(&breaker, "a");
            let mean = COOL_DOWN * times;
            assert!(wait >= mean / 2 && wait < mean * 3 / 2, "{times}: {wait:?}");
            advance(wait).await;
            breaker.enter("a").unwrap().failed();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_probe_frees_its_place() {
        let breaker = breaker(10);
        fail(&breaker, "a", 3);
        advance(wait(&breaker, "a")).await;
        drop(breaker.enter("a").unwrap());
        let probe = breaker.enter("a").unwrap();
        assert!(breaker.enter("a").is_err());
        drop(probe);
        drop(breaker.enter("a").unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_sent_before_it_opened_decides_nothing() {
        let breaker = breaker(10);
        let (early, late) = (breaker.enter("a").unwrap(), breaker.enter("a").unwrap());
        let dropped = breaker.enter("a").unwrap();
        fail(&breaker, "a", 3);
        early.succeeded();
        assert!(breaker.enter("a").is_err());
        advance(wait(&breaker, "a")).await;
        let probe = breaker.enter("a").unwrap();
        late.failed();
        drop(dropped);
        assert!(breaker.enter("a").is_err());
        probe.succeeded();
        assert!(breaker.enter("a").is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn the_number_of_hosts_is_bounded_and_open_ones_stay_longest() {
        let breaker = breaker(100);
        fail(&breaker, "open", 3);
        for host in 0..1_000 {
            advance(Duration::from_millis(1)).await;
            fail(&breaker, &host.to_string(), 1);
        }
        assert_eq!(breaker.hosts.lock().by_name.len(), 100);
        assert!(breaker.enter("open").is_err());
    }
}
