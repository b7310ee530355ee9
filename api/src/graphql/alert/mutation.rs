//! What can be changed of alert rules.

use async_graphql::{Context, Object};
use domain::alert::{self as domain_alert, Rule};
use time::OffsetDateTime;

use super::super::types::alert::{
    AlertRule, AlertRulePayload, CreateAlertRuleInput, DeleteAlertRuleInput,
    DeleteAlertRulePayload, MuteAlertRuleInput, UpdateAlertRuleInput,
};
use super::super::{log, viewer};
use super::{demand_reach, own_rule, require_channels};
use crate::error::ApiError;

pub(crate) struct AlertMutation;

/// What can be changed of alert rules.
#[Object]
impl AlertMutation {
    /// Makes an alert rule of the viewer. One that tells anybody else takes the
    /// role SENDER.
    async fn create_alert_rule(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The rule.")] input: CreateAlertRuleInput,
    ) -> async_graphql::Result<AlertRulePayload> {
        let definition = input.into_domain()?;
        let owner = &viewer(ctx).user;
        demand_reach(ctx, owner, &definition)?;
        require_channels(ctx, &definition)?;
        let db = log(ctx).database();
        domain::notification::ensure_user(db, owner)
            .await
            .map_err(ApiError::from)?;
        let rule = domain_alert::create(db, owner, &definition, OffsetDateTime::now_utc()).await;
        Ok(AlertRulePayload {
            rule: AlertRule(rule.map_err(ApiError::from)?),
        })
    }

    /// Changes an alert rule of the viewer, or, with the role ADMIN, any. What is
    /// absent is left as it is. With another unit, provider, resolution or
    /// condition the rule forgets what it has told. One that tells anybody but
    /// its owner takes the role SENDER.
    async fn update_alert_rule(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which rule, and what of it.")] input: UpdateAlertRuleInput,
    ) -> async_graphql::Result<AlertRulePayload> {
        let id = own_rule(ctx, &input.id, "input.id").await?.id;
        let revise = |rule: &Rule| -> Result<_, ApiError> {
            let definition = input.clone().over(rule.definition.clone())?;
            demand_reach(ctx, &rule.owner, &definition)?;
            require_channels(ctx, &definition)?;
            Ok(definition)
        };
        let db = log(ctx).database();
        let rule = domain_alert::update(db, id, revise, OffsetDateTime::now_utc()).await?;
        Ok(AlertRulePayload {
            rule: AlertRule(rule),
        })
    }

    /// Removes an alert rule of the viewer, or, with the role ADMIN, any. What it
    /// has told stays.
    async fn delete_alert_rule(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which rule.")] input: DeleteAlertRuleInput,
    ) -> async_graphql::Result<DeleteAlertRulePayload> {
        let rule = own_rule(ctx, &input.id, "input.id").await?;
        let gone = domain_alert::delete(log(ctx).database(), rule.id).await;
        gone.map_err(ApiError::from)?;
        Ok(DeleteAlertRulePayload {
            id: rule.global_id().into(),
        })
    }

    /// Keeps an alert rule of the viewer, or, with the role ADMIN, any from
    /// telling anybody for some time. It keeps up meanwhile: what began while it
    /// was muted is not told later.
    async fn mute_alert_rule(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which rule, and until when.")] input: MuteAlertRuleInput,
    ) -> async_graphql::Result<AlertRulePayload> {
        let rule = own_rule(ctx, &input.id, "input.id").await?;
        let db = log(ctx).database();
        let now = OffsetDateTime::now_utc();
        let rule = domain_alert::mute(db, rule.id, input.until.map(|at| at.0), now).await;
        Ok(AlertRulePayload {
            rule: AlertRule(rule.map_err(ApiError::from)?),
        })
    }
}
