//! Bytes of files, which may be keys: reading leaves no copy in memory, and has a limit.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use nix::NixPath;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat};
use zeroize::Zeroizing;

use super::file::{Contents, kind};

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
    file.take(length + 1).read_to_end(&mut contents).map_err(|error| errno(&error))?;
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
    let is_at_end = |file: &mut File| file.read(&mut [0]).is_ok_and(|length| length == 0);
    contents.write_to(&mut Comparison(&mut file)).is_ok() && is_at_end(&mut file)
}

fn open_regular<P: NixPath + ?Sized>(
    directory: impl AsFd,
    name: &P,
    flags: OFlag,
    accepts: impl Fn(&FileStat) -> bool,
) -> nix::Result<(FileStat, File)> {
    let flags = flags | OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    let fd = openat(directory, name, flags, Mode::empty())?;
    let stat = fstat(&fd)?;
    if kind(&stat) != SFlag::S_IFREG || !accepts(&stat) {
        return Err(Errno::EINVAL);
    }
    Ok((stat, fd.into()))
}

/// Takes the bytes that a file should have, and fails where they differ.
struct Comparison<'a>(&'a mut File);

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

/// Writes all of a file.
pub(super) fn write(
    fd: OwnedFd,
    contents: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> nix::Result<OwnedFd> {
    let mut out = File::from(fd);
    contents(&mut out).map_err(|error| errno(&error))?;
    Ok(out.into())
}

pub(super) fn errno(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}
