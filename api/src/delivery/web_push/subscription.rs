//! What a browser gives us to reach it: an address and two keys.

use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use p256::PublicKey;
use web_push_native::Auth;

use super::super::outbound::AddressError;
use crate::error::ApiError;

/// Browsers leave the padding away; some libraries in between put it back.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Why a push subscription is of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SubscriptionError {
    #[error(transparent)]
    Address(#[from] AddressError),
    #[error("p256dh is not a P-256 public key of 65 bytes in base64url")]
    Key,
    #[error("auth is not 16 bytes in base64url")]
    Auth,
}

/// What failed below, such as the look-up of a name, is nothing to tell a client.
impl From<SubscriptionError> for ApiError {
    fn from(error: SubscriptionError) -> Self {
        match error {
            SubscriptionError::Address(address) => Self::violation("endpoint", address.to_string()),
            SubscriptionError::Key => Self::violation("p256dh", error.to_string()),
            SubscriptionError::Auth => Self::violation("auth", error.to_string()),
        }
    }
}

/// The keys that a message to a browser is encrypted with.
pub(super) struct Keys {
    pub(super) public: PublicKey,
    pub(super) auth: Auth,
}

impl Keys {
    pub(super) fn parse(p256dh: &str, auth: &str) -> Result<Self, SubscriptionError> {
        let point = BASE64.decode(p256dh).map_err(|_| SubscriptionError::Key)?;
        // Only the uncompressed form: it goes into the key derivation byte by byte.
        if point.len() != 65 {
            return Err(SubscriptionError::Key);
        }
        let public = PublicKey::from_sec1_bytes(&point).map_err(|_| SubscriptionError::Key)?;
        let auth = BASE64.decode(auth).map_err(|_| SubscriptionError::Auth)?;
        let auth: [u8; 16] = auth.try_into().map_err(|_| SubscriptionError::Auth)?;
        Ok(Self {
            public,
            auth: auth.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From appendix A of RFC 8291.
    const P256DH: &str =
        "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4";
    const AUTH: &str = "BTBZMqHH6r4Tts7J_aSIgg";

    #[test]
    fn keys_are_taken_with_and_without_padding() {
        for padding in ["", "="] {
            assert!(Keys::parse(&format!("{P256DH}{padding}"), AUTH).is_ok());
        }
        assert!(Keys::parse(P256DH, &format!("{AUTH}==")).is_ok());
    }

    #[test]
    fn what_is_no_point_of_the_curve_is_no_key() {
        let off_the_curve = format!("{}A", &P256DH[..P256DH.len() - 1]).replace("Aiw", "Biw");
        let compressed = BASE64.encode({
            let mut point = BASE64.decode(P256DH).unwrap();
            point.truncate(33);
            point[0] = 2;
            point
        });
        for p256dh in [
            "",
            "AAAA",
            "not base64!",
            &"A".repeat(87),
            &off_the_curve,
            &compressed,
        ] {
            assert!(
                matches!(Keys::parse(p256dh, AUTH), Err(SubscriptionError::Key)),
                "{p256dh}"
            );
        }
    }

    #[test]
    fn a_secret_of_another_length_is_none() {
        for auth in ["", "AAAA", "?", &"A".repeat(24)] {
            assert!(
                matches!(Keys::parse(P256DH, auth), Err(SubscriptionError::Auth)),
                "{auth}"
            );
        }
    }
}
