//! Enumerations of words on the command line, in any case. Each word stands once.

use thiserror::Error;

/// The text is not one of the allowed words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("")]
pub(crate) struct WordError;

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
            type Err = $crate::words::WordError;

            fn from_str(text: &str) -> Result<Self, $crate::words::WordError> {
                match text.to_ascii_lowercase().as_str() {
                    $($word $(| $other)* => Ok(Self::$variant),)+
                    _ => Err($crate::words::WordError),
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

pub(crate) use {alternatives, words};
