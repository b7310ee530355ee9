//! Text that goes into a header: always one line, so that nobody adds a header of
//! their own.

use lettre::message::header::{HeaderName, HeaderValue};

/// The text as one line: each run of spaces, line ends and other control
/// characters becomes a space.
pub(super) fn one_line(text: &str) -> String {
    let breaks = |c: char| c.is_whitespace() || c.is_control();
    let words = text.split(breaks).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(" ")
}

/// A header whose value is ASCII by its making. It is never folded: the programs
/// that act upon these headers do not all unfold them.
pub(super) fn unfolded(name: &'static str, value: String) -> HeaderValue {
    debug_assert!(value.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
    HeaderValue::dangerous_new_pre_encoded(
        HeaderName::new_from_ascii_str(name),
        value.clone(),
        value,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_becomes_one_line() {
        let check = |text, expected| assert_eq!(one_line(text), expected);
        check("as it is", "as it is");
        check(" two\nlines\n", "two lines");
        check("x\r\nBcc: eve@example.com", "x Bcc: eve@example.com");
        check("a\u{2028}b\u{85}c\0d\te", "a b c d e");
        check("Grüße  aus Köln", "Grüße aus Köln");
    }
}
