//! Links that end a category's mails for a user, without signing in: whoever has
//! the mail may follow them, and nobody can make one up.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use url::Url;

/// Tells these signatures from any other that is made with the same key.
const PURPOSE: &[u8] = b"smartpulse unsubscribe 1\0";
/// How long a signature is.
const SIGNATURE: usize = 32;

/// Signs and verifies the tokens of unsubscribe links. A token has no end: a link
/// in an old mail still says what its reader wants.
#[derive(Clone)]
pub(crate) struct UnsubscribeLink {
    /// With the key and the purpose in it already.
    mac: Hmac<Sha256>,
}

impl UnsubscribeLink {
    pub(crate) fn new(key: [u8; 32]) -> Self {
        // HMAC itself fills a short key up with zeros, but checks its length.
        let mut block = [0; 64];
        block[..key.len()].copy_from_slice(&key);
        let mac = <Hmac<Sha256> as Mac>::new(&block.into());
        Self {
            mac: mac.chain_update(PURPOSE),
        }
    }

    /// The token that ends mails of this category for this user.
    pub(crate) fn sign(&self, user_key: &str, category: &str) -> String {
        // With its length in front, a user key cannot run into the category.
        let mut payload = (user_key.len() as u64).to_be_bytes().to_vec();
        payload.extend_from_slice(user_key.as_bytes());
        payload.extend_from_slice(category.as_bytes());
        let mut token = self
            .mac
            .clone()
            .chain_update(&payload)
            .finalize()
            .into_bytes()
            .to_vec();
        token.extend_from_slice(&payload);
        URL_SAFE_NO_PAD.encode(token)
    }

    /// The user key and the category that a token of ours is for.
    pub(crate) fn verify(&self, token: &str) -> Option<(String, String)> {
        let token = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (signature, payload) = token.split_at_checked(SIGNATURE)?;
        // Takes as long for a wrong signature as for one that is nearly right.
        let mac = self.mac.clone().chain_update(payload);
        mac.verify_slice(signature).ok()?;
        let (length, keys) = payload.split_first_chunk()?;
        let length = usize::try_from(u64::from_be_bytes(*length)).ok()?;
        let (user_key, category) = keys.split_at_checked(length)?;
        Some((
            String::from_utf8(user_key.to_vec()).ok()?,
            String::from_utf8(category.to_vec()).ok()?,
        ))
    }

    /// The address that goes into a mail.
    pub(crate) fn url(&self, public_url: &Url, user_key: &str, category: &str) -> String {
        let base = public_url.as_str().trim_end_matches('/');
        format!("{base}/unsubscribe?token={}", self.sign(user_key, category))
    }
}

impl fmt::Debug for UnsubscribeLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnsubscribeLink").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link() -> UnsubscribeLink {
        UnsubscribeLink::new([7; 32])
    }

    #[test]
    fn a_token_says_who_and_what() {
        for (user_key, category) in [("ada", "alert"), ("", ""), ("a|b", "ü \0"), ("ab", "")] {
            let token = link().sign(user_key, category);
            let expected = (user_key.to_owned(), category.to_owned());
            assert_eq!(link().verify(&token), Some(expected), "{user_key:?}");
            let safe = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
            assert!(token.chars().all(safe), "{token}");
        }
    }

    #[test]
    fn the_keys_do_not_run_together() {
        assert_ne!(link().sign("ab", "c"), link().sign("a", "bc"));
    }

    #[test]
    fn a_token_that_was_touched_is_none() {
        let token = link().sign("ada", "alert");
        for at in 0..token.len() {
            let mut touched = token.clone().into_bytes();
            touched[at] = if touched[at] == b'A' { b'B' } else { b'A' };
            let touched = String::from_utf8(touched).unwrap();
            assert_eq!(link().verify(&touched), None, "{touched}");
        }
        for touched in ["", "AAAA", &token[1..], &token[..40], &format!("{token}A")] {
            assert_eq!(link().verify(touched), None, "{touched}");
        }
        assert_eq!(UnsubscribeLink::new([8; 32]).verify(&token), None);
    }

    #[test]
    fn the_address_lies_under_the_public_one() {
        let url = Url::parse("https://example.com/app/").unwrap();
        let address = link().url(&url, "ada", "alert");
        let token = address.strip_prefix("https://example.com/app/unsubscribe?token=");
        assert!(link().verify(token.unwrap()).is_some());
    }

    #[test]
    fn the_key_is_not_printed() {
        assert!(!format!("{:?}", link()).contains('7'));
    }
}
