//! Options from files: `smartpulse.toml`, then `smartpulse.{environment}.toml`.
//!
//! A key is named as the option's variable without `SMARTPULSE_`, in lower
//! case; a table is a prefix, so that `[cache] latest_mib` is
//! `cache_latest_mib`. What a file says becomes the option's default: the
//! variable and the flag win over it.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ContextValue};
use clap::{Arg, Command};
use thiserror::Error;

/// Before the name of every variable.
const PREFIX: &str = "SMARTPULSE_";
/// Names the first file, if it is not this one.
const FILE_VARIABLE: &str = "SMARTPULSE_CONFIG";
const FILE: &str = "smartpulse.toml";
/// Names the second file's middle part; there is none without it.
const ENVIRONMENT_VARIABLE: &str = "SMARTPULSE_ENVIRONMENT";

/// Why the files cannot be used.
#[derive(Debug, Error)]
pub enum ConfigFileError {
    #[error("cannot read {}", path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is no TOML", path.display())]
    Malformed {
        path: PathBuf,
        #[source]
        source: toml::de::Error,
    },
    #[error("{}: `{key}` must be a text, a number, true or false", path.display())]
    NoScalar { path: PathBuf, key: String },
    #[error("{}: `{key}` is there twice, once as a key of a table", path.display())]
    Twice { path: PathBuf, key: String },
    #[error("{}: there is no option `{key}`{}", path.display(), Hint(near.as_deref()))]
    Unknown {
        path: PathBuf,
        key: String,
        near: Option<String>,
    },
}

struct Hint<'a>(Option<&'a str>);

impl std::fmt::Display for Hint<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(near) => write!(f, "; did you mean `{near}`?"),
            None => f.write_str("; `smartpulse serve --help` names them"),
        }
    }
}

/// What the files say.
#[derive(Debug, Default)]
pub struct FileOptions {
    /// Text by key, and the file that said it last.
    options: BTreeMap<String, (String, PathBuf)>,
    /// The files that were read, in order.
    files: Vec<PathBuf>,
    /// The environment's file, if there is none.
    missing: Option<PathBuf>,
}

impl FileOptions {
    /// Reads the files that there are. One that is named by a variable must exist.
    #[expect(
        clippy::disallowed_methods,
        reason = "configuration is read here, and nowhere else"
    )]
    pub fn load() -> Result<Self, ConfigFileError> {
        let said = |variable| env::var(variable).ok().filter(|text| !text.is_empty());
        let named = said(FILE_VARIABLE).map(PathBuf::from);
        let environment = said(ENVIRONMENT_VARIABLE);
        Self::load_from(named.as_deref(), environment.as_deref())
    }

    fn load_from(named: Option<&Path>, environment: Option<&str>) -> Result<Self, ConfigFileError> {
        let first = named.unwrap_or(Path::new(FILE));
        let mut options = Self::default();
        options.read(first, named.is_some())?;
        if let Some(environment) = environment {
            let stem = first.file_stem().unwrap_or_default().to_string_lossy();
            let second = first.with_file_name(format!("{stem}.{environment}.toml"));
            options.read(&second, false)?;
            options.missing = (!options.files.contains(&second)).then_some(second);
        }
        Ok(options)
    }

    fn read(&mut self, path: &Path, required: bool) -> Result<(), ConfigFileError> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !required => return Ok(()),
            Err(source) => {
                return Err(ConfigFileError::Unreadable {
                    path: path.to_owned(),
                    source,
                });
            }
        };
        let table = text.parse().map_err(|source| ConfigFileError::Malformed {
            path: path.to_owned(),
            source,
        })?;
        self.files.push(path.to_owned());
        self.take("", table, path)
    }

    fn take(
        &mut self,
        prefix: &str,
        table: toml::Table,
        path: &Path,
    ) -> Result<(), ConfigFileError> {
        for (name, value) in table {
            let key = format!("{prefix}{name}");
            let text = match value {
                toml::Value::Table(table) => {
                    self.take(&format!("{key}_"), table, path)?;
                    continue;
                }
                toml::Value::String(text) => text,
                toml::Value::Integer(number) => number.to_string(),
                toml::Value::Float(number) => number.to_string(),
                toml::Value::Boolean(truth) => truth.to_string(),
                toml::Value::Array(_) | toml::Value::Datetime(_) => {
                    return Err(ConfigFileError::NoScalar {
                        path: path.to_owned(),
                        key,
                    });
                }
            };
            let before = self.options.insert(key.clone(), (text, path.to_owned()));
            if before.is_some_and(|(_, before)| before == path) {
                return Err(ConfigFileError::Twice {
                    path: path.to_owned(),
                    key,
                });
            }
        }
        Ok(())
    }

    /// The files that were read, in order.
    pub(crate) fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// The environment's file, if there is none.
    pub(crate) fn missing(&self) -> Option<&Path> {
        self.missing.as_deref()
    }

    /// Where a value stands that was refused, unless that is the command line.
    #[expect(
        clippy::disallowed_methods,
        reason = "configuration is read here, and nowhere else"
    )]
    pub(crate) fn note_on(&self, error: &clap::Error, command: &Command) -> Option<String> {
        let Some(ContextValue::String(shown)) = error.get(ContextKind::InvalidArg) else {
            return None;
        };
        let flag = shown.split([' ', '[', '=']).next()?;
        let given = |word: &str| word == flag || word.starts_with(&format!("{flag}="));
        if env::args().any(|word| given(&word)) {
            return None;
        }
        let arg = command
            .get_subcommands()
            .flat_map(Command::get_arguments)
            .find(|arg| arg.get_long() == flag.strip_prefix("--"))?;
        let variable = arg.get_env()?;
        if env::var_os(variable).is_some() {
            return Some(format!("note: that is what {} says", variable.display()));
        }
        let path = self.file_of(arg)?;
        Some(format!("note: that is what {} says", path.display()))
    }

    /// Which file has an option.
    pub(crate) fn file_of(&self, arg: &Arg) -> Option<&Path> {
        let (_, path) = self.options.get(&key_of(arg)?)?;
        Some(path)
    }

    /// Makes what the files say the defaults of a command line.
    pub fn apply(&self, command: Command) -> Result<Command, ConfigFileError> {
        let known: BTreeSet<String> = command
            .get_subcommands()
            .flat_map(Command::get_arguments)
            .filter_map(key_of)
            .collect();
        for (key, (_, path)) in &self.options {
            if !known.contains(key) {
                let near = known
                    .iter()
                    .map(|other| (strsim::jaro_winkler(key, other), other))
                    .filter(|(likeness, _)| *likeness > 0.8)
                    .max_by(|a, b| a.0.total_cmp(&b.0));
                return Err(ConfigFileError::Unknown {
                    path: path.clone(),
                    key: key.clone(),
                    near: near.map(|(_, other)| other.clone()),
                });
            }
        }
        Ok(self.set_defaults(command))
    }

    /// For the subcommands of a command, and for theirs.
    fn set_defaults(&self, command: Command) -> Command {
        command.mut_subcommands(|subcommand| {
            let subcommand = subcommand.mut_args(|arg| {
                let text = key_of(&arg).and_then(|key| self.options.get(&key));
                match text {
                    Some((text, _)) => {
                        // A secret is one wherever it comes from.
                        let secret = arg.is_hide_env_values_set();
                        arg.default_value(text.clone()).hide_default_value(secret)
                    }
                    None => arg,
                }
            });
            self.set_defaults(subcommand)
        })
    }
}

/// How a file names an option.
pub(crate) fn key_of(arg: &Arg) -> Option<String> {
    let variable = arg.get_env()?.to_str()?;
    Some(variable.strip_prefix(PREFIX)?.to_lowercase())
}

#[cfg(test)]
mod tests {
    use clap::ArgAction;
    use tempfile::TempDir;

    use super::*;

    fn command() -> Command {
        let option = |name: &'static str, variable: &'static str| {
            Arg::new(name)
                .long(name)
                .env(variable)
                .default_value("built-in")
        };
        let flag = Arg::new("flag")
            .long("flag")
            .env("SMARTPULSE_TEST_FLAG")
            .action(ArgAction::SetTrue);
        Command::new("smartpulse").subcommand(
            Command::new("serve")
                .arg(option("one", "SMARTPULSE_TEST_ONE"))
                .arg(option("two", "SMARTPULSE_TEST_TWO"))
                .arg(flag),
        )
    }

    fn folder(files: &[(&str, &str)]) -> TempDir {
        let folder = TempDir::new().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    fn load(folder: &TempDir, environment: Option<&str>) -> Result<FileOptions, ConfigFileError> {
        FileOptions::load_from(Some(&folder.path().join(FILE)), environment)
    }

    /// What a command line ends up with: one, two, flag.
    fn effective(options: &FileOptions, line: &[&str]) -> (String, String, bool) {
        let line = ["smartpulse", "serve"]
            .into_iter()
            .chain(line.iter().copied());
        let matches = options.apply(command()).unwrap().get_matches_from(line);
        let serve = matches.subcommand_matches("serve").unwrap();
        let text = |name| serve.get_one::<String>(name).unwrap().clone();
        (text("one"), text("two"), serve.get_flag("flag"))
    }

    #[test]
    fn later_layers_win() {
        let folder = folder(&[
            (
                "smartpulse.toml",
                "test_one = \"first\"\n[test]\ntwo = 2\nflag = true",
            ),
            ("smartpulse.staging.toml", "[test]\ntwo = \"second\""),
        ]);
        let first = load(&folder, None).unwrap();
        assert_eq!(effective(&first, &[]), ("first".into(), "2".into(), true));
        let both = load(&folder, Some("staging")).unwrap();
        assert_eq!(both.files().len(), 2);
        assert_eq!(
            effective(&both, &[]),
            ("first".into(), "second".into(), true)
        );
        let flags = ["--one", "flag"];
        assert_eq!(
            effective(&both, &flags),
            ("flag".into(), "second".into(), true)
        );
        // An environment need not have a file of its own.
        let other = load(&folder, Some("test")).unwrap();
        assert_eq!(other.files().len(), 1);
        assert!(other.missing().unwrap().ends_with("smartpulse.test.toml"));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let refusal = |text: &str| {
            let folder = folder(&[(FILE, text)]);
            let loaded = load(&folder, None).and_then(|options| options.apply(command()));
            let message = loaded.unwrap_err().to_string();
            message.rsplit_once('/').unwrap().1.to_owned()
        };
        assert_eq!(refusal("one = 1 2"), "smartpulse.toml is no TOML");
        assert_eq!(
            refusal("test_one = [1]"),
            "smartpulse.toml: `test_one` must be a text, a number, true or false"
        );
        assert_eq!(
            refusal("test_onee = 1"),
            "smartpulse.toml: there is no option `test_onee`; did you mean `test_one`?"
        );
        assert_eq!(
            refusal("test_one = 1\n[test]\none = 2"),
            "smartpulse.toml: `test_one` is there twice, once as a key of a table"
        );
        assert_eq!(
            refusal("zebra = 1"),
            "smartpulse.toml: there is no option `zebra`; `smartpulse serve --help` names them"
        );
        let empty = TempDir::new().unwrap();
        assert!(matches!(
            load(&empty, None),
            Err(ConfigFileError::Unreadable { .. })
        ));
        // The usual file may be missing, as long as nobody names it.
        assert!(FileOptions::load_from(None, None).is_ok());
    }
}
