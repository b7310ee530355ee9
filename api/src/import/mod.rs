//! `smartpulse import`: forecasts from a CSV file, all of them or none.
//!
//! A file is in long form, a row per value with a fixed header, or in wide
//! form, a row per delivery period, which a [`Mapping`] explains. It is read
//! to its end before anything is written: a file with more bad rows than its
//! user accepts leaves no trace. Nothing is guessed; a row that could mean two
//! things is rejected.

mod error;
mod issue_rule;
mod long;
mod mapping;
mod mwh;
mod read_ahead;
mod reject;
mod runs;
mod table;
#[cfg(test)]
mod tests;
mod time_reader;
mod wide;
mod zone;

pub(crate) use error::ImportError;

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use domain::Patch;
use domain::change;
use domain::database::{Database, Transaction, again};
use domain::forecast::{self, ForecastError, NewRun, SaveRequest, Written};
use domain::provider::{self, ProviderUpsert};
use domain::unit::{self, UnitUpsert};
use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressFinish, ProgressStyle};
use time::OffsetDateTime;

use mapping::Mapping;
use reject::Rejects;
use runs::Runs;
use table::Table;

/// Import forecasts from a CSV file
#[derive(Debug, Clone, Args)]
pub(crate) struct ImportArgs {
    /// CSV file, gzip or not. Without --mapping its header is
    /// unit,provider,resolution,delivery_start,mwh and, if you like, issued_at
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// What the columns of a file with a row per delivery period mean;
    /// docs/mappings has examples
    #[arg(long, value_name = "FILE.toml")]
    pub mapping: Option<PathBuf>,
    /// Accept up to this many bad rows; with more, nothing is written
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub max_rejects: u64,
    /// Create units (in UTC) and providers that do not exist yet
    #[arg(long)]
    pub create: bool,
    /// Show no progress bar; it is never shown where stderr is no terminal
    #[arg(long)]
    pub no_progress: bool,
}

/// What an import wrote.
#[derive(Debug, Clone)]
pub(crate) struct Summary {
    pub runs: usize,
    pub values: usize,
    /// Rows that were left out, no more than were accepted.
    pub rejects: Rejects,
    pub elapsed_reading: Duration,
    pub elapsed_writing: Duration,
}

impl Summary {
    /// Values read and written in a second.
    pub(crate) fn values_per_second(&self) -> f64 {
        let elapsed = self.elapsed_reading + self.elapsed_writing;
        self.values as f64 / elapsed.as_secs_f64().max(f64::EPSILON)
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} values in {} runs, {} rows rejected; read in {:.2} s, written in {:.2} s, {} values/s{}",
            HumanCount(self.values as u64),
            HumanCount(self.runs as u64),
            HumanCount(self.rejects.count()),
            self.elapsed_reading.as_secs_f64(),
            self.elapsed_writing.as_secs_f64(),
            HumanCount(self.values_per_second() as u64),
            self.rejects,
        )
    }
}

/// Imports a file as the viewer named `import`, in one transaction with the
/// units and providers that it brings, once it has been read and its rejected
/// rows are accepted.
pub(crate) async fn run(
    db: &Database,
    args: &ImportArgs,
    now: OffsetDateTime,
) -> Result<Summary, ImportError> {
    let mapping = args.mapping.as_deref().map(Mapping::load).transpose()?;
    let bar = progress_bar(args);

    // On this thread: the command has nothing else to do until it is done.
    let begun = Instant::now();
    let (runs, rejects) = read(args, mapping.as_ref(), now, &bar)?;
    if rejects.count() > args.max_rejects {
        return Err(ImportError::TooManyRejects {
            accepted: args.max_rejects,
            rejects,
        });
    }
    let runs = runs.into_new_runs();
    if runs.is_empty() {
        return Err(ImportError::NoValues { rejects });
    }
    let elapsed_reading = begun.elapsed();

    let begun = Instant::now();
    bar.set_style(style("{spinner} writing {msg} {elapsed}"));
    bar.set_message(format!("{} runs", HumanCount(runs.len() as u64)));
    bar.enable_steady_tick(Duration::from_millis(100));
    let request = SaveRequest {
        runs,
        idempotency_key: None,
    };
    let written = again(|| async {
        let txn = db.begin().await.map_err(ForecastError::from)?;
        match write(&txn, mapping.as_ref(), args.create, &request, now).await {
            Ok(written) => {
                change::commit(txn).await.map_err(ForecastError::from)?;
                Ok(written)
            }
            Err(error) => {
                txn.rollback().await;
                Err(error)
            }
        }
    });
    let written = written.await?;
    Ok(Summary {
        runs: written.run_ids.len(),
        values: written.values,
        rejects,
        elapsed_reading,
        elapsed_writing: begun.elapsed(),
    })
}

/// The file's runs, and the rows that could not be read.
fn read(
    args: &ImportArgs,
    mapping: Option<&Mapping>,
    now: OffsetDateTime,
    bar: &ProgressBar,
) -> Result<(Runs, Rejects), ImportError> {
    let delimiter = mapping.map_or(b',', |mapping| mapping.delimiter.0);
    let mut table = Table::open(&args.file, delimiter, bar)?;
    let mut runs = Runs::new(now);
    let rejects = match mapping {
        Some(mapping) => wide::read(&mut table, mapping, &mut runs)?,
        None => long::read(&mut table, &mut runs, now)?,
    };
    Ok((runs, rejects))
}

/// Writes the units and providers first, then the runs that need them.
async fn write(
    txn: &Transaction,
    mapping: Option<&Mapping>,
    create: bool,
    request: &SaveRequest,
    now: OffsetDateTime,
) -> Result<Written, ImportError> {
    declare(txn, mapping, create, &request.runs).await?;
    Ok(forecast::write(txn, "import", request, now).await?)
}

/// Creates or updates what the mapping declares; and, if asked to, what the
/// runs name besides, of which nothing is changed where it exists.
async fn declare(
    txn: &Transaction,
    mapping: Option<&Mapping>,
    create: bool,
    runs: &[NewRun],
) -> Result<(), ImportError> {
    let mut units: Vec<UnitUpsert> = Vec::new();
    let mut providers: Vec<ProviderUpsert> = Vec::new();
    if let Some(mapping) = mapping {
        units.extend(mapping.units.iter().map(mapping::Unit::to_upsert));
        providers.extend(mapping.providers.iter().map(mapping::Provider::to_upsert));
    }
    if create {
        let named: BTreeSet<_> = runs.iter().map(|run| run.unit).collect();
        let declared: BTreeSet<_> = units.iter().map(|unit| unit.key).collect();
        units.extend(named.difference(&declared).map(|key| UnitUpsert {
            key: *key,
            name: Patch::Keep,
            time_zone: Patch::Keep,
            parent: Patch::Keep,
            capacity_mw: Patch::Keep,
            capacity_valid_from: None,
        }));
        let named: BTreeSet<_> = runs.iter().map(|run| run.provider.clone()).collect();
        let declared: BTreeSet<_> = providers.iter().map(|p| p.key.clone()).collect();
        providers.extend(named.difference(&declared).map(|key| ProviderUpsert {
            key: key.clone(),
            name: None,
        }));
    }
    if !units.is_empty() {
        unit::write(txn, &units).await?;
    }
    if !providers.is_empty() {
        provider::write(txn, &providers).await?;
    }
    Ok(())
}

/// Draws on stderr, and only where that is a terminal.
fn progress_bar(args: &ImportArgs) -> ProgressBar {
    if args.no_progress {
        return ProgressBar::hidden();
    }
    let length = std::fs::metadata(&args.file).ok().map(|file| file.len());
    let bar = ProgressBar::with_draw_target(length, ProgressDrawTarget::stderr())
        .with_finish(ProgressFinish::AndClear);
    bar.set_style(style(
        "reading {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
    ));
    bar
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
