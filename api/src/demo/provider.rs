//! What a provider believes at a moment about a delivery period: the weather
//! that comes, and an error that shrinks as delivery comes near.

use time::{Duration, OffsetDateTime};

use super::noise::{Noise, mix};
use super::plant::{energy_mwh, hours};
use super::portfolio::{Plant, Provider, Schedule};
use super::weather::{Deviation, Weather};

/// A plant's values in one run of a schedule: MWh of each delivery period from
/// the first that begins at or after `issued_at`.
pub(super) fn forecast(
    seed: u64,
    plant: &Plant,
    schedule: &Schedule,
    issued_at: OffsetDateTime,
) -> (OffsetDateTime, Vec<f64>) {
    let step = schedule.resolution.seconds();
    let first = issued_at.unix_timestamp().div_euclid(step) + 1;
    let start = OffsetDateTime::from_unix_timestamp(first * step).unwrap_or(issued_at);
    let length = Duration::seconds(step);
    let count = schedule.horizon_hours * 3600 / step;
    let weather = Weather::new(seed, plant.region, u64::from(plant.number));
    let error = Error::new(seed, plant, schedule.provider, issued_at);
    let values = (0..count).map(|i| {
        let at = start + Duration::seconds(i * step);
        energy_mwh(plant, &weather, at, length, error.at(at))
    });
    (start, values.collect())
}

/// How a run errs about a plant's weather.
struct Error {
    issued_at: OffsetDateTime,
    /// Standard deviation a day ahead.
    size: f64,
    bias: f64,
    cloud: Belief,
    wind: Belief,
}

impl Error {
    fn new(seed: u64, plant: &Plant, provider: &Provider, issued_at: OffsetDateTime) -> Self {
        let named = provider
            .key
            .bytes()
            .fold(seed, |of, byte| mix(of, u64::from(byte)));
        let of = mix(named, u64::from(plant.number));
        let run = issued_at.unix_timestamp().cast_unsigned();
        Self {
            issued_at,
            size: provider.error,
            bias: provider.bias,
            cloud: Belief::new(mix(of, 1), run),
            wind: Belief::new(mix(of, 2), run),
        }
    }

    fn at(&self, delivery_start: OffsetDateTime) -> Deviation {
        let lead_hours = (delivery_start - self.issued_at).as_seconds_f64() / 3600.0;
        // As a random walk's: with the root of the time ahead, up to a limit.
        let growth = (lead_hours.max(0.0) / 24.0).sqrt().min(1.5);
        let hours = hours(delivery_start);
        Deviation {
            cloud: growth * (self.size * self.cloud.at(hours) - self.bias),
            wind: growth * (self.size * self.wind.at(hours) + self.bias),
        }
    }
}

/// What a provider is wrong about whichever run it is, and what only this run has.
struct Belief {
    lasting: Noise,
    of_run: Noise,
}

impl Belief {
    fn new(seed: u64, run: u64) -> Self {
        Self {
            lasting: Noise::new(mix(seed, 1), 8.0),
            of_run: Noise::new(mix(mix(seed, 2), run), 5.0),
        }
    }

    fn at(&self, hours: f64) -> f64 {
        0.85 * self.lasting.at(hours) + 0.5 * self.of_run.at(hours)
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::super::portfolio::{PLANTS, PROVIDERS, SCHEDULES};
    use super::*;

    const ISSUED: OffsetDateTime = datetime!(2026-06-01 12:34:56 UTC);

    #[test]
    fn a_run_is_the_same_again_and_another_run_is_not() {
        for schedule in &SCHEDULES {
            let (start, values) = forecast(7, &PLANTS[0], schedule, ISSUED);
            assert!(start > ISSUED && start - ISSUED <= Duration::HOUR);
            let periods = schedule.horizon_hours * 3600 / schedule.resolution.seconds();
            assert_eq!(values.len() as i64, periods);
            assert_eq!(
                (start, values.clone()),
                forecast(7, &PLANTS[0], schedule, ISSUED)
            );
            let later = ISSUED + Duration::SECOND;
            assert_ne!(values, forecast(7, &PLANTS[0], schedule, later).1);
            assert_ne!(values, forecast(8, &PLANTS[0], schedule, ISSUED).1);
        }
    }

    /// The mean absolute error over plants, as a share of their capacity,
    /// `lead` before delivery.
    fn error(provider: usize, lead: Duration) -> f64 {
        let schedule = SCHEDULES
            .iter()
            .find(|s| s.provider.key == PROVIDERS[provider].key && s.resolution.seconds() == 3600);
        let (mut sum, mut count) = (0.0, 0.0);
        for plant in PLANTS.iter().step_by(4) {
            let weather = Weather::new(1, plant.region, u64::from(plant.number));
            for hour in (0..24 * 14).step_by(7) {
                let delivery: OffsetDateTime =
                    datetime!(2026-06-01 0:00 UTC) + Duration::HOUR * hour;
                let issued_at = delivery - lead - Duration::SECOND;
                let (start, values) = forecast(1, plant, schedule.unwrap(), issued_at);
                let place = (delivery - start).whole_hours() as usize;
                let actual = energy_mwh(
                    plant,
                    &weather,
                    delivery,
                    Duration::HOUR,
                    Deviation::default(),
                );
                sum += (values[place] - actual).abs() / plant.capacity_mw;
                count += 1.0;
            }
        }
        sum / count
    }

    #[test]
    fn providers_differ_in_skill_and_converge_on_the_actual() {
        let day: Vec<f64> = (0..3).map(|p| error(p, Duration::hours(24))).collect();
        let hour: Vec<f64> = (0..3).map(|p| error(p, Duration::hours(1))).collect();
        assert!(day[0] < day[1] && day[1] < day[2], "{day:?}");
        for provider in 0..3 {
            assert!(hour[provider] < day[provider] / 2.0, "{hour:?} {day:?}");
        }
        assert!((0.01..0.08).contains(&day[0]), "{day:?}");
    }
}
