//! Quiet hours: when only what is critical leaves the server.

use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use time::OffsetDateTime;

/// Part of a user's local day; over midnight if it ends before it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuietHours {
    /// Minutes since local midnight, 0 to 1439.
    pub from: u16,
    /// Minutes since local midnight, not part of it.
    pub until: u16,
}

impl QuietHours {
    /// When the quiet hours that hold at `now` are over; `None` if none hold. A
    /// zone that is not known counts as UTC: it was one when it was written.
    pub fn end(self, time_zone: &str, now: OffsetDateTime) -> Option<OffsetDateTime> {
        let zone = TimeZone::get(time_zone).unwrap_or(TimeZone::UTC);
        let at = Timestamp::from_second(now.unix_timestamp()).ok()?;
        let local = at.to_zoned(zone.clone());
        let minute = u16::try_from(local.hour()).ok()? * 60 + u16::try_from(local.minute()).ok()?;
        let overnight = self.until < self.from;
        let (is_quiet, ends_tomorrow) = if overnight {
            (
                minute >= self.from || minute < self.until,
                minute >= self.from,
            )
        } else {
            ((self.from..self.until).contains(&minute), false)
        };
        if !is_quiet {
            return None;
        }
        let time = Time::new(
            i8::try_from(self.until / 60).ok()?,
            i8::try_from(self.until % 60).ok()?,
            0,
            0,
        )
        .ok()?;
        let day = if ends_tomorrow {
            local.date().checked_add(Span::new().days(1)).ok()?
        } else {
            local.date()
        };
        // Where clocks are put forward over the end, it is when they go on.
        let end = day.to_datetime(time).to_zoned(zone).ok()?.timestamp();
        let end = OffsetDateTime::from_unix_timestamp(end.as_second()).ok()?;
        // Where they are put back over it, the first of the two may be past.
        Some(end.max(now + time::Duration::minutes(1)))
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn quiet_hours_end_in_the_users_zone() {
        let night = QuietHours {
            from: 22 * 60,
            until: 7 * 60,
        };
        let noon = QuietHours {
            from: 12 * 60,
            until: 13 * 60 + 30,
        };
        for (quiet, zone, now, end) in [
            // Istanbul is at +03:00.
            (
                night,
                "Europe/Istanbul",
                datetime!(2026-06-01 19:00 UTC),
                Some(datetime!(2026-06-02 04:00 UTC)),
            ),
            (
                night,
                "Europe/Istanbul",
                datetime!(2026-06-02 03:59 UTC),
                Some(datetime!(2026-06-02 04:00 UTC)),
            ),
            (
                night,
                "Europe/Istanbul",
                datetime!(2026-06-02 04:00 UTC),
                None,
            ),
            (
                night,
                "Europe/Istanbul",
                datetime!(2026-06-01 18:59 UTC),
                None,
            ),
            (
                noon,
                "UTC",
                datetime!(2026-06-01 12:00 UTC),
                Some(datetime!(2026-06-01 13:30 UTC)),
            ),
            (noon, "UTC", datetime!(2026-06-01 13:30 UTC), None),
            // A night in which Berlin's clocks go forward, and one in which they go back.
            (
                night,
                "Europe/Berlin",
                datetime!(2026-03-28 21:30 UTC),
                Some(datetime!(2026-03-29 05:00 UTC)),
            ),
            (
                night,
                "Europe/Berlin",
                datetime!(2026-10-24 20:30 UTC),
                Some(datetime!(2026-10-25 06:00 UTC)),
            ),
            // The end itself, 02:30, is skipped.
            (
                QuietHours {
                    from: 60,
                    until: 150,
                },
                "Europe/Berlin",
                datetime!(2026-03-29 00:30 UTC),
                Some(datetime!(2026-03-29 01:30 UTC)),
            ),
        ] {
            assert_eq!(quiet.end(zone, now), end, "{quiet:?} {zone} {now}");
        }
    }
}
