//! Where a Workload API is served: the address grammar of the SPIFFE Workload Endpoint standard,
//! section 4, and plain absolute paths beside it.

use std::fmt;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::words::{Flaw, flaw};

/// The longest path that fits into `sockaddr_un`, with its closing NUL, on Linux.
const MAX_UNIX_PATH: usize = 107;

/// A valid address of a Workload API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// A Unix domain socket, by its absolute path.
    Unix(PathBuf),
    /// A TCP address, for an agent that cannot share a socket file.
    Tcp(SocketAddr),
}

/// Tells a socket file from another one in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SocketFile {
    device: u64,
    inode: u64,
    /// Inode numbers are given away again.
    changed: (i64, i64),
}

impl Endpoint {
    /// The socket file that is there now; `None` for TCP.
    pub(crate) fn socket_file(&self) -> Option<SocketFile> {
        let Self::Unix(path) = self else { return None };
        let file = std::fs::metadata(path).ok()?;
        let changed = (file.ctime(), file.ctime_nsec());
        Some(SocketFile { device: file.dev(), inode: file.ino(), changed })
    }
}

impl FromStr for Endpoint {
    type Err = Flaw;

    /// Accepts `/path`, `unix:/path`, `unix:///path` and `tcp://IP:PORT`, nothing else.
    fn from_str(text: &str) -> Result<Self, Flaw> {
        if text.starts_with('/') {
            return unix(text);
        }
        let (scheme, rest) = text.split_once(':').ok_or_else(|| Flaw::new(NOT_ABSOLUTE))?;
        match scheme.to_ascii_lowercase().as_str() {
            "unix" | "tcp" if rest.contains(['?', '#']) => {
                Err(flaw!("a URI here takes no query (?) and no fragment (#)"))
            }
            "unix" => unix_uri(rest),
            "tcp" => tcp_uri(rest),
            _ => Err(flaw!("the scheme must be unix or tcp")),
        }
    }
}

const NOT_ABSOLUTE: &str = "the path must be absolute";
const NO_TCP_ADDRESS: &str = "a tcp URI takes an IP address (no name) and a port from 1 to 65535";

fn unix_uri(rest: &str) -> Result<Endpoint, Flaw> {
    if rest.contains('%') {
        return Err(flaw!("percent-encoding is not supported; give the path itself, without a scheme"));
    }
    let path = match rest.strip_prefix("//") {
        Some(after) if !after.starts_with('/') => {
            return Err(flaw!("a unix URI takes no authority; write unix:/path or unix:///path"));
        }
        Some(after) => after,
        None => rest,
    };
    unix(path)
}

fn unix(path: &str) -> Result<Endpoint, Flaw> {
    let path = Path::new(path);
    if !path.is_absolute() {
        return Err(Flaw::new(NOT_ABSOLUTE));
    }
    if path.file_name().is_none() {
        return Err(flaw!("the path names no file"));
    }
    match path.as_os_str().as_bytes() {
        bytes if bytes.contains(&0) => Err(flaw!("the path contains a NUL byte")),
        bytes if bytes.len() > MAX_UNIX_PATH => {
            Err(flaw!("the path has {} bytes, and a Unix socket's has at most {MAX_UNIX_PATH}", bytes.len()))
        }
        _ => Ok(Endpoint::Unix(path.to_owned())),
    }
}

fn tcp_uri(rest: &str) -> Result<Endpoint, Flaw> {
    let authority = rest.strip_prefix("//").ok_or_else(|| Flaw::new(NO_TCP_ADDRESS))?;
    if authority.contains('/') {
        return Err(flaw!("a tcp URI takes no path, not even a closing slash"));
    }
    match authority.parse::<SocketAddr>() {
        Ok(address) if address.port() != 0 => Ok(Endpoint::Tcp(address)),
        _ => Err(Flaw::new(NO_TCP_ADDRESS)),
    }
}

/// As a URI, the form that `SPIFFE_ENDPOINT_SOCKET` takes.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // In a URI, such a path would be read as another one.
            Endpoint::Unix(path) if path.to_string_lossy().contains(['?', '#', '%']) => {
                write!(f, "{}", path.display())
            }
            Endpoint::Unix(path) => write!(f, "unix://{}", path.display()),
            Endpoint::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}
