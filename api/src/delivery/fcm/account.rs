//! The service account that we act as at Google.

use std::fmt;
use std::time::Duration;

use reqwest::Url;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use serde::Deserialize;
use serde_json::json;
use time::OffsetDateTime;

use super::super::jwt;

const SCOPE: &str = "https://www.googleapis.com/auth/firebase.messaging";
/// The most that Google takes.
const GRANT_LIFETIME: Duration = Duration::from_secs(60 * 60);

/// Why a service account is of no use. None of them repeats what stands in the file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AccountError {
    #[error("not the JSON key file of a service account: see line {line}, column {column}")]
    Json { line: usize, column: usize },
    #[error("the service account's project_id is not the id of a project")]
    Project,
    #[error("the service account's token_uri is not a URL")]
    TokenUri,
    #[error("the service account's private_key is not an RSA key in PKCS #8 and PEM")]
    Key,
}

/// What we need of the key file that the Firebase console gives out.
#[derive(Deserialize)]
struct KeyFile {
    project_id: String,
    client_email: String,
    private_key: String,
    private_key_id: Option<String>,
    token_uri: String,
}

pub(super) struct Account {
    pub(super) project_id: String,
    pub(super) token_uri: String,
    client_email: String,
    key_id: Option<String>,
    key: RsaKeyPair,
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account")
            .field("project_id", &self.project_id)
            .field("client_email", &self.client_email)
            .finish_non_exhaustive()
    }
}

impl Account {
    pub(super) fn parse(text: &str) -> Result<Self, AccountError> {
        let file: KeyFile = serde_json::from_str(text).map_err(|error| AccountError::Json {
            line: error.line(),
            column: error.column(),
        })?;
        // It becomes a part of a path. Old projects have a domain and a colon in it.
        let is_id = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | ':' | '_');
        if file.project_id.is_empty() || !file.project_id.chars().all(is_id) {
            return Err(AccountError::Project);
        }
        Url::parse(&file.token_uri).map_err(|_| AccountError::TokenUri)?;
        let der = PrivatePkcs8KeyDer::from_pem_slice(file.private_key.as_bytes())
            .map_err(|_| AccountError::Key)?;
        let key = RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).map_err(|_| AccountError::Key)?;
        Ok(Self {
            project_id: file.project_id,
            token_uri: file.token_uri,
            client_email: file.client_email,
            key_id: file.private_key_id,
            key,
        })
    }

    /// What is exchanged for an access token (RFC 7523).
    pub(super) fn grant(&self, now: OffsetDateTime) -> Result<String, ring::error::Unspecified> {
        let mut header = json!({"typ": "JWT", "alg": "RS256"});
        if let Some(key_id) = &self.key_id {
            header["kid"] = json!(key_id);
        }
        let claims = json!({
            "iss": self.client_email,
            "scope": SCOPE,
            "aud": self.token_uri,
            "iat": now.unix_timestamp(),
            "exp": (now + GRANT_LIFETIME).unix_timestamp(),
        });
        jwt::issue(&header, &claims, |input| {
            let mut signature = vec![0; self.key.public().modulus_len()];
            self.key.sign(
                &RSA_PKCS1_SHA256,
                &SystemRandom::new(),
                input,
                &mut signature,
            )?;
            Ok(signature)
        })
    }

    #[cfg(test)]
    pub(super) fn public_key(&self) -> Vec<u8> {
        self.key.public().as_ref().to_vec()
    }
}
