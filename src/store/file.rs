//! A file of a set: its name, its permissions, its bytes. They may be a key: reading leaves no copy in memory,
//! and has a limit.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::str::FromStr;
use std::{fmt, fs};

use nix::NixPath;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat};
use zeroize::Zeroizing;

use crate::words::{Flaw, flaw};

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
    type Err = Flaw;

    fn from_str(text: &str) -> Result<Self, Flaw> {
        // A leading dot is kept for the hidden directories behind the names.
        let plain =
            !text.is_empty() && text.len() <= 255 && !text.starts_with('.') && !text.contains(['/', '\0']);
        plain
            .then(|| Self(text.to_owned()))
            .ok_or_else(|| flaw!("a plain file name has 1 to 255 bytes, no slash and no leading dot"))
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

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
    type Err = Flaw;

    /// Reads octal digits. The published files need no other modes than it allows.
    fn from_str(text: &str) -> Result<Self, Flaw> {
        let is_octal = text.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
        let mode = u32::from_str_radix(text, 8).ok().filter(|_| is_octal).map(Self);
        // No mode in use is another one in decimal: none of 400, 440, 444, 600, 640 and 644 stands for one.
        let decimal = text.parse().ok().filter(|_| !text.starts_with('0')).map(Self);
        match (mode, decimal) {
            (Some(mode), _) if mode.is_for_data() => Ok(mode),
            (number, Some(meant))
                if meant.is_for_data() || number.is_none() && (0o400..=0o777).contains(&meant.0) =>
            {
                Err(flaw!("modes are octal; YAML reads an unquoted {meant} as {}: quote it", meant.0))
            }
            (Some(Self(bits)), _) if bits <= 0o777 => Err(flaw!(
                "modes are octal; the file must be readable for its owner, writable for no one else and executable for no one"
            )),
            _ => Err(Flaw::obvious()),
        }
    }
}

impl fmt::Display for FileMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

/// Whether it is a regular file, a directory, a link, ...
pub(super) fn file_type(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT
}

/// Device and inode: the same for each name of one file.
pub(super) fn file_id(stat: &FileStat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

/// The largest file that is read: more than a response of the Workload API can fill.
pub(super) const LARGEST_FILE: u64 = 16 << 20;

/// Opens a file once, and reads it if it is a regular one that `accepts` accepts: EINVAL if not, EFBIG
/// if it is too large. Does not wait on a pipe. The bytes are wiped from memory when dropped.
pub(super) fn read_regular<P: NixPath + ?Sized>(
    directory: impl AsFd,
    name: &P,
    flags: OFlag,
    accepts: impl Fn(&FileStat) -> bool,
) -> nix::Result<(FileStat, Zeroizing<Vec<u8>>)> {
    let (stat, file) = open_regular(directory, name, flags, accepts)?;
    let length = u64::try_from(stat.st_size).unwrap_or_default();
    if length > LARGEST_FILE {
        return Err(Errno::EFBIG);
    }
    // One more byte of room, so that the buffer never grows and leaves a copy.
    let mut contents = Zeroizing::new(Vec::with_capacity(usize::try_from(length).unwrap_or_default() + 1));
    file.take(length + 1).read_to_end(&mut contents).map_err(errno)?;
    Ok((stat, contents))
}

/// Whether a file is a regular one that `accepts` likes, and its bytes are these.
pub(super) fn is_regular_with<P: NixPath + ?Sized>(
    directory: impl AsFd,
    name: &P,
    contents: &Contents,
    accepts: impl Fn(&FileStat) -> bool,
) -> bool {
    let Ok((_, mut file)) = open_regular(directory, name, OFlag::O_NOFOLLOW, accepts) else { return false };
    contents.write_to(&mut Comparison(&mut file)).is_ok() && matches!(file.read(&mut [0]), Ok(0))
}

fn open_regular<P: NixPath + ?Sized>(
    directory: impl AsFd,
    name: &P,
    flags: OFlag,
    accepts: impl Fn(&FileStat) -> bool,
) -> nix::Result<(FileStat, fs::File)> {
    let flags = flags | OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    let fd = openat(directory, name, flags, Mode::empty())?;
    let stat = fstat(&fd)?;
    if file_type(&stat) != SFlag::S_IFREG || !accepts(&stat) {
        return Err(Errno::EINVAL);
    }
    Ok((stat, fd.into()))
}

/// Takes the bytes that a file should have, and fails where they differ.
struct Comparison<'a>(&'a mut fs::File);

impl Write for Comparison<'_> {
    fn write(&mut self, expected: &[u8]) -> io::Result<usize> {
        /// Of a file that is read in pieces.
        const PIECE: usize = 64 << 10;
        let expected = &expected[..expected.len().min(PIECE)];
        let mut found = Zeroizing::new(vec![0; expected.len()]);
        self.0.read_exact(&mut found)?;
        if *found == expected { Ok(expected.len()) } else { Err(io::ErrorKind::InvalidData.into()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(super) fn errno(error: io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}
