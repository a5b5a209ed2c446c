//! Which files there are: names, modes and contents.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;
use zeroize::Zeroizing;

use super::pem::{self, Label};

/// A file to be published.
pub struct File {
    /// Its name in the directory.
    pub name: FileName,
    /// Its permissions.
    pub mode: FileMode,
    /// Its bytes, wiped from memory when dropped.
    pub contents: Zeroizing<Vec<u8>>,
}

/// The three PEM files: certificate chain, private key, trust bundle.
#[derive(Debug, Clone)]
pub struct PemLayout {
    /// The certificate chain's name.
    pub certificate: FileName,
    /// The private key's name.
    pub key: FileName,
    /// The bundle's name.
    pub bundle: FileName,
    /// The permissions of certificate chain and bundle.
    pub certificate_mode: FileMode,
    /// The permissions of the private key.
    pub key_mode: FileMode,
}

impl PemLayout {
    /// Encodes DER blobs as the files of this layout: the chain leaf first, the key in PKCS#8.
    pub fn files(
        &self,
        chain: &[Vec<u8>],
        key: &[u8],
        bundle: &[Vec<u8>],
    ) -> Result<Vec<File>, der::pem::Error> {
        let certificates = |ders: &[Vec<u8>]| pem::encode(Label::Certificate, ders.iter().map(Vec::as_slice));
        let file = |name: &FileName, mode, contents| File { name: name.clone(), mode, contents };
        Ok(vec![
            file(&self.certificate, self.certificate_mode, certificates(chain)?),
            file(&self.key, self.key_mode, pem::encode(Label::PrivateKey, [key])?),
            file(&self.bundle, self.certificate_mode, certificates(bundle)?),
        ])
    }
}

/// A name for a published file: no slash, no leading dot, at most 255 bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileName(String);

impl FileName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for FileName {
    type Err = InvalidFileName;

    fn from_str(text: &str) -> Result<Self, InvalidFileName> {
        // A leading dot is kept for the hidden directories behind the names.
        let plain =
            !text.is_empty() && text.len() <= 255 && !text.starts_with('.') && !text.contains(['/', '\0']);
        plain.then(|| Self(text.to_owned())).ok_or(InvalidFileName)
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
pub struct InvalidFileName;

/// The permission bits of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileMode(u32);

impl FileMode {
    /// The bits, from 0 to 0o777.
    pub fn bits(self) -> u32 {
        self.0
    }

    /// Whether users other than the owner and the group may read it.
    pub fn is_world_readable(self) -> bool {
        self.0 & 0o004 != 0
    }
}

impl FromStr for FileMode {
    type Err = InvalidFileMode;

    fn from_str(text: &str) -> Result<Self, InvalidFileMode> {
        let octal = !text.is_empty() && text.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
        match u32::from_str_radix(text, 8) {
            Ok(bits) if octal && bits <= 0o777 => Ok(Self(bits)),
            _ => Err(InvalidFileMode),
        }
    }
}

impl fmt::Display for FileMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

/// Not a file mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a file mode is octal, from 0000 to 0777")]
pub struct InvalidFileMode;
