//! Tokens: JSON Web Tokens that another program has signed with a shared secret.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use domain::access::{Roles, fault_of_companies, fault_of_user};
use domain::unit::UnitKey;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;

use super::Refusal;
use crate::viewer::Viewer;

/// The clock of the program that signs may be ahead of ours by as much.
const LEEWAY: Duration = Duration::from_secs(30);
/// No connection lasts longer, and no timer need run for longer.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// Which tokens are taken.
#[derive(Clone)]
pub(crate) struct TokenSettings {
    pub(crate) secret: String,
    /// Who must have made them.
    pub(crate) issuer: Option<String>,
    /// For whom they must be.
    pub(crate) audience: Option<String>,
}

/// Reads tokens.
pub(super) struct Tokens {
    key: DecodingKey,
    validation: Validation,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    exp: f64,
    #[serde(default)]
    roles: Option<Vec<String>>,
    #[serde(default)]
    companies: Option<Vec<UnitKeyText>>,
}

/// A unit key that must be one.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct UnitKeyText(UnitKey);

impl TryFrom<String> for UnitKeyText {
    type Error = domain::unit::ParseUnitKeyError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse().map(Self)
    }
}

impl Tokens {
    pub(super) fn new(settings: TokenSettings) -> Self {
        // The algorithm is ours to say, never the token's.
        let mut validation = Validation::new(Algorithm::HS256);
        validation.leeway = LEEWAY.as_secs();
        validation.validate_nbf = true;
        let mut required = vec!["exp", "sub"];
        if let Some(issuer) = settings.issuer {
            validation.set_issuer(&[issuer]);
            required.push("iss");
        }
        if let Some(audience) = settings.audience {
            validation.set_audience(&[audience]);
            required.push("aud");
        }
        validation.set_required_spec_claims(&required);
        Self {
            key: DecodingKey::from_secret(settings.secret.as_bytes()),
            validation,
        }
    }

    /// Whom a token stands for.
    pub(super) fn viewer(&self, token: &str) -> Result<Viewer, Refusal> {
        // Read as ours only once they hold, so that what is wrong can be said.
        let claims = decode::<Value>(token, &self.key, &self.validation)
            .map_err(|error| Refusal::Invalid(why(error.kind())))?
            .claims;
        let claims = Claims::deserialize(claims)
            .map_err(|error| Refusal::Invalid(format!("the token is not valid: {error}")))?;
        // Without leeway: what lets nobody in keeps nobody in, and a connection
        // that was just let in is not closed at once.
        let left = left(claims.exp).ok_or_else(|| Refusal::invalid(EXPIRED))?;
        if fault_of_user(&claims.sub).is_some() {
            return Err(Refusal::invalid("the token's `sub` is not a user"));
        }
        let companies: Vec<UnitKey> = claims
            .companies
            .into_iter()
            .flatten()
            .map(|key| key.0)
            .collect();
        if let Some(fault) = fault_of_companies(&companies) {
            return Err(Refusal::invalid(format!(
                "the token's `companies`: {fault}"
            )));
        }
        let roles = claims.roles.unwrap_or_default();
        Ok(Viewer {
            user: claims.sub,
            roles: Roles::of_words(roles.iter().map(String::as_str)),
            companies: companies.into(),
            expires_at: Some(Instant::now() + left),
            api_key: None,
            confirmed: true,
        })
    }
}

const EXPIRED: &str = "the token has expired";

/// How long it is until a moment in seconds since 1970; `None` once it is past.
fn left(until: f64) -> Option<Duration> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    let left = until - now.as_secs_f64();
    (left > 0.0).then(|| Duration::from_secs_f64(left.min(LONGEST.as_secs_f64())))
}

/// What is wrong with a token, as far as that helps who made it. It is said of
/// no token that we cannot trust.
fn why(kind: &ErrorKind) -> String {
    match kind {
        ErrorKind::ExpiredSignature => EXPIRED.to_owned(),
        ErrorKind::ImmatureSignature => "the token does not hold yet".to_owned(),
        ErrorKind::InvalidIssuer => "the token is of another issuer".to_owned(),
        ErrorKind::InvalidAudience => "the token is for another audience".to_owned(),
        ErrorKind::MissingRequiredClaim(claim) => format!("the token has no `{claim}`"),
        ErrorKind::InvalidClaimFormat(claim) => format!("the token's `{claim}` is not valid"),
        _ => "the token is not valid".to_owned(),
    }
}
