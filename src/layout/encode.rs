//! Checked identity material as files.

use std::io::{self, Write};
use std::rc::Rc;
use std::time::SystemTime;

use thiserror::Error;

use super::names::{self, CREDENTIAL_BUNDLE, FEDERATED_SUFFIX, TRUST_BUNDLE_SUFFIX, TrustDomainNameError};
use super::pem::{self, Label};
use super::pkcs12::{self, Password};
use super::{JwtBundleLayout, JwtSvidLayout, PemLayout, X509Layout};
use crate::identity::bundle::{Authority, BundleInfo, X509Bundle};
use crate::identity::context::{FederatedBundles, X509Context};
use crate::identity::jwt_bundle::{Document, JwtBundles, JwtBundlesError};
use crate::identity::jwt_svid::JwtSvid;
use crate::identity::limits::MAX_TRUST_DOMAINS;
use crate::identity::spiffe_id::TrustDomain;
use crate::identity::x509_svid::X509Svid;
use crate::store::file::{Contents, File, FileMode, FileName, FileNameError};

/// The files of an X.509-SVID with its bundles.
///
/// Leaves out, with a warning, a federated bundle that is bad or whose trust domain cannot be part of a
/// file name: it must not hold up the SVID.
pub(crate) fn x509(
    layout: &X509Layout,
    context: X509Context,
    now: SystemTime,
) -> Result<(Vec<File>, Vec<BundleInfo>), LayoutError> {
    let X509Context { svid, federated, .. } = context;
    let federated = if layout.writes_federated() { good(federated) } else { Vec::new() };
    let trust_domain = svid.info().id.trust_domain();
    let own = svid.bundle().info(trust_domain.clone());
    let others = federated.iter().map(|(trust_domain, bundle)| bundle.info(trust_domain.clone()));
    let bundles = std::iter::once(own).chain(others).collect();
    let mut material = Material {
        svid,
        federated,
        valid_at: layout.omit_expired.then_some(now),
        merges_federated: layout.pem.as_ref().is_some_and(|pem| pem.federated_in_bundle),
        password: layout.password.clone(),
    };
    if material.own().next().is_none() {
        return Err(LayoutError::ExpiredBundle(trust_domain));
    }
    let valid_at = material.valid_at;
    material.federated.retain(|(_, bundle)| valid(bundle, valid_at).next().is_some());
    let mut files = Files { layout, material: Rc::new(material), all: Vec::new() };
    if let Some(pem) = &layout.pem {
        files.add_pem_files(pem);
    }
    if let Some(name) = &layout.combined {
        files.add(name.clone(), layout.key_mode, Kind::KeyAndChain);
    }
    if layout.spiffe {
        files.add_credential_folder(&trust_domain)?;
    }
    if let Some(name) = &layout.keystore {
        files.add(name.clone(), layout.key_mode, Kind::KeyStore);
    }
    if let Some(name) = &layout.truststore {
        files.add(name.clone(), layout.certificate_mode, Kind::TrustStore);
    }
    Ok((files.all, bundles))
}

fn good(federated: FederatedBundles) -> Vec<(TrustDomain, X509Bundle)> {
    let warn = |error| log::warn!("left out a federated bundle: {error}");
    warn_of_too_many(federated.len());
    federated.parse().take(MAX_TRUST_DOMAINS).filter_map(|bundle| bundle.map_err(warn).ok()).collect()
}

fn warn_of_too_many(federated: usize) {
    if federated > MAX_TRUST_DOMAINS {
        log::warn!(
            "there are {federated} federated trust domains; only the first {MAX_TRUST_DOMAINS} are written"
        );
    }
}

/// The file of a JWT-SVID: the token, without a line break.
pub(crate) fn jwt_svid(layout: &JwtSvidLayout, svid: &JwtSvid) -> File {
    let contents = Contents::of(svid.token().as_bytes().to_vec());
    File { name: layout.file.name.clone(), mode: layout.mode, contents }
}

/// The files of the JWT bundles: the JWKS documents as they came.
///
/// # Errors
///
/// There is no good bundle of our own trust domain.
pub(crate) fn jwt_bundles(
    layout: &JwtBundleLayout,
    bundles: &JwtBundles,
    own: &TrustDomain,
) -> Result<Vec<File>, JwtBundlesError> {
    let file = |name, document: &Document| {
        let document = document.clone();
        File { name, mode: layout.mode, contents: Contents::new(move |out| out.write_all(&document)) }
    };
    let mut files = vec![file(layout.name.clone(), bundles.of(own)?)];
    if !layout.federated_files {
        return Ok(files);
    }
    bundles.bad().for_each(|error| log::warn!("left out a federated JWT bundle: {error}"));
    let federated = bundles.good().filter(|(trust_domain, _)| *trust_domain != own);
    warn_of_too_many(federated.clone().count());
    for (trust_domain, document) in federated.take(MAX_TRUST_DOMAINS) {
        match names::of_trust_domain(trust_domain, &layout.suffix()) {
            Ok(name) => files.push(file(name, document)),
            Err(error) => log::warn!("{error}; its JWT bundle is left out"),
        }
    }
    Ok(files)
}

/// An SVID and its bundles: what all files of X.509 are made of.
struct Material {
    svid: X509Svid,
    federated: Vec<(TrustDomain, X509Bundle)>,
    /// CA certificates that have expired by then are left out.
    valid_at: Option<SystemTime>,
    /// The federated CAs are trusted as the own are.
    merges_federated: bool,
    /// Of keystores.
    password: Password,
}

/// What is in a file.
#[derive(Clone, Copy)]
enum Kind {
    Leaf,
    Chain,
    Key,
    KeyAndChain,
    /// The own trust domain's CAs.
    OwnBundle,
    /// All CAs that are trusted as the own are.
    TrustedBundle,
    /// The same, with the chain's intermediates.
    TrustedBundleWithIntermediates,
    /// The CAs of the federated trust domain with this index.
    FederatedBundle(usize),
    KeyStore,
    TrustStore,
}

impl Material {
    fn write(&self, kind: Kind, out: &mut dyn Write) -> io::Result<()> {
        let leaf = || std::iter::once(self.svid.leaf());
        let intermediates = || self.svid.intermediates().map(|authority| authority.der);
        let key = || std::iter::once((Label::PrivateKey, self.svid.key().der()));
        match kind {
            Kind::Leaf => pem::write(leaf().map(certificate), out),
            Kind::Chain => pem::write(leaf().chain(intermediates()).map(certificate), out),
            Kind::Key => pem::write(key(), out),
            Kind::KeyAndChain => pem::write(key().chain(leaf().chain(intermediates()).map(certificate)), out),
            Kind::OwnBundle => pem::write(self.own().map(certificate), out),
            Kind::TrustedBundle => pem::write(self.own().chain(self.merged()).map(certificate), out),
            Kind::TrustedBundleWithIntermediates => {
                let all = self.own().chain(intermediates()).chain(self.merged());
                pem::write(all.map(certificate), out)
            }
            Kind::FederatedBundle(index) => {
                let bundle = self.federated.get(index).into_iter();
                pem::write(bundle.flat_map(|(_, bundle)| valid(bundle, self.valid_at)).map(certificate), out)
            }
            Kind::KeyStore => {
                let chain: Vec<_> = leaf().chain(intermediates()).collect();
                pkcs12::key_store(self.svid.key().der(), &chain, &self.password, out)
            }
            Kind::TrustStore => pkcs12::trust_store(self.own().chain(self.merged()), &self.password, out),
        }
    }

    fn own(&self) -> impl Iterator<Item = &[u8]> + Clone {
        valid(self.svid.bundle(), self.valid_at)
    }

    /// The federated CAs that are trusted as the own are.
    fn merged(&self) -> impl Iterator<Item = &[u8]> + Clone {
        let merged = self.federated.iter().filter(|_| self.merges_federated);
        merged.flat_map(|(_, bundle)| valid(bundle, self.valid_at))
    }
}

/// The CA certificates of a bundle, DER; those that are valid at a time, if there is one.
fn valid(bundle: &X509Bundle, at: Option<SystemTime>) -> impl Iterator<Item = &[u8]> + Clone {
    let is_valid = move |authority: &Authority<'_>| at.is_none_or(|time| authority.not_after >= time);
    bundle.authorities().filter(is_valid).map(|authority| authority.der)
}

fn certificate(der: &[u8]) -> (Label, &[u8]) {
    (Label::Certificate, der)
}

/// Files that are made of one material.
struct Files<'a> {
    layout: &'a X509Layout,
    material: Rc<Material>,
    all: Vec<File>,
}

impl Files<'_> {
    fn add(&mut self, name: FileName, mode: FileMode, kind: Kind) {
        let material = self.material.clone();
        let contents = Contents::new(move |out| material.write(kind, out));
        self.all.push(File { name, mode, contents });
    }

    fn add_pem_files(&mut self, pem: &PemLayout) {
        let (certificate, bundle) = if pem.intermediates_in_bundle {
            (Kind::Leaf, Kind::TrustedBundleWithIntermediates)
        } else {
            (Kind::Chain, Kind::TrustedBundle)
        };
        self.add(pem.certificate.clone(), self.layout.certificate_mode, certificate);
        self.add(pem.key.clone(), self.layout.key_mode, Kind::Key);
        self.add(pem.bundle.clone(), self.layout.certificate_mode, bundle);
        if pem.federated_files {
            self.add_federated(FEDERATED_SUFFIX);
        }
    }

    fn add_credential_folder(&mut self, own: &TrustDomain) -> Result<(), LayoutError> {
        self.add(CREDENTIAL_BUNDLE.parse()?, self.layout.key_mode, Kind::KeyAndChain);
        let name = names::of_trust_domain(own, TRUST_BUNDLE_SUFFIX)?;
        self.add(name, self.layout.certificate_mode, Kind::OwnBundle);
        self.add_federated(TRUST_BUNDLE_SUFFIX);
        Ok(())
    }

    fn add_federated(&mut self, suffix: &str) {
        let names = self.material.federated.iter();
        let names: Vec<_> = names.map(|(other, _)| names::of_trust_domain(other, suffix)).collect();
        for (index, name) in names.into_iter().enumerate() {
            match name {
                Ok(name) => self.add(name, self.layout.certificate_mode, Kind::FederatedBundle(index)),
                Err(error) => log::warn!("{error}; its bundle is left out"),
            }
        }
    }
}

/// Why an SVID cannot be written to its files.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum LayoutError {
    #[error(transparent)]
    TrustDomainName(#[from] TrustDomainNameError),
    #[error(transparent)]
    FileName(#[from] FileNameError),
    #[error("all certificates of the bundle of {0} have expired, and --omit-expired leaves none")]
    ExpiredBundle(TrustDomain),
}
