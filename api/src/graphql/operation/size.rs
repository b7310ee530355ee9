//! How much a document asks for: measured before it is validated, since a small
//! text can be large, deep or endless once its fragments are written out.

use apollo_compiler::ast::{Definition, Document, Selection};
use apollo_compiler::collections::HashMap;
use async_graphql::ServerError;

use super::fault;
use crate::error::ApiError;

type Set<'a> = &'a [Selection];

/// What is found of each fragment, by its name.
type Found<'a> = HashMap<&'a str, usize>;

/// Selection sets within one another, fragments written out. What reads a document
/// calls itself for each, and has only so much stack.
const DEEPEST: usize = 200;

/// The selections of a document whose fragments can be written out.
pub(super) struct Outline<'a> {
    operations: Vec<Set<'a>>,
    /// Each after all that it spreads.
    fragments: Vec<(&'a str, Set<'a>)>,
}

impl<'a> Outline<'a> {
    /// Refuses fragments that spread themselves, and what is too deep to be read.
    pub(super) fn of(document: &'a Document) -> Result<Self, ServerError> {
        let mut operations = Vec::new();
        let mut fragments = HashMap::default();
        for definition in &document.definitions {
            match definition {
                Definition::OperationDefinition(of) => operations.push(&of.selection_set[..]),
                Definition::FragmentDefinition(of) => {
                    let name = of.name.as_str();
                    if fragments.insert(name, &of.selection_set[..]).is_some() {
                        let name = domain::quote(name);
                        return Err(refused(format!("several fragments have the name {name}")));
                    }
                }
                _ => {}
            }
        }
        let fragments = in_order(fragments)?;
        let outline = Self {
            operations,
            fragments,
        };
        if outline.most(nesting) > DEEPEST {
            return Err(fault::too_complex(format!(
                "the document is too deep: more than {DEEPEST} selections lie in one another, fragments written out"
            )));
        }
        Ok(outline)
    }

    /// Selections of all operations with each fragment written out as often as it
    /// is spread: what validation walks over, and what a plan has room for.
    pub(super) fn selections(&self) -> usize {
        let found = self.each(written_out);
        let counts = self.operations.iter().map(|set| written_out(set, &found));
        counts.fold(0, usize::saturating_add)
    }

    /// Aliases that the document has, in fragments once.
    pub(super) fn aliases(&self) -> usize {
        self.sets().map(aliases).sum()
    }

    /// The levels of fields within one another of the deepest operation; what is
    /// asked of the schema itself has a limit of its own.
    pub(super) fn depth(&self) -> usize {
        let found = self.each(levels);
        let depths = self.operations.iter().map(|set| levels(set, &found));
        depths.max().unwrap_or(0)
    }

    /// A selection set without any selection, which the grammar of the next edition
    /// allows and this one does not.
    pub(super) fn has_empty_set(&self) -> bool {
        self.sets().any(is_empty)
    }

    fn sets(&self) -> impl Iterator<Item = Set<'a>> {
        let of_fragments = self.fragments.iter().map(|(_, set)| *set);
        self.operations.iter().copied().chain(of_fragments)
    }

    /// The most that any operation or fragment has.
    fn most(&self, measure: impl Fn(Set<'_>, &Found<'_>) -> usize) -> usize {
        let found = self.each(&measure);
        self.sets()
            .map(|set| measure(set, &found))
            .max()
            .unwrap_or(0)
    }

    /// What each fragment has, those that it spreads written out.
    fn each(&self, measure: impl Fn(Set<'_>, &Found<'_>) -> usize) -> Found<'a> {
        let mut found = Found::default();
        for (name, set) in &self.fragments {
            let of = measure(set, &found);
            found.insert(name, of);
        }
        found
    }
}

fn refused(message: String) -> ServerError {
    ApiError::bad_input(message).into_server_error()
}

/// Fragments, each after all that it spreads.
fn in_order<'a>(
    fragments: HashMap<&'a str, Set<'a>>,
) -> Result<Vec<(&'a str, Set<'a>)>, ServerError> {
    let mut waiting: HashMap<&str, usize> = HashMap::default();
    let mut spread_by: HashMap<&str, Vec<&str>> = HashMap::default();
    for (name, set) in &fragments {
        let mut spreads = Vec::new();
        add_spreads(set, &mut spreads);
        spreads.retain(|of| fragments.contains_key(of));
        waiting.insert(name, spreads.len());
        for of in spreads {
            spread_by.entry(of).or_default().push(name);
        }
    }
    let free = waiting.iter().filter(|(_, count)| **count == 0);
    let mut free: Vec<&str> = free.map(|(name, _)| *name).collect();
    let mut ordered = Vec::with_capacity(fragments.len());
    while let Some(name) = free.pop() {
        waiting.remove(name);
        ordered.push((name, fragments[name]));
        for of in spread_by.get(name).into_iter().flatten() {
            if let Some(count) = waiting.get_mut(of) {
                *count -= 1;
                if *count == 0 {
                    free.push(of);
                }
            }
        }
    }
    match waiting.keys().next() {
        None => Ok(ordered),
        Some(name) => {
            let name = domain::quote(one_of_itself(name, &waiting, &fragments));
            Err(refused(format!("the fragment {name} is a part of itself")))
        }
    }
}

/// A fragment of those that wait for one another: from each a spread leads to one
/// that waits, too, and so comes back to where it was.
fn one_of_itself<'a>(
    start: &'a str,
    waiting: &HashMap<&'a str, usize>,
    fragments: &HashMap<&'a str, Set<'a>>,
) -> &'a str {
    let mut name = start;
    let mut steps = waiting.len();
    // After as many steps as there are fragments it goes round.
    while steps > 0 {
        let mut spreads = Vec::new();
        add_spreads(fragments[name], &mut spreads);
        match spreads.into_iter().find(|of| waiting.contains_key(of)) {
            Some(next) => name = next,
            None => break,
        }
        steps -= 1;
    }
    name
}

fn add_spreads<'a>(set: Set<'a>, spreads: &mut Vec<&'a str>) {
    for item in set {
        match item {
            Selection::FragmentSpread(spread) => spreads.push(spread.fragment_name.as_str()),
            other => add_spreads(below(other), spreads),
        }
    }
}

/// What stands below a selection itself.
fn below(item: &Selection) -> Set<'_> {
    match item {
        Selection::Field(field) => field.selection_set.as_deref().unwrap_or_default(),
        Selection::InlineFragment(fragment) => &fragment.selection_set,
        Selection::FragmentSpread(_) => &[],
    }
}

/// Of a fragment that there is none of, nothing.
fn of_spread(item: &Selection, found: &Found<'_>) -> Option<usize> {
    match item {
        Selection::FragmentSpread(spread) => {
            let found = found.get(spread.fragment_name.as_str());
            Some(found.copied().unwrap_or(0))
        }
        _ => None,
    }
}

fn nesting(set: Set<'_>, found: &Found<'_>) -> usize {
    let deepest = set
        .iter()
        .map(|item| of_spread(item, found).unwrap_or_else(|| nesting(below(item), found)));
    1 + deepest.max().unwrap_or(0)
}

fn written_out(set: Set<'_>, found: &Found<'_>) -> usize {
    let counts = set.iter().map(|item| {
        let below = of_spread(item, found).unwrap_or_else(|| written_out(below(item), found));
        below.saturating_add(1)
    });
    counts.fold(0, usize::saturating_add)
}

fn levels(set: Set<'_>, found: &Found<'_>) -> usize {
    let deepest = set.iter().map(|item| match item {
        Selection::Field(field) if field.name.starts_with("__") => 1,
        Selection::Field(_) => 1 + levels(below(item), found),
        other => of_spread(other, found).unwrap_or_else(|| levels(below(other), found)),
    });
    deepest.max().unwrap_or(0)
}

fn aliases(set: Set<'_>) -> usize {
    let counts = set.iter().map(|item| {
        let has_one = matches!(item, Selection::Field(field) if field.alias.is_some());
        usize::from(has_one) + aliases(below(item))
    });
    counts.sum()
}

fn is_empty(set: Set<'_>) -> bool {
    set.is_empty()
        || set.iter().any(|item| match item {
            Selection::Field(field) => field.selection_set.as_deref().is_some_and(is_empty),
            Selection::InlineFragment(fragment) => is_empty(&fragment.selection_set),
            Selection::FragmentSpread(_) => false,
        })
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
            ("query P { ...None } query Q { a }", 2),
        ] {
            let document = parse(text);
            assert_eq!(
                Outline::of(&document).unwrap().selections(),
                expect,
                "{text}"
            );
        }
        let doubling: String = (0..150)
            .map(|i| format!("fragment F{i} on Q {{ ...F{n} ...F{n} }} ", n = i + 1))
            .collect();
        let document = parse(&format!("{{ ...F0 }} {doubling}"));
        assert_eq!(Outline::of(&document).unwrap().selections(), usize::MAX);
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
        ] {
            let document = parse(text);
            assert_eq!(Outline::of(&document).unwrap().depth(), expect, "{text}");
        }
    }

    #[test]
    fn a_fragment_of_itself_is_named() {
        for (text, expect) in [
            ("{ ...F } fragment F on Q { ...F a }", Some("F")),
            (
                "{ a } fragment A on Q { a { ...F } } fragment F on Q { ...G } fragment G on Q { ... { ...G } }",
                Some("G"),
            ),
            (
                "{ ...A } fragment A on Q { ...None ...B } fragment B on Q { b }",
                None,
            ),
        ] {
            let found = Outline::of(&parse(text)).err().map(|error| error.message);
            let expect = expect.map(|name| format!("the fragment {name:?} is a part of itself"));
            assert_eq!(found, expect, "{text}");
        }
    }
}
