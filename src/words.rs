//! Words and sentences: what is wrong, for a person; enumerations of words on the command line, in any case, each
//! word of which stands once; and words in lines that fit a terminal.

use std::borrow::Cow;
use std::fmt::Display;

use thiserror::Error;

/// What is wrong, as one sentence for a person. Where the program decides by a fault, the fault has a type of its own.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub(crate) struct Flaw(Cow<'static, str>);

impl Flaw {
    /// A flaw that this sentence, or part of one, describes.
    pub(crate) fn new(sentence: impl Into<Cow<'static, str>>) -> Self {
        Self(sentence.into())
    }

    /// The flaw of a text that is none of those allowed: their list, which is shown beside it, says enough.
    pub(crate) const fn obvious() -> Self {
        Self(Cow::Borrowed(""))
    }

    /// The same, with the field, the file or the part that has it before: `place: sentence`.
    pub(crate) fn within(self, place: impl Display) -> Self {
        Self(format!("{place}: {self}").into())
    }
}

/// A [`Flaw`] from a format string and its arguments.
macro_rules! flaw {
    ($($sentence:tt)+) => { $crate::words::Flaw::new(format!($($sentence)+)) };
}

/// The words in one sentence: `"a, b or c"`.
macro_rules! alternatives {
    ($only:literal) => { $only };
    ($first:literal, $last:literal) => { concat!($first, " or ", $last) };
    ($first:literal, $($rest:literal),+) => { concat!($first, ", ", $crate::words::alternatives!($($rest),+)) };
}

/// Defines enumerations that are read from words and written as them. A variant may have several words; it is
/// written as the first.
macro_rules! words {
    ($($(#[$doc:meta])* $name:ident { $($variant:ident = $word:literal $(| $other:literal)*,)+ })+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum $name { $(#[doc = concat!("`", $word, "`")] $variant,)+ }

        impl $name {
            /// All words, for a message.
            pub(crate) const ALLOWED: &'static str = $crate::words::alternatives!($($word),+);
        }

        impl std::str::FromStr for $name {
            type Err = $crate::words::Flaw;

            fn from_str(text: &str) -> Result<Self, $crate::words::Flaw> {
                match text.to_ascii_lowercase().as_str() {
                    $($word $(| $other)* => Ok(Self::$variant),)+
                    _ => Err($crate::words::Flaw::obvious()),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self {
                    $(Self::$variant => $word,)+
                })
            }
        }
    )+};
}

pub(crate) use {alternatives, flaw, words};

/// The first of many sentences, and how many more there are. All of them could need more memory than there is.
pub(crate) fn first_few(sentences: impl IntoIterator<Item = String>) -> Vec<String> {
    const SHOWN: usize = 8;
    let mut sentences = sentences.into_iter();
    let mut shown: Vec<_> = sentences.by_ref().take(SHOWN).collect();
    let more = sentences.count();
    shown.extend((more > 0).then(|| format!("and {more} more")));
    shown
}

/// The columns of a terminal.
pub(crate) const WIDTH: usize = 80;

/// A name, and words beside it from a column on, in lines that fit. A name that is too long for its column has a line of
/// its own.
pub(crate) fn entry<'a>(name: &str, column: usize, words: impl Iterator<Item = &'a str>) -> String {
    let (mut text, mut left) = (String::new(), format!("  {name}"));
    // Two spaces before the words.
    if left.len() + 2 > column {
        text.extend([&left, "\n"]);
        left.clear();
    }
    for line in wrapped(words, WIDTH - column) {
        text.extend([format!("{left:<column$}{line}").trim_end(), "\n"]);
        left.clear();
    }
    text
}

/// Puts words into lines of at most `width` columns. A SPIFFE ID or another URI stays whole, however long: it is there to
/// be copied.
fn wrapped<'a>(words: impl Iterator<Item = &'a str>, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for piece in words.flat_map(|word| pieces(word, width)) {
        match lines.last_mut() {
            Some(line) if columns(line) + 1 + columns(&piece) <= width => line.extend([" ", &piece]),
            _ => lines.push(piece),
        }
    }
    lines
}

/// Cuts a word that is longer than a line into pieces that are not.
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

/// How many columns of a terminal a text fills.
pub(crate) fn columns(text: &str) -> usize {
    text.chars().map(columns_of).sum()
}

/// Chinese, Japanese and Korean letters have two. Other letters may have one: their lines are shorter than they could
/// be.
fn columns_of(letter: char) -> usize {
    if letter.is_ascii() { 1 } else { 2 }
}
