//! What a caller gave, as messages repeat it.

use std::fmt::{self, Write};

/// Characters that are repeated; what follows adds nothing to a message.
const MOST: usize = 60;

/// A caller's text inside a message: in quotes, clipped, control characters escaped.
#[derive(Debug, Clone, Copy)]
pub struct Quoted<'a>(&'a str);

/// Quotes what a caller gave. Every message that repeats input does it by this.
pub fn quote(text: &str) -> Quoted<'_> {
    Quoted(text)
}

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        let mut rest = self.0.chars();
        for c in rest.by_ref().take(MOST) {
            match c {
                // Others would be drawn as nothing, or turn the line around.
                '"' | '\\' => write!(f, "\\{c}")?,
                c if c.is_control() || is_invisible(c) => write!(f, "{}", c.escape_default())?,
                c => f.write_char(c)?,
            }
        }
        if rest.next().is_some() {
            f.write_char('…')?;
        }
        f.write_char('"')
    }
}

/// Characters that format the text around them.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// A message that somebody else made of a caller's input, clipped to `most` bytes.
pub fn clip(message: &mut String, most: usize) {
    if message.len() > most {
        message.truncate(message.floor_char_boundary(most));
        message.push('…');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: &str) {
        assert_eq!(quote(text).to_string(), expect);
    }

    #[test]
    fn input_is_quoted_clipped_and_escaped() {
        check("", r#""""#);
        check("plant:1 für Ömer", r#""plant:1 für Ömer""#);
        check("a\"b\\c", r#""a\"b\\c""#);
        check("a\nb\0c\u{7f}\u{202e}d", r#""a\nb\u{0}c\u{7f}\u{202e}d""#);
        check(&"ü".repeat(60), &format!("\"{}\"", "ü".repeat(60)));
        check(&"ü".repeat(1_000_000), &format!("\"{}…\"", "ü".repeat(60)));
    }

    #[test]
    fn a_message_is_clipped_between_characters() {
        for (text, most, expect) in [("abc", 3, "abc"), ("abcd", 3, "abc…"), ("aüb", 2, "a…")]
        {
            let mut message = text.to_owned();
            clip(&mut message, most);
            assert_eq!(message, expect);
        }
    }
}
