//! Clouds and wind over a place: what really comes, and what a provider
//! believes will come.

use super::noise::{Noise, mix};

/// The weather of a site: curves that it shares with its region, and its own.
#[derive(Debug, Clone, Copy)]
pub(super) struct Weather {
    cloud: Field,
    wind: Field,
}

/// What a place has at a moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Conditions {
    /// Share of the sky that clouds cover, 0 to 1.
    pub(super) cloud_cover: f64,
    /// How much stronger than usual the wind blows, as a factor.
    pub(super) wind_factor: f64,
}

/// How wrong somebody is about the weather, in standard deviations of it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Deviation {
    pub(super) cloud: f64,
    pub(super) wind: f64,
}

impl Weather {
    pub(super) fn new(seed: u64, region: u64, site: u64) -> Self {
        let field =
            |what: u64| Field::new(mix(mix(seed, what), region), mix(mix(seed, what), site));
        Self {
            cloud: field(0xc10d),
            wind: field(0x0111d),
        }
    }

    pub(super) fn at(&self, hours: f64, deviation: Deviation) -> Conditions {
        let cloud = self.cloud.at(hours) + deviation.cloud;
        let wind = self.wind.at(hours) + deviation.wind;
        Conditions {
            // A logistic curve: mostly rather clear or rather covered.
            cloud_cover: 1.0 / (1.0 + (-1.8 * (cloud - 0.2)).exp()),
            // Log-normal with a mean near 1.
            wind_factor: (0.45 * wind - 0.1).exp(),
        }
    }
}

/// A curve of mean 0 and variance near 1: fronts of days that a region shares,
/// and hours that a site has for itself.
#[derive(Debug, Clone, Copy)]
struct Field {
    fronts: Noise,
    spells: Noise,
    site: Noise,
}

impl Field {
    fn new(region: u64, site: u64) -> Self {
        Self {
            fronts: Noise::new(mix(region, 1), 30.0),
            spells: Noise::new(mix(region, 2), 9.0),
            site: Noise::new(mix(site, 3), 4.0),
        }
    }

    fn at(&self, hours: f64) -> f64 {
        0.85 * self.fronts.at(hours) + 0.5 * self.spells.at(hours) + 0.35 * self.site.at(hours)
    }
}
