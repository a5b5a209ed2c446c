//! The password of keystores.

use std::cell::RefCell;
use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use nix::errno::Errno;
use zeroize::Zeroizing;

use crate::regular_file;
use crate::words::{Flaw, flaw};

/// The most bytes of a password file.
const LONGEST_FILE: usize = 4096;

/// A password that every reader of PKCS#12 understands in the same way: printable ASCII. Wiped from
/// memory when dropped, and never shown.
#[derive(Clone)]
pub(crate) struct Password(Zeroizing<String>);

impl Password {
    /// The password that Java's own files have, and the default.
    pub(crate) const DEFAULT: &str = "changeit";

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// UTF-16, big-endian, with a zero at the end (RFC 7292, appendix B.1).
    pub(super) fn to_bmp_string(&self) -> Zeroizing<Vec<u8>> {
        let mut text = Zeroizing::new(Vec::with_capacity(2 * self.0.len() + 2));
        text.extend(self.0.bytes().flat_map(|byte| [0, byte]).chain([0, 0]));
        text
    }

    /// From the bytes of a password file. One newline at their end, which editors and `echo` leave, is not part of
    /// the password.
    pub(super) fn from_file(bytes: &[u8]) -> Result<Self, Flaw> {
        let password = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let password = password.strip_suffix(b"\r").unwrap_or(password);
        // Java's PBES2 refuses everything else; some readers take an empty password for none.
        match password.iter().position(|byte| !matches!(byte, b' '..=b'~')) {
            Some(index) => Err(flaw!(
                "byte {index} of the password is not printable ASCII, and Java reads no keystore with such a password"
            )),
            None if password.is_empty() => Err(flaw!("the password is empty")),
            // ASCII, as was just seen.
            None => Ok(Self(Zeroizing::new(String::from_utf8_lossy(password).into_owned()))),
        }
    }
}

/// The password of an X.509-SVID's keystores: the default one, or that of a file, which may change.
#[derive(Debug, Clone, Default)]
pub(crate) struct KeystorePassword {
    file: Option<PathBuf>,
    newest: Rc<RefCell<Password>>,
}

impl KeystorePassword {
    /// The password in a file.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or holds no password.
    pub(crate) fn in_file(file: &Path) -> Result<Self, Flaw> {
        let password = Self { file: Some(file.to_owned()), ..Self::default() };
        password.look().map(|_| password)
    }

    /// Whether it may change.
    pub(crate) fn is_in_file(&self) -> bool {
        self.file.is_some()
    }

    /// The newest one.
    pub(crate) fn newest(&self) -> Password {
        self.newest.borrow().clone()
    }

    /// Reads the file again, if there is one; returns whether the password is another now.
    ///
    /// # Errors
    ///
    /// The file cannot be used; the newest password stays.
    pub(crate) fn look(&self) -> Result<bool, Flaw> {
        let Some(path) = &self.file else { return Ok(false) };
        let found = read(path).map_err(|flaw| {
            flaw!("cannot use the password file {} (--keystore-password-file): {flaw}", path.display())
        })?;
        let is_new = *found.0 != *self.newest.borrow().0;
        self.newest.replace(found);
        Ok(is_new)
    }
}

/// No copy of the bytes stays in memory.
fn read(path: &Path) -> Result<Password, Flaw> {
    let file = regular_file::open(path).map_err(failed)?;
    let file = file.ok_or_else(|| flaw!("it is not a regular file"))?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(LONGEST_FILE + 1));
    file.take(LONGEST_FILE as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > LONGEST_FILE {
        Err(flaw!("it is longer than {LONGEST_FILE} bytes"))
    } else {
        Password::from_file(&bytes)
    }
}

impl Default for Password {
    fn default() -> Self {
        Self(Zeroizing::new(Self::DEFAULT.to_owned()))
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

fn failed(error: io::Error) -> Flaw {
    let number = error.raw_os_error().map(|number| Errno::from_raw(number).desc().to_owned());
    Flaw::new(number.unwrap_or_else(|| error.to_string()))
}
