//! The types of option values: how each is read, and which values are allowed.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use log::LevelFilter;

use crate::identity::spiffe_id::SpiffeId;
use crate::layout::X509Layouts;
use crate::layout::pkcs12::Alias;
use crate::logging::LogFormat;
use crate::material::{Audience, ChangeKind, ChangeKinds, JwtSvidFile, KeyFormat};
use crate::mode::items::OnRevoked;
use crate::mode::token::OutputFormat;
use crate::notify::{ProcessName, renewal_signal};
use crate::process::signal::SignalNumber;
use crate::store::file::{FileMode, FileName};
use crate::store::owner::Owner;
use crate::supervise::OnRenewal;
use crate::words::{Flaw, words};
use crate::workload_api::endpoint::Endpoint;

/// A type of option.
pub(crate) trait Value: Sized {
    /// The allowed values; ends the sentence "--name takes ...".
    const ALLOWED: &'static str;
    /// Whether there may be several values; `read` then takes one per line.
    const REPEATS: bool = false;

    /// Reads a text that is not empty. The error says which rule it breaks, unless `ALLOWED` says all.
    fn read(text: &str) -> Result<Self, Flaw>;

    /// The value of an option that is given again.
    fn and(self, later: Self) -> Self {
        later
    }

    /// The value of an option that is not set and has no default.
    fn unset() -> Option<Self> {
        None
    }
}

/// An option that may be left out.
impl<T: Value> Value for Option<T> {
    const ALLOWED: &'static str = T::ALLOWED;

    fn read(text: &str) -> Result<Self, Flaw> {
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

    fn read(text: &str) -> Result<Self, Flaw> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        lines.map(T::read).collect()
    }

    fn and(mut self, later: Self) -> Self {
        self.extend(later);
        self
    }

    fn unset() -> Option<Self> {
        Some(Vec::new())
    }
}

impl Value for bool {
    const ALLOWED: &'static str = "true or false";

    fn read(text: &str) -> Result<Self, Flaw> {
        text.to_ascii_lowercase().parse().map_err(|_| Flaw::obvious())
    }
}

impl Value for SpiffeId {
    const ALLOWED: &'static str = "a SPIFFE ID such as spiffe://example.org/workload";

    fn read(text: &str) -> Result<Self, Flaw> {
        text.parse().and_then(Self::must_name_workload)
    }
}

impl Value for SignalNumber {
    const ALLOWED: &'static str = "a signal's name or number, such as SIGHUP";

    /// The one option of this type is `--renew-signal`.
    fn read(text: &str) -> Result<Self, Flaw> {
        text.parse().and_then(renewal_signal)
    }
}

impl Value for Duration {
    const ALLOWED: &'static str = "a number with ms, s, m or h, such as 30s";

    /// A time span from a millisecond to less than a year.
    fn read(text: &str) -> Result<Self, Flaw> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let milliseconds_per_unit = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60 * 1000,
            "h" => 60 * 60 * 1000,
            _ => return Err(Flaw::obvious()),
        };
        let year = 365 * 24 * 60 * 60 * 1000;
        match number.parse::<u64>().ok().and_then(|number| number.checked_mul(milliseconds_per_unit)) {
            Some(0) => Err(Flaw::new("the least is 1ms")),
            Some(milliseconds) if milliseconds < year => Ok(Self::from_millis(milliseconds)),
            _ if digits > 0 => Err(Flaw::new("it must be less than a year")),
            _ => Err(Flaw::obvious()),
        }
    }
}

/// Types that are read by their `FromStr`. `$flaw` makes a flaw of its error.
macro_rules! values {
    ($flaw:expr => $($type:ty: $allowed:expr;)+) => {$(
        impl Value for $type {
            const ALLOWED: &'static str = $allowed;

            fn read(text: &str) -> Result<Self, Flaw> {
                text.parse::<Self>().map_err($flaw)
            }
        }
    )+};
}

values! {
    Flaw::from =>
    Mode: Mode::ALLOWED;
    Endpoint: "an absolute path, unix:PATH, unix:///PATH or tcp://IP:PORT";
    FileName: "a plain file name";
    Owner: "UID or UID:GID, both numbers below 4294967295 (`id NAME` shows those of a user)";
    Alias: "an alias in printable ASCII";
    FileMode: "an octal file mode such as 0440";
    X509Layouts: X509Layouts::ALLOWED;
    JwtSvidFile: "FILE=AUDIENCE[,AUDIENCE...]";
    Audience: "AUDIENCE[,AUDIENCE...]";
    ProcessName: "the name of a program, without a path";
    ChangeKinds: ChangeKind::ALLOWED;
    KeyFormat: KeyFormat::ALLOWED;
    OnRenewal: OnRenewal::ALLOWED;
    OnRevoked: OnRevoked::ALLOWED;
    LogFormat: LogFormat::ALLOWED;
    OutputFormat: OutputFormat::ALLOWED;
}

// Their errors add nothing to the list of what is allowed.
values! {
    |_| Flaw::obvious() =>
    PathBuf: "a path";
    // A hint.
    String: "the hint of a registration entry";
    SocketAddr: "an IP address and a port, such as 0.0.0.0:8081";
    LevelFilter: "off, error, warn, info, debug or trace";
}

words! {
    /// What the program does.
    Mode {
        Init = "init",
        Refresh = "refresh",
        Run = "run",
        Check = "check",
        Inspect = "inspect",
        Token = "token",
    }
}

impl Mode {
    /// Whether words after `--` have a meaning: a hook or the application.
    pub(crate) fn takes_command(self) -> bool {
        matches!(self, Self::Init | Self::Refresh | Self::Run)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_a_whole_number_with_a_unit() {
        for (text, milliseconds) in [("5ms", 5), ("30s", 30_000), ("2m", 120_000), ("1h", 3_600_000)] {
            assert_eq!(Duration::read(text).unwrap().as_millis(), milliseconds, "{text}");
        }
    }

    #[test]
    fn a_span_without_number_or_unit_or_of_nothing_or_beyond_a_year_is_refused() {
        for text in ["", "s", "30", "0s", "-1s", "1.5s", "1d", "s1", "9000h", "99999999999999999999s"] {
            assert!(Duration::read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn several_jwt_svids_are_on_lines_of_their_own() {
        let files = Vec::<JwtSvidFile>::read("a.jwt=one,two\n\n  b.jwt=spiffe://example.org/x=y\n").unwrap();
        let read: Vec<_> = files.iter().map(|file| (file.name.as_str(), file.audience.join("|"))).collect();
        assert_eq!(read, [("a.jwt", "one|two".to_owned()), ("b.jwt", "spiffe://example.org/x=y".to_owned())]);
    }
}
