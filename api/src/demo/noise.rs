//! Smooth random curves that are a pure function of their seed and of time, so
//! that the weather of any hour can be computed without that of the hours before.

use std::f64::consts::TAU;

/// One random curve: draws of a normal distribution, `scale_hours` apart, with a
/// smooth line through them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Noise {
    seed: u64,
    scale_hours: f64,
}

impl Noise {
    pub(super) fn new(seed: u64, scale_hours: f64) -> Self {
        Self { seed, scale_hours }
    }

    /// Its value at an hour since 1970; mean 0, variance somewhat below 1.
    pub(super) fn at(self, hours: f64) -> f64 {
        let place = hours / self.scale_hours;
        let before = place.floor();
        let t = place - before;
        let draw = |offset: i64| normal(mix(self.seed, (before as i64 + offset) as u64));
        // Catmull-Rom: through each draw, with the slope between its neighbours.
        let [p0, p1, p2, p3] = [draw(-1), draw(0), draw(1), draw(2)];
        let bend = 2.0 * p0 - 5.0 * p1 + 4.0 * p2 - p3;
        let twist = 3.0 * (p1 - p2) + p3 - p0;
        p1 + 0.5 * t * (p2 - p0 + t * (bend + t * twist))
    }
}

/// A seed made of a seed and a part: another part gives an unrelated one.
/// SplitMix64, Steele et al. 2014, "Fast splittable pseudorandom number generators".
pub(super) fn mix(seed: u64, part: u64) -> u64 {
    let mut z = seed ^ part.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A draw of the standard normal distribution (Box and Muller 1958).
fn normal(seed: u64) -> f64 {
    let uniform = |bits: u64| ((bits >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    let radius = (-2.0 * uniform(mix(seed, 1)).ln()).sqrt();
    radius * (TAU * uniform(mix(seed, 2))).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_a_function_of_seed_and_time() {
        let noise = Noise::new(7, 6.0);
        assert_eq!(noise.at(1000.25), Noise::new(7, 6.0).at(1000.25));
        assert_ne!(noise.at(1000.25), Noise::new(8, 6.0).at(1000.25));
    }

    #[test]
    fn is_smooth_and_centred() {
        let noise = Noise::new(42, 6.0);
        let values: Vec<f64> = (0..60_000).map(|i| noise.at(f64::from(i) * 0.1)).collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64;
        assert!(mean.abs() < 0.1, "{mean}");
        assert!((0.5..1.1).contains(&variance), "{variance}");
        let step = values
            .windows(2)
            .map(|w| (w[1] - w[0]).abs())
            .fold(0.0, f64::max);
        assert!(step < 0.25, "{step}");
    }
}
