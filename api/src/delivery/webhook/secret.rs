//! The secrets that webhooks are signed with.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use p256::elliptic_curve::rand_core::{OsRng, RngCore};
use ring::hmac;

const PREFIX: &str = "whsec_";
/// What Standard Webhooks allows.
const LENGTHS: std::ops::RangeInclusive<usize> = 24..=64;
const NEW_LENGTH: usize = 32;

/// The text is no secret; it is not repeated here, since it may nearly be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a webhook secret is whsec_ and 24 to 64 bytes in base64")]
pub(crate) struct SecretError;

/// A new secret, for an endpoint.
pub(crate) fn generate_secret() -> String {
    let mut bytes = [0; NEW_LENGTH];
    OsRng.fill_bytes(&mut bytes);
    format!("{PREFIX}{}", STANDARD.encode(bytes))
}

/// A secret that both sides know.
#[derive(Clone)]
pub(crate) struct Secret(hmac::Key);

impl Secret {
    pub(crate) fn parse(text: &str) -> Result<Self, SecretError> {
        let encoded = text.strip_prefix(PREFIX).ok_or(SecretError)?;
        let bytes = STANDARD.decode(encoded).map_err(|_| SecretError)?;
        if !LENGTHS.contains(&bytes.len()) {
            return Err(SecretError);
        }
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes)))
    }

    /// One signature of the header `webhook-signature`.
    pub(super) fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(format!("{id}.{timestamp}.").as_bytes());
        context.update(body);
        format!("v1,{}", STANDARD.encode(context.sign()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_secret_is_a_secret() {
        let secret = generate_secret();
        assert_ne!(secret, generate_secret());
        assert_eq!(format!("{:?}", Secret::parse(&secret).unwrap()), "Secret");
    }

    #[test]
    fn a_secret_has_a_prefix_and_a_length() {
        let of = |length: usize| format!("{PREFIX}{}", STANDARD.encode(vec![1; length]));
        for length in [24, 25, 32, 64] {
            assert!(Secret::parse(&of(length)).is_ok(), "{length}");
        }
        for text in [
            "",
            PREFIX,
            "whsec_?",
            "c2VjcmV0",
            &of(23),
            &of(65),
            &of(32)[1..],
        ] {
            assert_eq!(Secret::parse(text).unwrap_err(), SecretError, "{text}");
        }
    }

    /// The example that the scheme's reference implementations are tested with.
    #[test]
    fn the_published_example_has_its_signature() {
        let secret = Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let body = br#"{"test": 2432232314}"#;
        assert_eq!(
            secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }
}
