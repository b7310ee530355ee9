//! How notifications leave the server.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::builder::BoolishValueParser;
use clap::{ArgAction, Args};
use url::Url;

use crate::delivery::email::SmtpUrl;
use crate::delivery::{ChannelSettings, EmailOptions};

/// The channels that notifications leave over. Those without a setting are off;
/// webhooks are always on.
#[derive(Args, Debug, Clone, Default)]
pub struct ChannelArgs {
    /// Where readers find the app, for links in mails; this server if absent
    #[arg(long, env = "SMARTPULSE_PUBLIC_URL")]
    public_url: Option<Url>,

    /// The mail server: `smtps://user:password@host`, or
    /// `smtp://user:password@host:587?tls=required`
    #[arg(long, env = "SMARTPULSE_SMTP_URL", hide_env_values = true)]
    smtp_url: Option<SmtpUrl>,

    /// Whom mails are from, such as `SmartPulse <pulse@example.org>`
    #[arg(long, env = "SMARTPULSE_MAIL_FROM")]
    mail_from: Option<String>,

    /// Where answers to mails go
    #[arg(long, env = "SMARTPULSE_MAIL_REPLY_TO")]
    mail_reply_to: Option<String>,

    /// A folder with mail templates, a folder each
    #[arg(long, env = "SMARTPULSE_MAIL_TEMPLATES")]
    mail_templates: Option<PathBuf>,

    /// A file with authorities that the mail server's certificate may be of, in PEM
    #[arg(long, env = "SMARTPULSE_MAIL_AUTHORITIES")]
    mail_authorities: Option<PathBuf>,

    /// Connections to the mail server at most
    #[arg(long, env = "SMARTPULSE_MAIL_CONNECTIONS", default_value_t = 4)]
    mail_connections: u32,

    /// Turns web push on: where push services reach you, `mailto:ops@example.org`
    #[arg(long, env = "SMARTPULSE_WEB_PUSH_CONTACT")]
    web_push_contact: Option<String>,

    /// Turns Firebase Cloud Messaging on: the key file of a service account
    #[arg(long, env = "SMARTPULSE_FCM_SERVICE_ACCOUNT")]
    fcm_service_account: Option<PathBuf>,

    /// Another address of Firebase Cloud Messaging
    #[arg(long, env = "SMARTPULSE_FCM_URL", hide = true)]
    fcm_url: Option<String>,

    /// A replica that says nothing of a delivery for so many seconds has lost it
    #[arg(long, env = "SMARTPULSE_DELIVERY_LEASE_SECONDS", default_value_t = 60)]
    delivery_lease_seconds: u32,

    /// Let webhooks lead into internal networks, and go unencrypted
    #[arg(long, env = "SMARTPULSE_ALLOW_PRIVATE_ADDRESSES", num_args = 0..=1, require_equals = true,
        default_missing_value = "true", default_value = "false", hide_default_value = true,
        value_parser = BoolishValueParser::new(), action = ArgAction::Set, value_name = "BOOL")]
    allow_private_addresses: bool,
}

impl ChannelArgs {
    pub(crate) fn settings(&self, listen: SocketAddr) -> anyhow::Result<ChannelSettings> {
        let public_url = match &self.public_url {
            Some(url) => url.clone(),
            None => format!("http://{listen}")
                .parse()
                .context("--public-url is needed")?,
        };
        Ok(ChannelSettings {
            public_url,
            email: self.email()?,
            mail_templates: self.mail_templates.clone(),
            web_push_contact: self.web_push_contact.clone(),
            fcm_service_account: self.fcm_service_account.clone(),
            fcm_url: self.fcm_url.clone(),
            allow_private_addresses: self.allow_private_addresses,
        })
    }

    /// How long a delivery is a replica's own.
    pub(crate) fn delivery_lease(&self) -> Duration {
        Duration::from_secs(self.delivery_lease_seconds.max(1).into())
    }

    fn email(&self) -> anyhow::Result<Option<EmailOptions>> {
        let Some(smtp_url) = &self.smtp_url else {
            if self.mail_from.is_some() {
                bail!("--mail-from has no use without --smtp-url");
            }
            return Ok(None);
        };
        let Some(from) = &self.mail_from else {
            bail!("--smtp-url needs --mail-from: whom mails are from");
        };
        let reply_to = self.mail_reply_to.as_ref();
        Ok(Some(EmailOptions {
            smtp_url: smtp_url.clone(),
            from: from
                .parse()
                .with_context(|| format!("--mail-from {from:?} is not a mail address"))?,
            reply_to: reply_to
                .map(|address| address.parse())
                .transpose()
                .context("--mail-reply-to is not a mail address")?,
            authorities: self.mail_authorities.clone(),
            connections: self.mail_connections,
        }))
    }
}
