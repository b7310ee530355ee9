//! Where the sun stands, and what it gives under a clear sky.

use std::f64::consts::TAU;

use time::OffsetDateTime;

/// The sine of the sun's elevation above the horizon of a place; negative at
/// night. Declination and equation of time after Spencer 1971, right to a
/// quarter of a degree.
pub(super) fn elevation_sine(latitude: f64, longitude: f64, at: OffsetDateTime) -> f64 {
    let minutes =
        f64::from(at.hour()) * 60.0 + f64::from(at.minute()) + f64::from(at.second()) / 60.0;
    let year = TAU * (f64::from(at.ordinal()) - 1.0 + minutes / 1440.0) / 365.25;
    let declination = 0.006_918 - 0.399_912 * year.cos() + 0.070_257 * year.sin()
        - 0.006_758 * (2.0 * year).cos()
        + 0.000_907 * (2.0 * year).sin()
        - 0.002_697 * (3.0 * year).cos()
        + 0.001_48 * (3.0 * year).sin();
    let equation_minutes = 229.18
        * (0.000_075 + 0.001_868 * year.cos()
            - 0.032_077 * year.sin()
            - 0.014_615 * (2.0 * year).cos()
            - 0.040_849 * (2.0 * year).sin());
    let hour_angle = (minutes + equation_minutes + 4.0 * longitude - 720.0) / 1440.0 * TAU;
    let latitude = latitude.to_radians();
    latitude.sin() * declination.sin() + latitude.cos() * declination.cos() * hour_angle.cos()
}

/// Irradiance on level ground under a clear sky, in W/m² (Haurwitz 1945).
pub(super) fn clear_sky(elevation_sine: f64) -> f64 {
    if elevation_sine <= 0.0 {
        return 0.0;
    }
    1098.0 * elevation_sine * (-0.057 / elevation_sine).exp()
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    fn check(latitude: f64, longitude: f64, at: OffsetDateTime, elevation_degrees: f64) {
        let elevation = elevation_sine(latitude, longitude, at).asin().to_degrees();
        assert!(
            (elevation - elevation_degrees).abs() < 0.6,
            "{at}: {elevation}"
        );
    }

    #[test]
    fn the_sun_stands_where_it_should() {
        // Zenith less latitude at the equinox, ± 23.44° at the solstices, at solar noon.
        check(0.0, 0.0, datetime!(2026-03-20 12:07 UTC), 90.0);
        check(40.0, 0.0, datetime!(2026-06-21 12:02 UTC), 73.4);
        check(40.0, 0.0, datetime!(2026-12-21 11:58 UTC), 26.6);
        // Fifteen degrees an hour: noon comes earlier in the east.
        check(40.0, 30.0, datetime!(2026-06-21 10:02 UTC), 73.4);
        check(52.0, 0.0, datetime!(2026-06-21 00:02 UTC), -14.6);
    }

    #[test]
    fn a_clear_sky_gives_less_the_lower_the_sun() {
        assert_eq!(clear_sky(-0.1), 0.0);
        assert!(clear_sky(0.05) < 30.0);
        assert!((950.0..1050.0).contains(&clear_sky(0.95)));
    }
}
