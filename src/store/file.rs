//! A file of a set: its name, its permissions, its bytes.

use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;

use nix::sys::stat::{FileStat, SFlag};
use thiserror::Error;
use zeroize::Zeroizing;

/// A file to be published.
pub(crate) struct File {
    /// Its name in the directory.
    pub(crate) name: FileName,
    /// Its permissions.
    pub(crate) mode: FileMode,
    /// Its bytes.
    pub(crate) contents: Contents,
}

/// The bytes of a file, encoded anew each time that they are needed: what a set is made of is in memory
/// once, and the set, several times as large, never.
pub(crate) struct Contents(Box<WriteTo>);

type WriteTo = dyn Fn(&mut dyn Write) -> io::Result<()>;

impl Contents {
    /// `write` writes the same bytes each time, and fails as its writer does.
    pub(crate) fn new(write: impl Fn(&mut dyn Write) -> io::Result<()> + 'static) -> Self {
        Self(Box::new(write))
    }

    /// These bytes, wiped from memory when dropped.
    pub(crate) fn of(bytes: Vec<u8>) -> Self {
        let bytes = Zeroizing::new(bytes);
        Self::new(move |out| out.write_all(&bytes))
    }

    /// Writes all of them.
    pub(crate) fn write_to(&self, out: &mut dyn Write) -> io::Result<()> {
        self.0(out)
    }
}

/// A name for a published file: no slash, no leading dot, at most 255 bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileName(String);

impl FileName {
    /// The name.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for FileName {
    type Err = FileNameError;

    fn from_str(text: &str) -> Result<Self, FileNameError> {
        // A leading dot is kept for the hidden directories behind the names.
        let plain =
            !text.is_empty() && text.len() <= 255 && !text.starts_with('.') && !text.contains(['/', '\0']);
        plain.then(|| Self(text.to_owned())).ok_or(FileNameError)
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Not a plain file name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a plain file name has 1 to 255 bytes, no slash and no leading dot")]
pub(crate) struct FileNameError;

/// The permission bits of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileMode(u32);

impl FileMode {
    /// The permissions that a file has.
    pub(super) fn of(stat: &FileStat) -> Self {
        Self(stat.st_mode & 0o777)
    }

    /// The bits, from 0 to 0o777.
    pub(crate) fn bits(self) -> u32 {
        self.0
    }

    /// Whether its owner may read it, no one but the owner may write it, and no one execute it.
    fn is_for_data(self) -> bool {
        self.0 & 0o400 != 0 && self.0 & !0o644 == 0
    }

    /// Whether users other than the owner and the group may read it.
    pub(crate) fn is_world_readable(self) -> bool {
        self.0 & 0o004 != 0
    }
}

impl FromStr for FileMode {
    type Err = FileModeError;

    /// Reads octal digits. The published files need no other modes than it allows.
    fn from_str(text: &str) -> Result<Self, FileModeError> {
        let is_octal = text.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
        let mode = u32::from_str_radix(text, 8).ok().filter(|_| is_octal).map(Self);
        // No mode in use is another one in decimal: none of 400, 440, 444, 600, 640 and 644 stands for one.
        let decimal = text.parse().ok().filter(|_| !text.starts_with('0')).map(Self);
        match (mode, decimal) {
            (Some(mode), _) if mode.is_for_data() => Ok(mode),
            (_, Some(meant)) if meant.is_for_data() => Err(FileModeError::Decimal { meant }),
            (None, Some(meant)) if (0o400..=0o777).contains(&meant.0) => {
                Err(FileModeError::Decimal { meant })
            }
            (Some(Self(bits)), _) if bits <= 0o777 => Err(FileModeError::NotForData),
            _ => Err(FileModeError::NotOctal),
        }
    }
}

impl fmt::Display for FileMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

/// Not the mode of a published file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum FileModeError {
    #[error("")]
    NotOctal,
    #[error("modes are octal; YAML reads an unquoted {meant} as {}: quote it", .meant.0)]
    Decimal { meant: FileMode },
    #[error(
        "modes are octal; the file must be readable for its owner, writable for no one else and executable for no one"
    )]
    NotForData,
}

/// Whether it is a regular file, a directory, a link, ...
pub(super) fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT
}
