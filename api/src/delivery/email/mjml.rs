//! MJML to HTML, once, when a template is loaded.
//!
//! MJML is turned into HTML with the template's tags still in it, and variables
//! are filled in afterwards, into HTML. The other way around a title with a `<`
//! in it could break the MJML of the one mail it is in, and each mail would be
//! laid out anew. The price: tags that choose or repeat elements stand in
//! `<mj-raw>`, where MJML leaves them alone, and an attribute that MJML calculates
//! with, such as a width, cannot be a variable.

use std::collections::BTreeMap;

use mrml::prelude::parser::Error as ParseError;
use mrml::prelude::render::RenderOptions;

/// The MJML cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub(super) struct MjmlError {
    pub(super) line: usize,
    pub(super) reason: String,
}

/// The HTML, with all tags of the MJML in it.
pub(super) fn to_html(source: &str) -> Result<String, MjmlError> {
    find_wrong_end(source)?;
    let parsed = mrml::parse(source).map_err(|error| explain(source, &error))?;
    if let Some(warning) = parsed.warnings.first() {
        return Err(MjmlError {
            line: line_at(source, warning.span.start),
            reason: warning.kind.to_string(),
        });
    }
    let html = parsed.element.render(&RenderOptions::default());
    let html = html.map_err(|error| MjmlError {
        line: 1,
        reason: error.to_string(),
    })?;
    find_unknown_element(source, &html)?;
    find_lost_tag(source, &html)?;
    Ok(html)
}

/// mrml does not look at the names of end tags: whatever stands after a wrong one
/// would silently end up elsewhere, or nowhere.
fn find_wrong_end(source: &str) -> Result<(), MjmlError> {
    let mut open = Vec::new();
    let mut from = 0;
    while let Some(start) = source[from..].find('<').map(|at| from + at) {
        let rest = &source[start..];
        if rest.starts_with("<!--") {
            from = start + rest.find("-->").unwrap_or(rest.len());
            continue;
        }
        from = start + 1;
        let (ends, rest) = match rest.strip_prefix("</mj") {
            Some(rest) => (true, rest),
            None => match rest.strip_prefix("<mj") {
                Some(rest) => (false, rest),
                None => continue,
            },
        };
        let name = rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
        let name = name.into_iter().next().unwrap_or_default();
        if !ends {
            if !is_empty_element(rest) {
                open.push(name);
            }
        } else if open.pop() != Some(name) {
            return Err(MjmlError {
                line: line_at(source, start),
                reason: format!("</mj{name}> ends no element, or not the last that began"),
            });
        }
    }
    Ok(())
}

/// Whether a start tag ends with `/>`. What stands in quotes is no end.
fn is_empty_element(tag: &str) -> bool {
    let mut quote = None;
    let mut before = ' ';
    for c in tag.chars() {
        match (quote, c) {
            (None, '>') => return before == '/',
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), _) if open == c => quote = None,
            _ => {}
        }
        before = c;
    }
    false
}

/// MJML takes an element that it does not know for HTML, where nobody knows it
/// either: a misspelt one would show nothing of what it should.
fn find_unknown_element(source: &str, html: &str) -> Result<(), MjmlError> {
    let Some((_, rest)) = html.split_once("<mj-") else {
        return Ok(());
    };
    let name = rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
    let element = format!("<mj-{}", name.into_iter().next().unwrap_or_default());
    Err(MjmlError {
        line: line_at(source, source.find(&element).unwrap_or_default()),
        reason: format!("MJML has no element {element}>, or not here"),
    })
}

/// MJML drops what it has no use for, such as an attribute that it does not know.
/// A condition lost this way would show what it should hide.
fn find_lost_tag(source: &str, html: &str) -> Result<(), MjmlError> {
    let mut needed = BTreeMap::new();
    for (at, tag) in tags(source) {
        let times = needed.entry(tag).or_insert(0);
        *times += 1;
        if html.matches(tag).count() < *times {
            return Err(MjmlError {
                line: line_at(source, at),
                reason: format!(
                    "MJML drops `{tag}` here; a condition or loop can stand in <mj-raw>"
                ),
            });
        }
    }
    Ok(())
}

/// The tags of a template, each with where it begins. Comments are none.
fn tags(source: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut from = 0;
    std::iter::from_fn(move || {
        loop {
            let start = from + source[from..].find('{')?;
            let end = match source.as_bytes().get(start + 1) {
                Some(b'{') => "}}",
                Some(b'%') => "%}",
                Some(b'#') => "#}",
                _ => {
                    from = start + 1;
                    continue;
                }
            };
            let length = source[start..].find(end)? + end.len();
            from = start + length;
            if end != "#}" {
                return Some((start, &source[start..from]));
            }
        }
    })
}

fn explain(source: &str, error: &ParseError) -> MjmlError {
    let found = |what: &str, position: &mrml::prelude::parser::Span| {
        let text = source.get(position.start..position.end).unwrap_or_default();
        let text = text.lines().next().unwrap_or_default();
        (position.start, format!("{what} `{text}`"))
    };
    let (at, reason) = match error {
        ParseError::UnexpectedElement { position, .. } => found("unexpected element", position),
        ParseError::UnexpectedToken { position, .. } => found("unexpected", position),
        ParseError::InvalidAttribute { position, .. } => found("invalid attribute", position),
        ParseError::InvalidFormat { position, .. } => found("invalid", position),
        ParseError::MissingAttribute { name, position, .. } => {
            (position.start, format!("the attribute `{name}` is missing"))
        }
        ParseError::IncludeLoaderError { position, .. } => (
            position.start,
            "a template includes no other file".to_owned(),
        ),
        ParseError::EndOfStream { .. } => (source.len(), "it ends too early".to_owned()),
        ParseError::ParserError { source: error, .. } => (0, error.to_string()),
        ParseError::NoRootNode | ParseError::SizeLimit { .. } => (0, error.to_string()),
    };
    MjmlError {
        line: line_at(source, at),
        reason,
    }
}

fn line_at(source: &str, at: usize) -> usize {
    let before = &source.as_bytes()[..at.min(source.len())];
    1 + before.iter().filter(|byte| **byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(inner: &str) -> String {
        format!("<mjml>\n<mj-body>\n{inner}\n</mj-body>\n</mjml>")
    }

    #[test]
    fn tags_come_through_as_they_are() {
        let text = "{{ a|default('x', true) }} & {% if b > 1 %}<b>ü</b>{% endif %}";
        let html = to_html(&body(&format!(
            "<mj-section><mj-column><mj-text>{text}</mj-text><mj-raw>{{% if c == \"d\" %}}</mj-raw>\
             <mj-button href=\"{{{{ link }}}}?a=b&amp;c={{{{ d['e'] }}}}\">x</mj-button>\
             <mj-raw>{{% endif %}}</mj-raw></mj-column></mj-section>"
        )))
        .unwrap();
        assert!(html.contains(text), "{html}");
        assert!(
            html.contains("href=\"{{ link }}?a=b&amp;c={{ d['e'] }}\""),
            "{html}"
        );
        assert!(html.contains("{% if c == \"d\" %}"), "{html}");
    }

    #[test]
    fn what_is_wrong_is_found_by_its_line() {
        let check = |inner, line, reason: &str| {
            let error = to_html(&body(inner)).unwrap_err();
            assert_eq!(error.line, line, "{error}");
            assert!(error.reason.contains(reason), "{error}");
        };
        check("<mj-section>\n<mj-nothing /></mj-section>", 4, "mj-nothing");
        check("\n<mj-section>\n</mj-column>", 5, "</mj-column> ends no");
        check("<mj-section />\n</mj-section>", 4, "</mj-section> ends no");
        check("<mj-section", 4, "</mj-body> ends no");
        check(
            "<mj-include path=\"/etc/passwd\" />",
            3,
            "includes no other file",
        );
        let lost =
            "<mj-section>\n<mj-column><mj-text sise='{{ a }}'>x</mj-text></mj-column></mj-section>";
        check(lost, 4, "{{ a }}");
    }

    #[test]
    fn end_tags_fit() {
        for fits in [
            "<!-- <mj-x> --><mj-section a='/>' /><mj-section b=\"'>\"></mj-section>",
            "<mj-section><mj-column><mj-text>a <br> b</mj-text></mj-column></mj-section>",
        ] {
            find_wrong_end(&body(fits)).unwrap();
        }
    }

    #[test]
    fn tags_are_found() {
        let found: Vec<_> = tags("{ {{ a }} {# {{ b }} #} {% c %}{").collect();
        assert_eq!(found, [(2, "{{ a }}"), (24, "{% c %}")]);
        assert_eq!(tags("{{ open").count(), 0);
    }
}
