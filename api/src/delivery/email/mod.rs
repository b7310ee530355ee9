//! Notifications by e-mail: written with templates, sent over SMTP, and each with
//! a link that ends them.
//!
//! Mail is not idempotent, so the outcome of each attempt is told with care: it is
//! unknown only if the server may have taken the mail, and failed only if it
//! cannot have.

mod compose;
mod folder;
mod header;
mod link;
mod manifest;
mod mjml;
mod session;
mod smtp_url;
mod template;
#[cfg(test)]
mod tests;
mod transport;
mod unsubscribe;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use domain::notification::{Message, Outcome};
use lettre::message::Mailbox;
use lettre::transport::smtp;
use lettre::transport::smtp::client::{Certificate, TlsParameters};
use url::Url;

pub(crate) use folder::PLAIN;
pub(crate) use link::absolute_link;
pub(crate) use session::OpenError;
pub(crate) use smtp_url::{SmtpUrl, SmtpUrlError};
pub(crate) use template::{CheckError, Letter, RenderError, Rendered, TemplateInfo, Templates};
pub(crate) use unsubscribe::UnsubscribeLink;

use compose::Composer;
use smtp_url::Encryption;
use transport::Transport;

/// How mails are sent.
#[derive(Clone)]
pub(crate) struct EmailSettings {
    pub(crate) smtp_url: SmtpUrl,
    /// Authorities to trust besides the public ones, in PEM: those of a mail
    /// server with a certificate of the house.
    pub(crate) authorities: Option<String>,
    /// Whom mails are from. Servers send word to it of what they could not deliver.
    pub(crate) from: Mailbox,
    pub(crate) reply_to: Option<Mailbox>,
    /// Where readers find the app: links and unsubscribe links lead there.
    pub(crate) public_url: Url,
    /// Signs unsubscribe links. With another key, those in old mails do nothing.
    pub(crate) unsubscribe_key: [u8; 32],
    /// How many are open at most.
    pub(crate) connections: u32,
    /// How long to wait for a connection, and for each of the server's answers.
    pub(crate) timeout: Duration,
}

impl fmt::Debug for EmailSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmailSettings")
            .field("smtp_url", &self.smtp_url)
            .field("from", &self.from)
            .field("reply_to", &self.reply_to)
            .field("public_url", &self.public_url.as_str())
            .field("connections", &self.connections)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// Mails cannot be sent with these settings.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EmailError {
    #[error(transparent)]
    SmtpUrl(#[from] SmtpUrlError),
    #[error("mails need a connection at least")]
    NoConnections,
    #[error("the authorities to trust are no certificates in PEM")]
    Authorities,
    // Its own text tells its source already.
    #[error("no connection can be encrypted: {0}")]
    Tls(smtp::Error),
}

/// Sends notifications by e-mail.
pub(crate) struct Email {
    from: Mailbox,
    reply_to: Option<Mailbox>,
    public_url: Url,
    unsubscribe: UnsubscribeLink,
    templates: Arc<Templates>,
    transport: Transport,
}

impl Email {
    /// Ready to send; connections are made when there are mails.
    pub(crate) fn new(
        settings: EmailSettings,
        templates: Arc<Templates>,
    ) -> Result<Self, EmailError> {
        let server = settings.smtp_url.server()?;
        if settings.connections == 0 {
            return Err(EmailError::NoConnections);
        }
        if server.credentials.is_some() && server.encryption == Encryption::Never {
            tracing::warn!(
                email.host = server.host,
                "the password of the mail server is sent in the open: use smtps:// or tls=required"
            );
        }
        let mut tls = TlsParameters::builder(server.host.clone());
        if let Some(authorities) = &settings.authorities {
            tls = tls.add_root_certificate(certificate(authorities)?);
        }
        let tls = tls.build().map_err(EmailError::Tls)?;
        let connections = settings.connections as usize;
        Ok(Self {
            from: settings.from,
            reply_to: settings.reply_to,
            public_url: settings.public_url,
            unsubscribe: UnsubscribeLink::new(settings.unsubscribe_key),
            templates,
            transport: Transport::new(server, tls, connections, settings.timeout),
        })
    }

    /// Sends a mail for each message, and says what came of each, in their order.
    pub(crate) async fn send_all(&self, messages: &[Message]) -> Vec<Outcome> {
        let composer = self.composer();
        let compose = |message: &Message| {
            let mail = composer.compose(message);
            mail.map_err(|error| error.outcome())
        };
        self.transport.send_each(messages, compose).await
    }

    /// Whether the mail server can be used.
    pub(crate) async fn verify(&self) -> Result<(), OpenError> {
        self.transport.verify().await
    }

    /// Takes leave of the mail server, when nothing more is to be sent.
    pub(crate) async fn close(&self) {
        self.transport.close().await;
    }

    fn composer(&self) -> Composer<'_> {
        Composer {
            from: &self.from,
            reply_to: self.reply_to.as_ref(),
            public_url: &self.public_url,
            unsubscribe: &self.unsubscribe,
            templates: &self.templates,
        }
    }
}

fn certificate(pem: &str) -> Result<Certificate, EmailError> {
    // A text with none in it would pass for an empty list.
    if !pem.contains("-----BEGIN CERTIFICATE-----") {
        return Err(EmailError::Authorities);
    }
    Certificate::from_pem(pem.as_bytes()).map_err(|_| EmailError::Authorities)
}
