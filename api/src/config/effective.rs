//! The configuration that a command line ends up with, and where each option
//! comes from.

use std::fmt::Write;

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command};

use super::file::{FileOptions, key_of};
use super::url::MaskedUrl;

/// As a file that would give the same, a line an option; secrets are masked.
pub(crate) fn describe(command: &Command, matches: &ArgMatches, files: &FileOptions) -> String {
    let mut text =
        String::from("# What `smartpulse serve` would run with, and where it comes from.\n");
    match files.files() {
        [] => {
            text.push_str("# No smartpulse.toml here; SMARTPULSE_CONFIG may name another file.\n")
        }
        read => {
            let names: Vec<_> = read.iter().map(|path| path.display().to_string()).collect();
            let _ = writeln!(text, "# Files: {}", names.join(", "));
        }
    }
    if let Some(path) = files.missing() {
        let _ = writeln!(text, "# There is no {}", path.display());
    }
    for arg in command.get_arguments() {
        let Some(key) = key_of(arg) else { continue };
        let line = match value(arg, matches) {
            None => format!("# {key} ="),
            // Not to be taken for the real thing when it is read back.
            Some(value) if arg.is_hide_env_values_set() && value.contains("***") => {
                format!("# {key} = {value}")
            }
            Some(value) => format!("{key} = {value}"),
        };
        let _ = writeln!(text, "{line:<52} # {}", origin(arg, matches, files));
    }
    text
}

/// An option's value as TOML writes it; none if it has none.
fn value(arg: &Arg, matches: &ArgMatches) -> Option<String> {
    let mut values = matches.try_get_raw(arg.get_id().as_str()).ok()??;
    let text = values.next()?.to_string_lossy();
    // What `--help` must not show, nobody sees here.
    let shown = match (arg.is_hide_env_values_set(), key_of(arg).as_deref()) {
        (false, _) => text.into_owned(),
        // An address without its password says a lot.
        (true, Some("database_url" | "redis_url" | "smtp_url")) => text
            .parse::<MaskedUrl>()
            .map_or_else(|never| match never {}, |url| url.to_string()),
        (true, _) => String::from("***"),
    };
    if shown.parse::<i64>().is_ok() || shown == "true" || shown == "false" {
        return Some(shown);
    }
    Some(toml::Value::String(shown).to_string())
}

fn origin(arg: &Arg, matches: &ArgMatches, files: &FileOptions) -> String {
    match (
        matches.value_source(arg.get_id().as_str()),
        files.file_of(arg),
    ) {
        (Some(ValueSource::CommandLine), _) => {
            format!("--{}", arg.get_long().unwrap_or_default())
        }
        (Some(ValueSource::EnvVariable), _) => arg
            .get_env()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
        (_, Some(path)) => path.display().to_string(),
        (_, None) => "default".to_owned(),
    }
}
