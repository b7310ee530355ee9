//! When a value was issued, where the file does not say.

use std::str::FromStr;

use jiff::civil::Time;
use jiff::{Span, Timestamp};
use thiserror::Error;

use super::zone::Zone;

/// How the issue time of a column's values follows from their delivery start.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum IssueRule {
    /// At a local time of the delivery day, or of one some days before it. The
    /// delivery day is the zone's date at the delivery start.
    LocalDay {
        days_before: u16,
        at: Time,
        zone: Zone,
    },
    /// So many seconds before the delivery period begins.
    Before { seconds: i64 },
    /// The file does say, in this column.
    Column { name: String },
}

/// The text is no rule.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum ParseIssueRuleError {
    #[error(
        "`{0}` is no rule for issue times: write `day before at 18:00 Europe/Madrid`, `same day at 06:00 UTC`, `2 days before at 12:00 UTC`, `5 h before delivery`, `15 min before delivery`, `at delivery`, or `column NAME`"
    )]
    Form(String),
    #[error("`{0}` is not a time of day such as 18:00")]
    Time(String),
    #[error(transparent)]
    Zone(#[from] super::zone::ParseZoneError),
}

impl FromStr for IssueRule {
    type Err = ParseIssueRuleError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let form = || ParseIssueRuleError::Form(text.to_owned());
        if let Some(name) = text.strip_prefix("column ") {
            let name = name.trim().to_owned();
            return Ok(Self::Column { name });
        }
        let words: Vec<&str> = text.split_whitespace().collect();
        let number = |word: &str| word.parse::<u16>().map_err(|_| form());
        let local_day = |days_before: u16, at: &str, zone: &str| {
            Ok(Self::LocalDay {
                days_before,
                at: Time::strptime("%H:%M", at)
                    .map_err(|_| ParseIssueRuleError::Time(at.to_owned()))?,
                zone: zone.parse()?,
            })
        };
        let before = |count: &str, unit_seconds: i64| {
            Ok(Self::Before {
                seconds: i64::from(number(count)?) * unit_seconds,
            })
        };
        match words.as_slice() {
            ["at", "delivery"] => Ok(Self::Before { seconds: 0 }),
            [count, "h", "before", "delivery"] => before(count, 3600),
            [count, "min", "before", "delivery"] => before(count, 60),
            ["same", "day", "at", at, zone] => local_day(0, at, zone),
            ["day", "before", "at", at, zone] => local_day(1, at, zone),
            [count, "days", "before", "at", at, zone] => local_day(number(count)?, at, zone),
            _ => Err(form()),
        }
    }
}

/// Derives issue times by a rule.
pub(super) struct IssueClock<'a> {
    rule: &'a IssueRule,
    /// The local day that was asked for last: its first second, the next
    /// day's, and its issue time.
    day: Option<(i64, i64, Timestamp)>,
}

impl<'a> IssueClock<'a> {
    pub(super) fn new(rule: &'a IssueRule) -> Self {
        Self { rule, day: None }
    }

    /// When a value of the delivery period that begins then was issued; none
    /// if a column of the file says it, or no calendar reaches that far.
    pub(super) fn issued_at(&mut self, delivery_start: Timestamp) -> Option<Timestamp> {
        match self.rule {
            IssueRule::Column { .. } => None,
            IssueRule::Before { seconds } => {
                Timestamp::from_second(delivery_start.as_second() - seconds).ok()
            }
            IssueRule::LocalDay {
                days_before,
                at,
                zone,
            } => {
                let second = delivery_start.as_second();
                if let Some((from, to, issued_at)) = self.day
                    && (from..to).contains(&second)
                {
                    return Some(issued_at);
                }
                let delivery_day = delivery_start.to_zoned(zone.tz.clone());
                let from = delivery_day.start_of_day().ok()?;
                let to = delivery_day.tomorrow().ok()?.start_of_day().ok()?;
                let issue_day = from
                    .date()
                    .checked_sub(Span::new().days(i64::from(*days_before)))
                    .ok()?;
                // A time that clocks skip is taken an hour later, one that comes
                // twice as its first: as everybody's alarm clock does.
                let issued_at = zone
                    .tz
                    .to_ambiguous_timestamp(issue_day.to_datetime(*at))
                    .compatible()
                    .ok()?;
                self.day = Some((
                    from.timestamp().as_second(),
                    to.timestamp().as_second(),
                    issued_at,
                ));
                Some(issued_at)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rule: &str, delivery_start: &str, expect: &str) {
        let rule: IssueRule = rule.parse().unwrap();
        let mut clock = IssueClock::new(&rule);
        // The second answer may come from memory.
        for _ in 0..2 {
            let issued_at = clock.issued_at(delivery_start.parse().unwrap()).unwrap();
            assert_eq!(issued_at.to_string(), expect, "{delivery_start}");
        }
    }

    #[test]
    fn derives_issue_times() {
        let eve = "day before at 18:00 Europe/Copenhagen";
        check(eve, "2024-03-01T00:00:00Z", "2024-02-29T17:00:00Z");
        // The day before in Denmark, though not in UTC.
        check(eve, "2024-02-29T22:00:00Z", "2024-02-28T17:00:00Z");
        check(eve, "2024-02-29T23:00:00Z", "2024-02-29T17:00:00Z");
        // First and last hour of the days of 23 and 25 hours, and their neighbours.
        check(eve, "2024-03-30T22:00:00Z", "2024-03-29T17:00:00Z");
        check(eve, "2024-03-30T23:00:00Z", "2024-03-30T17:00:00Z");
        check(eve, "2024-03-31T21:00:00Z", "2024-03-30T17:00:00Z");
        check(eve, "2024-03-31T22:00:00Z", "2024-03-31T16:00:00Z");
        check(eve, "2024-10-26T22:00:00Z", "2024-10-26T16:00:00Z");
        check(eve, "2024-10-27T22:00:00Z", "2024-10-26T16:00:00Z");
        check(eve, "2024-10-27T23:00:00Z", "2024-10-27T17:00:00Z");

        let morning = "same day at 06:00 Europe/Copenhagen";
        check(morning, "2024-03-01T12:00:00Z", "2024-03-01T05:00:00Z");
        check(
            "2 days before at 12:30 UTC",
            "2024-03-01T23:59:00Z",
            "2024-02-28T12:30:00Z",
        );
        check(
            "5 h before delivery",
            "2024-03-01T03:00:00Z",
            "2024-02-29T22:00:00Z",
        );
        check(
            "15 min before delivery",
            "2024-03-01T00:00:00Z",
            "2024-02-29T23:45:00Z",
        );
        check(
            "at delivery",
            "2024-03-01T03:00:00Z",
            "2024-03-01T03:00:00Z",
        );
    }

    #[test]
    fn a_skipped_or_repeated_issue_time_is_as_alarm_clocks_have_it() {
        let rule = "same day at 02:30 Europe/Copenhagen";
        check(rule, "2024-03-31T10:00:00Z", "2024-03-31T01:30:00Z");
        check(rule, "2024-10-27T10:00:00Z", "2024-10-27T00:30:00Z");
    }

    #[test]
    fn a_day_in_memory_answers_for_itself_only() {
        let rule: IssueRule = "day before at 18:00 Europe/Copenhagen".parse().unwrap();
        let mut clock = IssueClock::new(&rule);
        let fresh = |at: &str| IssueClock::new(&rule).issued_at(at.parse().unwrap());
        for at in [
            "2024-03-30T22:59:00Z",
            "2024-03-30T23:00:00Z",
            "2024-03-31T21:59:00Z",
            "2024-03-31T22:00:00Z",
            "2024-03-30T23:00:00Z",
        ] {
            assert_eq!(clock.issued_at(at.parse().unwrap()), fresh(at), "{at}");
        }
    }

    #[test]
    fn reads_a_column_as_a_rule() {
        let rule: IssueRule = "column Timestamp UTC".parse().unwrap();
        assert_eq!(
            rule,
            IssueRule::Column {
                name: "Timestamp UTC".into()
            }
        );
    }

    #[test]
    fn refuses_anything_else() {
        for text in [
            "",
            "yesterday",
            "day before at 18:00",
            "day before at 24:30 UTC",
            "day before at 18 UTC",
            "day before at 18:00 Europe/Atlantis",
            "5 hours before delivery",
            "-5 h before delivery",
            "5 h after delivery",
        ] {
            assert!(text.parse::<IssueRule>().is_err(), "{text}");
        }
    }
}
