//! The secret of a key, which its program sends.

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

/// Tells people, and programs that look for leaked secrets, what it is.
const MARK: &str = "sp_";
const RANDOM_BYTES: usize = 32;
/// Of base64 for as many bytes.
const RANDOM_CHARS: usize = 43;
/// As much of a secret may be shown.
const PREFIX: usize = 9;

/// A key's secret. It is shown once, and found again by its hash.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// SHA-256 of a secret. That is enough: nobody guesses 256 random bits, however
/// fast each guess is.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hash([u8; 32]);

impl Secret {
    /// The secret of bytes that are drawn at random, and for nothing else.
    pub fn of_random(bytes: [u8; RANDOM_BYTES]) -> Self {
        Self(format!("{MARK}{}", BASE64_URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// The text, if it has a secret's form.
    pub fn read(text: &str) -> Option<Self> {
        let random = text.strip_prefix(MARK)?;
        let fits = random.len() == RANDOM_CHARS
            && random
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
        fits.then(|| Self(text.to_owned()))
    }

    /// Whether a text means to be a secret of ours, whole or not.
    pub fn is_meant(text: &str) -> bool {
        text.starts_with(MARK)
    }

    /// For the one to whom it is given.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    pub fn hash(&self) -> Hash {
        Hash(Sha256::digest(self.0.as_bytes()).into())
    }

    /// How it begins: for people to know it by.
    pub fn prefix(&self) -> &str {
        &self.0[..PREFIX]
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}***", self.prefix())
    }
}

impl Hash {
    /// Of what [`Hash`]'s `Display` writes.
    pub fn read(hex: &str) -> Option<Self> {
        let mut hash = [0; 32];
        if hex.len() != 2 * hash.len() || !hex.is_ascii() {
            return None;
        }
        for (byte, digits) in hash.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
            let digits = std::str::from_utf8(digits).ok()?;
            *byte = u8::from_str_radix(digits, 16).ok()?;
        }
        Some(Self(hash))
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_back_and_not_shown() {
        let secret = Secret::of_random([0xfb; 32]);
        let text = secret.reveal().to_owned();
        assert_eq!(Secret::read(&text), Some(secret.clone()));
        assert_eq!(format!("{secret:?}"), format!("{}***", &text[..9]));
        for other in [
            "",
            "sp_",
            &text[1..],
            &text[..text.len() - 1],
            &format!("{text}A"),
            &text.replace("sp_", "SP_"),
            &text.replace('-', "+"),
            &format!("sp_{}", "é".repeat(21)),
        ] {
            assert_eq!(Secret::read(other), None, "{other}");
        }
    }

    #[test]
    fn a_hash_is_read_back() {
        let hash = Secret::of_random([7; 32]).hash();
        assert_eq!(Hash::read(&hash.to_string()), Some(hash));
        for bad in ["", "00", &"g".repeat(64), &"é".repeat(32)] {
            assert_eq!(Hash::read(bad), None, "{bad}");
        }
    }
}
