//! Where the mail server is, and how it is talked to, in one address.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::extension::ClientId;
use percent_encoding::percent_decode_str;
use url::{Host, Url};

/// `smtp://user:password@host:port?tls=required` or `smtps://user:password@host`;
/// a path is the name this server calls itself by. It may hold a password, so it
/// is never printed.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SmtpUrl(String);

impl SmtpUrl {
    pub(crate) fn new(url: impl Into<String>) -> Self {
        Self(url.into())
    }
}

/// Whatever it is: what is wrong with it is said later, without its text.
impl FromStr for SmtpUrl {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self::new(text))
    }
}

impl fmt::Debug for SmtpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.server() {
            Ok(server) => write!(f, "SmtpUrl({}:{})", server.host, server.port),
            Err(_) => f.write_str("SmtpUrl"),
        }
    }
}

/// An SMTP address says nothing that can be done. Its text is not repeated, as it
/// may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SmtpUrlError {
    #[error("the SMTP address cannot be read")]
    Syntax(#[source] url::ParseError),
    #[error("an SMTP address begins with smtp:// or smtps://")]
    Scheme,
    #[error("the SMTP address names no host")]
    Host,
    #[error("an SMTP address has no option but tls=required and tls=opportunistic, with smtp://")]
    Option,
    #[error("the SMTP address names a user without a password, or a password that is no text")]
    Credentials,
}

/// When a connection is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encryption {
    Never,
    /// If the server offers it: no help against who sits in between.
    Opportunistic,
    /// By STARTTLS, or there is no connection.
    Required,
    /// From the first byte.
    Implicit,
}

/// A mail server.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) encryption: Encryption,
    pub(super) credentials: Option<Credentials>,
    /// What this server calls itself.
    pub(super) hello: ClientId,
}

impl SmtpUrl {
    pub(super) fn server(&self) -> Result<Server, SmtpUrlError> {
        let url = Url::parse(&self.0).map_err(SmtpUrlError::Syntax)?;
        let encryption = encryption(&url)?;
        let default_port = match encryption {
            Encryption::Never => 25,
            Encryption::Opportunistic | Encryption::Required => 587,
            Encryption::Implicit => 465,
        };
        let host = match url.host() {
            Some(Host::Domain(domain)) if !domain.is_empty() => domain.to_owned(),
            Some(Host::Ipv4(address)) => address.to_string(),
            // Without the brackets that it has in an address.
            Some(Host::Ipv6(address)) => address.to_string(),
            Some(Host::Domain(_)) | None => return Err(SmtpUrlError::Host),
        };
        let hello = match url.path().trim_matches('/') {
            "" => ClientId::default(),
            name => ClientId::Domain(name.to_owned()),
        };
        Ok(Server {
            host,
            port: url.port().unwrap_or(default_port),
            encryption,
            credentials: credentials(&url)?,
            hello,
        })
    }
}

/// Any other option is an error: a misspelt `tls` would send mails in the open.
fn encryption(url: &Url) -> Result<Encryption, SmtpUrlError> {
    let mut encryption = match url.scheme() {
        "smtp" => Encryption::Never,
        "smtps" => Encryption::Implicit,
        _ => return Err(SmtpUrlError::Scheme),
    };
    for (name, value) in url.query_pairs() {
        encryption = match (encryption, name.as_ref(), value.as_ref()) {
            (Encryption::Never, "tls", "required") => Encryption::Required,
            (Encryption::Never, "tls", "opportunistic") => Encryption::Opportunistic,
            _ => return Err(SmtpUrlError::Option),
        };
    }
    Ok(encryption)
}

fn credentials(url: &Url) -> Result<Option<Credentials>, SmtpUrlError> {
    let text = |encoded| {
        let text = percent_decode_str(encoded).decode_utf8();
        text.map(String::from)
            .map_err(|_| SmtpUrlError::Credentials)
    };
    match (url.username(), url.password()) {
        ("", None) => Ok(None),
        ("", Some(_)) | (_, None) => Err(SmtpUrlError::Credentials),
        (user, Some(password)) => Ok(Some(Credentials::new(text(user)?, text(password)?))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_a_server() {
        let check = |url, host, port, encryption, user: Option<(&str, &str)>| {
            let server = SmtpUrl::new(url).server().unwrap();
            assert_eq!((server.host.as_str(), server.port), (host, port), "{url}");
            assert_eq!(server.encryption, encryption, "{url}");
            let expected =
                user.map(|(user, password)| Credentials::new(user.into(), password.into()));
            assert_eq!(server.credentials, expected, "{url}");
        };
        check("smtp://localhost", "localhost", 25, Encryption::Never, None);
        check("smtp://[::1]:2525", "::1", 2525, Encryption::Never, None);
        let user = Some(("a@b", "p:/ß"));
        let required = "smtp://a%40b:p%3A%2F%C3%9F@mail.example?tls=required";
        check(required, "mail.example", 587, Encryption::Required, user);
        let opportunistic = "smtp://mail.example/me.example?tls=opportunistic";
        check(
            opportunistic,
            "mail.example",
            587,
            Encryption::Opportunistic,
            None,
        );
        check(
            "smtps://mail.example",
            "mail.example",
            465,
            Encryption::Implicit,
            None,
        );
        let server = SmtpUrl::new(opportunistic).server().unwrap();
        assert_eq!(server.hello.to_string(), "me.example");
    }

    #[test]
    fn what_is_wrong_with_an_address_is_said() {
        let check =
            |url, expected| assert_eq!(SmtpUrl::new(url).server().err(), Some(expected), "{url}");
        check("http://localhost", SmtpUrlError::Scheme);
        check("smtp:localhost", SmtpUrlError::Host);
        check("smtp://localhost?tsl=required", SmtpUrlError::Option);
        check("smtp://localhost?tls=on", SmtpUrlError::Option);
        check("smtps://localhost?tls=required", SmtpUrlError::Option);
        check("smtp://user@localhost", SmtpUrlError::Credentials);
        check("smtp://user:%FF@localhost", SmtpUrlError::Credentials);
        assert!(matches!(
            SmtpUrl::new("").server(),
            Err(SmtpUrlError::Syntax(_))
        ));
    }

    #[test]
    fn the_password_is_not_printed() {
        for url in [
            "smtp://ada:geheim@localhost",
            "smtp://ada:geheim@localhost?x",
            "geheim",
        ] {
            assert!(
                !format!("{:?}", SmtpUrl::new(url)).contains("geheim"),
                "{url}"
            );
        }
    }
}
