//! Text for a terminal: names in one column and values in the next, in lines that fit.

use crate::logging::Printable;

/// The columns of a terminal.
const WIDTH: usize = 80;

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
        self.write(name, VALUE, value);
    }

    /// What belongs to the line above.
    pub(super) fn below(&mut self, value: &str) {
        self.write("", VALUE + 2, value);
    }

    /// All blocks.
    pub(super) fn into_text(self) -> String {
        self.0
    }

    fn write(&mut self, name: &str, column: usize, value: &str) {
        let mut left = format!("  {name}");
        for line in wrapped(Printable(value).to_string().split(' '), WIDTH - column) {
            self.0.extend([format!("{left:<column$}{line}").trim_end(), "\n"]);
            left.clear();
        }
    }
}

/// Words in lines, each of at most so many columns. A SPIFFE ID or another URI stays whole, however long: it is
/// there to be copied.
pub(crate) fn wrapped<'a>(words: impl IntoIterator<Item = &'a str>, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for piece in words.into_iter().flat_map(|word| pieces(word, width)) {
        match lines.last_mut() {
            Some(line) if columns(line) + 1 + columns(&piece) <= width => line.extend([" ", &piece]),
            _ => lines.push(piece),
        }
    }
    lines
}

/// A word that is longer than a line, in pieces that are not.
fn pieces(word: &str, width: usize) -> Vec<String> {
    let is_whole = word.contains("://");
    let mut pieces = vec![String::new()];
    for letter in word.chars() {
        match pieces.last_mut() {
            Some(piece) if is_whole || columns(piece) + columns_of(letter) <= width => piece.push(letter),
            _ => pieces.push(letter.to_string()),
        }
    }
    pieces
}

fn columns(text: &str) -> usize {
    text.chars().map(columns_of).sum()
}

/// Chinese, Japanese and Korean letters have two. Other letters may have one: their lines are shorter than they could
/// be.
fn columns_of(letter: char) -> usize {
    if letter.is_ascii() { 1 } else { 2 }
}

#[cfg(test)]
mod tests {
    use super::*;

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
