//! What can be asked of alert rules.

use async_graphql::connection::{Connection, Edge, OpaqueCursor};
use async_graphql::{Context, ID, Object};
use domain::access::Role;
use domain::alert as domain_alert;
use time::OffsetDateTime;
use tokio::sync::Semaphore;

use super::super::page::{Page, decode_cursor};
use super::super::types::alert::{AlertDryRun, AlertRule, CreateAlertRuleInput};
use super::super::types::scalar::DateTime;
use super::super::{log, viewer};
use super::own_rule;
use crate::error::{ApiError, ErrorCode};

type AlertRuleCursor = OpaqueCursor<i64>;
pub(crate) type AlertRules = Connection<AlertRuleCursor, AlertRule>;

pub(crate) struct AlertQuery;

/// Dry runs at once: each may keep a hundred thousand versions in memory.
static DRY_RUNS: Semaphore = Semaphore::const_new(2);

/// What can be asked of alert rules.
#[Object]
impl AlertQuery {
    /// Alert rules, the oldest first, page by page: the viewer's own, or, with the
    /// role ADMIN, all.
    async fn alert_rules(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "At most so many, from the start; 50 if neither is given, at most 500.")]
        first: Option<i32>,
        #[graphql(desc = "Only those after this cursor.")] after: Option<String>,
        #[graphql(desc = "At most so many, from the end; at most 500.")] last: Option<i32>,
        #[graphql(desc = "Only those before this cursor.")] before: Option<String>,
    ) -> async_graphql::Result<AlertRules> {
        let page = Page::new(first, last)?;
        let cursor = |cursor: Option<String>| {
            let decode = |cursor: String| decode_cursor::<AlertRuleCursor>(&cursor);
            Ok::<_, ApiError>(cursor.map(decode).transpose()?.map(|cursor| cursor.0))
        };
        let (after, before) = (cursor(after)?, cursor(before)?);
        let viewer = viewer(ctx);
        let owner = (!viewer.roles.allow(Role::Admin)).then_some(viewer.user.as_str());
        let rules = domain_alert::rules(
            log(ctx).database().reader(),
            owner,
            after,
            before,
            page.to_read(),
            page.from_end,
        )
        .await
        .map_err(ApiError::from)?;
        Ok(
            page.connect(rules, after.is_some(), before.is_some(), |rule| {
                Edge::new(OpaqueCursor(rule.id), AlertRule(rule))
            }),
        )
    }

    /// One alert rule of the viewer, or, with the role ADMIN, any; null if there
    /// is none.
    async fn alert_rule(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Its global id.")] id: ID,
    ) -> async_graphql::Result<Option<AlertRule>> {
        match own_rule(ctx, &id, "id").await {
            Ok(rule) => Ok(Some(AlertRule(rule))),
            Err(error) if error.code() == ErrorCode::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// What a rule would have fired, had there been it: the forecasts that were
    /// received in a span of at most 31 days are replayed in their order. Mutes
    /// and throttles make no difference, and nobody is told.
    async fn alert_rule_dry_run(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The rule, as `createAlertRule` takes it.")] input: CreateAlertRuleInput,
        #[graphql(desc = "What was received after this.")] since: DateTime,
        #[graphql(desc = "What was received by then; now if absent or later.")] until: Option<
            DateTime,
        >,
    ) -> async_graphql::Result<AlertDryRun> {
        let definition = input.into_domain()?;
        let now = OffsetDateTime::now_utc();
        let until = until.map(|at| at.0);
        let turn = DRY_RUNS.acquire().await;
        let run =
            domain_alert::dry_run(log(ctx).database(), &definition, since.0, until, now).await;
        drop(turn);
        Ok(AlertDryRun::from(run.map_err(ApiError::from)?))
    }
}
