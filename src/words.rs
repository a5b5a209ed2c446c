//! Words and sentences: what is wrong, for a person; and enumerations of words on the command line, in any case, each
//! word of which stands once.

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
