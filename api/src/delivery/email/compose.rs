//! From a notification to a mail.

use domain::notification::{Message, Outcome, Severity};
use lettre::Address;
use lettre::address::{AddressError, Envelope};
use lettre::message::header::{ContentType, ContentTypeErr, HeaderValue};
use lettre::message::{Attachment, Mailbox, MultiPart};
use url::{Host, Url};

use super::header::{one_line, unfolded};
use super::link::{LinkError, absolute_link};
use super::session::Mail;
use super::template::{Letter, RenderError, Templates};
use super::unsubscribe::UnsubscribeLink;
use crate::supervisor::chain;

/// No mail can be made of a notification, now or later.
#[derive(Debug, thiserror::Error)]
pub(super) enum ComposeError {
    #[error("`{address}` is no mail address")]
    Address {
        address: String,
        #[source]
        source: AddressError,
    },
    #[error("the link `{link}` leads nowhere")]
    Link {
        link: String,
        #[source]
        source: LinkError,
    },
    #[error("`{media_type}` is no media type")]
    MediaType {
        media_type: String,
        #[source]
        source: ContentTypeErr,
    },
    #[error("it cannot be written")]
    Render(#[from] RenderError),
    #[error("it makes no mail")]
    Mail(#[from] lettre::error::Error),
    #[error("it makes no mail that is text")]
    Encoding(#[from] std::string::FromUtf8Error),
}

impl ComposeError {
    pub(super) fn outcome(&self) -> Outcome {
        Outcome::Rejected {
            reason: chain(self),
        }
    }
}

/// Makes mails of notifications.
pub(super) struct Composer<'a> {
    pub(super) from: &'a Mailbox,
    pub(super) reply_to: Option<&'a Mailbox>,
    pub(super) public_url: &'a Url,
    pub(super) unsubscribe: &'a UnsubscribeLink,
    pub(super) templates: &'a Templates,
}

impl Composer<'_> {
    pub(super) fn compose(&self, message: &Message) -> Result<Mail, ComposeError> {
        let (content, addressee) = (&message.content, &message.addressee);
        let to = parse_address(&message.endpoint.address)?;
        let link = content.link.as_deref().map(|link| {
            absolute_link(self.public_url, link).map_err(|source| ComposeError::Link {
                link: link.to_owned(),
                source,
            })
        });
        let link = link.transpose()?;
        let unsubscribe_url =
            self.unsubscribe
                .url(self.public_url, &addressee.user_key, &content.category);
        let rendered = self.templates.render(&Letter {
            template: content.template.as_deref(),
            locale: addressee.locale.as_deref(),
            user_name: &addressee.name,
            title: &content.title,
            body: &content.body,
            severity: content.severity,
            category: &content.category,
            link: link.as_deref(),
            unsubscribe_url: &unsubscribe_url,
            data: content.data.as_ref(),
            variables: content.variables.as_ref(),
        })?;
        let envelope = Envelope::new(Some(self.from.email.clone()), vec![to.clone()])?;
        let name = Some(one_line(&addressee.name)).filter(|name| !name.is_empty());
        let mut mail = lettre::Message::builder()
            .envelope(envelope)
            .from(self.from.clone())
            .to(Mailbox::new(name, to.clone()))
            .subject(rendered.subject)
            .date_now()
            .message_id(Some(self.message_id(message)));
        if let Some(reply_to) = self.reply_to {
            mail = mail.reply_to(reply_to.clone());
        }
        for header in headers(content.severity, unsubscribe_url) {
            mail = mail.raw_header(header);
        }
        let body = MultiPart::alternative_plain_html(rendered.text, rendered.html);
        let mail = if content.attachments.is_empty() {
            mail.multipart(body)?
        } else {
            let mut parts = MultiPart::mixed().multipart(body);
            for file in &content.attachments {
                let media_type = ContentType::parse(&file.media_type);
                let media_type = media_type.map_err(|source| ComposeError::MediaType {
                    media_type: file.media_type.clone(),
                    source,
                })?;
                let name = one_line(&file.file_name);
                parts =
                    parts.singlepart(Attachment::new(name).body(file.content.clone(), media_type));
            }
            mail.multipart(parts)?
        };
        Ok(Mail {
            from: self.from.email.clone(),
            to,
            content: String::from_utf8(mail.formatted())?,
        })
    }

    /// The same for each attempt: whoever gets a mail twice can see that it is one.
    /// With the time, as two databases may both have a delivery of this number.
    fn message_id(&self, message: &Message) -> String {
        format!(
            "<delivery-{}.{}@{}>",
            message.delivery_id,
            message.content.created_at.unix_timestamp(),
            self.from.email.domain()
        )
    }
}

fn headers(severity: Severity, unsubscribe_url: String) -> Vec<HeaderValue> {
    let mut headers = vec![
        // No answer by an answering machine (RFC 3834).
        unfolded("Auto-Submitted", "auto-generated".to_owned()),
        unfolded("List-Unsubscribe", format!("<{unsubscribe_url}>")),
        // A mail program may do it with a POST, without showing a page (RFC 8058).
        unfolded(
            "List-Unsubscribe-Post",
            "List-Unsubscribe=One-Click".to_owned(),
        ),
    ];
    if severity == Severity::Critical {
        headers.push(unfolded("Importance", "high".to_owned()));
        headers.push(unfolded("X-Priority", "1".to_owned()));
    }
    headers
}

/// An address with its domain in ASCII, as mail servers know it.
fn parse_address(text: &str) -> Result<Address, ComposeError> {
    let parsed = || {
        let address: Address = text.parse()?;
        if address.domain().is_ascii() {
            return Ok(address);
        }
        let domain = Host::parse(address.domain()).map_err(|_| AddressError::InvalidDomain)?;
        Address::new(address.user(), domain.to_string())
    };
    parsed().map_err(|source| ComposeError::Address {
        address: text.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_parsed() {
        let check = |text, expected: Option<&str>| {
            let address = parse_address(text).ok().map(|address| address.to_string());
            assert_eq!(address.as_deref(), expected, "{text}");
        };
        check("ada@example.com", Some("ada@example.com"));
        check("ada@münchen.example", Some("ada@xn--mnchen-3ya.example"));
        check("jürgen@example.com", Some("jürgen@example.com"));
        check("ada", None);
        check("ada@example.com\r\nRCPT TO:<eve@example.com>", None);
        check("ada@example.com, eve@example.com", None);
        check("Ada <ada@example.com>", None);
        check("", None);
    }
}
