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

/// The form to answer in: the one that the client gives the most weight, of
/// several the one that it lists first; where it only has a wildcard for them,
/// and without any `Accept`, the first of `forms`. `None` when it accepts none.
pub(super) fn choose(headers: &HeaderMap, forms: &[Form]) -> Option<Form> {
    let ranges: Vec<Range<'_>> = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter(|range| !range.trim().is_empty())
        .map(Range::read)
        .collect();
    if ranges.is_empty() {
        return forms.first().copied();
    }
    let mut best: Option<(Form, f32, usize)> = None;
    for form in forms {
        // The most specific range says what the form weighs.
        let found = ranges
            .iter()
            .enumerate()
            .filter_map(|(place, range)| Some((range.specificity(*form)?, place, range.weight)))
            .max_by_key(|(specificity, place, _)| (*specificity, std::cmp::Reverse(*place)));
        let Some((_, place, weight)) = found.filter(|(_, _, weight)| *weight > 0.0) else {
            continue;
        };
        let is_better =
            best.is_none_or(|(_, most, first)| weight > most || (weight == most && place < first));
        if is_better {
            best = Some((*form, weight, place));
        }
    }
    best.map(|(form, ..)| form)
}

/// A media range such as `text/html;q=0.8`.
struct Range<'a> {
    media_type: &'a str,
    weight: f32,
}

impl<'a> Range<'a> {
    fn read(range: &'a str) -> Self {
        let mut parts = range.split(';').map(str::trim);
        let media_type = parts.next().unwrap_or_default();
        let weight = parts
            .filter_map(|parameter| parameter.split_once('='))
            .find(|(name, _)| name.trim().eq_ignore_ascii_case("q"))
            .map_or(1.0, |(_, weight)| weight.trim().parse().unwrap_or(0.0));
        Self { media_type, weight }
    }

    /// How closely it names a form, if it does.
    fn specificity(&self, form: Form) -> Option<u8> {
        let (kind, sub) = form.media_type();
        match self.media_type.split_once('/') {
            Some(("*", "*")) => Some(0),
            Some((wanted, "*")) if wanted.eq_ignore_ascii_case(kind) => Some(1),
            Some((wanted, of))
                if wanted.eq_ignore_ascii_case(kind) && of.eq_ignore_ascii_case(sub) =>
            {
                Some(2)
            }
            _ => None,
        }
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
                "application/json;q=0, */*",
                Some(Form::GraphQlResponse),
                Some(Form::EventStream),
            ),
            (
                "*/*;q=0.5, text/event-stream",
                Some(Form::EventStream),
                Some(Form::EventStream),
            ),
            (
                "multipart/mixed, text/event-stream;q=0.9",
                Some(Form::EventStream),
                Some(Form::Multipart),
            ),
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
