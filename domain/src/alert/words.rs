//! What people read: figures, times and spans.

use time::{Duration, OffsetDateTime};

/// A figure with as many places as anybody needs.
pub(super) fn figure(value: f64) -> String {
    let places = match value.abs() {
        from_hundred if from_hundred >= 100.0 => 0,
        from_one if from_one >= 1.0 => 1,
        _ => 3,
    };
    let text = format!("{value:.places$}");
    let text = match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => &text,
    };
    match text {
        "-0" => "0".into(),
        text => text.to_owned(),
    }
}

/// A figure that says in which direction.
pub(super) fn signed(value: f64) -> String {
    match figure(value) {
        text if value > 0.0 => format!("+{text}"),
        text => text,
    }
}

/// A moment as the unit's people read it, in their zone.
pub(super) fn moment(seconds: i64, time_zone: &str) -> String {
    let zone = jiff::tz::TimeZone::get(time_zone).unwrap_or(jiff::tz::TimeZone::UTC);
    let at = jiff::Timestamp::from_second(seconds).unwrap_or_default();
    at.to_zoned(zone).strftime("%Y-%m-%d %H:%M %:z").to_string()
}

/// The same of an instant.
pub(super) fn instant(at: OffsetDateTime, time_zone: &str) -> String {
    moment(at.unix_timestamp(), time_zone)
}

/// How long something has lasted.
pub(super) fn span(span: Duration) -> String {
    let minutes = span.whole_minutes();
    match (minutes / 60, minutes % 60) {
        (0, minutes) => format!("{minutes} min"),
        (hours, 0) => format!("{hours} h"),
        (hours, minutes) => format!("{hours} h {minutes} min"),
    }
}

/// Some text as a line of at most so many characters.
pub(super) fn line(text: &str, most: usize) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    if text.chars().count() <= most {
        return text.chars().map(plain).collect();
    }
    let mut cut: String = text.chars().map(plain).take(most - 1).collect();
    cut.push('…');
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_the_places_that_matter() {
        for (value, expect) in [
            (1234.5678, "1235"),
            (100.0, "100"),
            (12.4, "12.4"),
            (12.04, "12"),
            (-18.26, "-18.3"),
            (0.1256, "0.126"),
            (0.5, "0.5"),
            (0.0, "0"),
            (-0.0001, "0"),
        ] {
            assert_eq!(figure(value), expect, "{value}");
        }
        assert_eq!((signed(2.0).as_str(), signed(-2.0).as_str()), ("+2", "-2"));
    }

    #[test]
    fn spans_and_moments_read_well() {
        assert_eq!(span(Duration::minutes(75)), "1 h 15 min");
        assert_eq!(span(Duration::minutes(120)), "2 h");
        assert_eq!(span(Duration::seconds(200)), "3 min");
        assert_eq!(
            moment(1_718_442_000, "Europe/Istanbul"),
            "2024-06-15 12:00 +03:00"
        );
        assert_eq!(moment(1_718_442_000, "Nowhere"), "2024-06-15 09:00 +00:00");
        assert_eq!(line("a\nb", 10), "a b");
        assert_eq!(line("abcdef", 4), "abc…");
    }
}
