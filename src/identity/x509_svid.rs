//! X.509-SVIDs, checked by the X.509-SVID standard, sections 2 to 5.

use der::Encode;
use thiserror::Error;

use super::bundle::{Authority, X509Bundle};
use super::certificate::{Certificate, CertificateFlaw};
use super::offered::OfferedX509Svid;
use super::private_key::{KeyFlaw, PrivateKey};
use super::selection::Candidate;
use super::spiffe_id::{InvalidSpiffeId, SpiffeId};
use super::term::Term;

/// Longer than any real chain; beyond it, it is an accident.
pub const MAX_CHAIN: usize = 32;

/// An X.509-SVID with its key and the bundle of its trust domain: valid but for its dates.
pub struct X509Svid {
    term: Term,
    hint: String,
    leaf: Vec<u8>,
    intermediates: Vec<Authority>,
    key: PrivateKey,
    bundle: X509Bundle,
}

impl X509Svid {
    /// Identity and dates of the leaf.
    pub fn term(&self) -> &Term {
        &self.term
    }

    /// The certificate that proves the identity, DER.
    pub fn leaf(&self) -> &[u8] {
        &self.leaf
    }

    /// What stands between the leaf and the bundle, nearest to the leaf first.
    pub fn intermediates(&self) -> &[Authority] {
        &self.intermediates
    }

    /// The leaf's private key.
    pub fn key(&self) -> &PrivateKey {
        &self.key
    }

    /// The bundle of its trust domain.
    pub fn bundle(&self) -> &X509Bundle {
        &self.bundle
    }

    /// Checks one offered SVID.
    pub fn parse(offered: OfferedX509Svid) -> Result<Self, SvidFlaw> {
        for (field, empty) in [
            (SPIFFE_ID, offered.spiffe_id.is_empty()),
            (CHAIN, offered.chain.is_empty()),
            (KEY, offered.key.is_empty()),
            (BUNDLE, offered.bundle.is_empty()),
        ] {
            if empty {
                return Err(SvidFlaw { field, flaw: Flaw::Empty });
            }
        }
        let id = parse_id(&offered.spiffe_id).map_err(in_field(SPIFFE_ID))?;
        let chain = Certificate::parse_concatenated(&offered.chain, MAX_CHAIN)
            .map_err(Flaw::Certificate)
            .map_err(in_field(CHAIN))?;
        check_chain(&id, &chain).map_err(in_field(CHAIN))?;
        let leaf = chain[0].fields();
        let validity = leaf.validity();
        let term = Term {
            id,
            serial: Some(hexadecimal(leaf.serial_number().as_bytes())),
            not_before: validity.not_before.to_system_time(),
            not_after: validity.not_after.to_system_time(),
        };
        let public = leaf.subject_public_key_info().to_der();
        let public = public.map_err(|_| Flaw::Key(KeyFlaw::UnknownType)).map_err(in_field(CHAIN))?;
        let key = PrivateKey::parse(offered.key, &public).map_err(Flaw::Key).map_err(in_field(KEY))?;
        let bundle =
            X509Bundle::parse(&offered.bundle).map_err(Flaw::Certificate).map_err(in_field(BUNDLE))?;
        let mut chain = chain.into_iter();
        let leaf = chain.next().map(Certificate::into_der).unwrap_or_default();
        let intermediates = chain.map(Authority::from).collect();
        Ok(Self { term, hint: offered.hint, leaf, intermediates, key, bundle })
    }
}

impl Candidate for X509Svid {
    fn id(&self) -> &SpiffeId {
        &self.term.id
    }

    fn hint(&self) -> &str {
        &self.hint
    }
}

/// The URI of a chain's leaf, or nothing when there is none or it cannot be read: for material whose
/// ID nobody tells.
pub fn uri_of_leaf(chain: &[u8]) -> Option<String> {
    let chain = Certificate::parse_concatenated(chain, MAX_CHAIN).ok()?;
    chain.first()?.uri_sans().ok()?.first().map(|uri| uri.as_str().to_owned())
}

const SPIFFE_ID: &str = "spiffe_id";
const CHAIN: &str = "x509_svid";
/// The field of the private key.
pub const KEY: &str = "x509_svid_key";
/// The field of the trust bundle.
pub const BUNDLE: &str = "bundle";

fn in_field(field: &'static str) -> impl FnOnce(Flaw) -> SvidFlaw {
    move |flaw| SvidFlaw { field, flaw }
}

/// A serial number as people compare it: without the sign byte of its DER.
fn hexadecimal(serial: &[u8]) -> String {
    let digits = serial.strip_prefix(&[0]).filter(|rest| !rest.is_empty()).unwrap_or(serial);
    digits.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The ID of a workload, not of a trust domain (section 3.1).
fn parse_id(text: &str) -> Result<SpiffeId, Flaw> {
    let id: SpiffeId = text.parse().map_err(Flaw::Id)?;
    match id.path() {
        "" => Err(Flaw::NoPath),
        _ => Ok(id),
    }
}

/// What the certificates must say of themselves. Signatures are not verified: the agent, not the
/// network, is where they come from.
fn check_chain(id: &SpiffeId, chain: &[Certificate]) -> Result<(), Flaw> {
    let (leaf, intermediates) = chain.split_first().ok_or(Flaw::Certificate(CertificateFlaw::None))?;
    check_leaf(id, leaf)?;
    for (position, certificate) in intermediates.iter().enumerate() {
        let signs =
            certificate.key_usage().map_err(Flaw::Certificate)?.is_some_and(|usage| usage.key_cert_sign());
        if !signs || !certificate.is_ca().map_err(Flaw::Certificate)? {
            return Err(Flaw::NotAnAuthority { index: position + 1 });
        }
    }
    Ok(())
}

fn check_leaf(id: &SpiffeId, leaf: &Certificate) -> Result<(), Flaw> {
    match leaf.uri_sans().map_err(Flaw::Certificate)?.as_slice() {
        [uri] if uri.as_str() == id.as_str() => {}
        [uri] => return Err(Flaw::OtherUri(uri.as_str().to_owned())),
        uris => return Err(Flaw::UriCount(uris.len())),
    }
    if leaf.is_ca().map_err(Flaw::Certificate)? {
        return Err(Flaw::LeafIsCa);
    }
    let usage = leaf.key_usage().map_err(Flaw::Certificate)?.ok_or(Flaw::KeyUsage("is missing"))?;
    match () {
        () if !usage.digital_signature() => Err(Flaw::KeyUsage("lacks digitalSignature")),
        () if usage.key_cert_sign() => Err(Flaw::KeyUsage("has keyCertSign")),
        () if usage.crl_sign() => Err(Flaw::KeyUsage("has cRLSign")),
        () => Ok(()),
    }
}

/// Which field of an offered SVID is not good, and why.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{field}: {flaw}")]
pub struct SvidFlaw {
    /// The field's name in the message.
    pub field: &'static str,
    /// What is wrong with it.
    pub flaw: Flaw,
}

/// What is wrong with a field.
#[allow(missing_docs, reason = "the messages say what the variants mean")]
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Flaw {
    #[error("the mandatory field is empty")]
    Empty,
    #[error("not a SPIFFE ID: {0}")]
    Id(InvalidSpiffeId),
    #[error("a workload's SPIFFE ID has a path")]
    NoPath,
    #[error("{0}")]
    Certificate(CertificateFlaw),
    #[error("the leaf has {0} URIs among its names, and must have exactly one")]
    UriCount(usize),
    #[error("the leaf's URI {0:?} is not the SVID's SPIFFE ID")]
    OtherUri(String),
    #[error("the leaf is a CA certificate (cA is true)")]
    LeafIsCa,
    #[error("the leaf's keyUsage {0}")]
    KeyUsage(&'static str),
    #[error("certificate {index} is no CA with keyCertSign, and only the leaf may be none")]
    NotAnAuthority { index: usize },
    #[error("{0}")]
    Key(KeyFlaw),
}
