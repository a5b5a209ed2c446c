//! Foreign text, made safe to print.

use std::fmt::{self, Write};

/// Prints an agent's text so that it cannot forge a line, reorder one, or command a terminal: control
/// characters, line separators, invisible characters and the marks that change the direction of writing
/// are escaped as in Rust source code.
pub(crate) struct Printable<T>(pub(crate) T);

impl<T: fmt::Display> fmt::Display for Printable<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaping(f), "{}", self.0)
    }
}

struct Escaping<'a, 'f>(&'a mut fmt::Formatter<'f>);

impl Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars().try_for_each(|letter| match letter {
            '"' | '\'' | '\\' => self.0.write_char(letter),
            _ => write!(self.0, "{}", letter.escape_debug()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_in_any_language_stays_as_it_is() {
        for text in ["plain \"text\" it's \\ /", "Grüße, 世界, привет", "spiffe://example.org/a"] {
            assert_eq!(Printable(text).to_string(), text);
        }
    }

    #[test]
    fn text_that_forges_a_line_or_commands_a_terminal_is_escaped() {
        for (text, shown) in [
            ("a\nb\rc\td", "a\\nb\\rc\\td"),
            ("\u{1b}[0m\u{9b}\0", "\\u{1b}[0m\\u{9b}\\0"),
            (
                "\u{202e}\u{2066}\u{200b}\u{61c}\u{2028}\u{feff}",
                "\\u{202e}\\u{2066}\\u{200b}\\u{61c}\\u{2028}\\u{feff}",
            ),
        ] {
            assert_eq!(Printable(text).to_string(), shown);
        }
    }
}
