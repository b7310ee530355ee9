//! `smartpulse api-key`: keys from the command line, of which the first must come
//! from there. It works on the database itself.

use std::fmt::Write;

use anyhow::{Context, anyhow};
use clap::{Args, Subcommand};
use domain::access::{self, AccessError, ApiKey, NewApiKey, Role};
use domain::database::Database;
use domain::unit::UnitKey;
use jiff::{Span, SpanRelativeTo};
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use crate::auth;
use crate::config::DatabaseArgs;
use crate::database;

/// Keys are listed from as many at once.
const PAGE: u64 = 500;

/// What to do with keys.
#[derive(Args, Debug)]
pub(crate) struct ApiKeyArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Make a key, and print its secret
    Create(CreateArgs),
    /// Print all keys, without their secrets
    List(DatabaseArgs),
    /// Take a key back, for good; running servers notice within a minute
    Revoke(RevokeArgs),
}

#[derive(Args, Debug)]
struct CreateArgs {
    #[command(flatten)]
    database: DatabaseArgs,

    /// The user that the program acts for
    #[arg(long)]
    user: String,

    /// What the key is called, for people
    #[arg(long)]
    name: String,

    /// What it may do beyond reading: ADMIN, PROVIDER or SENDER; may be repeated
    #[arg(long = "role")]
    roles: Vec<Role>,

    /// The key of a company that it belongs to, such as company:1; may be repeated
    #[arg(long = "company")]
    companies: Vec<UnitKey>,

    /// How long it lets in, such as 12h, 90d or 1y; for ever, if absent
    #[arg(long, value_name = "SPAN", value_parser = parse_span)]
    expires_in: Option<Duration>,
}

#[derive(Args, Debug)]
struct RevokeArgs {
    #[command(flatten)]
    database: DatabaseArgs,

    /// The key's number, as `list` prints it
    id: i64,
}

/// What is to be printed.
pub(crate) struct Done {
    /// What was asked for.
    pub(crate) output: String,
    /// What to know of it.
    pub(crate) note: Option<String>,
}

fn parse_span(text: &str) -> Result<Duration, String> {
    let span = text.parse::<Span>().ok();
    span.and_then(|span| {
        let span = match span.get_years() {
            0 => span,
            years => span
                .years(0)
                .days(i64::from(span.get_days()) + 365 * i64::from(years)),
        };
        let exact = span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?;
        Duration::try_from(exact.unsigned_abs())
            .ok()
            .filter(|_| exact.is_positive())
    })
    .ok_or_else(|| String::from("give a span such as 12h, 90d or 1y"))
}

/// Does it, and says what is to be printed.
pub(crate) async fn run(args: ApiKeyArgs, now: OffsetDateTime) -> anyhow::Result<Done> {
    match args.action {
        Action::Create(args) => {
            let db = database::open(&args.database).await?;
            let done = create(&db, args, now).await;
            db.close().await?;
            done
        }
        Action::List(database) => {
            let db = database::open(&database).await?;
            let output = list(&db, now).await;
            db.close().await?;
            Ok(Done {
                output: output?,
                note: None,
            })
        }
        Action::Revoke(args) => {
            let db = database::open(&args.database).await?;
            let revoked = access::revoke(&db, args.id, now).await;
            db.close().await?;
            let output = format!("revoked: {}\n", line(&revoked.map_err(explained)?, now));
            Ok(Done { output, note: None })
        }
    }
}

async fn create(db: &Database, args: CreateArgs, now: OffsetDateTime) -> anyhow::Result<Done> {
    let expires_at = match args.expires_in {
        Some(span) => Some(now.checked_add(span).context("--expires-in is too long")?),
        None => None,
    };
    let new = NewApiKey {
        name: args.name,
        user: args.user,
        roles: args.roles.into_iter().collect(),
        companies: args.companies,
        expires_at,
    };
    let (key, secret) = auth::create(db, &new).await.map_err(explained)?;
    Ok(Done {
        // Alone, so that a script can take it.
        output: format!("{}\n", secret.reveal()),
        note: Some(format!(
            "{}\nKeep the secret: it is not to be had again.",
            line(&key, now)
        )),
    })
}

async fn list(db: &Database, now: OffsetDateTime) -> anyhow::Result<String> {
    let mut text = String::new();
    let mut after = None;
    loop {
        let keys = access::page(db.reader(), after, None, PAGE, false).await?;
        let Some(last) = keys.last() else {
            return Ok(text);
        };
        after = Some(last.id);
        for key in &keys {
            let _ = writeln!(text, "{}", line(key, now));
        }
    }
}

/// A key in one line.
fn line(key: &ApiKey, now: OffsetDateTime) -> String {
    let instant = |at: OffsetDateTime| at.format(&Rfc3339).unwrap_or_default();
    let mut text = format!(
        "{}  {}...  {:?} for {}",
        key.id, key.prefix, key.name, key.user
    );
    let roles: Vec<&str> = key.roles.iter().map(Role::as_str).collect();
    let _ = match roles.as_slice() {
        [] => write!(text, ", reads only"),
        roles => write!(text, ", {}", roles.join(" ")),
    };
    for company in &key.companies {
        let _ = write!(text, ", {company}");
    }
    match (key.revoked_at, key.expires_at) {
        (Some(at), _) => {
            let _ = write!(text, ", revoked {}", instant(at));
        }
        (None, Some(at)) => {
            let verb = if at > now { "expires" } else { "expired" };
            let _ = write!(text, ", {verb} {}", instant(at));
        }
        (None, None) => {}
    }
    if let Some(at) = key.last_used_at {
        let _ = write!(text, ", last used {}", instant(at));
    }
    text
}

/// An error with all that is wrong.
fn explained(error: AccessError) -> anyhow::Error {
    match error {
        AccessError::Invalid(violations) => {
            let faults: Vec<String> = violations.into_iter().map(|v| v.message).collect();
            anyhow!("{}", faults.join("; "))
        }
        error => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_read() {
        for (text, expect) in [
            ("90d", Some(Duration::days(90))),
            ("12h", Some(Duration::hours(12))),
            ("1y", Some(Duration::days(365))),
            ("2w", Some(Duration::weeks(2))),
            ("P1D", Some(Duration::days(1))),
            ("-1d", None),
            ("0s", None),
            ("90", None),
            ("soon", None),
        ] {
            assert_eq!(parse_span(text).ok(), expect, "{text}");
        }
    }
}
