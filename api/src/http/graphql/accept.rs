//! Which form an answer takes: what the client accepts, and what there is.

use axum::http::{HeaderMap, header};

/// The forms that an answer can take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// `application/graphql-response+json`: one result, with a status that says
    /// whether it was executed.
    GraphQlResponse,
    /// `application/json`: one result, with status 200 for whatever was a request.
    Json,
    /// `text/event-stream`: results as they come, and one after the other.
    EventStream,
    /// `multipart/mixed`: the same, as Apollo Client reads it.
    Multipart,
}

impl Form {
    fn media_type(self) -> (&'static str, &'static str) {
        match self {
            Self::GraphQlResponse => ("application", "graphql-response+json"),
            Self::Json => ("application", "json"),
            Self::EventStream => ("text", "event-stream"),
            Self::Multipart => ("multipart", "mixed"),
        }
    }
}

/// For what is answered once. A wildcard means plain JSON, as it always did; a
/// client that lists a stream among others need not get one.
pub(super) const ONCE: [Form; 3] = [Form::Json, Form::GraphQlResponse, Form::EventStream];
/// For subscriptions.
pub(super) const STREAMS: [Form; 2] = [Form::EventStream, Form::Multipart];

/// The form to answer in: the one that the client likes best, by weight and
/// then by the order of its list; for a wildcard, and without any `Accept`, the
/// first of `forms`. `None` when it accepts none of them.
pub(super) fn choose(headers: &HeaderMap, forms: &[Form]) -> Option<Form> {
    let listed: Vec<&str> = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter(|range| !range.trim().is_empty())
        .collect();
    if listed.is_empty() {
        return forms.first().copied();
    }
    let mut best: Option<(Form, f32)> = None;
    for range in listed {
        let (media_type, weight) = read_range(range);
        let found = forms
            .iter()
            .find(|form| matches(media_type, form.media_type()));
        if let Some(form) = found
            && weight > best.map_or(0.0, |(_, weight)| weight)
        {
            best = Some((*form, weight));
        }
    }
    best.map(|(form, _)| form)
}

/// A media range such as `text/html;q=0.8`, and its weight.
fn read_range(range: &str) -> (&str, f32) {
    let mut parts = range.split(';').map(str::trim);
    let media_type = parts.next().unwrap_or_default();
    let weight = parts
        .filter_map(|parameter| parameter.split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("q"))
        .map_or(1.0, |(_, weight)| weight.trim().parse().unwrap_or(0.0));
    (media_type, weight)
}

fn matches(range: &str, (kind, sub): (&str, &str)) -> bool {
    match range.split_once('/') {
        Some(("*", "*")) => true,
        Some((wanted, "*")) => wanted.eq_ignore_ascii_case(kind),
        Some((wanted, wanted_sub)) => {
            wanted.eq_ignore_ascii_case(kind) && wanted_sub.eq_ignore_ascii_case(sub)
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn chosen(accept: &str, forms: &[Form]) -> Option<Form> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_str(accept).unwrap());
        choose(&headers, forms)
    }

    #[test]
    fn the_client_gets_what_it_likes_best() {
        for (accept, once, stream) in [
            ("", Some(Form::Json), Some(Form::EventStream)),
            ("*/*", Some(Form::Json), Some(Form::EventStream)),
            ("application/*", Some(Form::Json), None),
            ("application/json", Some(Form::Json), None),
            (
                "Application/GraphQL-Response+JSON",
                Some(Form::GraphQlResponse),
                None,
            ),
            (
                "application/json;q=0.5, application/graphql-response+json",
                Some(Form::GraphQlResponse),
                None,
            ),
            (
                "text/html, */*;q=0.1",
                Some(Form::Json),
                Some(Form::EventStream),
            ),
            ("text/html", None, None),
            ("application/json;q=0", None, None),
            (
                "text/event-stream",
                Some(Form::EventStream),
                Some(Form::EventStream),
            ),
            // urql
            (
                "application/graphql-response+json, application/graphql+json, application/json, text/event-stream, multipart/mixed",
                Some(Form::GraphQlResponse),
                Some(Form::EventStream),
            ),
            // Apollo Client
            (
                "multipart/mixed;boundary=graphql;subscriptionSpec=1.0,application/graphql-response+json,application/json;q=0.9",
                Some(Form::GraphQlResponse),
                Some(Form::Multipart),
            ),
        ] {
            assert_eq!(chosen(accept, &ONCE), once, "{accept:?}");
            assert_eq!(chosen(accept, &STREAMS), stream, "{accept:?}");
        }
        assert_eq!(choose(&HeaderMap::new(), &ONCE), Some(Form::Json));
    }
}
