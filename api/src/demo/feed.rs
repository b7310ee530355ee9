//! What providers send: a history first, then new runs for as long as the demo lives.

use std::time::Duration as StdDuration;

use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::client::Client;
use super::portfolio::{HOLDERS, PLANTS, PROVIDERS, Plant, SCHEDULES, Schedule, Technology};
use super::provider;

/// How the demo's providers work.
#[derive(Debug, Clone)]
pub(super) struct FeedSettings {
    pub(super) seed: u64,
    /// When the history ends; the present moves on from here.
    pub(super) now: OffsetDateTime,
    pub(super) history: Duration,
    /// Between two issues of new runs.
    pub(super) pace: StdDuration,
    /// Whether issue times follow from the number of issues, or from the clock.
    pub(super) deterministic: bool,
}

/// Runs of one mutation of the history.
const RUNS_A_SAVE: usize = 120;
/// A new run of a schedule comes for every so many-th plant at once.
const PLANTS_IN_TURN: usize = 3;

const UPSERT_UNITS: &str =
    "mutation($input: UpsertUnitsInput!) { upsertUnits(input: $input) { position } }";
const UPSERT_PROVIDERS: &str =
    "mutation($input: UpsertProvidersInput!) { upsertProviders(input: $input) { position } }";
const SAVE_FORECASTS: &str =
    "mutation($input: SaveForecastsInput!) { saveForecasts(input: $input) { position } }";

/// Writes units and providers.
pub(super) async fn declare(client: &Client, settings: &FeedSettings) -> anyhow::Result<()> {
    let built = settings.now - settings.history - Duration::days(365);
    let holders = HOLDERS.iter().map(|holder| {
        json!({ "key": holder.key, "name": holder.name, "timeZone": holder.time_zone, "parent": holder.parent })
    });
    let plants = PLANTS.iter().map(|plant| {
        let kind = match plant.technology {
            Technology::Solar => "solar",
            Technology::Wind { .. } => "wind",
        };
        json!({
            "key": unit_key(plant),
            "name": format!("{} {kind}", plant.name),
            "timeZone": plant.time_zone,
            "parent": plant.group,
            "capacityMw": plant.capacity_mw,
            "capacityValidFrom": instant(built),
        })
    });
    let units: Vec<Value> = holders.chain(plants).collect();
    client
        .mutate(UPSERT_UNITS, json!({ "units": units }))
        .await?;
    let providers: Vec<Value> = PROVIDERS
        .iter()
        .map(|provider| json!({ "key": provider.key, "name": provider.name }))
        .collect();
    client
        .mutate(UPSERT_PROVIDERS, json!({ "providers": providers }))
        .await
}

/// Writes what providers issued before the present, oldest first.
pub(super) async fn write_history(client: &Client, settings: &FeedSettings) -> anyhow::Result<()> {
    let begin = settings.now - settings.history;
    let mut issues: Vec<(OffsetDateTime, &Schedule)> = Vec::new();
    for schedule in &SCHEDULES {
        let every = schedule.every_hours * 3600;
        let mut at = (begin.unix_timestamp().div_euclid(every) + 1) * every;
        while at <= settings.now.unix_timestamp() {
            issues.push((OffsetDateTime::from_unix_timestamp(at)?, schedule));
            at += every;
        }
    }
    issues.sort_by_key(|(issued_at, _)| *issued_at);
    let issued: Vec<_> = issues
        .iter()
        .flat_map(|issue| PLANTS.iter().map(move |plant| (plant, *issue)))
        .collect();
    for some in issued.chunks(RUNS_A_SAVE) {
        let runs = some
            .iter()
            .map(|(plant, (issued_at, schedule))| run(settings.seed, plant, schedule, *issued_at));
        save(client, runs).await?;
    }
    Ok(())
}

/// Issues new runs until `stop`. One that is not taken is left out: the next
/// says more anyway.
pub(super) async fn issue(client: &Client, settings: &FeedSettings, stop: CancellationToken) {
    let mut pace = interval(settings.pace);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for turn in 0.. {
        tokio::select! {
            _ = pace.tick() => {}
            () = stop.cancelled() => return,
        }
        let issued_at = if settings.deterministic {
            settings.now + settings.pace * turn
        } else {
            OffsetDateTime::now_utc()
        };
        let turn = turn as usize;
        let schedule = &SCHEDULES[turn % SCHEDULES.len()];
        let runs = PLANTS
            .iter()
            .skip(turn / SCHEDULES.len() % PLANTS_IN_TURN)
            .step_by(PLANTS_IN_TURN)
            .map(|plant| run(settings.seed, plant, schedule, issued_at));
        if let Err(error) = save(client, runs).await {
            tracing::warn!(error = format!("{error:#}"), "runs were not saved");
        }
    }
}

async fn save(client: &Client, runs: impl Iterator<Item = Value>) -> anyhow::Result<()> {
    let runs: Vec<Value> = runs.collect();
    client.mutate(SAVE_FORECASTS, json!({ "runs": runs })).await
}

fn run(seed: u64, plant: &Plant, schedule: &Schedule, issued_at: OffsetDateTime) -> Value {
    let (start, values) = provider::forecast(seed, plant, schedule, issued_at);
    json!({
        "unit": unit_key(plant),
        "provider": schedule.provider.key,
        "resolution": schedule.resolution.as_str(),
        "issuedAt": instant(issued_at),
        "start": instant(start),
        "values": values,
    })
}

fn unit_key(plant: &Plant) -> String {
    format!("plant:{}", plant.number)
}

fn instant(at: OffsetDateTime) -> String {
    at.format(&Rfc3339)
        .unwrap_or_else(|error| unreachable!("every UTC instant has this form: {error}"))
}
