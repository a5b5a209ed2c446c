//! X.509-SVIDs, checked by the X.509-SVID standard, sections 2 to 5.

use std::fmt;
use std::time::{Duration, SystemTime};

use der::Encode;

use super::bundle::X509Bundle;
use super::certificate::{Certificate, CertificateFlaw};
use super::offered::OfferedX509Svid;
use super::private_key::{KeyFlaw, PrivateKey};
use super::spiffe_id::{InvalidSpiffeId, SpiffeId};

/// Longer than any real chain; beyond it, it is an accident.
pub const MAX_CHAIN: usize = 32;

/// An X.509-SVID with its key and the bundle of its trust domain: valid but for its dates.
pub struct X509Svid {
    id: SpiffeId,
    hint: String,
    chain: Vec<Vec<u8>>,
    key: PrivateKey,
    bundle: X509Bundle,
    serial: String,
    not_before: SystemTime,
    not_after: SystemTime,
}

impl X509Svid {
    /// The identity it proves; it has a path.
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// What the operator means it for; empty without a hint.
    pub fn hint(&self) -> &str {
        &self.hint
    }

    /// The certificates, DER, leaf first.
    pub fn chain(&self) -> &[Vec<u8>] {
        &self.chain
    }

    pub fn key(&self) -> &PrivateKey {
        &self.key
    }

    pub fn bundle(&self) -> &X509Bundle {
        &self.bundle
    }

    /// The leaf's serial number in lowercase hexadecimal.
    pub fn serial(&self) -> &str {
        &self.serial
    }

    /// The last moment of the leaf's validity.
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    pub fn is_expired(&self, now: SystemTime) -> bool {
        now > self.not_after
    }

    /// When two thirds of its life are over. An agent renews at half.
    pub fn overdue_at(&self) -> SystemTime {
        let life = self.not_after.duration_since(self.not_before).unwrap_or(Duration::ZERO);
        self.not_before + life * 2 / 3
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
        let (not_before, not_after) =
            (validity.not_before.to_system_time(), validity.not_after.to_system_time());
        let serial = leaf.serial_number().as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        let public = leaf.subject_public_key_info().to_der();
        let public = public.map_err(|_| Flaw::Key(KeyFlaw::UnknownType)).map_err(in_field(CHAIN))?;
        let key = PrivateKey::parse(offered.key, &public).map_err(Flaw::Key).map_err(in_field(KEY))?;
        let bundle =
            X509Bundle::parse(&offered.bundle).map_err(Flaw::Certificate).map_err(in_field(BUNDLE))?;
        Ok(Self {
            id,
            hint: offered.hint,
            chain: chain.into_iter().map(Certificate::into_der).collect(),
            key,
            bundle,
            serial,
            not_before,
            not_after,
        })
    }
}

const SPIFFE_ID: &str = "spiffe_id";
const CHAIN: &str = "x509_svid";
const KEY: &str = "x509_svid_key";
const BUNDLE: &str = "bundle";

fn in_field(field: &'static str) -> impl FnOnce(Flaw) -> SvidFlaw {
    move |flaw| SvidFlaw { field, flaw }
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SvidFlaw {
    pub field: &'static str,
    pub flaw: Flaw,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Flaw {
    Empty,
    Id(InvalidSpiffeId),
    NoPath,
    Certificate(CertificateFlaw),
    UriCount(usize),
    OtherUri(String),
    LeafIsCa,
    KeyUsage(&'static str),
    NotAnAuthority { index: usize },
    Key(KeyFlaw),
}

impl std::error::Error for SvidFlaw {}

impl fmt::Display for SvidFlaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.flaw)
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the mandatory field is empty"),
            Self::Id(cause) => write!(f, "not a SPIFFE ID: {cause}"),
            Self::NoPath => f.write_str("a workload's SPIFFE ID has a path"),
            Self::Certificate(cause) => cause.fmt(f),
            Self::UriCount(0) => f.write_str("the leaf has no URI among its names, and must have one"),
            Self::UriCount(count) => {
                write!(f, "the leaf has {count} URIs among its names, and must have exactly one")
            }
            Self::OtherUri(uri) => write!(f, "the leaf's URI {uri:?} is not the SVID's SPIFFE ID"),
            Self::LeafIsCa => f.write_str("the leaf is a CA certificate (cA is true)"),
            Self::KeyUsage(what) => write!(f, "the leaf's keyUsage {what}"),
            Self::NotAnAuthority { index } => {
                write!(f, "certificate {index} is no CA with keyCertSign, and only the leaf may be none")
            }
            Self::Key(cause) => cause.fmt(f),
        }
    }
}
