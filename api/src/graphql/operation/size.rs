//! How much a document asks for: measured before it is validated, since a small
//! text can be large once its fragments are written out.

use apollo_compiler::ast::{Definition, Document, Selection};
use apollo_compiler::collections::HashMap;

type Fragments<'a> = HashMap<&'a str, &'a [Selection]>;

/// Selections of all operations with each fragment written out as often as it
/// is spread: what validation walks over, and what a plan has room for.
pub(super) fn selections(document: &Document) -> usize {
    let fragments = fragments(document);
    let mut known = HashMap::default();
    operations(document)
        .map(|set| written_out(set, &fragments, &mut known))
        .fold(0, usize::saturating_add)
}

/// `known` has the count of each fragment met so far; nothing of one that is
/// being counted, since a fragment of itself is refused later.
fn written_out<'a>(
    set: &'a [Selection],
    fragments: &Fragments<'a>,
    known: &mut HashMap<&'a str, usize>,
) -> usize {
    let mut count: usize = 0;
    for item in set {
        let below = match item {
            Selection::Field(field) => match &field.selection_set {
                Some(set) => written_out(set, fragments, known),
                None => 0,
            },
            Selection::InlineFragment(fragment) => {
                written_out(&fragment.selection_set, fragments, known)
            }
            Selection::FragmentSpread(spread) => {
                let name = spread.fragment_name.as_str();
                match (known.get(name), fragments.get(name)) {
                    (Some(count), _) => *count,
                    (None, None) => 0,
                    (None, Some(set)) => {
                        known.insert(name, 0);
                        let count = written_out(set, fragments, known);
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

/// Aliases that the document has, in fragments once.
pub(super) fn aliases(document: &Document) -> usize {
    fn count(set: &[Selection]) -> usize {
        let aliases = set.iter().map(|item| match item {
            Selection::Field(field) => {
                let below = field.selection_set.as_deref().map_or(0, count);
                usize::from(field.alias.is_some()) + below
            }
            Selection::InlineFragment(fragment) => count(&fragment.selection_set),
            Selection::FragmentSpread(_) => 0,
        });
        aliases.sum()
    }
    let of_fragments = fragments(document).into_values();
    operations(document).chain(of_fragments).map(count).sum()
}

/// The levels of fields within one another of an operation; what is asked of the
/// schema itself has a limit of its own.
pub(super) fn depth(document: &Document, operation: &[Selection]) -> usize {
    fn levels<'a>(
        set: &'a [Selection],
        fragments: &Fragments<'a>,
        known: &mut HashMap<&'a str, usize>,
    ) -> usize {
        let deepest = set.iter().map(|item| match item {
            Selection::Field(field) if field.name.starts_with("__") => 1,
            Selection::Field(field) => {
                let below = field.selection_set.as_deref();
                1 + below.map_or(0, |set| levels(set, fragments, known))
            }
            Selection::InlineFragment(fragment) => {
                levels(&fragment.selection_set, fragments, known)
            }
            Selection::FragmentSpread(spread) => {
                let name = spread.fragment_name.as_str();
                match (known.get(name), fragments.get(name)) {
                    (Some(levels), _) => *levels,
                    (None, None) => 0,
                    (None, Some(set)) => {
                        known.insert(name, 0);
                        let found = levels(set, fragments, known);
                        known.insert(name, found);
                        found
                    }
                }
            }
        });
        deepest.max().unwrap_or(0)
    }
    levels(operation, &fragments(document), &mut HashMap::default())
}

/// A selection set without any selection, which the grammar of the next edition
/// allows and this one does not.
pub(super) fn has_empty_set(document: &Document) -> bool {
    fn is_empty(set: &[Selection]) -> bool {
        set.is_empty()
            || set.iter().any(|item| match item {
                Selection::Field(field) => field.selection_set.as_deref().is_some_and(is_empty),
                Selection::InlineFragment(fragment) => is_empty(&fragment.selection_set),
                Selection::FragmentSpread(_) => false,
            })
    }
    let of_fragments = fragments(document).into_values();
    operations(document).chain(of_fragments).any(is_empty)
}

pub(super) fn operations(document: &Document) -> impl Iterator<Item = &[Selection]> {
    document.definitions.iter().filter_map(|of| match of {
        Definition::OperationDefinition(of) => Some(of.selection_set.as_slice()),
        _ => None,
    })
}

fn fragments(document: &Document) -> Fragments<'_> {
    let all = document.definitions.iter();
    let fragments = all.filter_map(|of| match of {
        Definition::FragmentDefinition(of) => Some((of.name.as_str(), of.selection_set.as_slice())),
        _ => None,
    });
    fragments.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Document {
        Document::parse(text, "test").unwrap()
    }

    #[test]
    fn selections_are_counted_as_if_fragments_were_written_out() {
        for (text, expect) in [
            ("{ a b { c } }", 3),
            ("{ ...F ...F } fragment F on Q { a ... { b } }", 8),
            ("{ ...F } fragment F on Q { ...F a }", 3),
            ("query P { ...None } query Q { a }", 2),
        ] {
            assert_eq!(selections(&parse(text)), expect, "{text}");
        }
        let doubling: String = (0..200)
            .map(|i| format!("fragment F{i} on Q {{ ...F{n} ...F{n} }} ", n = i + 1))
            .collect();
        assert_eq!(
            selections(&parse(&format!("{{ ...F0 }} {doubling}"))),
            usize::MAX
        );
    }

    #[test]
    fn depth_is_that_of_the_deepest_field() {
        for (text, expect) in [
            ("{ a b { c } }", 2),
            (
                "{ ...F } fragment F on Q { a ... { b { ...G } } } fragment G on R { c { d } }",
                3,
            ),
            ("{ a __schema { types { fields { name } } } }", 1),
            ("{ ...F } fragment F on Q { a { ...F } }", 1),
        ] {
            let document = parse(text);
            let operation = operations(&document).next().unwrap();
            assert_eq!(depth(&document, operation), expect, "{text}");
        }
    }
}
