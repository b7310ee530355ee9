//! Documents: parsed once, and held to limits before anything else happens.

use std::collections::HashMap;
use std::sync::Arc;

use async_graphql::parser::parse_query;
use async_graphql::parser::types::{
    ExecutableDocument, OperationDefinition, OperationType, Selection, SelectionSet,
};
use async_graphql::{Name, Positioned, Request, ServerError};

use super::Limits;
use crate::error::{ApiError, ErrorCode};

/// Parsed documents by their text. Apps send the same few over and over, and
/// parsing costs more than answering.
#[derive(Clone)]
pub(crate) struct Documents {
    parsed: moka::sync::Cache<String, Arc<ExecutableDocument>, rustc_hash::FxBuildHasher>,
    limits: Limits,
}

impl Documents {
    /// Keeps up to `budget_bytes` of document text.
    pub(crate) fn new(limits: Limits, budget_bytes: u64) -> Self {
        let parsed = moka::sync::Cache::builder()
            .max_capacity(budget_bytes)
            // A parsed document takes some ten times its text.
            .weigher(|text: &String, _| u32::try_from(text.len() * 11).unwrap_or(u32::MAX))
            .build_with_hasher(rustc_hash::FxBuildHasher);
        Self { parsed, limits }
    }

    /// Parses the request's document, or finds it parsed.
    pub(crate) fn prepare(&self, mut request: Request) -> Result<Request, ServerError> {
        let document = match self.parsed.get(request.query.as_str()) {
            Some(document) => document,
            None => {
                let document = Arc::new(parse(&request.query, &self.limits)?);
                self.parsed
                    .insert(request.query.clone(), Arc::clone(&document));
                document
            }
        };
        request.set_parsed_query((*document).clone());
        Ok(request)
    }
}

/// Whether the operation that the request names, or its only one, is a query.
pub(crate) fn is_query(request: &mut Request) -> bool {
    every_operation(request, |ty| ty == OperationType::Query)
}

/// Whether it is answered once.
pub(crate) fn is_answered_once(request: &mut Request) -> bool {
    every_operation(request, |ty| ty != OperationType::Subscription)
}

fn every_operation(request: &mut Request, is: impl Fn(OperationType) -> bool) -> bool {
    let name = request.operation_name.clone();
    let Ok(document) = request.parsed_query() else {
        return false;
    };
    let meant =
        |key: Option<&Name>| name.is_none() || name.as_deref() == key.map(|key| key.as_str());
    document
        .operations
        .iter()
        .filter(|(key, _)| meant(*key))
        .all(|(_, operation): (_, &Positioned<OperationDefinition>)| is(operation.node.ty))
}

fn parse(text: &str, limits: &Limits) -> Result<ExecutableDocument, ServerError> {
    let too_complex = |message: String| {
        async_graphql::Error::from(ApiError::new(ErrorCode::TooComplex, message))
            .into_server_error(async_graphql::Pos::default())
    };
    // Measured before parsing: a parser is what a hostile document attacks first.
    let Size { tokens, nesting } = measure(text, limits.tokens);
    if tokens > limits.tokens {
        return Err(too_complex(format!(
            "the document has more than {} tokens",
            limits.tokens
        )));
    }
    if nesting > DEEPEST_NESTING {
        return Err(too_complex(format!(
            "the document is too deep: more than {DEEPEST_NESTING} brackets lie in one another"
        )));
    }
    let document = parse_query(text).map_err(ServerError::from)?;
    if count_selections(&document) > limits.tokens {
        return Err(too_complex(format!(
            "the document selects more than {} fields, fragments written out",
            limits.tokens
        )));
    }
    let aliases: usize = document
        .operations
        .iter()
        .map(|(_, operation)| &operation.node.selection_set)
        .chain(document.fragments.values().map(|f| &f.node.selection_set))
        .map(count_aliases)
        .sum();
    if aliases > limits.aliases {
        return Err(too_complex(format!(
            "the document has {aliases} aliases, at most {} are allowed: ask for several series with `forecasts`",
            limits.aliases
        )));
    }
    Ok(document)
}

/// Brackets of any kind within one another. The parser calls itself for each,
/// and has only so much stack; no field or value of the schema needs as many.
const DEEPEST_NESTING: usize = 64;

/// Selections of all operations with each fragment written out as often as it
/// is spread: what validation and execution walk over.
fn count_selections(document: &ExecutableDocument) -> usize {
    let mut known = HashMap::new();
    document
        .operations
        .iter()
        .map(|(_, operation)| {
            let set = &operation.node.selection_set.node;
            written_out(document, set, &mut known)
        })
        .fold(0, usize::saturating_add)
}

/// `known` has the count of each fragment met so far; nothing of one that is
/// being counted, since a fragment of itself is refused later.
fn written_out<'a>(
    document: &'a ExecutableDocument,
    set: &'a SelectionSet,
    known: &mut HashMap<&'a Name, usize>,
) -> usize {
    let mut count: usize = 0;
    for item in &set.items {
        let below = match &item.node {
            Selection::Field(field) => written_out(document, &field.node.selection_set.node, known),
            Selection::InlineFragment(fragment) => {
                written_out(document, &fragment.node.selection_set.node, known)
            }
            Selection::FragmentSpread(spread) => {
                let name = &spread.node.fragment_name.node;
                match (known.get(name), document.fragments.get(name)) {
                    (Some(count), _) => *count,
                    (None, None) => 0,
                    (None, Some(fragment)) => {
                        known.insert(name, 0);
                        let set = &fragment.node.selection_set.node;
                        let count = written_out(document, set, known);
                        known.insert(name, count);
                        count
                    }
                }
            }
        };
        count = count.saturating_add(1).saturating_add(below);
    }
    count
}

fn count_aliases(selection_set: &Positioned<SelectionSet>) -> usize {
    selection_set
        .node
        .items
        .iter()
        .map(|item| match &item.node {
            Selection::Field(field) => {
                usize::from(field.node.alias.is_some()) + count_aliases(&field.node.selection_set)
            }
            Selection::InlineFragment(fragment) => count_aliases(&fragment.node.selection_set),
            Selection::FragmentSpread(_) => 0,
        })
        .sum()
}

/// How large a document is, before it is parsed.
#[derive(Debug, PartialEq, Eq)]
struct Size {
    /// Lexical tokens.
    tokens: usize,
    /// Brackets within one another.
    nesting: usize,
}

/// Measures a document up to just above `limit` tokens.
fn measure(text: &str, limit: usize) -> Size {
    let bytes = text.as_bytes();
    let (mut tokens, mut nesting, mut open) = (0, 0, 0usize);
    let mut at = 0;
    while at < bytes.len() && tokens <= limit {
        match bytes[at] {
            b' ' | b'\t' | b'\n' | b'\r' | b',' => at += 1,
            b'#' => {
                while at < bytes.len() && bytes[at] != b'\n' {
                    at += 1;
                }
            }
            b'"' => {
                tokens += 1;
                at = end_of_string(bytes, at);
            }
            byte if byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-' => {
                tokens += 1;
                while at < bytes.len()
                    && (bytes[at].is_ascii_alphanumeric() || b"_-+.".contains(&bytes[at]))
                {
                    at += 1;
                }
            }
            b'.' => {
                tokens += 1;
                at += 3;
            }
            byte => {
                match byte {
                    b'{' | b'[' | b'(' => open += 1,
                    b'}' | b']' | b')' => open = open.saturating_sub(1),
                    _ => {}
                }
                nesting = nesting.max(open);
                tokens += 1;
                at += 1;
            }
        }
    }
    Size { tokens, nesting }
}

fn end_of_string(bytes: &[u8], start: usize) -> usize {
    if bytes[start..].starts_with(b"\"\"\"") {
        let mut at = start + 3;
        while at < bytes.len() {
            if bytes[at..].starts_with(b"\\\"\"\"") {
                at += 4;
            } else if bytes[at..].starts_with(b"\"\"\"") {
                return at + 3;
            } else {
                at += 1;
            }
        }
        return at;
    }
    let mut at = start + 1;
    while at < bytes.len() && bytes[at] != b'\n' {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_counted_as_the_language_defines_them() {
        for (text, tokens, nesting) in [
            ("", 0, 0),
            ("{ a }", 3, 1),
            ("{ a(b: 1.5e-3, c: \"x \\\" {y\") } # [ d e f", 12 - 1, 2),
            (
                "query Q($a: [Int!]! = 1) { ...F @skip(if: true) }",
                26 - 1,
                2,
            ),
            ("{ a(b: \"\"\"x \\\"\"\" \" y\"\"\") }", 8, 2),
            ("} ] ) { a }", 6, 1),
        ] {
            assert_eq!(measure(text, 1000), Size { tokens, nesting }, "{text}");
        }
        assert_eq!(measure(&"a ".repeat(100), 10).tokens, 11);
    }

    #[test]
    fn selections_are_counted_as_if_fragments_were_written_out() {
        for (text, expect) in [
            ("{ a b { c } }", 3),
            ("{ ...F ...F } fragment F on Q { a ... { b } }", 8),
            ("{ ...F } fragment F on Q { ...F a }", 3),
            ("query P { ...None } query Q { a }", 2),
        ] {
            let document = parse_query(text).unwrap();
            assert_eq!(count_selections(&document), expect, "{text}");
        }
        let doubling: String = (0..200)
            .map(|i| format!("fragment F{i} on Q {{ ...F{n} ...F{n} }} ", n = i + 1))
            .collect();
        let document = parse_query(format!("{{ ...F0 }} {doubling}")).unwrap();
        assert_eq!(count_selections(&document), usize::MAX);
    }
}
