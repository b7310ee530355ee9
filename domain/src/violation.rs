//! What is wrong with an input, and where.

use serde::{Deserialize, Serialize};

/// One thing wrong with an input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// Where in the input, such as `runs[2].points[17].mwh`.
    pub path: String,
    /// What is wrong, and what would be right.
    pub message: String,
}

/// Why a text cannot be a name, if so. A control character in one is a slip;
/// PostgreSQL keeps no NUL at all.
pub(crate) fn fault_of_name(text: &str) -> Option<&'static str> {
    if !(1..=200).contains(&text.chars().count()) {
        Some("a name has 1 to 200 characters")
    } else if text.contains(char::is_control) {
        Some("a name has no control characters")
    } else {
        None
    }
}

impl Violation {
    /// At most this many are reported of one input.
    pub const MOST: usize = 100;

    /// What is wrong in one line: all of it, if it is one thing.
    pub fn summary(all: &[Self]) -> String {
        match all {
            [] => "nothing is wrong".to_owned(),
            [only] => format!("{}: {}", only.path, only.message),
            [first, ..] => format!(
                "{} of the given values are not acceptable; the first is {}: {}",
                all.len(),
                first.path,
                first.message
            ),
        }
    }

    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            message: message.into(),
        }
    }
}
