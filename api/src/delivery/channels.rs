//! The channels that this server can send over.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use domain::database::Database;
use domain::notification::{Channel, Message, Outcome, SendRequest, Severity};
use domain::server_secret;
use lettre::message::Mailbox;
use rand::RngExt;
use serde_json::Value;
use url::Url;

use super::breaker::{Breaker, BreakerSettings};
use super::email::{
    CheckError, Email, EmailSettings, Letter, RenderError, Rendered, SmtpUrl, Templates,
    UnsubscribeLink,
};
use super::fcm::{self, Fcm, FcmSettings};
use super::outbound::{Outbound, OutboundSettings};
use super::web_push::{self, WebPush, WebPushSettings};
use super::webhook::Webhook;
use crate::error::{ApiError, ErrorCode};

/// How notifications leave the server.
#[derive(Debug, Clone)]
pub(crate) struct ChannelSettings {
    /// Where readers find the app.
    pub(crate) public_url: Url,
    pub(crate) email: Option<EmailOptions>,
    /// A folder with mail templates.
    pub(crate) mail_templates: Option<PathBuf>,
    /// `mailto:` or `https:`, for push services; without it there is no web push.
    pub(crate) web_push_contact: Option<String>,
    /// The file of Google's service account; without it there is no FCM.
    pub(crate) fcm_service_account: Option<PathBuf>,
    /// Another address of FCM.
    pub(crate) fcm_url: Option<String>,
    /// Whether webhooks may lead into internal networks.
    pub(crate) allow_private_addresses: bool,
}

/// How mails are sent.
#[derive(Debug, Clone)]
pub(crate) struct EmailOptions {
    pub(crate) smtp_url: SmtpUrl,
    pub(crate) from: Mailbox,
    pub(crate) reply_to: Option<Mailbox>,
    /// A file with authorities to trust besides the public ones, in PEM.
    pub(crate) authorities: Option<PathBuf>,
    pub(crate) connections: u32,
}

/// Waits for a mail server's answers.
const SMTP_TIMEOUT: Duration = Duration::from_secs(20);

/// The channels, ready to send. Copies are the same.
#[derive(Clone)]
pub(crate) struct Channels {
    inner: Arc<Inner>,
}

struct Inner {
    templates: Arc<Templates>,
    unsubscribe: UnsubscribeLink,
    outbound: Outbound,
    breaker: Breaker,
    email: Option<Email>,
    web_push: Option<WebPush>,
    fcm: Option<Fcm>,
    webhook: Webhook,
}

impl Channels {
    /// Makes them ready; fails if a template or a setting cannot be used.
    pub(crate) async fn open(db: &Database, settings: &ChannelSettings) -> anyhow::Result<Self> {
        let templates = Arc::new(
            Templates::load(settings.mail_templates.as_deref())
                .context("the mail templates cannot be used")?,
        );
        let key = unsubscribe_key(db).await?;
        let email = match &settings.email {
            Some(options) => Some(open_email(options, settings, key, &templates)?),
            None => None,
        };
        let outbound = Outbound::new(&OutboundSettings {
            allow_private: settings.allow_private_addresses,
            connect_timeout: Duration::from_secs(5),
            timeout: Duration::from_secs(15),
        })?;
        let breaker = Breaker::new(BreakerSettings {
            failures: 5,
            cool_down: Duration::from_secs(30),
            longest: Duration::from_secs(15 * 60),
            hosts: 10_000,
        });
        let web_push = match &settings.web_push_contact {
            Some(contact) => {
                let draw = web_push::generate_key;
                let web_push = WebPushSettings {
                    private_key: server_secret::get_or_draw(db, "vapid", draw).await?,
                    subject: contact.clone(),
                };
                Some(
                    WebPush::new(&web_push, outbound.clone(), breaker.clone())
                        .context("--web-push-contact or the stored key cannot be used")?,
                )
            }
            None => None,
        };
        let fcm = match &settings.fcm_service_account {
            Some(file) => {
                let service_account = std::fs::read_to_string(file)
                    .with_context(|| format!("{} cannot be read", file.display()))?;
                let base_url = settings.fcm_url.as_deref().unwrap_or(fcm::BASE_URL);
                let fcm = FcmSettings {
                    service_account,
                    base_url: base_url.to_owned(),
                };
                Some(
                    Fcm::new(&fcm, outbound.clone(), breaker.clone())
                        .with_context(|| format!("{} cannot be used", file.display()))?,
                )
            }
            None => None,
        };
        Ok(Self {
            inner: Arc::new(Inner {
                templates,
                unsubscribe: UnsubscribeLink::new(key),
                webhook: Webhook::new(outbound.clone(), breaker.clone()),
                outbound,
                breaker,
                email,
                web_push,
                fcm,
            }),
        })
    }

    /// Whether a channel is set up.
    pub(crate) fn has(&self, channel: Channel) -> bool {
        match channel {
            Channel::InApp | Channel::Webhook => true,
            Channel::Email => self.inner.email.is_some(),
            Channel::WebPush => self.inner.web_push.is_some(),
            Channel::Fcm => self.inner.fcm.is_some(),
        }
    }

    /// An error for a channel that is not set up.
    pub(crate) fn require(&self, channel: Channel) -> Result<(), ApiError> {
        if self.has(channel) {
            return Ok(());
        }
        let option = match channel {
            Channel::Email => "--smtp-url",
            Channel::WebPush => "--web-push-contact",
            Channel::Fcm => "--fcm-service-account",
            Channel::InApp | Channel::Webhook => unreachable!("they need no setting"),
        };
        Err(ApiError::new(
            ErrorCode::Unavailable,
            format!("{channel} is not set up on this server: see {option}"),
        ))
    }

    pub(crate) fn web_push(&self) -> Result<&WebPush, ApiError> {
        self.require(Channel::WebPush)?;
        let web_push = self.inner.web_push.as_ref();
        Ok(web_push.unwrap_or_else(|| unreachable!("it was just required")))
    }

    /// The key that browsers subscribe with.
    pub(crate) fn web_push_public_key(&self) -> Option<&str> {
        self.inner.web_push.as_ref().map(WebPush::public_key)
    }

    pub(crate) fn templates(&self) -> &Templates {
        &self.inner.templates
    }

    pub(crate) fn outbound(&self) -> &Outbound {
        &self.inner.outbound
    }

    /// Hosts that are left alone for now, because they kept failing.
    pub(crate) fn open_breakers(&self) -> usize {
        self.inner.breaker.open_hosts()
    }

    /// Who an unsubscribe link is of, and from what; nothing if nobody signed it.
    pub(crate) fn unsubscribing(&self, token: &str) -> Option<(String, String)> {
        self.inner.unsubscribe.verify(token)
    }

    /// An error for a notification that a channel could never send.
    pub(crate) fn check(&self, request: &SendRequest) -> Result<(), ApiError> {
        for channel in &request.channels {
            self.require(*channel)?;
        }
        match &request.template {
            Some(template) => self
                .inner
                .templates
                .check(template, request.variables.as_ref())
                .map_err(ApiError::from),
            None if request.variables.is_some() => Err(ApiError::violation(
                "variables",
                "variables are a template's: name one",
            )),
            None => Ok(()),
        }
    }

    /// A mail as it would be sent to somebody.
    pub(crate) fn preview(
        &self,
        template: &str,
        locale: Option<&str>,
        variables: Option<&Value>,
        (title, body): (&str, &str),
    ) -> Result<Rendered, ApiError> {
        self.inner.templates.check(template, variables)?;
        let letter = Letter {
            template: Some(template),
            locale,
            user_name: "Ada",
            title,
            body,
            severity: Severity::Info,
            category: "general",
            link: None,
            unsubscribe_url: "https://example.org/unsubscribe?token=preview",
            data: None,
            variables,
        };
        Ok(self.inner.templates.render(&letter)?)
    }

    /// Sends mails, and says what came of each, in their order.
    pub(super) async fn send_mails(&self, messages: &[Message]) -> Vec<Outcome> {
        match &self.inner.email {
            Some(email) => email.send_all(messages).await,
            None => messages.iter().map(|_| not_set_up()).collect(),
        }
    }

    /// Sends one message over a channel other than mail.
    pub(super) async fn send(&self, message: &Message) -> Outcome {
        let inner = &self.inner;
        match message.endpoint.channel {
            Channel::WebPush => match &inner.web_push {
                Some(web_push) => web_push.send(message).await,
                None => not_set_up(),
            },
            Channel::Fcm => match &inner.fcm {
                Some(fcm) => fcm.send(message).await,
                None => not_set_up(),
            },
            Channel::Webhook => inner.webhook.send(message).await,
            Channel::Email | Channel::InApp => not_set_up(),
        }
    }

    /// Says in the log whether the mail server can be used: its operator wants to
    /// know before the first mail.
    pub(super) async fn greet(&self) {
        let Some(email) = &self.inner.email else {
            return;
        };
        match email.verify().await {
            Ok(()) => tracing::info!("the mail server can be used"),
            Err(error) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the mail server cannot be used just now: mails will wait"
            ),
        }
    }

    /// Takes leave of the mail server.
    pub(crate) async fn close(&self) {
        if let Some(email) = &self.inner.email {
            email.close().await;
        }
    }
}

/// No worker takes what its channel could not send; this is for one that would.
fn not_set_up() -> Outcome {
    Outcome::Postponed {
        reason: "the channel is not set up on this replica".into(),
        after: Duration::from_secs(60),
    }
}

async fn unsubscribe_key(db: &Database) -> anyhow::Result<[u8; 32]> {
    let draw = || STANDARD.encode(rand::rng().random::<[u8; 32]>());
    let text = server_secret::get_or_draw(db, "unsubscribe", draw).await?;
    let bytes = STANDARD
        .decode(text)
        .ok()
        .and_then(|bytes| bytes.try_into().ok());
    bytes.context("the stored key of unsubscribe links is not 32 bytes in base64")
}

fn open_email(
    options: &EmailOptions,
    settings: &ChannelSettings,
    unsubscribe_key: [u8; 32],
    templates: &Arc<Templates>,
) -> anyhow::Result<Email> {
    let authorities = match &options.authorities {
        Some(file) => Some(
            std::fs::read_to_string(file)
                .with_context(|| format!("{} cannot be read", file.display()))?,
        ),
        None => None,
    };
    let email = EmailSettings {
        smtp_url: options.smtp_url.clone(),
        authorities,
        from: options.from.clone(),
        reply_to: options.reply_to.clone(),
        public_url: settings.public_url.clone(),
        unsubscribe_key,
        connections: options.connections.max(1),
        timeout: SMTP_TIMEOUT,
    };
    Email::new(email, Arc::clone(templates)).context("mails cannot be sent with these settings")
}

impl From<CheckError> for ApiError {
    fn from(error: CheckError) -> Self {
        let message = error.to_string();
        match error {
            CheckError::UnknownTemplate { .. } => Self::unknown(message, Some("template".into())),
            _ => Self::violation("variables", message),
        }
    }
}

impl From<RenderError> for ApiError {
    fn from(error: RenderError) -> Self {
        Self::bad_input(crate::supervisor::chain(&error))
    }
}
