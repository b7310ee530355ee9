//! Alert rules, as their owners see them.

use async_graphql::{
    Context, Enum, ID, InputObject, Json, MaybeUndefined, Object, OneofObject, SimpleObject, Union,
};
use domain::alert::{
    Condition, Definition, Direction, DryFiring, DryRun, Late, Measure, PercentOf, Quantity,
    Requires, Revision, Rule, Side, Threshold,
};
use domain::forecast::SeriesKey;
use domain::notification::Target;
use domain::provider::ProviderKey;
use domain::quote;
use serde_json::Value;
use time::{Duration, OffsetDateTime};

use super::forecast::{provider_of, unit_of};
use super::notification::{ChannelName, NotificationTarget, SeverityName};
use super::provider::Provider;
use super::scalar::{DateTime, Resolution, UnitKey};
use super::unit::Unit;
use crate::error::ApiError;

/// How an energy and a percentage go together, where both are given.
#[derive(Enum, Debug, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "Requires")]
pub(crate) enum AlertRequires {
    /// Both must be met.
    All,
    /// One is enough.
    Any,
}

/// What a hundred percent are.
#[derive(Enum, Debug, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "PercentOf")]
pub(crate) enum AlertPercentOf {
    /// The energy before. Of nothing there is no percentage: it is not met then.
    Before,
    /// What the plants could produce in the same delivery periods. It is not met
    /// where a capacity is missing.
    Capacity,
}

/// Which figure of the window counts.
#[derive(Enum, Debug, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "Measure")]
pub(crate) enum AlertMeasure {
    /// The change of the energy of the whole window.
    Net,
    /// The change of the delivery period that changes most.
    LargestPeriod,
}

/// Which changes count.
#[derive(Enum, Debug, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "Direction")]
pub(crate) enum AlertDirection {
    /// Up and down.
    Both,
    /// More than before.
    Up,
    /// Less than before.
    Down,
}

/// On which side of the limit it fires.
#[derive(Enum, Debug, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "Side")]
pub(crate) enum AlertSide {
    /// Below it.
    Below,
    /// Above it.
    Above,
}

/// What is limited.
#[derive(Enum, Debug, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "Quantity")]
pub(crate) enum AlertQuantity {
    /// The energy of a delivery period, in MWh.
    Mwh,
    /// Its mean power, in MW.
    Mw,
}

/// A new run moves the forecast: in the delivery periods that begin within the
/// next `hours` and had a value before, after less before is at least so much.
#[derive(SimpleObject)]
pub(crate) struct RevisionCondition {
    /// How far it looks ahead.
    hours: u32,
    /// At least so many MWh.
    min_mwh: Option<f64>,
    /// At least so many percent.
    min_percent: Option<f64>,
    /// Whether both of them must be met.
    requires: AlertRequires,
    /// What a hundred percent are.
    percent_of: AlertPercentOf,
    /// Which figure of the window counts.
    measure: AlertMeasure,
    /// Which changes count.
    direction: AlertDirection,
    /// Compares with what had been issued so many minutes before the run; 0 for
    /// what was latest without it.
    accumulate_minutes: u32,
}

/// The forecast of a delivery period that begins within the next `hours` crosses
/// a limit. It fires again only after all of them were back past the limit by
/// `hysteresis`.
#[derive(SimpleObject)]
pub(crate) struct ThresholdCondition {
    /// How far it looks ahead.
    hours: u32,
    /// On which side of the limit it fires.
    side: AlertSide,
    /// The limit, in the quantity's unit.
    limit: f64,
    /// What is limited.
    quantity: AlertQuantity,
    /// How far back the forecast has to come, in the quantity's unit.
    hysteresis: f64,
}

/// No new run has come for so long, or the forecast has gaps. It fires once for
/// each run that is not followed, and once for each time that gaps appear.
#[derive(SimpleObject)]
pub(crate) struct LateCondition {
    /// A run is expected each so many minutes.
    after_minutes: u32,
    /// Each delivery period that begins within so many hours must have a value;
    /// null where gaps are not looked for.
    complete_hours: Option<u32>,
}

/// On what a rule fires.
#[derive(Union)]
pub(crate) enum AlertCondition {
    Revision(RevisionCondition),
    Threshold(ThresholdCondition),
    Late(LateCondition),
}

impl From<&Condition> for AlertCondition {
    fn from(condition: &Condition) -> Self {
        match condition {
            Condition::Revision(rule) => Self::Revision(RevisionCondition {
                hours: rule.hours,
                min_mwh: rule.min_mwh,
                min_percent: rule.min_percent,
                requires: rule.requires.into(),
                percent_of: rule.percent_of.into(),
                measure: rule.measure.into(),
                direction: rule.direction.into(),
                accumulate_minutes: rule.accumulate_minutes,
            }),
            Condition::Threshold(rule) => Self::Threshold(ThresholdCondition {
                hours: rule.hours,
                side: rule.side.into(),
                limit: rule.limit,
                quantity: rule.quantity.into(),
                hysteresis: rule.hysteresis,
            }),
            Condition::Late(rule) => Self::Late(LateCondition {
                after_minutes: rule.after_minutes,
                complete_hours: rule.complete_hours,
            }),
        }
    }
}

/// Whom a rule tells: everybody who is in any of these, once.
#[derive(SimpleObject)]
pub(crate) struct AlertRecipients {
    /// Keys of users.
    users: Vec<String>,
    /// Keys of groups of users.
    groups: Vec<String>,
    /// Topics that users subscribed to.
    topics: Vec<String>,
}

/// What somebody wants to be told of.
pub(crate) struct AlertRule(pub(crate) Rule);

impl AlertRule {
    fn series(&self) -> SeriesKey {
        let definition = &self.0.definition;
        SeriesKey {
            unit: definition.unit,
            provider: definition.provider.clone(),
            resolution: definition.resolution,
        }
    }
}

/// What somebody wants to be told of.
#[Object]
impl AlertRule {
    /// Its global id.
    async fn id(&self) -> ID {
        self.0.global_id().into()
    }

    /// The key of the user whose it is.
    async fn owner(&self) -> &str {
        &self.0.owner
    }

    /// For people.
    async fn name(&self) -> &str {
        &self.0.definition.name
    }

    /// Whose forecasts it looks at: a plant's, or the sum of the plants below a
    /// group or company.
    async fn unit(&self, ctx: &Context<'_>) -> async_graphql::Result<Unit> {
        Ok(unit_of(ctx, &self.series()).await?)
    }

    /// Who forecasts.
    async fn provider(&self, ctx: &Context<'_>) -> async_graphql::Result<Provider> {
        Ok(provider_of(ctx, &self.series()).await?)
    }

    /// The resolution of the series.
    async fn resolution(&self) -> Resolution {
        self.0.definition.resolution.into()
    }

    /// On what it fires.
    async fn condition(&self) -> AlertCondition {
        (&self.0.definition.condition).into()
    }

    /// Whom it tells.
    async fn to(&self) -> AlertRecipients {
        let to = &self.0.definition.to;
        AlertRecipients {
            users: to.users.clone(),
            groups: to.groups.clone(),
            topics: to.topics.clone(),
        }
    }

    /// Over which channels, as far as each user has and wants them.
    async fn channels(&self) -> Vec<ChannelName> {
        let channels = &self.0.definition.channels;
        channels.iter().copied().map(Into::into).collect()
    }

    /// How much what it tells matters.
    async fn severity(&self) -> SeverityName {
        self.0.definition.severity.into()
    }

    /// Over channels other than `IN_APP` a user gets no more than one of this rule
    /// in so many seconds, unless it is critical.
    async fn throttle_seconds(&self) -> Option<i64> {
        let throttle = self.0.definition.throttle;
        throttle.map(Duration::whole_seconds)
    }

    /// Until then it tells nobody.
    async fn muted_until(&self) -> Option<OffsetDateTime> {
        self.0.definition.muted_until
    }

    /// Off, it tells nobody.
    async fn enabled(&self) -> bool {
        self.0.definition.enabled
    }

    /// When it was made.
    async fn created_at(&self) -> OffsetDateTime {
        self.0.created_at
    }

    /// When it was last changed.
    async fn updated_at(&self) -> OffsetDateTime {
        self.0.updated_at
    }

    /// How often it has told somebody.
    async fn firings(&self) -> i64 {
        self.0.firings
    }

    /// When it last told somebody.
    async fn last_fired_at(&self) -> Option<OffsetDateTime> {
        self.0.last_fired_at
    }
}

/// A new run moves the forecast. Give `minMwh`, `minPercent` or both.
#[derive(Clone, InputObject)]
pub(crate) struct RevisionConditionInput {
    /// The delivery periods that begin within so many hours, 1 to 168.
    hours: u32,
    /// At least so many MWh.
    min_mwh: Option<f64>,
    /// At least so many percent.
    min_percent: Option<f64>,
    /// Whether both of them must be met, where both are given.
    #[graphql(default_with = "AlertRequires::All")]
    requires: AlertRequires,
    /// What a hundred percent are.
    #[graphql(default_with = "AlertPercentOf::Before")]
    percent_of: AlertPercentOf,
    /// Which figure of the window counts.
    #[graphql(default_with = "AlertMeasure::Net")]
    measure: AlertMeasure,
    /// Which changes count.
    #[graphql(default_with = "AlertDirection::Both")]
    direction: AlertDirection,
    /// Compares with what had been issued so many minutes before the run, 0 to
    /// 1440, so that a slow slide, or runs of a group's plants that come one by
    /// one, add up; 0 for what was latest without the run.
    #[graphql(default)]
    accumulate_minutes: u32,
}

/// The forecast crosses a limit.
#[derive(Clone, InputObject)]
pub(crate) struct ThresholdConditionInput {
    /// The delivery periods that begin within so many hours, 1 to 168.
    hours: u32,
    /// On which side of the limit it fires.
    side: AlertSide,
    /// The limit, in the quantity's unit.
    limit: f64,
    /// What is limited.
    #[graphql(default_with = "AlertQuantity::Mwh")]
    quantity: AlertQuantity,
    /// How far back past the limit all periods have to come before it fires
    /// again, in the quantity's unit.
    #[graphql(default)]
    hysteresis: f64,
}

/// No new run has come for so long, or the forecast has gaps.
#[derive(Clone, InputObject)]
pub(crate) struct LateConditionInput {
    /// A run is expected each so many minutes, 1 to 10,080.
    after_minutes: u32,
    /// Each delivery period that begins within so many hours, 1 to 168, must have
    /// a value; gaps are not looked for if absent.
    complete_hours: Option<u32>,
}

/// On what a rule fires.
#[derive(Clone, OneofObject)]
pub(crate) enum AlertConditionInput {
    /// A new run moves the forecast.
    Revision(RevisionConditionInput),
    /// The forecast crosses a limit.
    Threshold(ThresholdConditionInput),
    /// No new run has come for so long, or the forecast has gaps.
    Late(LateConditionInput),
}

impl From<AlertConditionInput> for Condition {
    fn from(input: AlertConditionInput) -> Self {
        match input {
            AlertConditionInput::Revision(input) => Self::Revision(Revision {
                hours: input.hours,
                min_mwh: input.min_mwh,
                min_percent: input.min_percent,
                requires: input.requires.into(),
                percent_of: input.percent_of.into(),
                measure: input.measure.into(),
                direction: input.direction.into(),
                accumulate_minutes: input.accumulate_minutes,
            }),
            AlertConditionInput::Threshold(input) => Self::Threshold(Threshold {
                hours: input.hours,
                side: input.side.into(),
                limit: input.limit,
                quantity: input.quantity.into(),
                hysteresis: input.hysteresis,
            }),
            AlertConditionInput::Late(input) => Self::Late(Late {
                after_minutes: input.after_minutes,
                complete_hours: input.complete_hours,
            }),
        }
    }
}

/// An alert rule to be made.
#[derive(InputObject)]
pub(crate) struct CreateAlertRuleInput {
    /// For people, 1 to 200 characters.
    name: String,
    /// A plant; or a group or company, as the sum of the plants below it.
    unit: UnitKey,
    /// Whose forecasts.
    provider: String,
    /// The resolution of the series.
    resolution: Resolution,
    /// On what it fires.
    condition: AlertConditionInput,
    /// Whom it tells; the viewer if absent. Others take the role SENDER.
    to: Option<NotificationTarget>,
    /// Over which channels, as far as each user has and wants them.
    #[graphql(default_with = "vec![ChannelName::InApp]")]
    channels: Vec<ChannelName>,
    /// How much what it tells matters.
    #[graphql(default_with = "SeverityName::Warning")]
    severity: SeverityName,
    /// Over channels other than `IN_APP` a user gets no more than one of this rule
    /// in so many seconds, unless it is critical.
    throttle_seconds: Option<i64>,
    /// Until then it tells nobody.
    muted_until: Option<DateTime>,
    /// Off, it tells nobody.
    #[graphql(default = true)]
    enabled: bool,
}

/// No provider has a key that is none.
fn provider_key(key: &str) -> Result<ProviderKey, ApiError> {
    key.parse().map_err(|_| {
        ApiError::unknown(
            format!("there is no provider {}", quote(key)),
            Some("provider".into()),
        )
    })
}

impl CreateAlertRuleInput {
    pub(crate) fn into_domain(self) -> Result<Definition, ApiError> {
        Ok(Definition {
            name: self.name,
            unit: self.unit.0,
            provider: provider_key(&self.provider)?,
            resolution: self.resolution.into(),
            condition: self.condition.into(),
            to: self.to.map(Target::from).unwrap_or_default(),
            channels: self.channels.into_iter().map(Into::into).collect(),
            severity: self.severity.into(),
            throttle: self.throttle_seconds.map(Duration::seconds),
            muted_until: self.muted_until.map(|at| at.0),
            enabled: self.enabled,
        })
    }
}

/// What to change of an alert rule; what is absent is left as it is.
#[derive(Clone, InputObject)]
pub(crate) struct UpdateAlertRuleInput {
    /// Its global id.
    pub(crate) id: ID,
    /// For people, 1 to 200 characters.
    name: Option<String>,
    /// A plant; or a group or company, as the sum of the plants below it.
    unit: Option<UnitKey>,
    /// Whose forecasts.
    provider: Option<String>,
    /// The resolution of the series.
    resolution: Option<Resolution>,
    /// On what it fires: all of it.
    condition: Option<AlertConditionInput>,
    /// Whom it tells: all of them. Others than the owner take the role SENDER.
    to: Option<NotificationTarget>,
    /// Over which channels: all of them.
    channels: Option<Vec<ChannelName>>,
    /// How much what it tells matters.
    severity: Option<SeverityName>,
    /// Over channels other than `IN_APP` a user gets no more than one of this rule
    /// in so many seconds, unless it is critical; null for no throttle.
    throttle_seconds: MaybeUndefined<i64>,
    /// Until then it tells nobody; null for no mute.
    muted_until: MaybeUndefined<DateTime>,
    /// Off, it tells nobody.
    enabled: Option<bool>,
}

impl UpdateAlertRuleInput {
    /// A definition with what is given here.
    pub(crate) fn over(self, old: Definition) -> Result<Definition, ApiError> {
        let provider = self.provider.map(|key| provider_key(&key)).transpose()?;
        Ok(Definition {
            name: self.name.unwrap_or(old.name),
            unit: self.unit.map_or(old.unit, |unit| unit.0),
            provider: provider.unwrap_or(old.provider),
            resolution: self.resolution.map_or(old.resolution, Into::into),
            condition: self.condition.map_or(old.condition, Into::into),
            to: self.to.map_or(old.to, Target::from),
            channels: self.channels.map_or(old.channels, |channels| {
                channels.into_iter().map(Into::into).collect()
            }),
            severity: self.severity.map_or(old.severity, Into::into),
            throttle: match self.throttle_seconds {
                MaybeUndefined::Undefined => old.throttle,
                MaybeUndefined::Null => None,
                MaybeUndefined::Value(seconds) => Some(Duration::seconds(seconds)),
            },
            muted_until: match self.muted_until {
                MaybeUndefined::Undefined => old.muted_until,
                MaybeUndefined::Null => None,
                MaybeUndefined::Value(until) => Some(until.0),
            },
            enabled: self.enabled.unwrap_or(old.enabled),
        })
    }
}

/// Which alert rule to remove.
#[derive(InputObject)]
pub(crate) struct DeleteAlertRuleInput {
    /// Its global id.
    pub(crate) id: ID,
}

/// Which alert rule to mute.
#[derive(InputObject)]
pub(crate) struct MuteAlertRuleInput {
    /// Its global id.
    pub(crate) id: ID,
    /// Until when; null or absent, it may tell again.
    pub(crate) until: Option<DateTime>,
}

/// The rule as it is now.
#[derive(SimpleObject)]
pub(crate) struct AlertRulePayload {
    /// The rule as it is now.
    pub(crate) rule: AlertRule,
}

/// It is gone.
#[derive(SimpleObject)]
pub(crate) struct DeleteAlertRulePayload {
    /// The global id that it had.
    pub(crate) id: ID,
}

/// What a rule would have fired.
#[derive(SimpleObject)]
pub(crate) struct AlertDryRun {
    /// How often.
    total: u64,
    /// The first 500 of them, in order.
    firings: Vec<AlertFiring>,
}

/// A firing that would have been.
#[derive(SimpleObject)]
pub(crate) struct AlertFiring {
    /// When.
    at: OffsetDateTime,
    /// Why, as the notification's title says it after the unit's name.
    reason: String,
    /// The same at length, as the notification's body says it.
    detail: String,
    /// What it was before, of a revision: MWh.
    before: Option<f64>,
    /// What it is after: MWh, or of a threshold the unit of its quantity.
    after: Option<f64>,
    /// The reason for apps: a JSON object.
    data: Json<Value>,
}

impl From<DryFiring> for AlertFiring {
    fn from(DryFiring { at, firing }: DryFiring) -> Self {
        Self {
            at,
            data: Json(Value::Object(firing.data().clone())),
            reason: firing.headline,
            detail: firing.detail,
            before: firing.before,
            after: firing.after,
        }
    }
}

impl From<DryRun> for AlertDryRun {
    fn from(run: DryRun) -> Self {
        Self {
            total: run.total as u64,
            firings: run.firings.into_iter().map(Into::into).collect(),
        }
    }
}
