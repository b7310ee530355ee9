//! Alert rules in the schema: what can be asked and changed.

mod mutation;
mod query;

pub(crate) use mutation::AlertMutation;
pub(crate) use query::{AlertQuery, AlertRules};

use async_graphql::{Context, ID};
use domain::access::Role;
use domain::alert::{self as domain_alert, Definition, Rule};
use domain::quote;

use super::types::id::number_of;
use super::{log, viewer};
use crate::delivery::Channels;
use crate::error::ApiError;

/// A rule that the viewer may see and change: their own, or of an ADMIN any.
/// Others' are as if they were not.
async fn own_rule(ctx: &Context<'_>, id: &ID, argument: &str) -> Result<Rule, ApiError> {
    let number = number_of("alertRule", id, argument)?;
    let rule = domain_alert::rule(log(ctx).database().writer(), number).await?;
    let viewer = viewer(ctx);
    rule.filter(|rule| rule.owner == viewer.user || viewer.roles.allow(Role::Admin))
        .ok_or_else(|| {
            let message = format!("there is no alert rule {} of yours", quote(id));
            ApiError::unknown(message, Some(argument.into()))
        })
}

/// An error for a rule that tells others, without the role SENDER.
fn demand_reach(ctx: &Context<'_>, owner: &str, definition: &Definition) -> Result<(), ApiError> {
    let to = &definition.to;
    let is_own =
        to.groups.is_empty() && to.topics.is_empty() && to.users.iter().all(|user| user == owner);
    if is_own {
        return Ok(());
    }
    viewer(ctx).demand(Role::Sender)
}

/// An error for a rule that this server could not send for.
fn require_channels(ctx: &Context<'_>, definition: &Definition) -> Result<(), ApiError> {
    let channels = ctx.data_unchecked::<Channels>();
    for channel in &definition.channels {
        channels.require(*channel)?;
    }
    Ok(())
}
