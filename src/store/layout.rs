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

/// An SVID and what comes with it, as DER blobs. Which of them goes into which file is for a
/// [`Layout`] to say.
pub struct Material<'a> {
    /// Names the bundle.
    pub trust_domain: &'a str,
    /// The certificate of the key.
    pub leaf: &'a [u8],
    /// The rest of the chain, nearest to the leaf first.
    pub intermediates: Vec<&'a [u8]>,
    /// PKCS#8.
    pub key: &'a [u8],
    /// The CAs of the trust domain.
    pub bundle: Vec<&'a [u8]>,
    /// The name of each foreign trust domain, and its CAs.
    pub federated: Vec<(&'a str, Vec<&'a [u8]>)>,
    /// Certificate revocation lists.
    pub crls: Vec<&'a [u8]>,
}

/// Which files there are for an SVID, and what is in them.
#[derive(Debug, Clone)]
pub struct Layout {
    /// The three files of `--layout=pem`.
    pub pem: Option<PemLayout>,
    /// Whether there is a credential folder of SPIFFE's draft.
    pub spiffe: bool,
    /// A file with key and chain.
    pub combined: Option<FileName>,
    /// A file with the revocation lists; it is there when there are any.
    pub crl: Option<FileName>,
    /// The permissions of what is public.
    pub certificate_mode: FileMode,
    /// The permissions of what has a private key in it.
    pub key_mode: FileMode,
}

/// Three files: certificate chain, private key, trust bundle. And federated bundles, if wanted.
#[derive(Debug, Clone)]
pub struct PemLayout {
    /// The certificate chain's name.
    pub certificate: FileName,
    /// The private key's name.
    pub key: FileName,
    /// The bundle's name.
    pub bundle: FileName,
    /// Intermediates go into the bundle instead of the chain.
    pub intermediates_in_bundle: bool,
    /// Federated bundles go into the bundle.
    pub federated_in_bundle: bool,
    /// Each federated bundle has a file of its own, `<trust-domain>.bundle.pem`.
    pub federated_files: bool,
}

/// How the names of files of federated bundles end.
pub const FEDERATED_SUFFIX: &str = ".bundle.pem";
/// The key and the chain, in a credential folder.
pub const CREDENTIAL_BUNDLE: &str = "credential-bundle.private-key.x509.pem";
/// How the names of files of trust bundles end, in a credential folder.
pub const TRUST_BUNDLE_SUFFIX: &str = ".spiffe-trust-bundle.x509.pem";

impl Layout {
    /// Encodes an SVID as the files of this layout.
    ///
    /// A federated trust domain whose name cannot be part of a file name is left out, with a
    /// warning: it must not hold up the SVID.
    pub fn files(&self, material: &Material<'_>) -> Result<Vec<File>, LayoutError> {
        let mut files = Vec::new();
        if let Some(pem) = &self.pem {
            self.add_pem_files(pem, material, &mut files)?;
        }
        let chain = || std::iter::once(material.leaf).chain(material.intermediates.iter().copied());
        let key_and_chain = || {
            pem::encode(std::iter::once((Label::PrivateKey, material.key)).chain(chain().map(certificate)))
        };
        if let Some(name) = &self.combined {
            files.push(File { name: name.clone(), mode: self.key_mode, contents: key_and_chain()? });
        }
        if self.spiffe {
            let name = FileName(CREDENTIAL_BUNDLE.to_owned());
            files.push(File { name, mode: self.key_mode, contents: key_and_chain()? });
            let name = trust_domain_file(material.trust_domain, TRUST_BUNDLE_SUFFIX)?;
            files.push(self.certificates(name, material.bundle.iter().copied())?);
            self.add_federated(material, TRUST_BUNDLE_SUFFIX, &mut files)?;
        }
        if let Some(name) = self.crl.as_ref().filter(|_| !material.crls.is_empty()) {
            let contents = pem::encode(material.crls.iter().map(|der| (Label::Crl, *der)))?;
            files.push(File { name: name.clone(), mode: self.certificate_mode, contents });
        }
        Ok(files)
    }

    fn add_pem_files(
        &self,
        pem: &PemLayout,
        material: &Material<'_>,
        files: &mut Vec<File>,
    ) -> Result<(), LayoutError> {
        let mut chain = vec![material.leaf];
        let mut bundle = material.bundle.clone();
        match pem.intermediates_in_bundle {
            true => bundle.extend(&material.intermediates),
            false => chain.extend(&material.intermediates),
        }
        if pem.federated_in_bundle {
            bundle.extend(material.federated.iter().flat_map(|(_, authorities)| authorities));
        }
        files.push(self.certificates(pem.certificate.clone(), chain)?);
        let contents = pem::encode([(Label::PrivateKey, material.key)])?;
        files.push(File { name: pem.key.clone(), mode: self.key_mode, contents });
        files.push(self.certificates(pem.bundle.clone(), bundle)?);
        if pem.federated_files {
            self.add_federated(material, FEDERATED_SUFFIX, files)?;
        }
        Ok(())
    }

    fn add_federated(
        &self,
        material: &Material<'_>,
        suffix: &str,
        files: &mut Vec<File>,
    ) -> Result<(), LayoutError> {
        for (trust_domain, authorities) in &material.federated {
            match trust_domain_file(trust_domain, suffix) {
                Ok(name) => files.push(self.certificates(name, authorities.iter().copied())?),
                Err(error) => log::warn!("{error}; its bundle is left out"),
            }
        }
        Ok(())
    }

    fn certificates<'a>(
        &self,
        name: FileName,
        ders: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<File, LayoutError> {
        let contents = pem::encode(ders.into_iter().map(certificate))?;
        Ok(File { name, mode: self.certificate_mode, contents })
    }
}

fn certificate(der: &[u8]) -> (Label, &[u8]) {
    (Label::Certificate, der)
}

/// The file of one trust domain: its name, and `suffix`.
pub fn trust_domain_file(trust_domain: &str, suffix: &str) -> Result<FileName, LayoutError> {
    let name = format!("{trust_domain}{suffix}");
    name.parse().map_err(|cause| LayoutError::Name { trust_domain: trust_domain.to_owned(), cause })
}

/// Why an SVID does not fit into its files.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LayoutError {
    /// A blob is too large for PEM, say.
    #[error("cannot encode the SVID as PEM: {0}")]
    Encode(#[from] der::pem::Error),
    /// A trust domain's name is too long or begins with a dot.
    #[error("no file can be named after the trust domain {trust_domain:?}: {cause}")]
    Name {
        /// The name.
        trust_domain: String,
        /// What is wrong with it.
        cause: InvalidFileName,
    },
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
