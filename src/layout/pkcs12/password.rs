//! The password of keystores.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;
use zeroize::Zeroizing;

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
}

impl FromStr for Password {
    type Err = PasswordError;

    /// From the text of a password file. One newline at its end, which editors and `echo` leave, is
    /// not part of the password.
    fn from_str(text: &str) -> Result<Self, PasswordError> {
        let password = text.strip_suffix('\n').unwrap_or(text);
        let password = password.strip_suffix('\r').unwrap_or(password);
        // Java's PBES2 refuses everything else; some readers take an empty password for none.
        match password.bytes().position(|byte| !matches!(byte, b' '..=b'~')) {
            Some(index) => Err(PasswordError::Character { index }),
            None if password.is_empty() => Err(PasswordError::Empty),
            None => Ok(Self(Zeroizing::new(password.to_owned()))),
        }
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

/// Why a text cannot be the password of a keystore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum PasswordError {
    #[error("the password is empty")]
    Empty,
    #[error(
        "byte {index} of the password is not printable ASCII, and Java reads no keystore with such a password"
    )]
    Character { index: usize },
}
