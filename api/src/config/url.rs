//! Addresses of other servers, which may hold a password: what shows them shows
//! no more of them than whom they mean.

use std::convert::Infallible;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use percent_encoding::percent_decode_str;
use subscriptions::fanout;

/// An address whose text form is without the password.
#[derive(Clone)]
pub(super) struct MaskedUrl(String);

/// Without options, of which one may be a password, too.
impl fmt::Display for MaskedUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.starts_with("sqlite:") {
            return f.write_str(&self.0);
        }
        let Some((scheme, rest)) = self.0.split_once("://") else {
            return f.write_str("***");
        };
        // Options first: one of them may be a password, with whatever in it.
        let rest = rest.split('?').next().unwrap_or_default();
        write!(f, "{scheme}://")?;
        match rest.rsplit_once('@') {
            Some((user, host)) => match user.split_once(':') {
                Some((name, _)) => write!(f, "{name}:***@{host}"),
                None => write!(f, "{user}@{host}"),
            },
            None => f.write_str(rest),
        }
    }
}

impl FromStr for MaskedUrl {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

/// What every address has. Whether it can be one is not checked while the command
/// line is read: that would print what was given, password and all.
macro_rules! masked {
    ($($name:ident),+) => {$(
        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0.0
            }
        }

        impl FromStr for $name {
            type Err = Infallible;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    )+};
}

/// A database's address.
#[derive(Clone)]
pub struct DatabaseUrl(MaskedUrl);

/// A Redis server's address.
#[derive(Clone)]
pub struct RedisUrl(MaskedUrl);

masked!(DatabaseUrl, RedisUrl);

impl DatabaseUrl {
    pub(super) fn of_file(path: &str) -> Self {
        Self(MaskedUrl(format!("sqlite://{path}")))
    }

    /// An error for an address of no database we know.
    pub fn check(&self) -> Result<(), UnknownDatabase> {
        let known = ["sqlite:", "postgres://", "postgresql://"];
        if known.iter().any(|scheme| self.as_str().starts_with(scheme)) {
            Ok(())
        } else {
            Err(UnknownDatabase)
        }
    }

    /// The file of a SQLite database.
    pub fn sqlite_path(&self) -> Option<PathBuf> {
        let path = self.as_str().strip_prefix("sqlite:")?;
        let path = path.strip_prefix("//").unwrap_or(path);
        let path = percent_decode_str(path.split('?').next()?);
        Some(path.decode_utf8_lossy().into_owned().into())
    }
}

/// The address is not one of a database that we know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "--database-url names no database: give sqlite://path or postgres://user:password@host/name"
)]
pub struct UnknownDatabase;

impl RedisUrl {
    /// An error for what cannot be an address of Redis; whether there is one
    /// shows later.
    pub fn check(&self) -> Result<(), UnknownRedis> {
        fanout::check_address(self.as_str()).map_err(|_| UnknownRedis)
    }
}

/// The address cannot be one of Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "--redis-url names no Redis: give redis://:password@host, rediss://:password@host or unix:///path"
)]
pub struct UnknownRedis;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_not_shown() {
        for (url, shown) in [
            (
                "postgres://app:se@cret@db:5432/x",
                "postgres://app:***@db:5432/x",
            ),
            ("postgres://app@db/x", "postgres://app@db/x"),
            (
                "postgres://db/x?user=app&password=secret",
                "postgres://db/x",
            ),
            (
                "postgres://db/x?user=app&password=s3cr@t",
                "postgres://db/x",
            ),
            (
                "postgres://db:5432/x?password=s3cr@t",
                "postgres://db:5432/x",
            ),
            ("mysql://app:secret@db/x", "mysql://app:***@db/x"),
            ("app:secret@db/x", "***"),
            ("sqlite://x.db?mode=rwc", "sqlite://x.db?mode=rwc"),
            ("rediss://:s3cr@t@db:6380/2", "rediss://:***@db:6380/2"),
            (
                "unix:///run/redis.sock?pass=secret",
                "unix:///run/redis.sock",
            ),
        ] {
            let database: DatabaseUrl = url.parse().unwrap();
            let redis: RedisUrl = url.parse().unwrap();
            assert_eq!(
                format!("{database} {database:?}"),
                format!("{shown} {shown}")
            );
            assert_eq!(format!("{redis} {redis:?}"), format!("{shown} {shown}"));
        }
    }

    #[test]
    fn only_known_servers_are_taken() {
        for (url, expect) in [
            ("sqlite://x.db", Ok(())),
            ("postgresql://db/x", Ok(())),
            ("mysql://db/x", Err(UnknownDatabase)),
            ("", Err(UnknownDatabase)),
        ] {
            let url: DatabaseUrl = url.parse().unwrap();
            assert_eq!(url.check(), expect);
        }
        for (url, expect) in [
            ("redis://localhost:6379", Ok(())),
            ("localhost:6379", Err(UnknownRedis)),
            ("", Err(UnknownRedis)),
        ] {
            let url: RedisUrl = url.parse().unwrap();
            assert_eq!(url.check(), expect);
        }
    }

    #[test]
    fn a_file_is_found_in_its_address() {
        for (url, path) in [
            ("sqlite://data/x.db", Some("data/x.db")),
            ("sqlite:///tmp/x.db?mode=rwc", Some("/tmp/x.db")),
            ("sqlite:x.db", Some("x.db")),
            ("postgres://h/x", None),
        ] {
            let url: DatabaseUrl = url.parse().unwrap();
            assert_eq!(url.sqlite_path(), path.map(PathBuf::from));
        }
    }
}
