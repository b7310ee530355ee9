//! Who is asked who they are.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use clap::{Args, ValueEnum};

use crate::auth::{AuthSettings, TokenSettings};

/// A secret must be as long as what it makes: a shorter one can be guessed.
const SHORTEST_SECRET: usize = 32;

/// Who is asked who they are, and what is taken for an answer.
#[derive(Args, Debug, Clone, Default)]
pub struct AuthArgs {
    /// Who is let in; required if a secret for tokens is given, and else open
    #[arg(long, env = "SMARTPULSE_AUTH", value_enum)]
    pub auth: Option<AuthMode>,

    /// Take JSON Web Tokens signed with this secret by HS256: at least 32 bytes of text
    #[arg(long, env = "SMARTPULSE_AUTH_JWT_SECRET", hide_env_values = true)]
    pub auth_jwt_secret: Option<JwtSecret>,

    /// Only those tokens whose `iss` is this
    #[arg(long, env = "SMARTPULSE_AUTH_JWT_ISSUER")]
    pub auth_jwt_issuer: Option<String>,

    /// Only those tokens whose `aud` is or has this; without it only those that have none
    #[arg(long, env = "SMARTPULSE_AUTH_JWT_AUDIENCE")]
    pub auth_jwt_audience: Option<String>,
}

/// Who is let in.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthMode {
    /// Whoever reaches the server, as an administrator
    Open,
    /// Whoever has an API key or a token
    Required,
}

/// What tokens are signed with. It is never shown.
#[derive(Clone)]
pub struct JwtSecret(String);

impl FromStr for JwtSecret {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for JwtSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The options contradict each other, or would let in whom they should not.
/// Not found while the command line is read: that would print the secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthArgsError {
    #[error("--auth-jwt-secret has fewer than 32 bytes: `openssl rand -base64 48` makes one")]
    ShortSecret,
    #[error(
        "--auth open lets everybody in, so --auth-jwt-secret has no use: leave out one of them"
    )]
    OpenWithSecret,
    #[error("--auth-jwt-issuer and --auth-jwt-audience have no use without --auth-jwt-secret")]
    NoSecret,
}

impl AuthArgs {
    /// Whether nobody is asked who they are.
    pub fn is_open(&self) -> bool {
        self.auth != Some(AuthMode::Required) && self.auth_jwt_secret.is_none()
    }

    pub(crate) fn settings(&self) -> Result<AuthSettings, AuthArgsError> {
        let Some(JwtSecret(secret)) = &self.auth_jwt_secret else {
            if self.auth_jwt_issuer.is_some() || self.auth_jwt_audience.is_some() {
                return Err(AuthArgsError::NoSecret);
            }
            return Ok(match self.auth {
                Some(AuthMode::Required) => AuthSettings::Required(None),
                Some(AuthMode::Open) | None => AuthSettings::Open,
            });
        };
        if self.auth == Some(AuthMode::Open) {
            return Err(AuthArgsError::OpenWithSecret);
        }
        if secret.len() < SHORTEST_SECRET {
            return Err(AuthArgsError::ShortSecret);
        }
        Ok(AuthSettings::Required(Some(TokenSettings {
            secret: secret.clone(),
            issuer: self.auth_jwt_issuer.clone(),
            audience: self.auth_jwt_audience.clone(),
        })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(auth: Option<AuthMode>, secret: Option<&str>, issuer: Option<&str>) -> AuthArgs {
        AuthArgs {
            auth,
            auth_jwt_secret: secret.map(|text| JwtSecret(text.to_owned())),
            auth_jwt_issuer: issuer.map(str::to_owned),
            auth_jwt_audience: None,
        }
    }

    #[test]
    fn a_secret_makes_it_required() {
        let long = "s".repeat(32);
        for (auth, secret, issuer, expect) in [
            (None, None, None, Ok(true)),
            (Some(AuthMode::Open), None, None, Ok(true)),
            (Some(AuthMode::Required), None, None, Ok(false)),
            (None, Some(long.as_str()), Some("i"), Ok(false)),
            (Some(AuthMode::Required), Some(&long), None, Ok(false)),
            (
                Some(AuthMode::Open),
                Some(&long),
                None,
                Err(AuthArgsError::OpenWithSecret),
            ),
            (
                None,
                Some(&long[1..]),
                None,
                Err(AuthArgsError::ShortSecret),
            ),
            (None, Some(""), None, Err(AuthArgsError::ShortSecret)),
            (
                Some(AuthMode::Required),
                None,
                Some("i"),
                Err(AuthArgsError::NoSecret),
            ),
        ] {
            let args = args(auth, secret, issuer);
            let settings = args.settings();
            let open = settings.map(|settings| matches!(settings, AuthSettings::Open));
            assert_eq!(open, expect, "{args:?}");
            // What cannot be meant is at least not open by a slip.
            assert_eq!(
                args.is_open(),
                secret.is_none() && auth != Some(AuthMode::Required)
            );
        }
    }

    #[test]
    fn the_secret_is_not_shown() {
        let args = args(None, Some("hidden-hidden-hidden-hidden-hidden"), None);
        assert!(!format!("{args:?}").contains("hidden"));
    }
}
