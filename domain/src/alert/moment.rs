//! What is known at a moment, put before each kind of rule as it needs it.
//!
//! Evaluation and dry run both come through here: what would have fired is what
//! does fire.

use std::collections::HashMap;

use time::OffsetDateTime;

use super::firing::Firing;
use super::late::{Awaited, LastRun};
use super::revision::{PercentOf, Revised, RunOf};
use super::rule::{Condition, Definition, State};
use super::team::{Member, Team};
use super::versions::{Judged, Seen, Versions};
use super::window::Window;
use super::{late, revision, threshold};
use crate::forecast::{Day, Source};

/// What is known at a moment.
pub(super) struct Moment<'a> {
    pub(super) at: OffsetDateTime,
    /// Since when runs are waited for.
    pub(super) since: OffsetDateTime,
    pub(super) versions: &'a Versions,
    pub(super) judged: &'a Judged,
    /// The newest of the runs that are judged, if any are.
    pub(super) run: Option<RunOf>,
    /// What the log has up to here is not judged.
    pub(super) judged_after: u64,
    /// The last run of each series.
    pub(super) last_runs: &'a HashMap<i64, LastRun>,
}

/// The window that a rule looks at, and what counts in it.
pub(super) struct View {
    pub(super) window: Window,
    pub(super) seen: Vec<Seen>,
}

impl Definition {
    pub(super) fn window(&self, at: OffsetDateTime) -> Option<Window> {
        let hours = self.condition.hours()?;
        Some(Window::next(self.resolution, at, hours))
    }

    /// What it has to be shown of each member's curve, if anything.
    pub(super) fn view(
        &self,
        at: OffsetDateTime,
        run: Option<RunOf>,
        since: u64,
        state: &State,
    ) -> Option<View> {
        let window = self.window(at)?;
        let seen = match &self.condition {
            Condition::Revision(rule) => {
                let known_at = rule.known_at(run?, &state.revision);
                vec![Seen::After, Seen::Before { known_at, since }]
            }
            Condition::Threshold(_) | Condition::Late(_) => vec![Seen::Latest],
        };
        Some(View { window, seen })
    }

    /// Whether capacities are needed.
    pub(super) fn needs_capacity(&self) -> bool {
        matches!(&self.condition, Condition::Revision(rule) if rule.percent_of == PercentOf::Capacity)
    }

    /// Asks the kind.
    pub(super) fn evaluate(
        &self,
        team: &Team,
        moment: &Moment<'_>,
        state: &mut State,
    ) -> Option<Firing> {
        let curve = |member: &Member, window: Window, seen: Seen| {
            let series_id = member.series_id;
            let admits =
                |day: Day, source: &Source| moment.judged.admits(seen, series_id, day, source);
            moment.versions.curve(series_id, window, admits)
        };
        let window = self.window(moment.at);
        match &self.condition {
            Condition::Revision(rule) => {
                let (window, run) = (window?, moment.run?);
                let before = Seen::Before {
                    known_at: rule.known_at(run, &state.revision),
                    since: moment.judged_after,
                };
                let inputs = revision::Inputs {
                    window,
                    time_zone: &team.time_zone,
                    run,
                    members: team
                        .members
                        .iter()
                        .map(|member| Revised {
                            before: curve(member, window, before),
                            after: curve(member, window, Seen::After),
                            capacity_mw: member
                                .capacity
                                .iter()
                                .rev()
                                .find(|capacity| capacity.valid_from <= moment.at)
                                .map(|capacity| capacity.capacity_mw),
                        })
                        .collect(),
                    total: team.total,
                };
                rule.evaluate(&inputs, &mut state.revision)
            }
            Condition::Threshold(rule) => {
                let window = window?;
                let inputs = threshold::Inputs {
                    window,
                    time_zone: &team.time_zone,
                    members: team
                        .members
                        .iter()
                        .map(|member| curve(member, window, Seen::Latest))
                        .collect(),
                    total: team.total,
                };
                rule.evaluate(&inputs, &mut state.threshold)
            }
            Condition::Late(rule) => {
                let missing = |member: &Member| {
                    window.map_or(0, |window| {
                        let values = curve(member, window, Seen::Latest);
                        values.iter().filter(|value| value.is_nan()).count()
                    })
                };
                let mut members: Vec<Awaited> = team
                    .members
                    .iter()
                    .map(|member| Awaited {
                        unit: member.unit,
                        name: member.name.clone(),
                        last_run: moment.last_runs.get(&member.series_id).copied(),
                        missing: missing(member),
                    })
                    .collect();
                if members.is_empty() {
                    // Nothing has ever come: that is what the rule is for.
                    members.push(Awaited {
                        unit: team.unit,
                        name: team.name.clone(),
                        last_run: None,
                        missing: window.map_or(0, |window| window.periods),
                    });
                }
                let inputs = late::Inputs {
                    at: moment.at,
                    since: moment.since,
                    provider: &self.provider,
                    time_zone: &team.time_zone,
                    window,
                    members,
                };
                rule.evaluate(&inputs, &mut state.late)
            }
        }
    }
}
