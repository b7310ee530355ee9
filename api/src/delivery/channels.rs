//! The channels that this server can send over.

use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use domain::database::Database;
use domain::notification::{Attachment, Channel, Message, Outcome, SendRequest, Severity};
use domain::server_secret;
use lettre::message::Mailbox;
use lettre::message::header::ContentType;
use rand::RngExt;
use serde_json::Value;
use url::Url;

use super::breaker::{Breaker, BreakerSettings};
use super::email::{
    CheckError, Email, EmailSettings, Letter, PLAIN, RenderError, Rendered, SmtpUrl, Templates,
    UnsubscribeLink, absolute_link,
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

/// The mail server, for the breaker: no host is called so.
const MAIL_SERVER: &str = "the mail server";

/// Waits for a mail server's answers.
const SMTP_TIMEOUT: Duration = Duration::from_secs(20);

/// The channels, ready to send. Copies are the same.
#[derive(Clone)]
pub(crate) struct Channels {
    inner: Arc<Inner>,
}

struct Inner {
    public_url: Url,
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
                public_url: settings.public_url.clone(),
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
        let inner = &self.inner;
        match &request.template {
            Some(template) => inner
                .templates
                .check(template, request.variables.as_ref())?,
            None if request.variables.is_some() => {
                return Err(ApiError::violation(
                    "variables",
                    "variables are a template's: name one",
                ));
            }
            None => {}
        }
        let link = match &request.link {
            Some(link) => check_link(&inner.public_url, link)?,
            None => None,
        };
        check_media_types(&request.attachments)?;
        if request.channels.contains(&Channel::Email) {
            check_mail(&inner.templates, request, link.as_deref())?;
        }
        Ok(())
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

    /// Sends mails, and says what came of each, in their order. A mail server that
    /// takes none several times in a row is left alone for a while.
    pub(super) async fn send_mails(&self, messages: &[Message]) -> Vec<Outcome> {
        let Some(email) = &self.inner.email else {
            return messages.iter().map(|_| not_set_up()).collect();
        };
        if messages.is_empty() {
            // Nothing sent says nothing of the server.
            return Vec::new();
        }
        let permit = match self.inner.breaker.enter(MAIL_SERVER) {
            Ok(permit) => permit,
            Err(open) => {
                let postponed = || Outcome::Postponed {
                    reason: open.to_string(),
                    after: open.retry_after,
                };
                return messages.iter().map(|_| postponed()).collect();
            }
        };
        let outcomes = email.send_all(messages).await;
        let is_failure = |outcome: &Outcome| matches!(outcome, Outcome::Failed { .. });
        if outcomes.iter().all(is_failure) {
            permit.failed();
        } else {
            permit.succeeded();
        }
        outcomes
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

/// The link as mails have it. Nothing for what is neither an address nor a path:
/// sending refuses that by itself, with all else that is wrong.
fn check_link(public_url: &Url, link: &str) -> Result<Option<String>, ApiError> {
    let is_ours = ["/", "https://", "http://"]
        .iter()
        .any(|start| link.starts_with(start));
    if !is_ours {
        return Ok(None);
    }
    let address = absolute_link(public_url, link).map_err(|_| {
        ApiError::violation(
            "link",
            "this is not an address with a host, such as https://example.org/units/1",
        )
    })?;
    Ok(Some(address))
}

/// Mails are stricter about them than the rules of sending.
fn check_media_types(attachments: &[Attachment]) -> Result<(), ApiError> {
    for (i, attachment) in attachments.iter().enumerate() {
        if ContentType::parse(&attachment.media_type).is_err() {
            return Err(ApiError::violation(
                format!("attachments[{i}].mediaType"),
                "this is not a media type, such as text/csv",
            ));
        }
    }
    Ok(())
}

/// Writes the mail once in each of its languages: a template that looks into its
/// variables may find them of another shape, and would then refuse every reader's
/// mail, long after the sender was told that all is well.
fn check_mail(
    templates: &Templates,
    request: &SendRequest,
    link: Option<&str>,
) -> Result<(), ApiError> {
    let name = request.template.as_deref().unwrap_or(PLAIN);
    let locales = templates
        .list()
        .filter(|info| info.name == name)
        .flat_map(|info| &info.locales);
    for locale in locales {
        let letter = Letter {
            template: Some(name),
            locale: Some(locale),
            user_name: "Ada",
            title: &request.title,
            body: &request.body,
            severity: request.severity,
            category: &request.category,
            link,
            unsubscribe_url: "https://example.org/unsubscribe?token=check",
            data: request.data.as_ref(),
            variables: request.variables.as_ref(),
        };
        templates.render(&letter).map_err(|error| match error {
            RenderError::Check(error) => ApiError::from(error),
            RenderError::Template(error) => {
                let path = match request.variables {
                    Some(_) => "variables",
                    None => "template",
                };
                ApiError::violation(path, misfit(&error))
            }
        })?;
    }
    Ok(())
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
        match error {
            RenderError::Check(error) => error.into(),
            RenderError::Template(error) => Self::bad_input(misfit(&error)),
        }
    }
}

/// What a client is told of a template that cannot be filled in: the place and the
/// kind of the fault. The rest is in the log of whoever writes templates.
fn misfit(error: &minijinja::Error) -> String {
    let mut text = format!(
        "the template does not fit what it is given: {}",
        error.kind()
    );
    if let (Some(template), Some(line)) = (error.name(), error.line()) {
        let _ = write!(text, " in {template}, line {line}");
    }
    text
}

#[cfg(test)]
mod tests {
    use domain::notification::Target;
    use serde_json::json;

    use super::*;

    /// That an error is about a value of the input.
    fn assert_names(error: ApiError, path: &str) {
        assert_eq!(error.code().as_str(), "BAD_USER_INPUT");
        let shown = format!("{error:?}");
        assert!(shown.contains(&format!("path: \"{path}\"")), "{shown}");
    }

    fn request(template: Option<&str>, variables: Option<Value>) -> SendRequest {
        SendRequest {
            to: Target::default(),
            title: "Less wind".into(),
            body: "Until 18:00".into(),
            severity: Severity::Info,
            category: "general".into(),
            data: None,
            link: None,
            channels: vec![Channel::Email],
            template: template.map(str::to_owned),
            variables,
            attachments: Vec::new(),
            not_before: None,
            expires_at: None,
            throttle: None,
            idempotency_key: None,
        }
    }

    #[test]
    fn a_link_with_a_host_is_needed() {
        let app = Url::parse("https://example.com/app/").unwrap();
        let check = |link: &str| check_link(&app, link);
        assert_eq!(
            check("/units/1").unwrap().as_deref(),
            Some("https://example.com/app/units/1")
        );
        assert_eq!(
            check("http://other.example/y").unwrap().as_deref(),
            Some("http://other.example/y")
        );
        assert_eq!(check("javascript:alert(1)").unwrap(), None);
        for link in ["https://", "http://?x", "https://a:b/", "https://[::1/x"] {
            assert_names(check(link).unwrap_err(), "link");
        }
    }

    #[test]
    fn media_types_are_those_of_mails() {
        let file = |media_type: &str| Attachment {
            file_name: "curve".into(),
            media_type: media_type.into(),
            content: Vec::new(),
        };
        check_media_types(&[file("text/csv"), file("application/vnd.a+json")]).unwrap();
        let error = check_media_types(&[file("text/csv"), file("te(xt/csv")]).unwrap_err();
        assert_names(error, "attachments[1].mediaType");
    }

    #[test]
    fn a_mail_that_could_not_be_written_in_one_of_its_languages_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let write = |template: &str, file: &str, text: &str| {
            let template = folder.path().join(template);
            std::fs::create_dir_all(&template).unwrap();
            std::fs::write(template.join(file), text).unwrap();
        };
        for template in ["alert", "chart"] {
            for locale in ["de", "en"] {
                for part in ["subject.txt", "txt", "html"] {
                    write(template, &format!("{locale}.{part}"), "{{ title }}");
                }
            }
        }
        write(
            "alert",
            "template.toml",
            "default_locale = 'en'\n[variables]\nunit = {}",
        );
        write("alert", "de.txt", "{{ unit.name }}");
        write("chart", "template.toml", "default_locale = 'en'");
        write("chart", "de.html", "{{ data.chart }}");
        let templates = Templates::load(Some(folder.path())).unwrap();
        let check = |request: &SendRequest| check_mail(&templates, request, None);

        check(&request(None, None)).unwrap();
        let unit = |unit: Value| request(Some("alert"), Some(json!({ "unit": unit })));
        check(&unit(json!({ "name": "Nord 1" }))).unwrap();
        assert_names(check(&unit(json!("Nord 1"))).unwrap_err(), "variables");
        assert_names(
            check(&request(Some("chart"), None)).unwrap_err(),
            "template",
        );
        let chart = SendRequest {
            data: Some(json!({ "chart": "a" })),
            ..request(Some("chart"), None)
        };
        check(&chart).unwrap();
    }
}
