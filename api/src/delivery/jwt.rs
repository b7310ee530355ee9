//! The JSON Web Tokens that we sign ourselves, in their compact form.
//!
//! Only issued, never read: what comes from outside is checked elsewhere. The
//! general library would bring either a second TLS library's cryptography or an RSA
//! with an open advisory, for what is two lines of text.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

/// Writes a token and signs it.
pub(crate) fn issue<E>(
    header: &Value,
    claims: &Value,
    sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, E>,
) -> Result<String, E> {
    let mut token = URL_SAFE_NO_PAD.encode(header.to_string());
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(claims.to_string(), &mut token);
    let signature = sign(token.as_bytes())?;
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut token);
    Ok(token)
}
