//! A rule on absence: no new run has come for too long, or the forecast has gaps.
//!
//! It fires once for each run that is not followed in time, and once for each
//! time that a forecast becomes incomplete.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use time::{Duration, OffsetDateTime};

use super::firing::{Firing, instant_json, seconds_json};
use super::window::Window;
use super::words;
use crate::provider::ProviderKey;
use crate::unit::UnitKey;

/// How long a run may take, and how far a forecast has to reach.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Late {
    /// A run is expected each so many minutes.
    pub after_minutes: u32,
    /// Each period that begins within so many hours must have a value; absent,
    /// gaps are not looked for.
    pub complete_hours: Option<u32>,
}

/// What the rule remembers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct State {
    /// Members that were said to be late, with the last run that had come; 0 for none.
    pub(super) late: BTreeMap<UnitKey, i64>,
    /// Members that were said to be incomplete.
    pub(super) incomplete: BTreeSet<UnitKey>,
}

/// What is known at a moment.
pub(super) struct Inputs<'a> {
    pub(super) at: OffsetDateTime,
    /// Nothing is late that was not waited for: since when it is.
    pub(super) since: OffsetDateTime,
    pub(super) provider: &'a ProviderKey,
    pub(super) time_zone: &'a str,
    /// Of the gaps, if they are looked for.
    pub(super) window: Option<Window>,
    pub(super) members: Vec<Awaited>,
}

/// A member whose runs are waited for.
pub(super) struct Awaited {
    pub(super) unit: UnitKey,
    pub(super) name: String,
    pub(super) last_run: Option<LastRun>,
    /// Periods of the window without a value.
    pub(super) missing: usize,
}

/// The last run of a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LastRun {
    pub(super) id: i64,
    pub(super) received_at: OffsetDateTime,
}

/// Members that are named in full; of others there is the count.
const NAMED: usize = 10;

impl Late {
    pub(super) fn evaluate(&self, inputs: &Inputs<'_>, state: &mut State) -> Option<Firing> {
        let mut late = Vec::new();
        let mut incomplete = Vec::new();
        let allowed = Duration::minutes(i64::from(self.after_minutes));
        for member in &inputs.members {
            let last = member.last_run;
            let waited = inputs.at - last.map_or(inputs.since, |run| run.received_at);
            let run_id = last.map_or(0, |run| run.id);
            if waited < allowed {
                state.late.remove(&member.unit);
            } else if state
                .late
                .get(&member.unit)
                .is_none_or(|told| *told < run_id)
            {
                state.late.insert(member.unit, run_id);
                late.push(member);
            }
            if member.missing == 0 {
                state.incomplete.remove(&member.unit);
            } else if state.incomplete.insert(member.unit) {
                incomplete.push(member);
            }
        }
        if late.is_empty() && incomplete.is_empty() {
            return None;
        }
        Some(self.firing(inputs, &late, &incomplete))
    }

    fn firing(&self, inputs: &Inputs<'_>, late: &[&Awaited], incomplete: &[&Awaited]) -> Firing {
        let zone = inputs.time_zone;
        let provider = inputs.provider;
        let total = inputs.members.len();
        let some = |members: &[&Awaited]| match total {
            1 => String::new(),
            total => format!(" for {} of {total} units", members.len()),
        };
        let mut headlines = Vec::new();
        let mut lines = Vec::new();
        if let Some(first) = late.first() {
            let since = match (first.last_run, late.len()) {
                (Some(run), 1) => format!("for {}", words::span(inputs.at - run.received_at)),
                (None, 1) => "yet".into(),
                _ => format!(
                    "for {}",
                    words::span(Duration::minutes(self.after_minutes.into()))
                ),
            };
            headlines.push(format!("no new run of {provider} {since}{}", some(late)));
            let last = |member: &Awaited| match member.last_run {
                Some(run) => format!("the last came at {}", words::instant(run.received_at, zone)),
                None => "none has come".into(),
            };
            lines.extend(named(late, last));
        }
        if let (Some(first), Some(window)) = (incomplete.first(), inputs.window) {
            let hours = self.complete_hours.unwrap_or_default();
            let gaps = match incomplete.len() {
                1 => format!("{} of {} periods", first.missing, window.periods),
                _ => "periods".into(),
            };
            headlines.push(format!(
                "forecast of {provider} lacks {gaps} in the next {hours} h{}",
                some(incomplete)
            ));
            let lacks = |member: &Awaited| {
                format!(
                    "{} of {} periods have no value",
                    member.missing, window.periods
                )
            };
            lines.extend(named(incomplete, lacks));
        }
        Firing {
            headline: headlines.join("; "),
            detail: lines.join("\n"),
            before: None,
            after: None,
            data: self.data(inputs, late, incomplete),
        }
    }

    fn data(
        &self,
        inputs: &Inputs<'_>,
        late: &[&Awaited],
        incomplete: &[&Awaited],
    ) -> Map<String, Value> {
        let mut data = Map::new();
        data.insert("afterMinutes".into(), json!(self.after_minutes));
        let late: Vec<Value> = late
            .iter()
            .take(NAMED)
            .map(|member| {
                let run = member.last_run;
                json!({
                    "unit": member.unit.to_string(),
                    "lastRunId": run.map(|run| format!("run:{}", run.id)),
                    "lastReceivedAt": run.map(|run| instant_json(run.received_at)),
                })
            })
            .collect();
        data.insert("late".into(), late.into());
        let incomplete: Vec<Value> = incomplete
            .iter()
            .take(NAMED)
            .map(|member| json!({ "unit": member.unit.to_string(), "missing": member.missing }))
            .collect();
        data.insert("incomplete".into(), incomplete.into());
        if let Some(window) = inputs.window {
            data.insert("from".into(), seconds_json(window.from));
            data.insert("to".into(), seconds_json(window.to()));
        }
        data
    }
}

/// A line for each of the first members, and one for the rest.
fn named(members: &[&Awaited], says: impl Fn(&Awaited) -> String) -> Vec<String> {
    let mut lines: Vec<String> = members
        .iter()
        .take(NAMED)
        .map(|member| format!("{}: {}.", member.name, says(member)))
        .collect();
    if members.len() > NAMED {
        lines.push(format!("And {} more.", members.len() - NAMED));
    }
    lines
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;
    use crate::forecast::Resolution;

    const START: OffsetDateTime = datetime!(2024-06-15 09:00 UTC);

    /// A member: number, last run by id and minutes after the start, missing periods.
    type Known = (i64, Option<(i64, i64)>, usize);

    fn asked(minute: i64, members: &[Known], state: &mut State) -> Option<String> {
        let at = START + Duration::minutes(minute);
        let rule = Late {
            after_minutes: 60,
            complete_hours: Some(6),
        };
        let inputs = Inputs {
            at,
            since: START,
            provider: &"p".parse().unwrap(),
            time_zone: "Europe/Istanbul",
            window: Some(Window::next(Resolution::Hour, at, 6)),
            members: members
                .iter()
                .map(|(number, run, missing)| Awaited {
                    unit: UnitKey::new(crate::unit::UnitType::Plant, *number).unwrap(),
                    name: format!("Plant {number}"),
                    last_run: run.map(|(id, minute)| LastRun {
                        id,
                        received_at: START + Duration::minutes(minute),
                    }),
                    missing: *missing,
                })
                .collect(),
        };
        let firing = rule.evaluate(&inputs, state)?;
        Some(format!("{}|{}", firing.headline, firing.detail))
    }

    #[test]
    fn it_fires_once_for_each_run_that_is_not_followed() {
        let mut state = State::default();
        let mut check = |minute, run, expect: Option<&str>| {
            let said = asked(minute, &[(1, run, 0)], &mut state);
            assert_eq!(said.as_deref(), expect, "at {minute} with {run:?}");
        };
        check(59, None, None);
        check(
            60,
            None,
            Some("no new run of p yet|Plant 1: none has come."),
        );
        check(90, None, None);
        check(91, Some((5, 90)), None);
        check(
            165,
            Some((5, 90)),
            Some(
                "no new run of p for 1 h 15 min|Plant 1: the last came at 2024-06-15 13:30 +03:00.",
            ),
        );
        check(200, Some((5, 90)), None);
        // An older run that is all that is found later is nothing new.
        check(200, Some((4, 80)), None);
        // One came and was not followed while nobody looked.
        check(
            300,
            Some((6, 210)),
            Some(
                "no new run of p for 1 h 30 min|Plant 1: the last came at 2024-06-15 15:30 +03:00.",
            ),
        );
    }

    #[test]
    fn gaps_are_told_once_until_they_are_filled() {
        let mut state = State::default();
        let mut check = |missing, expect: Option<&str>| {
            let said = asked(10, &[(1, Some((5, 0)), missing)], &mut state);
            assert_eq!(said.as_deref(), expect, "{missing}");
        };
        check(0, None);
        let said = "forecast of p lacks 2 of 6 periods in the next 6 h|Plant 1: 2 of 6 periods have no value.";
        check(2, Some(said));
        check(3, None);
        check(0, None);
        check(2, Some(said));
    }

    #[test]
    fn members_are_told_of_together() {
        let mut state = State::default();
        let all: Vec<Known> = (1..=12).map(|number| (number, None, 0)).collect();
        let said = asked(70, &all, &mut state).unwrap();
        assert!(
            said.starts_with(
                "no new run of p for 1 h for 12 of 12 units|Plant 1: none has come.\n"
            ),
            "{said}"
        );
        assert!(said.ends_with("\nAnd 2 more."), "{said}");
        assert_eq!(asked(70, &all, &mut state), None);
    }
}
