//! Rows that are left out, and why.

use std::fmt;

/// How many rejected rows are kept to be shown.
const SHOWN: usize = 20;

/// A row that was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reject {
    /// Its line in the file; the header's is 1.
    pub line: u64,
    /// The column at fault, unless it is the row as a whole.
    pub column: Option<String>,
    pub reason: String,
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}", self.line)?;
        if let Some(column) = &self.column {
            write!(f, ", column `{column}`")?;
        }
        write!(f, ": {}", self.reason)
    }
}

/// All rejected rows counted, the first of them kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Rejects {
    first: Vec<Reject>,
    count: u64,
}

impl Rejects {
    pub(super) fn push(&mut self, reject: Reject) {
        self.count += 1;
        if self.first.len() < SHOWN {
            self.first.push(reject);
        }
    }

    /// How many rows were rejected.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }
}

/// A line for each that was kept, after a line break; nothing if there are none.
impl fmt::Display for Rejects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for reject in &self.first {
            write!(f, "\n  {reject}")?;
        }
        match self.count - self.first.len() as u64 {
            0 => Ok(()),
            more => write!(f, "\n  and {more} more"),
        }
    }
}

/// What is wrong with a row, before its line is known.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// The place of its column in the header.
    pub column: Option<usize>,
    pub reason: String,
}

impl Fault {
    pub(super) fn at(column: usize, reason: impl Into<String>) -> Self {
        Self {
            column: Some(column),
            reason: reason.into(),
        }
    }
}
