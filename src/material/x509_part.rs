//! The files of an X.509-SVID and its bundles: which ones there are.

use std::path::PathBuf;

use crate::layout::pkcs12::{Alias, KeystorePassword};
use crate::store::file::{FileMode, FileName};

/// The files of an X.509-SVID and its bundles. Those of PEM or the credential folder are always there.
#[derive(Debug, Clone)]
pub(crate) struct X509Part {
    /// The three files of `--layout=pem`.
    pub(crate) pem: Option<PemFiles>,
    /// Whether there is a credential folder of SPIFFE's draft.
    pub(crate) spiffe: bool,
    /// A file with key and chain.
    pub(crate) combined: Option<FileName>,
    /// A PKCS#12 file with key and chain.
    pub(crate) keystore: Option<FileName>,
    /// The alias of the key in it.
    pub(crate) alias: Alias,
    /// A PKCS#12 file with the CA certificates.
    pub(crate) truststore: Option<FileName>,
    /// The SPIFFE bundle map: the CA certificates of all trust domains.
    pub(crate) bundle_map: Option<FileName>,
    /// The certificate revocation lists.
    pub(crate) crls: Option<CrlFile>,
    /// The password of the keystores.
    pub(crate) password: KeystorePassword,
    /// CA certificates that have expired are left out.
    pub(crate) omit_expired: bool,
    /// The permissions of public files.
    pub(crate) certificate_mode: FileMode,
    /// The permissions of files that hold the private key.
    pub(crate) key_mode: FileMode,
}

/// The file of the certificate revocation lists.
#[derive(Debug, Clone)]
pub(crate) struct CrlFile {
    pub(crate) name: FileName,
    /// Where an earlier process has left it.
    pub(crate) path: PathBuf,
}

/// Three files: certificate chain, private key, trust bundle. And federated bundles, if asked for.
#[derive(Debug, Clone)]
pub(crate) struct PemFiles {
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

impl X509Part {
    /// Whether any file holds federated bundles.
    pub(super) fn writes_federated(&self) -> bool {
        let in_pem = self.pem.as_ref().is_some_and(|pem| pem.federated_files || pem.federated_in_bundle);
        self.spiffe || self.bundle_map.is_some() || in_pem
    }

    /// Whether intermediates go into the bundle, not into the chain.
    pub(super) fn has_intermediates_in_bundle(&self) -> bool {
        self.pem.as_ref().is_some_and(|pem| pem.intermediates_in_bundle)
    }
}
