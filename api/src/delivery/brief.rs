//! A push message that does not fit is told in brief rather than not at all.
//!
//! Push services take about four kilobytes. The app has the whole notification once
//! it is opened, so what is lost here is only missing on the lock screen.

use std::borrow::Cow;

use domain::notification::Content;
use serde_json::Value;

/// What of a notification goes into a push message.
#[derive(Debug)]
pub(crate) struct Brief<'a> {
    pub(crate) title: Cow<'a, str>,
    pub(crate) body: Cow<'a, str>,
    pub(crate) link: Option<&'a str>,
    pub(crate) data: Option<&'a Value>,
}

impl<'a> Brief<'a> {
    /// As much as fits: first the data goes, then the end of the body, then the end
    /// of the title, last the link, which is of no use in part. `write` says what
    /// the message looks like, and `most` how many bytes of that there may be.
    pub(crate) fn fit(
        content: &'a Content,
        most: usize,
        write: impl Fn(&Brief<'_>) -> String,
    ) -> String {
        let mut brief = Brief {
            title: Cow::Borrowed(&content.title),
            body: Cow::Borrowed(&content.body),
            link: content.link.as_deref(),
            data: content.data.as_ref(),
        };
        let mut text = write(&brief);
        let mut shorten: [fn(&mut Brief<'a>, usize); 4] = [
            |brief, _| brief.data = None,
            |brief, excess| cut(&mut brief.body, excess),
            |brief, excess| cut(&mut brief.title, excess),
            |brief, _| brief.link = None,
        ];
        for step in &mut shorten {
            if text.len() <= most {
                break;
            }
            step(&mut brief, text.len() - most);
            text = write(&brief);
        }
        text
    }
}

/// Takes at least so many bytes off the end, if there are so many, as they count in
/// the message.
fn cut(text: &mut Cow<'_, str>, excess: usize) {
    const MARK: &str = "…";
    let whole: usize = text.chars().map(written).sum();
    let room = whole.saturating_sub(excess + MARK.len());
    let mut used = 0;
    let end = text
        .char_indices()
        .find(|(_, c)| {
            used += written(*c);
            used > room
        })
        .map_or(text.len(), |(at, _)| at);
    let kept = text[..end].trim_end();
    *text = if kept.is_empty() {
        Cow::Borrowed("")
    } else {
        Cow::Owned(format!("{kept}{MARK}"))
    };
}

/// How many bytes a character takes in JSON.
fn written(c: char) -> usize {
    match c {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        '\0'..='\u{1f}' => 6,
        c => c.len_utf8(),
    }
}

#[cfg(test)]
mod tests {
    use domain::notification::Severity;
    use serde_json::json;
    use time::OffsetDateTime;

    use super::*;

    fn content(title: &str, body: &str, link: &str, data: Value) -> Content {
        Content {
            notification_id: 1,
            title: title.to_owned(),
            body: body.to_owned(),
            severity: Severity::Info,
            category: "alert".to_owned(),
            data: Some(data),
            link: Some(link.to_owned()),
            template: None,
            variables: None,
            attachments: Vec::new(),
            created_at: OffsetDateTime::UNIX_EPOCH,
            expires_at: None,
        }
    }

    fn fit(content: &Content, most: usize) -> Value {
        let text = Brief::fit(content, most, |brief| {
            json!([brief.title, brief.body, brief.link, brief.data]).to_string()
        });
        assert!(text.len() <= most, "{} of {most}: {text}", text.len());
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn what_fits_is_left_alone() {
        let content = content("title", "body", "/link", json!({"a": 1}));
        assert_eq!(
            fit(&content, 32),
            json!(["title", "body", "/link", {"a": 1}])
        );
    }

    #[test]
    fn the_least_needed_goes_first() {
        let content = content("title", "a long body", "/link", json!({"a": 1}));
        let check = |most, expect: Value| assert_eq!(fit(&content, most), expect, "{most}");
        check(36, json!(["title", "a long body", "/link", null]));
        check(33, json!(["title", "a lon…", "/link", null]));
        check(28, json!(["title", "", "/link", null]));
        check(24, json!(["t…", "", "/link", null]));
        check(20, json!(["", "", "/link", null]));
        check(17, json!(["", "", null, null]));
    }

    #[test]
    fn escapes_cost_no_more_than_their_place() {
        let content = content("t", &"\"\n\u{1}".repeat(1_000), "/l", json!(null));
        let text = Brief::fit(&content, 1_000, |brief| json!([brief.body]).to_string());
        assert!((985..=1_000).contains(&text.len()), "{}", text.len());
    }

    #[test]
    fn a_text_is_cut_between_characters_whatever_its_escapes() {
        for body in [
            "ä".repeat(3_000),
            "\n\"\\\u{1}".repeat(1_000),
            "👩‍🌾".repeat(500),
        ] {
            for most in 100..140 {
                let body = fit(&content("t", &body, "/l", json!(null)), most)[1].clone();
                let body = body.as_str().unwrap();
                assert!(body.is_empty() || body.ends_with('…'), "{body}");
            }
        }
    }
}
