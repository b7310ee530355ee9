//! A rule on levels: the forecast crosses a limit.
//!
//! It fires when a delivery period of the window lies beyond the limit, and not
//! again before all of them are back on the other side of limit and hysteresis.
//! A sum counts only in periods for which every member has a value that has one
//! in the window at all: half a sum says nothing about a limit.

use serde::{Deserialize, Serialize};
use serde_json::{Map, json};

use super::firing::{Firing, seconds_json};
use super::window::Window;
use super::words;

/// The limit, and how far back the forecast has to come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Threshold {
    /// The periods that begin within so many hours.
    pub hours: u32,
    pub side: Side,
    pub limit: f64,
    pub quantity: Quantity,
    /// In the quantity of the limit; 0 for none.
    pub hysteresis: f64,
}

/// On which side of the limit it fires.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Side {
    Below,
    Above,
}

/// What is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Quantity {
    /// The energy of a delivery period.
    Mwh,
    /// Its mean power.
    Mw,
}

impl Quantity {
    fn unit(self) -> &'static str {
        match self {
            Self::Mwh => "MWh",
            Self::Mw => "MW",
        }
    }
}

/// What the rule remembers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct State {
    /// It has fired, and waits for the way back.
    pub(super) is_beyond: bool,
}

/// What is known of the window.
pub(super) struct Inputs<'a> {
    pub(super) window: Window,
    pub(super) time_zone: &'a str,
    /// Each member's latest MWh of each period; `NaN` where there is none.
    pub(super) members: Vec<Vec<f64>>,
    /// Members there are, with a series or without.
    pub(super) total: usize,
}

impl Threshold {
    pub(super) fn evaluate(&self, inputs: &Inputs<'_>, state: &mut State) -> Option<Firing> {
        let (value, period, members) = self.extreme(inputs)?;
        let (is_beyond, is_back) = match self.side {
            Side::Below => (value < self.limit, value >= self.limit + self.hysteresis),
            Side::Above => (value > self.limit, value <= self.limit - self.hysteresis),
        };
        if state.is_beyond {
            state.is_beyond = !is_back;
            return None;
        }
        if !is_beyond {
            return None;
        }
        state.is_beyond = true;
        Some(self.firing(inputs, value, period, members))
    }

    /// The value that lies furthest on the side of the limit, its period, and how
    /// many members it is the sum of.
    fn extreme(&self, inputs: &Inputs<'_>) -> Option<(f64, usize, usize)> {
        let counted: Vec<&Vec<f64>> = inputs
            .members
            .iter()
            .filter(|values| values.iter().any(|value| !value.is_nan()))
            .collect();
        let of_hour = match self.quantity {
            Quantity::Mwh => 1.0,
            Quantity::Mw => inputs.window.resolution.hours(),
        };
        if counted.is_empty() {
            return None;
        }
        (0..inputs.window.periods)
            // One that is missing makes the sum no number.
            .map(|period| {
                let sum: f64 = counted.iter().map(|values| values[period]).sum();
                (sum / of_hour, period)
            })
            .filter(|(value, _)| !value.is_nan())
            .min_by(|(a, _), (b, _)| match self.side {
                Side::Below => a.total_cmp(b),
                Side::Above => b.total_cmp(a),
            })
            .map(|(value, period)| (value, period, counted.len()))
    }

    fn firing(&self, inputs: &Inputs<'_>, value: f64, period: usize, members: usize) -> Firing {
        let zone = inputs.time_zone;
        let unit = self.quantity.unit();
        let (way, side) = match self.side {
            Side::Below => ("falls", "below"),
            Side::Above => ("rises", "above"),
        };
        let start = inputs.window.start(period);
        let of_members = match inputs.total {
            1 => String::new(),
            total => format!(" Members with a forecast: {members} of {total}."),
        };
        let mut data = Map::new();
        data.insert("from".into(), seconds_json(inputs.window.from));
        data.insert("to".into(), seconds_json(inputs.window.to()));
        data.insert("deliveryStart".into(), seconds_json(start));
        data.insert("side".into(), json!(self.side));
        data.insert("limit".into(), json!(self.limit));
        data.insert("hysteresis".into(), json!(self.hysteresis));
        data.insert("quantity".into(), json!(self.quantity));
        Firing {
            headline: format!(
                "forecast {way} {side} {} {unit} in the next {} h",
                words::figure(self.limit),
                self.hours
            ),
            detail: format!(
                "{} {unit} at {}; the limit is {} {unit}.{of_members}",
                words::figure(value),
                words::moment(start, zone),
                words::figure(self.limit),
            ),
            before: None,
            after: Some(value),
            data,
        }
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;
    use crate::forecast::Resolution;

    const NONE: f64 = f64::NAN;

    fn rule(side: Side) -> Threshold {
        Threshold {
            hours: 2,
            side,
            limit: 10.0,
            quantity: Quantity::Mwh,
            hysteresis: 2.0,
        }
    }

    fn asked(
        rule: &Threshold,
        resolution: Resolution,
        members: &[&[f64]],
        state: &mut State,
    ) -> Option<Firing> {
        let at = datetime!(2024-06-15 09:00 UTC);
        let inputs = Inputs {
            window: Window::next(resolution, at, rule.hours),
            time_zone: "UTC",
            members: members.iter().map(|values| values.to_vec()).collect(),
            total: members.len(),
        };
        rule.evaluate(&inputs, state)
    }

    /// Forecasts one after the other, and at which the rule fires.
    fn check(rule: &Threshold, steps: &[([f64; 2], bool)]) {
        let mut state = State::default();
        for (i, (values, expect)) in steps.iter().enumerate() {
            let fired = asked(rule, Resolution::Hour, &[values], &mut state).is_some();
            assert_eq!(fired, *expect, "step {i} of {rule:?}");
        }
    }

    #[test]
    fn it_fires_once_until_the_forecast_is_back() {
        check(
            &rule(Side::Below),
            &[
                ([10.0, 12.0], false),
                ([12.0, 9.9], true),
                ([5.0, 5.0], false),
                // Back over the limit, but not past the hysteresis.
                ([11.9, 20.0], false),
                ([9.0, 20.0], false),
                ([12.0, 20.0], false),
                ([9.0, 20.0], true),
                ([NONE, NONE], false),
                ([8.0, NONE], false),
            ],
        );
        check(
            &rule(Side::Above),
            &[
                ([10.0, 1.0], false),
                ([10.1, 1.0], true),
                ([8.1, 1.0], false),
                ([10.1, 1.0], false),
                ([8.0, 1.0], false),
                ([1.0, 11.0], true),
            ],
        );
    }

    #[test]
    fn half_a_sum_says_nothing() {
        let rule = rule(Side::Below);
        let mut state = State::default();
        let full: &[f64] = &[8.0, 8.0];
        let fires = |members: &[&[f64]], state: &mut State| {
            asked(&rule, Resolution::Hour, members, state).map(|firing| firing.after)
        };
        assert_eq!(fires(&[full, &[8.0, NONE]], &mut state), None);
        // One that gives nothing at all is no part of the sum.
        assert_eq!(fires(&[full, &[NONE, NONE]], &mut state), Some(Some(8.0)));
    }

    #[test]
    fn power_is_energy_over_hours() {
        let rule = Threshold {
            hours: 1,
            quantity: Quantity::Mw,
            ..rule(Side::Above)
        };
        let values: &[f64] = &[1.0, 2.6, 2.0, 1.0];
        let fired = asked(
            &rule,
            Resolution::QuarterHour,
            &[values],
            &mut State::default(),
        );
        let fired = fired.unwrap();
        assert_eq!(fired.after, Some(10.4));
        assert_eq!(fired.headline, "forecast rises above 10 MW in the next 1 h");
        assert_eq!(
            fired.detail,
            "10.4 MW at 2024-06-15 09:15 +00:00; the limit is 10 MW."
        );
    }
}
