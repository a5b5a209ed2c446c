//! The types of option values: how each is read, and what it may be.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use log::LevelFilter;
use nix::sys::signal::Signal;
use thiserror::Error;

use crate::identity::spiffe_id::SpiffeId;
use crate::store::layout::{FileMode, FileName, InvalidFileName};
use crate::workload_api::endpoint::Endpoint;

/// A type of option.
pub trait Value: Sized {
    /// What a value may be; ends the sentence "--name takes ...".
    const ALLOWED: &'static str;
    /// Whether the option's name alone means `true`.
    const IS_SWITCH: bool = false;
    /// Whether there may be several values; `read` then takes one a line.
    const REPEATS: bool = false;

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

/// An option that may be given several times.
impl<T: Value> Value for Vec<T> {
    const ALLOWED: &'static str = T::ALLOWED;
    const REPEATS: bool = true;

    fn read(text: &str) -> Result<Self, String> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let all = lines.map(T::read).collect::<Result<Vec<_>, _>>()?;
        if all.is_empty() { Err(String::new()) } else { Ok(all) }
    }

    fn unset() -> Option<Self> {
        Some(Vec::new())
    }
}

impl Value for bool {
    const ALLOWED: &'static str = "true or false";
    const IS_SWITCH: bool = true;

    fn read(text: &str) -> Result<Self, String> {
        text.to_ascii_lowercase().parse().map_err(|_| String::new())
    }
}

impl Value for PathBuf {
    const ALLOWED: &'static str = "a path";

    fn read(text: &str) -> Result<Self, String> {
        (!text.is_empty()).then(|| text.into()).ok_or_else(String::new)
    }
}

impl Value for String {
    const ALLOWED: &'static str = "a text";

    fn read(text: &str) -> Result<Self, String> {
        (!text.is_empty()).then(|| text.to_owned()).ok_or_else(String::new)
    }
}

impl Value for SocketAddr {
    const ALLOWED: &'static str = "an IP address and a port, such as 0.0.0.0:8081";

    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| String::new())
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
    Mode: "init, refresh, check or inspect";
    Endpoint: "an absolute path, unix:PATH, unix:///PATH or tcp://IP:PORT";
    SpiffeId: "a SPIFFE ID such as spiffe://example.org/workload";
    FileName: "a plain file name";
    FileMode: "an octal file mode such as 0440";
    Layouts: "pem, spiffe or pem,spiffe";
    Span: "a number with ms, s, m or h, such as 30s";
    JwtSvidFile: "FILE=AUDIENCE[,AUDIENCE...]";
    ProcessName: "the name of a program, without a path";
    RenewSignal: "a signal's name or number, such as SIGHUP";
    OnRevoked: "keep or remove";
    LogLevel: "off, error, warn, info, debug or trace";
    LogFormat: "text or json";
    OutputFormat: "text or json";
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
        Check = "check",
        Inspect = "inspect",
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

    /// How `inspect` prints what it finds.
    OutputFormat {
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

/// A time span longer than nothing, and shorter than a year.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(pub Duration);

impl FromStr for Span {
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

/// Which layouts the X.509 files have, one or both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layouts {
    /// Three PEM files.
    pub pem: bool,
    /// A credential folder.
    pub spiffe: bool,
}

impl FromStr for Layouts {
    type Err = NotAllowed;

    fn from_str(text: &str) -> Result<Self, NotAllowed> {
        let mut layouts = Self { pem: false, spiffe: false };
        for word in text.to_ascii_lowercase().split(',') {
            match word {
                "pem" if !layouts.pem => layouts.pem = true,
                "spiffe" if !layouts.spiffe => layouts.spiffe = true,
                _ => return Err(NotAllowed),
            }
        }
        Ok(layouts)
    }
}

/// A JWT-SVID that is wanted, and where it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwtSvidFile {
    /// The file's name.
    pub name: FileName,
    /// Whom the token is for, one or more.
    pub audience: Vec<String>,
}

impl FromStr for JwtSvidFile {
    type Err = InvalidJwtSvidFile;

    fn from_str(text: &str) -> Result<Self, InvalidJwtSvidFile> {
        let (name, audience) = text.split_once('=').ok_or(InvalidJwtSvidFile::NoAudience)?;
        let name = name.parse().map_err(InvalidJwtSvidFile::Name)?;
        let audience: Vec<_> = audience.split(',').map(|each| each.trim().to_owned()).collect();
        match audience.iter().any(String::is_empty) {
            true => Err(InvalidJwtSvidFile::NoAudience),
            false => Ok(Self { name, audience }),
        }
    }
}

/// Why a text does not say which JWT-SVID goes where.
#[allow(missing_docs, reason = "the messages say what the variants mean")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum InvalidJwtSvidFile {
    #[error("an audience is missing")]
    NoAudience,
    #[error("{0}")]
    Name(InvalidFileName),
}

/// The name of a program, as the kernel knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessName(String);

impl ProcessName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ProcessName {
    type Err = NotAllowed;

    fn from_str(text: &str) -> Result<Self, NotAllowed> {
        (!text.is_empty() && !text.contains('/')).then(|| Self(text.to_owned())).ok_or(NotAllowed)
    }
}

/// The signal that tells an application of new files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RenewSignal(pub Signal);

impl Default for RenewSignal {
    fn default() -> Self {
        Self(Signal::SIGHUP)
    }
}

impl FromStr for RenewSignal {
    type Err = NotAllowed;

    /// Accepts `SIGHUP`, `HUP` (in any case) and `1`.
    fn from_str(text: &str) -> Result<Self, NotAllowed> {
        let name = text.to_ascii_uppercase();
        let signal = match name.parse::<i32>() {
            Ok(number) => Signal::try_from(number),
            Err(_) if name.starts_with("SIG") => name.parse(),
            Err(_) => format!("SIG{name}").parse(),
        };
        signal.map(Self).map_err(|_| NotAllowed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_a_whole_number_with_a_unit() {
        for (text, milliseconds) in [("5ms", 5), ("30s", 30_000), ("2m", 120_000), ("1h", 3_600_000)] {
            assert_eq!(Span::read(text).unwrap().0.as_millis(), milliseconds, "{text}");
        }
    }

    #[test]
    fn a_span_without_number_or_unit_or_of_nothing_or_beyond_a_year_is_refused() {
        for text in ["", "s", "30", "0s", "-1s", "1.5s", "1d", "s1", "9000h", "99999999999999999999s"] {
            assert!(Span::read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_signal_is_a_name_with_or_without_its_prefix_or_a_number() {
        for text in ["SIGUSR1", "usr1", "USR1", "sigusr1", "10"] {
            assert_eq!(RenewSignal::read(text), Ok(RenewSignal(Signal::SIGUSR1)), "{text}");
        }
        for text in ["", "SIG", "SIGNOTHING", "0", "-1", "65", "1.5"] {
            assert!(RenewSignal::read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn several_jwt_svids_stand_in_lines_of_their_own() {
        let files = Vec::<JwtSvidFile>::read("a.jwt=one,two\n\n  b.jwt=spiffe://example.org/x=y\n").unwrap();
        let read: Vec<_> = files.iter().map(|file| (file.name.as_str(), file.audience.join("|"))).collect();
        assert_eq!(read, [("a.jwt", "one|two".to_owned()), ("b.jwt", "spiffe://example.org/x=y".to_owned())]);
    }
}
