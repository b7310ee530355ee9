//! When a delivery that failed is tried again.

use std::time::Duration;

use domain::notification::Channel;
use rand::{Rng, RngExt};

const fn minutes(count: u64) -> Duration {
    Duration::from_secs(count * 60)
}

const fn hours(count: u64) -> Duration {
    minutes(count * 60)
}

/// The waits that Standard Webhooks recommends, ten attempts over three days and a
/// little (75 to 95 hours): an integration that broke on a Friday evening is mended
/// on Monday.
const WEBHOOK: [Duration; 9] = [
    Duration::from_secs(5),
    minutes(5),
    minutes(30),
    hours(2),
    hours(5),
    hours(10),
    hours(14),
    hours(20),
    hours(24),
];

/// Waits that double from a first to a longest, for so many attempts. They are the
/// most: chance takes up to half of each.
struct Doubling {
    first: Duration,
    longest: Duration,
    attempts: u32,
}

/// About three hours (two to four): what woke a phone that late would only annoy.
const PUSH: Doubling = Doubling {
    first: minutes(1),
    longest: hours(1),
    attempts: 10,
};

/// About six hours (four to eight): greylisting lets a mail in after minutes, an
/// outage ends within a shift.
const EMAIL: Doubling = Doubling {
    first: minutes(1),
    longest: hours(2),
    attempts: 11,
};

/// No wait is shorter, whatever chance says: the other side gets time to breathe.
const SHORTEST: Duration = Duration::from_secs(1);

/// How long to wait after the `attempt`th attempt failed, the first being 1; `None`
/// if it was the last. `retry_after` is what the other side asked for, and is kept.
pub(crate) fn next_attempt(
    channel: Channel,
    attempt: u32,
    retry_after: Option<Duration>,
    rng: &mut impl Rng,
) -> Option<Duration> {
    let wait = match channel {
        // The database has it: there is nothing to fail.
        Channel::InApp => return None,
        Channel::Email => EMAIL.after(attempt, rng)?,
        Channel::WebPush | Channel::Fcm => PUSH.after(attempt, rng)?,
        // Never sooner than receivers are told, and spread by a little.
        Channel::Webhook => {
            let index = usize::try_from(attempt.max(1) - 1).ok()?;
            WEBHOOK.get(index)?.mul_f64(rng.random_range(1.0..=1.25))
        }
    };
    // All that were told the same would otherwise come back at once.
    let asked = retry_after.map(|wait| wait.mul_f64(rng.random_range(1.0..1.1)));
    Some(wait.max(asked.unwrap_or_default()).max(SHORTEST))
}

impl Doubling {
    /// Half of the wait and any time up to the whole (equal jitter): it spreads a
    /// burst, and chance alone cannot use the attempts up long before their time.
    fn after(&self, attempt: u32, rng: &mut impl Rng) -> Option<Duration> {
        if attempt >= self.attempts {
            return None;
        }
        let wait = self
            .first
            .saturating_mul(2_u32.saturating_pow(attempt.saturating_sub(1)))
            .min(self.longest);
        Some(wait.mul_f64(rng.random_range(0.5..=1.0)))
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn webhooks_are_tried_ten_times_over_three_days() {
        let mut rng = StdRng::seed_from_u64(1);
        let waits: Vec<Duration> = (1..)
            .map_while(|attempt| next_attempt(Channel::Webhook, attempt, None, &mut rng))
            .collect();
        assert_eq!(waits.len(), 9);
        for (wait, recommended) in waits.iter().zip(WEBHOOK) {
            assert!(*wait >= recommended && *wait <= recommended.mul_f64(1.25));
        }
        let least: Duration = WEBHOOK.iter().sum();
        assert!(least > hours(75) && least.mul_f64(1.25) < hours(95));
    }

    #[test]
    fn the_others_wait_up_to_twice_as_long_each_time_for_some_hours() {
        let mut rng = StdRng::seed_from_u64(2);
        for (channel, waits, about) in [
            (Channel::WebPush, &PUSH, hours(3)),
            (Channel::Fcm, &PUSH, hours(3)),
            (Channel::Email, &EMAIL, hours(6)),
        ] {
            let mut most = Duration::ZERO;
            for attempt in 1..waits.attempts {
                let limit = waits
                    .first
                    .saturating_mul(1 << (attempt - 1))
                    .min(waits.longest);
                most += limit;
                for _ in 0..100 {
                    let wait = next_attempt(channel, attempt, None, &mut rng).unwrap();
                    assert!(
                        wait >= limit / 2 && wait <= limit,
                        "{channel} {attempt}: {wait:?}"
                    );
                }
            }
            let mean = most.mul_f64(0.75);
            assert!(mean.abs_diff(about) < minutes(10), "{channel}: {mean:?}");
            assert_eq!(next_attempt(channel, waits.attempts, None, &mut rng), None);
            assert_eq!(next_attempt(channel, u32::MAX, None, &mut rng), None);
        }
        assert_eq!(next_attempt(Channel::InApp, 1, None, &mut rng), None);
    }

    #[test]
    fn nobody_comes_back_sooner_than_asked() {
        let mut rng = StdRng::seed_from_u64(3);
        for channel in Channel::OUTBOUND {
            let asked = hours(6);
            for _ in 0..100 {
                let wait = next_attempt(channel, 1, Some(asked), &mut rng).unwrap();
                assert!(
                    wait >= asked && wait <= asked.mul_f64(1.1),
                    "{channel}: {wait:?}"
                );
            }
            assert_eq!(next_attempt(channel, 11, Some(asked), &mut rng), None);
        }
    }
}
