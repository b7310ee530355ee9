//! Mails: their templates, and how they look.

use async_graphql::SimpleObject;

use crate::delivery::email::{Rendered, TemplateInfo};

/// A mail as it would be sent.
#[derive(SimpleObject)]
pub(crate) struct MailPreview {
    /// One line.
    subject: String,
    /// The HTML part.
    html: String,
    /// The text part.
    text: String,
    /// The locale of the template that was taken.
    locale: String,
}

impl From<Rendered> for MailPreview {
    fn from(rendered: Rendered) -> Self {
        Self {
            subject: rendered.subject,
            html: rendered.html,
            text: rendered.text,
            locale: rendered.locale,
        }
    }
}

/// What mails can be written with.
#[derive(SimpleObject)]
pub(crate) struct MailTemplate {
    /// What `sendNotification` calls it.
    name: String,
    /// What it is for.
    description: Option<String>,
    /// What is taken for a reader whose language it does not have.
    default_locale: String,
    /// The languages it has.
    locales: Vec<String>,
    /// The variables it takes.
    variables: Vec<MailVariable>,
}

/// A variable of a mail template.
#[derive(SimpleObject)]
pub(crate) struct MailVariable {
    /// Its key in `variables`.
    name: String,
    /// What it is for.
    description: Option<String>,
    /// Whether it must be given: it has no default.
    required: bool,
}

impl From<&TemplateInfo> for MailTemplate {
    fn from(info: &TemplateInfo) -> Self {
        Self {
            name: info.name.clone(),
            description: info.description.clone(),
            default_locale: info.default_locale.clone(),
            locales: info.locales.clone(),
            variables: info
                .variables
                .iter()
                .map(|(name, variable)| MailVariable {
                    name: name.clone(),
                    description: variable.description.clone(),
                    required: variable.default.is_none(),
                })
                .collect(),
        }
    }
}
