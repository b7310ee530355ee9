//! `template.toml`: what a template says about itself.

use std::collections::BTreeMap;

use serde::Deserialize;

/// What `template.toml` says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    /// What the template is for.
    pub(super) description: Option<String>,
    /// Who speaks none of its languages gets this one.
    pub(super) default_locale: String,
    /// What a notification gives the template, besides what each has.
    #[serde(default)]
    pub(super) variables: BTreeMap<String, Variable>,
}

/// A variable of a template. Without a default it must be given.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Variable {
    pub(crate) description: Option<String>,
    pub(crate) default: Option<serde_json::Value>,
}
