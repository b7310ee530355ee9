//! The GraphQL schema, one file a root, one a topic of types; and the executor,
//! which carries out operations for every transport.

mod alert;
pub(crate) mod answer;
pub(crate) mod executor;
mod feed;
pub(crate) mod frame;
pub(crate) mod live_metrics;
mod mutation;
mod notification;
pub(crate) mod operation;
mod page;
pub(crate) mod params;
pub(crate) mod persisted;
mod query;
mod subscribed;
mod subscription;
mod types;

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use async_graphql::{
    Context, MergedObject, MergedSubscription, SDLExportOptions, Schema, SchemaBuilder,
    ValidationMode,
};
use domain::access::Role;
use domain::forecast::RangeError;
use subscriptions::change_log::ChangeLog;

use crate::auth::Keys;
use crate::delivery::{Channels, Wake};
use crate::error::ApiError;
use crate::viewer::Viewer;
use alert::{AlertMutation, AlertQuery};
use mutation::ForecastMutation;
use notification::{NotificationMutation, NotificationQuery, NotificationSubscription};
use query::ForecastQuery;
use subscription::ForecastSubscription;

/// What one request may ask for.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Nesting of a document.
    pub depth: usize,
    /// Lexical tokens of a document.
    pub tokens: usize,
    /// Aliases in a document.
    pub aliases: usize,
    /// Delivery periods of all forecasts of a request together.
    pub points: i64,
    /// What the answer to an operation weighs, in bytes, as its plan tells before
    /// any work.
    pub answer_bytes: u64,
    /// Bytes of a request's body.
    pub body_bytes: usize,
    /// How long a query or mutation may take.
    pub operation_timeout: Duration,
}

/// What can be asked.
#[derive(MergedObject)]
pub(crate) struct Query(ForecastQuery, NotificationQuery, AlertQuery);

/// What can be changed. What has a position answers when the change has it and
/// this replica has applied it: a read after it includes it.
#[derive(MergedObject)]
pub(crate) struct Mutation(ForecastMutation, NotificationMutation, AlertMutation);

/// What can be followed. Each payload has `extensions.position`, from where a
/// subscription can be resumed, `extensions.committedAt`, when the newest change
/// in it was made, and `extensions.sentAt`.
#[derive(MergedSubscription)]
pub(crate) struct Subscription(ForecastSubscription, NotificationSubscription);

pub(crate) type SmartPulseSchema = Schema<Query, Mutation, Subscription>;

/// The schema without anything behind it.
fn build() -> SchemaBuilder<Query, Mutation, Subscription> {
    let query = Query(ForecastQuery, NotificationQuery, AlertQuery);
    let mutation = Mutation(ForecastMutation, NotificationMutation, AlertMutation);
    let subscription = Subscription(ForecastSubscription, NotificationSubscription);
    Schema::build(query, mutation, subscription)
        .override_output_type_description::<query::Units>("Units, a page of them.")
        .override_output_type_description::<query::Providers>("Providers, a page of them.")
        .override_output_type_description::<query::ApiKeys>("API keys, a page of them.")
        .override_output_type_description::<notification::Notifications>(
            "Notifications, a page of them.",
        )
        .override_output_type_description::<notification::Deliveries>("Deliveries, a page of them.")
        .override_output_type_description::<notification::Users>("Users, a page of them.")
        .override_output_type_description::<alert::AlertRules>("Alert rules, a page of them.")
}

/// The schema over a running change log.
pub(crate) fn schema(
    log: ChangeLog,
    limits: Limits,
    keys: Keys,
    channels: Channels,
    wake: Wake,
) -> SmartPulseSchema {
    build()
        // What reaches it is a plan: valid, coerced and within the limits.
        .validation_mode(ValidationMode::Fast)
        .limit_recursive_depth(usize::MAX)
        .data(channels)
        .data(wake)
        .data(log)
        .data(limits)
        .data(keys)
        .finish()
}

/// The schema's text, as `smartpulse schema` prints it.
pub fn sdl() -> String {
    let schema = build().finish();
    let mut sdl = schema.sdl_with_options(SDLExportOptions::new().include_specified_by());
    // One newline ends the file, however the exporter sees it.
    sdl.truncate(sdl.trim_end().len());
    sdl.push('\n');
    sdl
}

fn log<'a>(ctx: &Context<'a>) -> &'a ChangeLog {
    ctx.data_unchecked::<ChangeLog>()
}

/// Who asks. Of a subscription only where its scope is the viewer's alone: all of a
/// scope share one execution.
fn viewer<'a>(ctx: &Context<'a>) -> &'a Viewer {
    ctx.data_unchecked::<Viewer>()
}

/// An error for who may not do what `role` is for. To be called before anything
/// else is done.
fn demand(ctx: &Context<'_>, role: Role) -> Result<(), ApiError> {
    viewer(ctx).demand(role)
}

/// Delivery periods that a request may still ask for.
pub(crate) struct PointBudget(AtomicI64);

impl PointBudget {
    pub(crate) fn new(limits: Limits) -> Self {
        Self(AtomicI64::new(limits.points))
    }
}

/// Takes `periods` off what the request may ask for. A subscription, which has
/// no budget, may ask for as much each time.
fn spend(ctx: &Context<'_>, periods: usize) -> Result<(), ApiError> {
    let limit = ctx.data_unchecked::<Limits>().points;
    let asked = i64::try_from(periods).unwrap_or(i64::MAX);
    let left = match ctx.data_opt::<PointBudget>() {
        Some(budget) => budget.0.fetch_sub(asked, Ordering::Relaxed) - asked,
        None => limit - asked,
    };
    if left < 0 {
        let error = RangeError::TooLong {
            asked: limit - left,
            limit,
        };
        return Err(domain::forecast::ForecastError::from(error).into());
    }
    Ok(())
}
