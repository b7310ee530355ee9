//! Who is let in, and as whom: the same over every transport.
//!
//! An open server lets everybody in as an administrator. One that requires
//! authentication takes a bearer token: a JWT that another program has signed,
//! or the secret of an API key. Nothing is taken from the address of a request:
//! addresses end up in logs and histories.

mod keys;
mod token;

pub(crate) use keys::{KeyInUse, Keys, create};
pub(crate) use token::TokenSettings;

use axum::http::{HeaderMap, StatusCode, header};
use domain::access::Secret;
use domain::database::Database;
use serde_json::{Map, Value};

use crate::error::{ApiError, ErrorCode};
use crate::viewer::Viewer;
use token::Tokens;

/// The header that names a user of an open server, and the field of a
/// websocket's init payload.
const USER_HEADER: &str = "smartpulse-user";
const USER_FIELD: &str = "SmartPulse-User";

/// Who is asked who they are.
#[derive(Clone)]
pub(crate) enum AuthSettings {
    /// Nobody.
    Open,
    /// Everybody; by a token, too, if there is a secret for it.
    Required(Option<TokenSettings>),
}

/// Finds out who a caller is.
pub(crate) struct Authenticator {
    /// `None` on an open server.
    required: Option<Required>,
    keys: Keys,
}

struct Required {
    tokens: Option<Tokens>,
}

/// What a caller says of itself. Not `Debug`: it holds secrets.
#[derive(Clone, Default)]
pub(crate) struct Credentials {
    authorization: Option<String>,
    name: Option<String>,
}

/// Why a caller is not let in.
#[derive(Debug, Clone)]
pub(crate) enum Refusal {
    /// It does not say who it is.
    Missing,
    /// What it says does not hold.
    Invalid(String),
    /// The name it gives itself is none.
    BadName,
    /// It cannot be found out just now.
    Unavailable(ApiError),
}

impl Authenticator {
    pub(crate) fn new(settings: AuthSettings, db: Database) -> Self {
        let required = match settings {
            AuthSettings::Open => None,
            AuthSettings::Required(tokens) => Some(Required {
                tokens: tokens.map(Tokens::new),
            }),
        };
        Self {
            required,
            keys: Keys::new(db),
        }
    }

    pub(crate) fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Who it is that says this of itself.
    pub(crate) async fn authenticate(&self, said: &Credentials) -> Result<Viewer, Refusal> {
        let Some(required) = &self.required else {
            return Viewer::named(said.name.as_deref()).ok_or(Refusal::BadName);
        };
        let authorization = said.authorization.as_deref().ok_or(Refusal::Missing)?;
        let token = bearer(authorization)
            .ok_or_else(|| Refusal::invalid("`Authorization` must read `Bearer` and a token"))?;
        if Secret::is_meant(token) {
            return self.keys.viewer(token).await;
        }
        match &required.tokens {
            Some(tokens) => tokens.viewer(token),
            None => Err(Refusal::invalid(
                "this is no API key, and tokens are not taken here",
            )),
        }
    }
}

/// The token of `Bearer <token>`.
fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.trim().split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then_some(token.trim_start())
}

impl Credentials {
    pub(crate) fn of_headers(headers: &HeaderMap) -> Self {
        let text = |name: &str| {
            let value = headers.get(name)?;
            // What is no text is still something that was said.
            Some(value.to_str().unwrap_or_default().to_owned())
        };
        Self {
            authorization: text(header::AUTHORIZATION.as_str()),
            name: text(USER_HEADER),
        }
    }

    /// The same, but for what the init payload of a websocket says otherwise.
    pub(crate) fn or_of_init(&self, init: Option<&Map<String, Value>>) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let field = |name: &str| init?.get(name).map(text);
        // A program that has no token may say so by a null.
        let authorization = init.and_then(|init| {
            let said = |name: &str| name.eq_ignore_ascii_case(header::AUTHORIZATION.as_str());
            let (_, value) = init.iter().find(|(name, _)| said(name))?;
            (!value.is_null()).then(|| text(value))
        });
        Self {
            authorization: authorization.or_else(|| self.authorization.clone()),
            name: field(USER_FIELD).or_else(|| self.name.clone()),
        }
    }
}

impl Refusal {
    fn invalid(why: impl Into<String>) -> Self {
        Self::Invalid(why.into())
    }

    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Missing | Self::Invalid(_) => StatusCode::UNAUTHORIZED,
            Self::BadName => StatusCode::BAD_REQUEST,
            Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// What the header `WWW-Authenticate` says of it (RFC 6750), if anything.
    pub(crate) fn challenge(&self) -> Option<&'static str> {
        match self {
            Self::Missing => Some("Bearer"),
            Self::Invalid(_) => Some("Bearer error=\"invalid_token\""),
            Self::BadName | Self::Unavailable(_) => None,
        }
    }

    pub(crate) fn message(&self) -> &str {
        match self {
            Self::Missing => "say who you are: send a token or an API key as a bearer token",
            Self::Invalid(why) => why,
            Self::BadName => "SmartPulse-User is not a user's name",
            Self::Unavailable(_) => "who you are cannot be found out just now: try again",
        }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let code = match refusal {
            Refusal::Unavailable(error) => return error,
            Refusal::Missing | Refusal::Invalid(_) => ErrorCode::Unauthenticated,
            Refusal::BadName => ErrorCode::BadUserInput,
        };
        Self::new(code, refusal.message())
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_bearer_token_is_read() {
        for (text, expect) in [
            ("Bearer a.b", Some("a.b")),
            ("bearer  a.b ", Some("a.b")),
            ("Basic a.b", None),
            ("a.b", None),
            ("Bearer", None),
            ("", None),
        ] {
            assert_eq!(bearer(text), expect, "{text}");
        }
    }

    #[test]
    fn the_payload_wins_over_headers() {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", HeaderValue::from_static("Bearer header"));
        let of_headers = Credentials::of_headers(&headers);
        let check = |init: Value, expect: &str| {
            let said = of_headers.or_of_init(init.as_object());
            assert_eq!(said.authorization.as_deref(), Some(expect), "{init}");
        };
        check(Value::Null, "Bearer header");
        check(json!({}), "Bearer header");
        check(json!({ "authorization": null }), "Bearer header");
        check(json!({ "Authorization": "Bearer init" }), "Bearer init");
        check(json!({ "authorization": "Bearer init" }), "Bearer init");
        // Something was said, and it is no token.
        check(json!({ "authorization": 7 }), "");
    }
}
