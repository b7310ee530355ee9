//! The worker that evaluates alert rules.
//!
//! Every replica runs it; which of them writes what fires is for the database to
//! say.

use std::time::Duration;

use domain::alert::{AlertError, Evaluator, Stepped};
use subscriptions::change_log::ChangeLog;
use time::OffsetDateTime;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::delivery::Wake;

/// What goes by the clock, and what another replica left, is found after this.
const INTERVAL: Duration = Duration::from_secs(1);
/// What comes so close together is looked at once.
const GATHER: Duration = Duration::from_millis(20);

/// Runs until it is told to stop; fails when the database does.
pub(crate) async fn run(
    log: ChangeLog,
    wake: Wake,
    stop: CancellationToken,
) -> Result<(), AlertError> {
    let mut evaluator = Evaluator::new(log.database().clone());
    let mut applied = log.forecasts().clock().watch_applied();
    while !stop.is_cancelled() {
        applied.mark_unchanged();
        let stepped = evaluator.step(OffsetDateTime::now_utc()).await?;
        tell(&stepped);
        if stepped.fired > 0 {
            wake.wake();
            // Whether it is known yet or not: it is committed, and will be seen.
            drop(log.acknowledge(stepped.receipt).await);
        }
        if stepped.more {
            continue;
        }
        tokio::select! {
            () = stop.cancelled() => {}
            Ok(()) = applied.changed() => sleep(GATHER).await,
            () = sleep(INTERVAL) => {}
        }
    }
    Ok(())
}

fn tell(stepped: &Stepped) {
    if let Some(restart) = stepped.restart {
        tracing::warn!(
            from = %restart.from,
            to = %restart.to,
            "the change log does not go on from where alert rules had been evaluated: \
             what lies between was passed over"
        );
    }
    for (rule_id, error) in &stepped.failed {
        tracing::warn!(
            alert.rule_id = rule_id,
            error = error as &dyn std::error::Error,
            "an alert rule fired and could tell nobody"
        );
    }
    if stepped.fired > 0 {
        tracing::info!(alert.fired = stepped.fired, "alert rules fired");
    }
}
