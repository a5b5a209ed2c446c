//! Text for a terminal: names in one column and values in the next.

use crate::logging::Printable;
use crate::words::entry;

/// Where values start.
const VALUE: usize = 14;

/// Blocks of names and values. Values may come from the agent: they are escaped here.
#[derive(Default)]
pub(super) struct Columns(String);

impl Columns {
    /// Begins a block.
    pub(super) fn heading(&mut self, heading: &str) {
        let gap = if self.0.is_empty() { "" } else { "\n" };
        self.0.extend([gap, heading, "\n"]);
    }

    /// A name and its value; without a name, more of the value above.
    pub(super) fn line(&mut self, name: &str, value: &str) {
        self.0 += &entry(name, VALUE, Printable(value).to_string().split(' '));
    }

    /// What belongs to the line above.
    pub(super) fn below(&mut self, value: &str) {
        self.0 += &entry("", VALUE + 2, Printable(value).to_string().split(' '));
    }

    /// All blocks.
    pub(super) fn into_text(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::{WIDTH, columns};

    fn text(value: &str) -> String {
        let mut columns = Columns::default();
        columns.line("name", value);
        columns.into_text()
    }

    #[test]
    fn a_long_value_goes_on_below_its_start() {
        let expected = format!("  name        {}\n              b c\n", "a".repeat(66));
        assert_eq!(text(&format!("{} b c", "a".repeat(66))), expected);
        assert_eq!(text("a b"), "  name        a b\n");
        assert_eq!(text(""), "  name\n");
    }

    #[test]
    fn a_word_longer_than_a_line_is_cut_into_lines_and_a_uri_is_not() {
        let expected = format!("  name        {}\n              {} b\n", "a".repeat(66), "a".repeat(4));
        assert_eq!(text(&format!("{} b", "a".repeat(70))), expected);
        let wide = text(&"世".repeat(40));
        assert!(
            wide.lines().all(|line| columns(line) <= WIDTH) && wide.matches('世').count() == 40,
            "{wide}"
        );
        let id = format!("spiffe://example.org/{}", "a".repeat(200));
        assert_eq!(
            text(&format!("see {id} b")),
            format!("  name        see\n{0}{id}\n{0}b\n", " ".repeat(14))
        );
    }

    #[test]
    fn what_commands_a_terminal_is_escaped_before_it_is_cut() {
        let shown = text(&"\u{1b}\n".repeat(40));
        assert!(shown.lines().all(|line| line.len() <= WIDTH && !line.contains('\u{1b}')), "{shown}");
        assert_eq!(shown.replace(['\n', ' '], ""), format!("name{}", "\\u{1b}\\n".repeat(40)));
    }
}
