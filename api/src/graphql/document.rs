//! Documents: parsed once, and held to limits before anything else happens.

use std::sync::Arc;

use async_graphql::parser::parse_query;
use async_graphql::parser::types::{ExecutableDocument, OperationType, Selection, SelectionSet};
use async_graphql::{Positioned, Request, ServerError};

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
    let name = request.operation_name.clone();
    let Ok(document) = request.parsed_query() else {
        return false;
    };
    document
        .operations
        .iter()
        .filter(|(key, _)| name.is_none() || name.as_deref() == key.map(|key| key.as_str()))
        .all(|(_, operation)| operation.node.ty == OperationType::Query)
}

fn parse(text: &str, limits: &Limits) -> Result<ExecutableDocument, ServerError> {
    let too_complex = |message: String| {
        async_graphql::Error::from(ApiError::new(ErrorCode::TooComplex, message))
            .into_server_error(async_graphql::Pos::default())
    };
    // Counted before parsing: a parser is what a hostile document attacks first.
    let tokens = count_tokens(text, limits.tokens);
    if tokens > limits.tokens {
        return Err(too_complex(format!(
            "the document has more than {} tokens",
            limits.tokens
        )));
    }
    let document = parse_query(text).map_err(ServerError::from)?;
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

/// Lexical tokens of a document, counted up to just above `limit`.
fn count_tokens(text: &str, limit: usize) -> usize {
    let bytes = text.as_bytes();
    let mut tokens = 0;
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
            _ => {
                tokens += 1;
                at += 1;
            }
        }
    }
    tokens
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
        for (text, expect) in [
            ("", 0),
            ("{ a }", 3),
            ("{ a(b: 1.5e-3, c: \"x \\\" y\") } # d e f", 12 - 1),
            ("query Q($a: [Int!]! = 1) { ...F @skip(if: true) }", 26 - 1),
            ("{ a(b: \"\"\"x \\\"\"\" \" y\"\"\") }", 8),
        ] {
            assert_eq!(count_tokens(text, 1000), expect, "{text}");
        }
        assert_eq!(count_tokens(&"a ".repeat(100), 10), 11);
    }
}
