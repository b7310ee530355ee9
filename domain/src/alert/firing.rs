//! What a rule says when it fires, and the notification it becomes.

use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use super::rule::Rule;
use super::team::Team;
use super::words;
use crate::change::Position;
use crate::notification::{SendRequest, Throttle};

/// A rule's condition has come true.
#[derive(Debug, Clone, PartialEq)]
pub struct Firing {
    /// What goes on after the unit's name: `forecast down 12.4 MWh (-18 %) in
    /// the next 6 h`.
    pub headline: String,
    /// The same at length.
    pub detail: String,
    /// What it was before, in the unit of `after`, if the kind compares.
    pub before: Option<f64>,
    /// What it is now: MWh, or the unit of the rule's limit.
    pub after: Option<f64>,
    /// The reason for apps, as the kind has it.
    pub(super) data: Map<String, Value>,
}

/// The longest title that a notification may have.
const TITLE: usize = 200;

impl Firing {
    /// The reason for apps: a JSON object.
    pub fn data(&self) -> &Map<String, Value> {
        &self.data
    }

    /// The notification of a rule.
    pub(super) fn request(&self, rule: &Rule, team: &Team, position: Position) -> SendRequest {
        let definition = &rule.definition;
        let mut data = Map::new();
        let common = json!({
            "rule": rule.global_id(),
            "ruleName": definition.name,
            "kind": definition.condition.kind(),
            "unit": definition.unit.to_string(),
            "unitName": team.name,
            "provider": definition.provider.as_str(),
            "resolution": definition.resolution.as_str(),
            "before": self.before,
            "after": self.after,
            "position": position.to_string(),
        });
        if let Value::Object(common) = common {
            data.extend(common);
        }
        data.extend(self.data.clone());
        SendRequest {
            to: definition.to.clone(),
            title: words::line(&format!("{}: {}", team.name, self.headline), TITLE),
            body: self.detail.replace('\0', " "),
            severity: definition.severity,
            category: "alert".into(),
            data: Some(Value::Object(data)),
            link: Some(format!(
                "/?unit={}&provider={}&resolution={}",
                definition.unit, definition.provider, definition.resolution
            )),
            channels: definition.channels.clone(),
            template: None,
            variables: None,
            attachments: Vec::new(),
            not_before: None,
            expires_at: None,
            throttle: definition.throttle.map(|interval| Throttle {
                group_key: rule.sender(),
                interval,
            }),
            idempotency_key: None,
        }
    }
}

/// An instant in a firing's data.
pub(super) fn instant_json(at: OffsetDateTime) -> Value {
    use time::format_description::well_known::Rfc3339;
    at.format(&Rfc3339).map_or(Value::Null, Value::String)
}

/// The same of seconds since 1970.
pub(super) fn seconds_json(seconds: i64) -> Value {
    OffsetDateTime::from_unix_timestamp(seconds).map_or(Value::Null, instant_json)
}
