//! The files: their names, their permissions and their contents.
//!
//! Only this module knows file names: for writing ([`encode`]), for reading back
//! ([`decode`]), and for finding names that clash ([`names`]).

pub(crate) mod decode;
pub(crate) mod encode;
pub(crate) mod names;
pub(crate) mod pem;
pub(crate) mod pkcs12;

use std::str::FromStr;

use thiserror::Error;

use pkcs12::Password;

use crate::store::file::{FileMode, FileName, FileNameError};
use crate::words::words;

/// All files that the helper keeps.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    pub(crate) x509: Option<X509Layout>,
    pub(crate) jwt_svids: Vec<JwtSvidLayout>,
    pub(crate) jwt_bundles: Option<JwtBundleLayout>,
}

/// A part of the files that is fetched, and changes, on its own.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Part<'a> {
    X509(&'a X509Layout),
    JwtSvid(&'a JwtSvidLayout),
    JwtBundles(&'a JwtBundleLayout),
}

/// The files of an X.509-SVID and its bundles.
#[derive(Debug, Clone)]
pub(crate) struct X509Layout {
    /// The three files of `--layout=pem`.
    pub(crate) pem: Option<PemLayout>,
    /// Whether there is a credential folder of SPIFFE's draft.
    pub(crate) spiffe: bool,
    /// A file with key and chain.
    pub(crate) combined: Option<FileName>,
    /// A PKCS#12 file with key and chain.
    pub(crate) keystore: Option<FileName>,
    /// A PKCS#12 file with the CA certificates.
    pub(crate) truststore: Option<FileName>,
    /// The password of both.
    pub(crate) password: Password,
    /// CA certificates that have expired are left out.
    pub(crate) omit_expired: bool,
    /// The permissions of public files.
    pub(crate) certificate_mode: FileMode,
    /// The permissions of files that hold the private key.
    pub(crate) key_mode: FileMode,
}

/// Three files: certificate chain, private key, trust bundle. And federated bundles, if asked for.
#[derive(Debug, Clone)]
pub(crate) struct PemLayout {
    pub(crate) certificate: FileName,
    pub(crate) key: FileName,
    pub(crate) bundle: FileName,
    /// Intermediates go into the bundle, not into the chain.
    pub(crate) intermediates_in_bundle: bool,
    /// Federated bundles go into the bundle.
    pub(crate) federated_in_bundle: bool,
    /// Each federated bundle has a file of its own, `TRUST-DOMAIN.bundle.pem`.
    pub(crate) federated_files: bool,
}

/// The file of a JWT-SVID.
#[derive(Debug, Clone)]
pub(crate) struct JwtSvidLayout {
    pub(crate) file: JwtSvidFile,
    pub(crate) mode: FileMode,
}

/// The files of the JWT bundles.
#[derive(Debug, Clone)]
pub(crate) struct JwtBundleLayout {
    /// The file of our own trust domain's keys.
    pub(crate) name: FileName,
    /// Each federated trust domain has a file too, `TRUST-DOMAIN.NAME`.
    pub(crate) federated_files: bool,
    pub(crate) mode: FileMode,
}

impl<'a> Part<'a> {
    /// The name of a file of this part: the one that holds the SVID, if there is one.
    pub(crate) fn file(self) -> &'a str {
        match self {
            Self::X509(layout) => layout.certificate_file(),
            Self::JwtSvid(layout) => layout.file.name.as_str(),
            Self::JwtBundles(layout) => layout.name.as_str(),
        }
    }
}

impl Layout {
    /// All parts, X.509 first.
    pub(crate) fn parts(&self) -> impl Iterator<Item = Part<'_>> {
        let x509 = self.x509.iter().map(Part::X509);
        let jwt_svids = self.jwt_svids.iter().map(Part::JwtSvid);
        x509.chain(jwt_svids).chain(self.jwt_bundles.iter().map(Part::JwtBundles))
    }

    /// The index of the part that a file of the published set belongs to, and the file's
    /// permissions. X.509 owns the files that no other part claims: an earlier run with other names
    /// may have left them.
    pub(crate) fn owner(&self, name: &str) -> Option<(usize, FileMode)> {
        let mode = |part: Part<'_>| match part {
            Part::X509(_) => None,
            Part::JwtSvid(jwt_svid) => (name == jwt_svid.file.name.as_str()).then_some(jwt_svid.mode),
            Part::JwtBundles(bundles) => bundles.owns(name).then_some(bundles.mode),
        };
        let claimed = self.parts().enumerate().find_map(|(index, part)| Some((index, mode(part)?)));
        claimed.or(self.x509.as_ref().map(|x509| (0, x509.mode_of(name))))
    }
}

impl X509Layout {
    /// The permissions of a file. An unknown file, of an earlier run, may hold a key.
    fn mode_of(&self, name: &str) -> FileMode {
        let mut public = Vec::new();
        let pem = self.pem.iter().flat_map(|pem| [&pem.certificate, &pem.bundle]);
        public.extend(pem.chain(&self.truststore).map(FileName::as_str));
        let is_bundle =
            [names::FEDERATED_SUFFIX, names::TRUST_BUNDLE_SUFFIX].iter().any(|end| name.ends_with(end));
        if is_bundle || public.contains(&name) { self.certificate_mode } else { self.key_mode }
    }

    /// Whether any file holds federated bundles.
    fn writes_federated(&self) -> bool {
        self.spiffe || self.pem.as_ref().is_some_and(|pem| pem.federated_files || pem.federated_in_bundle)
    }

    /// The name of a file with the SVID's certificate.
    pub(crate) fn certificate_file(&self) -> &str {
        match (&self.pem, &self.combined) {
            (Some(pem), _) => pem.certificate.as_str(),
            (None, Some(combined)) if !self.spiffe => combined.as_str(),
            _ => names::CREDENTIAL_BUNDLE,
        }
    }
}

impl JwtBundleLayout {
    fn owns(&self, name: &str) -> bool {
        name == self.name.as_str() || self.federated_files && name.ends_with(&self.suffix())
    }

    /// How the names of federated trust domains' files end.
    fn suffix(&self) -> String {
        format!(".{}", self.name)
    }
}

/// A JWT-SVID to keep: the name of its file and its audience.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JwtSvidFile {
    pub(crate) name: FileName,
    /// One or more.
    pub(crate) audience: Vec<String>,
}

impl FromStr for JwtSvidFile {
    type Err = JwtSvidFileError;

    /// Reads `FILE=AUDIENCE[,AUDIENCE...]`.
    fn from_str(text: &str) -> Result<Self, JwtSvidFileError> {
        let (name, audience) = text.split_once('=').ok_or(JwtSvidFileError::NoAudience)?;
        let name = name.parse()?;
        let audience: Vec<_> = audience.split(',').map(|each| each.trim().to_owned()).collect();
        if audience.iter().any(String::is_empty) {
            return Err(JwtSvidFileError::NoAudience);
        }
        Ok(Self { name, audience })
    }
}

/// Why a text is not FILE=AUDIENCE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum JwtSvidFileError {
    #[error("an audience is missing")]
    NoAudience,
    #[error(transparent)]
    Name(#[from] FileNameError),
}

words! {
    /// Which of the two X.509 layouts are written, one or both.
    X509Layouts {
        Pem = "pem",
        Spiffe = "spiffe",
        Both = "pem,spiffe" | "spiffe,pem",
    }
}

impl X509Layouts {
    pub(crate) fn has_pem(self) -> bool {
        self != Self::Spiffe
    }

    pub(crate) fn has_spiffe(self) -> bool {
        self != Self::Pem
    }
}
