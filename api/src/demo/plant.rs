//! What a plant makes of the weather.

use time::{Duration, OffsetDateTime};

use super::portfolio::{Plant, Technology};
use super::sun;
use super::weather::{Conditions, Deviation, Weather};

/// Moments of a delivery period whose mean power stands for it.
const SAMPLES: i32 = 4;

/// The energy of a delivery period, in MWh, under the weather as `deviation`
/// has it: none is what really comes.
pub(super) fn energy_mwh(
    plant: &Plant,
    weather: &Weather,
    delivery_start: OffsetDateTime,
    length: Duration,
    deviation: Deviation,
) -> f64 {
    let mean_mw = (0..SAMPLES)
        .map(|i| {
            let at = delivery_start + length * (2 * i + 1) / (2 * SAMPLES);
            power_mw(plant, at, weather.at(hours(at), deviation))
        })
        .sum::<f64>()
        / f64::from(SAMPLES);
    let mwh = mean_mw * length.as_seconds_f64() / 3600.0;
    (mwh * 1000.0).round() / 1000.0
}

/// Hours since 1970.
pub(super) fn hours(at: OffsetDateTime) -> f64 {
    at.unix_timestamp() as f64 / 3600.0
}

fn power_mw(plant: &Plant, at: OffsetDateTime, conditions: Conditions) -> f64 {
    let share = match plant.technology {
        Technology::Solar => {
            let clear = sun::clear_sky(sun::elevation_sine(plant.latitude, plant.longitude, at));
            // Kasten and Czeplak 1980; then modules warm, inverters convert.
            let irradiance = clear * (1.0 - 0.75 * conditions.cloud_cover.powf(3.4));
            (0.9 * irradiance / 1000.0).min(1.0)
        }
        Technology::Wind { mean_speed } => {
            // Stronger in winter, and a little in the afternoon.
            let year = std::f64::consts::TAU * f64::from(at.ordinal()) / 365.25;
            let local_hour = f64::from(at.hour()) + plant.longitude / 15.0;
            let day = std::f64::consts::TAU * (local_hour - 16.0) / 24.0;
            let usual = mean_speed * (1.0 + 0.12 * year.cos()) * (1.0 + 0.05 * day.cos());
            0.97 * turbine_share(usual * conditions.wind_factor)
        }
    };
    plant.capacity_mw * share
}

/// The share of its capacity that a turbine gives at a wind speed in m/s.
fn turbine_share(speed: f64) -> f64 {
    const CUT_IN: f64 = 3.0;
    const RATED: f64 = 12.5;
    const CUT_OUT: f64 = 25.0;
    if speed <= CUT_IN {
        0.0
    } else if speed < RATED {
        // The energy of wind grows with the cube of its speed.
        (speed.powi(3) - CUT_IN.powi(3)) / (RATED.powi(3) - CUT_IN.powi(3))
    } else {
        // Turbines of a park cut out one after the other.
        (1.0 - (speed - CUT_OUT) / 3.0).clamp(0.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::super::portfolio;
    use super::*;

    #[test]
    fn a_turbine_follows_its_power_curve() {
        for (speed, share) in [
            (2.0, 0.0),
            (3.0, 0.0),
            (12.5, 1.0),
            (20.0, 1.0),
            (30.0, 0.0),
        ] {
            assert_eq!(turbine_share(speed), share, "{speed} m/s");
        }
        let rising: Vec<f64> = (3..=12).map(|v| turbine_share(f64::from(v))).collect();
        assert!(rising.is_sorted(), "{rising:?}");
    }

    #[test]
    fn plants_stay_within_capacity_and_the_sun_sets() {
        let hour = Duration::HOUR;
        for (i, plant) in portfolio::PLANTS.iter().enumerate() {
            let weather = Weather::new(1, plant.region, i as u64);
            let year: Vec<f64> = (0..365 * 24)
                .map(|h| {
                    let at = datetime!(2026-01-01 0:00 UTC) + hour * h;
                    energy_mwh(plant, &weather, at, hour, Deviation::default())
                })
                .collect();
            assert!(
                year.iter()
                    .all(|mwh| (0.0..=plant.capacity_mw).contains(mwh))
            );
            let capacity_factor = year.iter().sum::<f64>() / 8760.0 / plant.capacity_mw;
            let usual = match plant.technology {
                Technology::Solar => 0.08..0.26,
                Technology::Wind { .. } => 0.15..0.6,
            };
            assert!(
                usual.contains(&capacity_factor),
                "{}: {capacity_factor}",
                plant.name
            );
            if matches!(plant.technology, Technology::Solar) {
                let dark = year.iter().filter(|mwh| **mwh == 0.0).count();
                assert!(dark > 3500, "{}: {dark} dark hours", plant.name);
            }
        }
    }
}
