//! The types of option values: how each is read, and what it may be.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use log::LevelFilter;
use thiserror::Error;

use crate::identity::spiffe_id::SpiffeId;
use crate::store::layout::{FileMode, FileName};
use crate::workload_api::endpoint::Endpoint;

/// A type of option.
pub trait Value: Sized {
    /// What a value may be; ends the sentence "--name takes ...".
    const ALLOWED: &'static str;

    /// Reads a value. The error says which rule the text breaks, or nothing when `ALLOWED` says all.
    fn read(text: &str) -> Result<Self, String>;

    /// The value of an option that is not set and has no default.
    fn unset() -> Option<Self> {
        None
    }
}

/// An option that may be left out.
impl<T: Value> Value for Option<T> {
    const ALLOWED: &'static str = T::ALLOWED;

    fn read(text: &str) -> Result<Self, String> {
        T::read(text).map(Some)
    }

    fn unset() -> Option<Self> {
        Some(None)
    }
}

macro_rules! values {
    ($($type:ty: $allowed:literal;)+) => {$(
        impl Value for $type {
            const ALLOWED: &'static str = $allowed;

            fn read(text: &str) -> Result<Self, String> {
                text.parse::<Self>().map_err(|error| error.to_string())
            }
        }
    )+};
}

values! {
    Mode: "init or refresh";
    Endpoint: "an absolute path, unix:PATH, unix:///PATH or tcp://IP:PORT";
    SpiffeId: "a SPIFFE ID such as spiffe://example.org/workload";
    Directory: "a path";
    FileName: "a plain file name";
    FileMode: "an octal file mode such as 0440";
    Timeout: "a number with ms, s, m or h, such as 30s";
    OnRevoked: "keep or remove";
    LogLevel: "off, error, warn, info, debug or trace";
    LogFormat: "text or json";
}

/// The text is none of the allowed values, and there is nothing more to say.
#[derive(Debug, Error)]
#[error("")]
pub struct NotAllowed;

/// An enumeration whose values are words, in any case.
macro_rules! words {
    ($($(#[$doc:meta])* $name:ident { $($variant:ident = $word:literal,)+ })+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $(#[doc = concat!("`", $word, "`")] $variant,)+ }

        impl FromStr for $name {
            type Err = NotAllowed;

            fn from_str(text: &str) -> Result<Self, NotAllowed> {
                match text.to_ascii_lowercase().as_str() {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(NotAllowed),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Self::$variant => $word,)+
                })
            }
        }
    )+};
}

words! {
    /// What the program does.
    Mode {
        Init = "init",
        Refresh = "refresh",
    }

    /// What becomes of the files when the agent withdraws the identity.
    OnRevoked {
        Keep = "keep",
        Remove = "remove",
    }

    /// How a log line is written.
    LogFormat {
        Text = "text",
        Json = "json",
    }
}

/// The least important lines that are logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogLevel(pub LevelFilter);

impl FromStr for LogLevel {
    type Err = NotAllowed;

    fn from_str(text: &str) -> Result<Self, NotAllowed> {
        text.parse().map(Self).map_err(|_| NotAllowed)
    }
}

/// A path that is not empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory(pub PathBuf);

impl FromStr for Directory {
    type Err = NotAllowed;

    fn from_str(text: &str) -> Result<Self, NotAllowed> {
        (!text.is_empty()).then(|| Self(text.into())).ok_or(NotAllowed)
    }
}

/// A time span longer than nothing, and shorter than a year.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeout(pub Duration);

impl FromStr for Timeout {
    type Err = NotAllowed;

    fn from_str(text: &str) -> Result<Self, NotAllowed> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let milliseconds_per_unit = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60 * 1000,
            "h" => 60 * 60 * 1000,
            _ => return Err(NotAllowed),
        };
        let year = 365 * 24 * 60 * 60 * 1000;
        match number.parse::<u64>().ok().and_then(|number| number.checked_mul(milliseconds_per_unit)) {
            Some(milliseconds @ 1..) if milliseconds < year => Ok(Self(Duration::from_millis(milliseconds))),
            _ => Err(NotAllowed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_a_whole_number_with_a_unit() {
        for (text, milliseconds) in [("5ms", 5), ("30s", 30_000), ("2m", 120_000), ("1h", 3_600_000)] {
            assert_eq!(Timeout::read(text).unwrap().0.as_millis(), milliseconds, "{text}");
        }
    }

    #[test]
    fn a_timeout_without_number_or_unit_or_of_nothing_or_beyond_a_year_is_refused() {
        for text in ["", "s", "30", "0s", "-1s", "1.5s", "1d", "s1", "9000h", "99999999999999999999s"] {
            assert!(Timeout::read(text).is_err(), "{text}");
        }
    }
}
