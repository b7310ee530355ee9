//! A rule: what it is about, on what it fires, and whom it tells.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};

use super::late::Late;
use super::revision::Revision;
use super::threshold::Threshold;
use super::{AlertError, late, revision, threshold};
use crate::Violation;
use crate::forecast::Resolution;
use crate::notification::{Channel, Severity, Target, fault_of_key};
use crate::provider::ProviderKey;
use crate::unit::UnitKey;
use crate::violation::fault_of_name;

/// On what a rule fires. A new kind is a variant, a file with its function, and
/// what that is given in `moment`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Condition {
    /// A new run moves the forecast.
    Revision(Revision),
    /// The forecast crosses a limit.
    Threshold(Threshold),
    /// No run has come for too long, or the forecast has gaps.
    Late(Late),
}

impl Condition {
    /// As the database and notifications spell it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Revision(_) => "REVISION",
            Self::Threshold(_) => "THRESHOLD",
            Self::Late(_) => "LATE",
        }
    }

    /// How far ahead it looks, if at forecasts.
    pub(super) fn hours(&self) -> Option<u32> {
        match self {
            Self::Revision(rule) => Some(rule.hours),
            Self::Threshold(rule) => Some(rule.hours),
            Self::Late(rule) => rule.complete_hours,
        }
    }
}

/// What a rule remembers, of whatever kind.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct State {
    #[serde(skip_serializing_if = "is_default")]
    pub(super) revision: revision::State,
    #[serde(skip_serializing_if = "is_default")]
    pub(super) threshold: threshold::State,
    #[serde(skip_serializing_if = "is_default")]
    pub(super) late: late::State,
}

fn is_default<T: Default + PartialEq>(state: &T) -> bool {
    *state == T::default()
}

/// What its owner says of a rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Definition {
    /// For people.
    pub name: String,
    /// A plant; or a group or company, as the sum of the plants below it.
    pub unit: UnitKey,
    pub provider: ProviderKey,
    pub resolution: Resolution,
    pub condition: Condition,
    /// Its owner, if nobody is named.
    pub to: Target,
    pub channels: Vec<Channel>,
    pub severity: Severity,
    /// Over channels that leave the server a user gets no more than one of this
    /// rule in such an interval.
    pub throttle: Option<Duration>,
    /// Until then it fires nothing, but keeps up with what happens.
    pub muted_until: Option<OffsetDateTime>,
    /// Off, it fires nothing, but keeps up with what happens.
    pub enabled: bool,
}

/// A rule as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    pub id: i64,
    /// The key of the user whose it is.
    pub owner: String,
    pub definition: Definition,
    pub created_at: OffsetDateTime,
    pub updated_at: OffsetDateTime,
    /// How often it has told somebody.
    pub firings: i64,
    pub last_fired_at: Option<OffsetDateTime>,
}

impl Rule {
    /// Who sends its notifications; what belongs together for throttles.
    pub fn sender(&self) -> String {
        format!("alert:{}", self.id)
    }

    /// What apps call it.
    pub fn global_id(&self) -> String {
        format!("alertRule:{}", self.id)
    }

    /// Whether anybody is told when it fires.
    pub(super) fn is_audible(&self, now: OffsetDateTime) -> bool {
        let definition = &self.definition;
        definition.enabled && definition.muted_until.is_none_or(|until| until <= now)
    }
}

/// How far ahead a rule may look, in hours.
const HOURS: RangeInclusive<u32> = 1..=168;
/// How long a run may take, in minutes: at most a week.
const LATE_MINUTES: RangeInclusive<u32> = 1..=10_080;
/// How far back revisions may add up, in minutes: at most a day.
const ACCUMULATED_MINUTES: RangeInclusive<u32> = 0..=1440;
/// No forecast has more MWh in a delivery period.
const MOST: f64 = 1e12;
const LONGEST_INTERVAL: Duration = Duration::days(366);

impl Definition {
    /// Every bad value of it. That what it names exists is for who writes it to see.
    pub(super) fn faults(&self) -> Vec<Violation> {
        let mut violations = Vec::new();
        let mut wrong = |path: &str, message: String| {
            violations.push(Violation::new(path, message));
        };
        if let Some(fault) = fault_of_name(&self.name) {
            wrong("name", fault.into());
        }
        self.condition.check(&mut wrong);
        for (i, topic) in self.to.topics.iter().enumerate() {
            if let Some(fault) = fault_of_key(topic) {
                wrong(&format!("to.topics[{i}]"), fault.into());
            }
        }
        let named = self.to.users.len() + self.to.groups.len() + self.to.topics.len();
        if named > MOST_NAMED {
            wrong(
                "to",
                format!("at most {MOST_NAMED} users, groups and topics"),
            );
        }
        if self.channels.is_empty() {
            wrong("channels", "give at least one channel".into());
        }
        if self
            .throttle
            .is_some_and(|interval| interval < Duration::SECOND || interval > LONGEST_INTERVAL)
        {
            wrong(
                "throttleSeconds",
                "an interval of 1 second to a year".into(),
            );
        }
        violations.truncate(Violation::MOST);
        violations
    }

    /// An error of a write if anything is wrong.
    pub(super) fn check(&self) -> Result<(), AlertError> {
        match self.faults() {
            faults if faults.is_empty() => Ok(()),
            faults => Err(AlertError::Invalid(faults)),
        }
    }
}

/// Users, groups and topics that a rule may name.
const MOST_NAMED: usize = 1000;

impl Condition {
    fn check(&self, wrong: &mut impl FnMut(&str, String)) {
        let mut whole = |field: &str, value: u32, range: RangeInclusive<u32>, what: &str| {
            if !range.contains(&value) {
                let (from, to) = range.into_inner();
                wrong(
                    &format!("condition.{field}"),
                    format!("a number of {what} from {from} to {to}"),
                );
            }
        };
        match self {
            Self::Revision(rule) => {
                whole("revision.hours", rule.hours, HOURS, "hours");
                whole(
                    "revision.accumulateMinutes",
                    rule.accumulate_minutes,
                    ACCUMULATED_MINUTES,
                    "minutes",
                );
                if rule.min_mwh.is_none() && rule.min_percent.is_none() {
                    wrong(
                        "condition.revision",
                        "give minMwh, minPercent or both".into(),
                    );
                }
                for (field, value) in [("minMwh", rule.min_mwh), ("minPercent", rule.min_percent)] {
                    if value.is_some_and(|value| !(value > 0.0 && value <= MOST)) {
                        wrong(
                            &format!("condition.revision.{field}"),
                            "a number above 0, at most 1e12".into(),
                        );
                    }
                }
            }
            Self::Threshold(rule) => {
                whole("threshold.hours", rule.hours, HOURS, "hours");
                if !(-MOST..=MOST).contains(&rule.limit) {
                    wrong(
                        "condition.threshold.limit",
                        "a number of at most 1e12".into(),
                    );
                }
                if !(0.0..=MOST).contains(&rule.hysteresis) {
                    wrong(
                        "condition.threshold.hysteresis",
                        "a number from 0 to 1e12".into(),
                    );
                }
            }
            Self::Late(rule) => {
                whole(
                    "late.afterMinutes",
                    rule.after_minutes,
                    LATE_MINUTES,
                    "minutes",
                );
                if let Some(hours) = rule.complete_hours {
                    whole("late.completeHours", hours, HOURS, "hours");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::{Direction, Measure, PercentOf, Quantity, Requires, Side};

    fn definition(condition: Condition) -> Definition {
        Definition {
            name: "R".into(),
            unit: "plant:1".parse().unwrap(),
            provider: "p".parse().unwrap(),
            resolution: Resolution::Hour,
            condition,
            to: Target::default(),
            channels: vec![Channel::InApp],
            severity: Severity::Info,
            throttle: None,
            muted_until: None,
            enabled: true,
        }
    }

    fn conditions() -> [Condition; 3] {
        [
            Condition::Revision(Revision {
                hours: 6,
                min_mwh: Some(5.0),
                min_percent: None,
                requires: Requires::Any,
                percent_of: PercentOf::Capacity,
                measure: Measure::LargestPeriod,
                direction: Direction::Down,
                accumulate_minutes: 30,
            }),
            Condition::Threshold(Threshold {
                hours: 24,
                side: Side::Below,
                limit: -1.5,
                quantity: Quantity::Mw,
                hysteresis: 0.0,
            }),
            Condition::Late(Late {
                after_minutes: 60,
                complete_hours: None,
            }),
        ]
    }

    #[test]
    fn a_condition_reads_back_as_it_was() {
        for condition in conditions() {
            let text = serde_json::to_string(&condition).unwrap();
            assert!(text.contains(condition.kind()), "{text}");
            let read: Condition = serde_json::from_str(&text).unwrap();
            assert_eq!(read, condition);
        }
    }

    #[test]
    fn a_state_reads_back_as_it_was_and_an_empty_one_is_short() {
        let mut state = State::default();
        assert_eq!(serde_json::to_string(&state).unwrap(), "{}");
        state.threshold.is_beyond = true;
        state.late.late.insert("plant:1".parse().unwrap(), 4);
        state.late.incomplete.insert("plant:2".parse().unwrap());
        state.revision.fired_at_issue = Some(OffsetDateTime::UNIX_EPOCH);
        let text = serde_json::to_string(&state).unwrap();
        assert_eq!(serde_json::from_str::<State>(&text).unwrap(), state);
    }

    #[test]
    fn every_bad_value_is_named() {
        let check = |definition: Definition, expect: &[&str]| {
            let paths = match definition.check() {
                Ok(()) => Vec::new(),
                Err(AlertError::Invalid(violations)) => {
                    violations.into_iter().map(|v| v.path).collect()
                }
                Err(other) => panic!("{other}"),
            };
            assert_eq!(paths, expect);
        };
        for condition in conditions() {
            check(definition(condition), &[]);
        }
        let [revision, threshold, late] = conditions();
        let mut wrong = definition(match revision {
            Condition::Revision(rule) => Condition::Revision(Revision {
                hours: 0,
                min_mwh: None,
                accumulate_minutes: 1441,
                ..rule
            }),
            other => other,
        });
        wrong.name = String::new();
        wrong.channels = Vec::new();
        wrong.throttle = Some(Duration::ZERO);
        wrong.to.topics = vec![String::new()];
        check(
            wrong,
            &[
                "name",
                "condition.revision.hours",
                "condition.revision.accumulateMinutes",
                "condition.revision",
                "to.topics[0]",
                "channels",
                "throttleSeconds",
            ],
        );
        check(
            definition(match threshold {
                Condition::Threshold(rule) => Condition::Threshold(Threshold {
                    hours: 169,
                    limit: f64::NAN,
                    hysteresis: -1.0,
                    ..rule
                }),
                other => other,
            }),
            &[
                "condition.threshold.hours",
                "condition.threshold.limit",
                "condition.threshold.hysteresis",
            ],
        );
        check(
            definition(match late {
                Condition::Late(_) => Condition::Late(Late {
                    after_minutes: 0,
                    complete_hours: Some(0),
                }),
                other => other,
            }),
            &[
                "condition.late.afterMinutes",
                "condition.late.completeHours",
            ],
        );
    }
}
