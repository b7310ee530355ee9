//! How we introduce ourselves to push services (RFC 8292): a token signed with our
//! key, good for one service. It is kept for hours, since services remember tokens
//! that they have checked.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use moka::sync::Cache;
use p256::ecdsa::signature::Signer;
use p256::ecdsa::{Signature, SigningKey};
use p256::elliptic_curve::rand_core::OsRng;
use p256::elliptic_curve::sec1::ToEncodedPoint;
use reqwest::Url;
use reqwest::header::{HeaderValue, InvalidHeaderValue};
use serde_json::json;
use time::OffsetDateTime;

use super::super::jwt;

/// A day is the most that services take; their clock may be behind ours.
const TOKEN_LIFETIME: Duration = Duration::from_secs(12 * 60 * 60);
const RENEWED_AFTER: Duration = Duration::from_secs(11 * 60 * 60);
/// There are few push services, but an address can claim to be one.
const MOST_SERVICES: u64 = 1_000;

/// Why a server cannot introduce itself.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VapidError {
    #[error("the VAPID key is not a P-256 private key of 32 bytes in base64url")]
    Key,
    #[error("the VAPID subject must be a mailto: or https: address")]
    Subject,
}

/// A new private key, for the configuration.
pub(crate) fn generate_key() -> String {
    URL_SAFE_NO_PAD.encode(SigningKey::random(&mut OsRng).to_bytes())
}

pub(super) struct Vapid {
    key: SigningKey,
    public_key: String,
    subject: String,
    headers: Cache<String, HeaderValue>,
}

impl Vapid {
    pub(super) fn new(private_key: &str, subject: &str) -> Result<Self, VapidError> {
        let key = URL_SAFE_NO_PAD
            .decode(private_key.trim().trim_end_matches('='))
            .map_err(|_| VapidError::Key)?;
        let key = SigningKey::from_slice(&key).map_err(|_| VapidError::Key)?;
        // Apple's service refuses tokens with any other subject.
        let reachable = Url::parse(subject)
            .is_ok_and(|url| matches!(url.scheme(), "mailto" | "https") && url.path() != "");
        if !reachable {
            return Err(VapidError::Subject);
        }
        let point = key.verifying_key().as_affine().to_encoded_point(false);
        Ok(Self {
            key,
            public_key: URL_SAFE_NO_PAD.encode(point.as_bytes()),
            subject: subject.to_owned(),
            headers: Cache::builder()
                .max_capacity(MOST_SERVICES)
                .time_to_live(RENEWED_AFTER)
                .build(),
        })
    }

    pub(super) fn public_key(&self) -> &str {
        &self.public_key
    }

    /// The value of `Authorization` for a push service.
    pub(super) fn authorization(&self, service: &Url) -> Result<HeaderValue, InvalidHeaderValue> {
        let origin = service.origin().ascii_serialization();
        if let Some(header) = self.headers.get(&origin) {
            return Ok(header);
        }
        let header = self.sign(&origin, OffsetDateTime::now_utc())?;
        self.headers.insert(origin, header.clone());
        Ok(header)
    }

    /// Forgets a token that a service refused, unless it has been replaced already:
    /// of many messages that meet the same refusal, one brings the new token.
    pub(super) fn forget(&self, service: &Url, refused: &HeaderValue) {
        let origin = service.origin().ascii_serialization();
        if self.headers.get(&origin).as_ref() == Some(refused) {
            self.headers.invalidate(&origin);
        }
    }

    /// Makes a token the one that a service gets.
    #[cfg(test)]
    pub(super) fn keep(&self, service: &Url, header: HeaderValue) {
        self.headers
            .insert(service.origin().ascii_serialization(), header);
    }

    fn sign(&self, origin: &str, now: OffsetDateTime) -> Result<HeaderValue, InvalidHeaderValue> {
        let claims = json!({
            "aud": origin,
            "exp": (now + TOKEN_LIFETIME).unix_timestamp(),
            "sub": self.subject,
        });
        let header = json!({"typ": "JWT", "alg": "ES256"});
        let Ok(token) = jwt::issue(&header, &claims, |input| {
            let signature: Signature = self.key.sign(input);
            Ok::<_, std::convert::Infallible>(signature.to_vec())
        });
        let mut header = HeaderValue::try_from(format!("vapid t={token}, k={}", self.public_key))?;
        header.set_sensitive(true);
        Ok(header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUBJECT: &str = "mailto:ops@example.com";

    #[test]
    fn a_generated_key_is_a_key() {
        let key = generate_key();
        assert_ne!(key, generate_key());
        let vapid = Vapid::new(&key, SUBJECT).unwrap();
        let public = URL_SAFE_NO_PAD.decode(vapid.public_key()).unwrap();
        assert!(public.len() == 65 && public[0] == 4);
        assert!(Vapid::new(&format!(" {key}=\n"), "https://example.com/contact").is_ok());
    }

    #[test]
    fn bad_settings_are_told_apart() {
        let zero = "A".repeat(43);
        let too_large = URL_SAFE_NO_PAD.encode([0xff; 32]);
        for key in ["", "AAAA", "?", &zero, &too_large] {
            assert!(
                matches!(Vapid::new(key, SUBJECT), Err(VapidError::Key)),
                "{key}"
            );
        }
        for subject in ["", "ops@example.com", "http://example.com", "mailto:"] {
            let made = Vapid::new(&generate_key(), subject);
            assert!(matches!(made, Err(VapidError::Subject)), "{subject}");
        }
    }

    #[test]
    fn a_service_gets_the_same_token_until_it_is_forgotten() {
        let vapid = Vapid::new(&generate_key(), SUBJECT).unwrap();
        let one = Url::parse("https://one.example/a").unwrap();
        let other = Url::parse("https://one.example:8443/a").unwrap();
        let first = vapid.authorization(&one).unwrap();
        assert!(first.is_sensitive());
        assert_eq!(
            vapid.authorization(&one.join("/b").unwrap()).unwrap(),
            first
        );
        assert_ne!(vapid.authorization(&other).unwrap(), first);
        vapid.forget(&one, &HeaderValue::from_static("vapid t=older"));
        assert_eq!(vapid.authorization(&one).unwrap(), first);
        vapid.forget(&one, &first);
        assert!(vapid.headers.get("https://one.example").is_none());
    }
}
