//! A rule on revisions: a new run moves a unit.
//!
//! Compared are the delivery periods of the window that had a value before and
//! have one after: what a run gives for the first time revises nothing. *Before*
//! is what was latest without the run, *after* what is latest with it, both in
//! MWh and summed over the members.

use serde::{Deserialize, Serialize};
use serde_json::{Map, json};
use time::{Duration, OffsetDateTime};

use super::firing::{Firing, instant_json, seconds_json};
use super::window::Window;
use super::words;

/// What has to move, and by how much.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Revision {
    /// The periods that begin within so many hours.
    pub hours: u32,
    /// At least so many MWh.
    pub min_mwh: Option<f64>,
    /// At least so many percent.
    pub min_percent: Option<f64>,
    /// Whether both of them must be met, where both are given.
    pub requires: Requires,
    pub percent_of: PercentOf,
    pub measure: Measure,
    pub direction: Direction,
    /// Compares with what had been issued so long before the run, not with what
    /// was latest: a slow slide, or members whose runs come one by one, add up.
    pub accumulate_minutes: u32,
}

/// How an energy and a percentage go together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Requires {
    All,
    Any,
}

/// What a hundred percent are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum PercentOf {
    /// The energy before. Of nothing there is no percentage: it is not met then.
    Before,
    /// What the members could produce in the same periods. Without a capacity it
    /// is not met.
    Capacity,
}

/// Which figure of the window counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Measure {
    /// The change of the energy of the whole window: what is moved from one
    /// period to another comes to nothing.
    Net,
    /// The change of the delivery period that changes most.
    LargestPeriod,
}

/// Which changes count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Direction {
    Both,
    Up,
    Down,
}

/// What the rule remembers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct State {
    /// When the run was issued that it fired at: what had been issued by then
    /// counts no second time.
    #[serde(with = "time::serde::rfc3339::option")]
    pub(super) fired_at_issue: Option<OffsetDateTime>,
}

/// What is known of the window.
pub(super) struct Inputs<'a> {
    pub(super) window: Window,
    pub(super) time_zone: &'a str,
    /// The newest of the runs that are judged.
    pub(super) run: RunOf,
    pub(super) members: Vec<Revised>,
    /// Members there are, with a series or without.
    pub(super) total: usize,
}

/// A run that is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RunOf {
    pub(super) issued_at: OffsetDateTime,
    pub(super) id: i64,
}

/// One member's MWh of each period of the window; `NaN` where there is none.
pub(super) struct Revised {
    pub(super) before: Vec<f64>,
    pub(super) after: Vec<f64>,
    pub(super) capacity_mw: Option<f64>,
}

/// Energies of the same periods, in MWh.
#[derive(Debug, Clone, Copy, Default)]
struct Compared {
    before: f64,
    after: f64,
    /// What could be produced; `NaN` where a capacity is missing.
    possible: f64,
    pairs: usize,
}

impl Compared {
    fn change(&self) -> f64 {
        self.after - self.before
    }
}

/// What sums of doubles may be off by.
const SLACK: f64 = 1e-9;

impl Revision {
    /// What is compared with, if not what was latest before the run.
    pub(super) fn known_at(&self, run: RunOf, state: &State) -> Option<OffsetDateTime> {
        if self.accumulate_minutes == 0 {
            return None;
        }
        let back = run.issued_at - Duration::minutes(i64::from(self.accumulate_minutes));
        Some(state.fired_at_issue.map_or(back, |fired| back.max(fired)))
    }

    pub(super) fn evaluate(&self, inputs: &Inputs<'_>, state: &mut State) -> Option<Firing> {
        let (compared, period) = self.compare(inputs)?;
        let change = compared.change();
        let fits = match self.direction {
            Direction::Both => change != 0.0,
            Direction::Up => change > 0.0,
            Direction::Down => change < 0.0,
        };
        let base = match self.percent_of {
            PercentOf::Before => compared.before.abs(),
            PercentOf::Capacity => compared.possible,
        };
        let percent = (base > SLACK).then(|| 100.0 * change / base);
        if !fits || !self.is_met(change, percent) {
            return None;
        }
        if self.accumulate_minutes > 0 {
            state.fired_at_issue = Some(inputs.run.issued_at);
        }
        Some(self.firing(inputs, compared, period, percent))
    }

    /// What counts of the window, and of which period it is if only of one.
    fn compare(&self, inputs: &Inputs<'_>) -> Option<(Compared, Option<usize>)> {
        let hours = inputs.window.resolution.hours();
        let mut whole = Compared::default();
        let mut largest: Option<(Compared, usize)> = None;
        for period in 0..inputs.window.periods {
            let mut sum = Compared::default();
            for member in &inputs.members {
                let (before, after) = (member.before[period], member.after[period]);
                if before.is_nan() || after.is_nan() {
                    continue;
                }
                sum.before += before;
                sum.after += after;
                sum.possible += member.capacity_mw.map_or(f64::NAN, |mw| mw * hours);
                sum.pairs += 1;
            }
            if sum.pairs == 0 {
                continue;
            }
            whole.before += sum.before;
            whole.after += sum.after;
            whole.possible += sum.possible;
            whole.pairs += sum.pairs;
            if largest.is_none_or(|(most, _)| sum.change().abs() > most.change().abs()) {
                largest = Some((sum, period));
            }
        }
        match self.measure {
            Measure::Net => (whole.pairs > 0).then_some((whole, None)),
            Measure::LargestPeriod => largest.map(|(sum, period)| (sum, Some(period))),
        }
    }

    fn is_met(&self, change: f64, percent: Option<f64>) -> bool {
        let by_mwh = self.min_mwh.map(|least| change.abs() + SLACK >= least);
        let by_percent = self
            .min_percent
            .map(|least| percent.is_some_and(|percent| percent.abs() + SLACK >= least));
        let mut given = by_mwh.into_iter().chain(by_percent);
        match self.requires {
            Requires::All => by_mwh.or(by_percent).is_some() && given.all(|met| met),
            Requires::Any => given.any(|met| met),
        }
    }

    fn firing(
        &self,
        inputs: &Inputs<'_>,
        compared: Compared,
        period: Option<usize>,
        percent: Option<f64>,
    ) -> Firing {
        let change = compared.change();
        let zone = inputs.time_zone;
        let way = if change > 0.0 { "up" } else { "down" };
        let share = percent.map_or_else(String::new, |percent| {
            let of = match self.percent_of {
                PercentOf::Before => "",
                PercentOf::Capacity => " of capacity",
            };
            format!(" ({} %{of})", words::signed(round_percent(percent)))
        });
        let when = match period {
            None => format!("in the next {} h", self.hours),
            Some(period) => format!("at {}", words::moment(inputs.window.start(period), zone)),
        };
        let amount = words::figure(change.abs());
        let issued = words::instant(inputs.run.issued_at, zone);
        let from = words::moment(inputs.window.from, zone);
        let members = match inputs.total {
            1 => String::new(),
            total => format!(
                " Members with a forecast: {} of {total}.",
                inputs.members.len()
            ),
        };
        let mut data = Map::new();
        data.insert("from".into(), seconds_json(inputs.window.from));
        data.insert("to".into(), seconds_json(inputs.window.to()));
        data.insert("changeMwh".into(), json!(change));
        data.insert("changePercent".into(), json!(percent));
        data.insert("percentOf".into(), json!(self.percent_of));
        data.insert("measure".into(), json!(self.measure));
        if let Some(period) = period {
            data.insert(
                "deliveryStart".into(),
                seconds_json(inputs.window.start(period)),
            );
        }
        data.insert("runId".into(), json!(format!("run:{}", inputs.run.id)));
        data.insert("issuedAt".into(), instant_json(inputs.run.issued_at));
        Firing {
            headline: format!("forecast {way} {amount} MWh{share} {when}"),
            detail: format!(
                "{} MWh before, {} MWh after the run issued at {issued}; {} h from {from}.{members}",
                words::figure(compared.before),
                words::figure(compared.after),
                self.hours,
            ),
            before: Some(compared.before),
            after: Some(compared.after),
            data,
        }
    }
}

/// Nobody reads a tenth of a large percentage.
fn round_percent(percent: f64) -> f64 {
    if percent.abs() >= 10.0 {
        percent.round()
    } else {
        percent
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;
    use crate::forecast::Resolution;

    const NONE: f64 = f64::NAN;

    fn rule() -> Revision {
        Revision {
            hours: 2,
            min_mwh: Some(10.0),
            min_percent: None,
            requires: Requires::All,
            percent_of: PercentOf::Before,
            measure: Measure::Net,
            direction: Direction::Both,
            accumulate_minutes: 0,
        }
    }

    type Values = ([f64; 2], [f64; 2], Option<f64>);

    fn asked(rule: &Revision, members: &[Values]) -> Option<Firing> {
        let at = datetime!(2024-06-15 09:00 UTC);
        let inputs = Inputs {
            window: Window::next(Resolution::Hour, at, rule.hours),
            time_zone: "Europe/Istanbul",
            run: RunOf {
                issued_at: at,
                id: 7,
            },
            members: members
                .iter()
                .map(|(before, after, capacity_mw)| Revised {
                    before: before.to_vec(),
                    after: after.to_vec(),
                    capacity_mw: *capacity_mw,
                })
                .collect(),
            total: members.len(),
        };
        rule.evaluate(&inputs, &mut State::default())
    }

    fn check(rule: &Revision, members: &[Values], expect: Option<&str>) {
        let fired = asked(rule, members);
        let headline = fired.as_ref().map(|firing| firing.headline.as_str());
        assert_eq!(headline, expect, "{rule:?}");
    }

    #[test]
    fn energy_is_compared_over_the_window() {
        let rule = rule();
        let down = Some("forecast down 12.4 MWh (-18 %) in the next 2 h");
        check(&rule, &[([40.0, 28.9], [30.0, 26.5], None)], down);
        check(
            &rule,
            &[([10.0, 10.0], [15.0, 15.0], None)],
            Some("forecast up 10 MWh (+50 %) in the next 2 h"),
        );
        check(&rule, &[([10.0, 10.0], [15.0, 14.9], None)], None);
        // What is moved within the window comes to nothing.
        check(&rule, &[([30.0, 0.0], [0.0, 30.0], None)], None);
        // Sums of doubles: 0.1 a hundred times and the like.
        check(
            &Revision {
                min_mwh: Some(0.3),
                ..rule
            },
            &[([0.0, 0.0], [0.1, 0.2], None)],
            Some("forecast up 0.3 MWh in the next 2 h"),
        );
    }

    #[test]
    fn what_comes_for_the_first_time_revises_nothing() {
        check(&rule(), &[([NONE, NONE], [50.0, 50.0], None)], None);
        check(&rule(), &[([NONE, 5.0], [50.0, 6.0], None)], None);
        check(&rule(), &[], None);
    }

    #[test]
    fn members_add_up_and_may_cancel_out() {
        let down = ([10.0, 10.0], [5.0, 4.0], None);
        let up = ([10.0, 10.0], [16.0, 15.0], None);
        check(&rule(), &[down, up], None);
        check(
            &rule(),
            &[down, down],
            Some("forecast down 22 MWh (-55 %) in the next 2 h"),
        );
    }

    #[test]
    fn directions_measures_and_percentages() {
        let fall = ([40.0, 10.0], [30.0, 8.0], Some(50.0));
        let with = |change: fn(&mut Revision)| {
            let mut rule = rule();
            change(&mut rule);
            rule
        };
        check(&with(|r| r.direction = Direction::Up), &[fall], None);
        check(
            &with(|r| r.direction = Direction::Down),
            &[fall],
            Some("forecast down 12 MWh (-24 %) in the next 2 h"),
        );
        check(
            &with(|r| r.measure = Measure::LargestPeriod),
            &[fall],
            Some("forecast down 10 MWh (-25 %) at 2024-06-15 12:00 +03:00"),
        );
        check(
            &with(|r| {
                r.min_mwh = None;
                r.min_percent = Some(12.0);
                r.percent_of = PercentOf::Capacity;
            }),
            &[fall],
            Some("forecast down 12 MWh (-12 % of capacity) in the next 2 h"),
        );
        let both = |requires| {
            let mut rule = rule();
            rule.min_percent = Some(50.0);
            rule.requires = requires;
            rule
        };
        check(&both(Requires::All), &[fall], None);
        check(
            &both(Requires::Any),
            &[fall],
            Some("forecast down 12 MWh (-24 %) in the next 2 h"),
        );
    }

    #[test]
    fn of_nothing_there_is_no_percentage() {
        let mut rule = rule();
        (rule.min_mwh, rule.min_percent) = (None, Some(1.0));
        check(&rule, &[([0.0, 0.0], [5.0, 5.0], None)], None);
        rule.percent_of = PercentOf::Capacity;
        check(&rule, &[([0.0, 0.0], [5.0, 5.0], None)], None);
        check(
            &rule,
            &[([0.0, 0.0], [5.0, 5.0], Some(10.0))],
            Some("forecast up 10 MWh (+50 % of capacity) in the next 2 h"),
        );
        (rule.min_mwh, rule.min_percent) = (None, None);
        check(&rule, &[([0.0, 0.0], [5.0, 5.0], Some(10.0))], None);
    }

    #[test]
    fn what_it_fired_at_counts_no_second_time() {
        let mut rule = rule();
        let run = |issued_at| RunOf { issued_at, id: 1 };
        let at = datetime!(2024-06-15 09:00 UTC);
        let mut state = State::default();
        assert_eq!(rule.known_at(run(at), &state), None);
        rule.accumulate_minutes = 60;
        assert_eq!(rule.known_at(run(at), &state), Some(at - Duration::HOUR));
        state.fired_at_issue = Some(at - Duration::minutes(10));
        assert_eq!(rule.known_at(run(at), &state), state.fired_at_issue);
    }
}
