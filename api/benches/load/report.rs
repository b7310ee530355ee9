//! Results as lines of Markdown.

use std::time::Duration;

/// Prints a section's title.
pub(crate) fn section(title: &str) {
    println!("\n### {title}\n");
}

/// Prints one result.
pub(crate) fn line(what: &str, result: &str) {
    println!("- {what}: {result}");
}

/// The middle one.
pub(crate) fn median<T: PartialOrd + Copy>(values: &mut [T]) -> T {
    values.sort_by(|a, b| a.partial_cmp(b).expect("no NaN"));
    values[values.len() / 2]
}

/// The value that a share of all stays below.
pub(crate) fn quantile(values: &mut [Duration], share: f64) -> Duration {
    values.sort();
    let last = values.len() - 1;
    values[((last as f64) * share).round() as usize]
}
