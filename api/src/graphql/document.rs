//! Documents: parsed once, and held to limits before anything else happens.

use std::collections::HashMap;
use std::sync::Arc;

use async_graphql::parser::parse_query;
use async_graphql::parser::types::{
    DocumentOperations, ExecutableDocument, OperationDefinition, Selection, SelectionSet,
};
use async_graphql::{Name, Positioned, ServerError};

use super::Limits;
use crate::error::{ApiError, ErrorCode};

/// Parsed documents by their text. Apps send the same few over and over, and
/// parsing costs more than answering.
#[derive(Clone)]
pub(crate) struct Documents {
    parsed: moka::sync::Cache<String, Arc<Document>, rustc_hash::FxBuildHasher>,
    limits: Limits,
}

/// A document within the limits.
pub(crate) struct Document {
    pub(crate) parsed: ExecutableDocument,
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

    /// The document, parsed now or before.
    pub(crate) fn get(&self, text: &str) -> Result<Arc<Document>, ServerError> {
        if let Some(document) = self.parsed.get(text) {
            return Ok(document);
        }
        let document = Arc::new(Document {
            parsed: parse(text, &self.limits)?,
        });
        self.parsed.insert(text.to_owned(), Arc::clone(&document));
        Ok(document)
    }
}

impl Document {
    /// The operation of this name, or the only one.
    pub(crate) fn operation(
        &self,
        name: Option<&str>,
    ) -> Result<&Positioned<OperationDefinition>, ApiError> {
        match (&self.parsed.operations, name) {
            (DocumentOperations::Single(operation), None) => Ok(operation),
            (DocumentOperations::Multiple(all), None) if all.len() == 1 => all
                .values()
                .next()
                .ok_or_else(|| ApiError::bad_input("the document has no operation")),
            (DocumentOperations::Multiple(_), None) => Err(ApiError::bad_input(
                "the document has several operations: name one as operationName",
            )),
            (DocumentOperations::Multiple(all), Some(name)) if all.contains_key(name) => {
                Ok(&all[name])
            }
            (_, Some(name)) => Err(ApiError::bad_input(format!(
                "the document has no operation named {name:?}"
            ))),
        }
    }
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
    let (mut count, mut nesting, mut open) = (0, 0, 0usize);
    for token in tokens(text).take(limit + 1) {
        count += 1;
        match token {
            "{" | "[" | "(" => open += 1,
            "}" | "]" | ")" => open = open.saturating_sub(1),
            _ => {}
        }
        nesting = nesting.max(open);
    }
    Size {
        tokens: count,
        nesting,
    }
}

/// Lexical tokens, without what means nothing: white space, commas, comments.
fn tokens(text: &str) -> impl Iterator<Item = &str> {
    let bytes = text.as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            match bytes.get(at)? {
                b' ' | b'\t' | b'\n' | b'\r' | b',' => at += 1,
                b'#' => {
                    while at < bytes.len() && !b"\n\r".contains(&bytes[at]) {
                        at += 1;
                    }
                }
                _ => break,
            }
        }
        let start = at;
        at = match bytes[at] {
            b'"' => end_of_string(bytes, at),
            b'.' => at + 3,
            byte if byte.is_ascii_alphabetic() || byte == b'_' => end_of_name(bytes, at),
            byte if byte.is_ascii_digit() || byte == b'-' => end_of_number(bytes, at),
            // A character that has no place in a document may take several bytes.
            _ => at + 1,
        };
        while at < bytes.len() && !text.is_char_boundary(at) {
            at += 1;
        }
        at = at.min(bytes.len());
        text.get(start..at)
    })
}

fn end_of_name(bytes: &[u8], start: usize) -> usize {
    let more = bytes[start..].iter();
    start
        + more
            .take_while(|b| b.is_ascii_alphanumeric() || **b == b'_')
            .count()
}

fn end_of_number(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() {
        let goes_on = match bytes[at] {
            b'.' => bytes.get(at + 1).is_some_and(u8::is_ascii_digit),
            b'+' | b'-' => b"eE".contains(&bytes[at - 1]),
            byte => byte.is_ascii_alphanumeric() || byte == b'_',
        };
        if !goes_on {
            break;
        }
        at += 1;
    }
    at
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
        // Never closed, it is an empty string with a quote after it.
        return start + 2;
    }
    let mut at = start + 1;
    while at < bytes.len() && !b"\n\r".contains(&bytes[at]) {
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
    fn nothing_is_hidden_from_the_measure() {
        for (text, least) in [
            ("{ a #\r{{{{{{ b", 9),
            ("[\"\"\"x\" [[[[[[", 9),
            ("...a...b...c...d", 8),
            ("{ a...F...G...H }", 9),
            ("1...2", 3),
        ] {
            let size = measure(text, 1000);
            assert!(size.tokens >= least, "{text}: {size:?}");
        }
        for broken in [
            "\"", "\"\\", "..", "é", "a.é", "\"\"\"é", "{ é }", "-", "1e", "\"é",
        ] {
            assert!(measure(broken, 10).tokens <= 10, "{broken}");
        }
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
