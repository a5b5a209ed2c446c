//! X.509-SVIDs, checked by the X.509-SVID standard, sections 2 to 5.

use std::time::SystemTime;

use der::Encode;

use super::bundle::{Authorities, Authority, X509Bundle};
use super::certificate::{Certificate, split};
use super::dates::Dates;
use super::limits::{MAX_BUNDLE, MAX_CHAIN};
use super::private_key::{self, KeyType, PrivateKey};
use super::raw::{Field, X509Fields, hexadecimal};
use super::spiffe_id::SpiffeId;
use super::svid_info::{Kind, SvidInfo};
use super::svids::{EMPTY, parse_id};
use super::trust::Trust;
use crate::words::{Flaw, flaw};

/// An X.509-SVID with its key and the bundle of its trust domain. All of it is checked but the
/// dates.
pub(crate) struct X509Svid {
    /// Identity and dates of the leaf.
    pub(crate) info: SvidInfo,
    /// The length of the leaf, which is the first certificate of the chain.
    leaf: usize,
    /// The bytes of the chain, and where its intermediates are.
    chain: Authorities,
    /// The leaf's private key.
    pub(crate) key: PrivateKey,
    /// The bundle of its trust domain.
    pub(crate) bundle: X509Bundle,
    /// How the chain leads to CAs of the bundle.
    pub(crate) trust: Trust,
}

/// A leaf certificate, for a person.
pub(crate) struct LeafDetails {
    /// The DNS names among its subject alternative names.
    pub(crate) dns_names: Vec<String>,
    /// In words.
    pub(crate) key_usage: Vec<&'static str>,
    /// In words, or numbers where there is none.
    pub(crate) extended_key_usage: Vec<String>,
}

impl X509Svid {
    /// The leaf certificate, DER.
    pub(crate) fn leaf(&self) -> &[u8] {
        &self.chain.der[..self.leaf]
    }

    /// What a person wants to know of the leaf, beside its identity and dates.
    pub(crate) fn leaf_details(&self) -> Result<LeafDetails, Flaw> {
        let leaf = Certificate::parse(self.leaf(), 0)?;
        Ok(LeafDetails {
            dns_names: leaf.dns_names()?,
            key_usage: leaf.key_usage_in_words()?,
            extended_key_usage: leaf.extended_key_usage_in_words()?,
        })
    }

    /// The rest of the chain, nearest to the leaf first.
    pub(crate) fn intermediates(&self) -> impl ExactSizeIterator<Item = Authority<'_>> + Clone {
        self.chain.iter()
    }

    /// How the leaf alone leads to CAs of a bundle that has the chain's intermediates too, each of which is trusted then.
    pub(crate) fn trust_in_one_bundle(&self) -> Result<Trust, (Field, Flaw)> {
        let authorities = self.bundle.authorities().chain(self.intermediates());
        let authorities = authorities.map(|authority| authority.der);
        Trust::find(&self.info.id.trust_domain(), [self.leaf()].into_iter(), authorities)
    }

    /// The key's type, if this helper does not know it: nothing but the algorithm shows that it is the leaf's.
    pub(crate) fn unchecked_key(&self) -> Option<KeyType> {
        Some(self.key.key_type()).filter(|key_type| matches!(key_type, KeyType::Unknown(_)))
    }

    /// Checks one offered SVID. Chain and bundle keep the bytes they came in.
    ///
    /// # Errors
    ///
    /// The field that is wrong, and what is wrong with it.
    pub(crate) fn parse(id: &str, raw: X509Fields) -> Result<Self, (Field, Flaw)> {
        Self::with_at_most(MAX_BUNDLE, id, raw)
    }

    /// The same of files, in which there may be more certificates in the bundle: intermediates, and those of federated
    /// trust domains.
    pub(crate) fn of_files(files: X509Fields) -> Result<Self, (Field, Flaw)> {
        let id = uri_of_leaf(&files.chain).map_err(in_field(Field::Chain))?;
        Self::with_at_most(usize::MAX, &id, files)
    }

    fn with_at_most(authorities: usize, id: &str, raw: X509Fields) -> Result<Self, (Field, Flaw)> {
        if let Some((field, _)) = mandatory_fields(id, &raw).into_iter().find(|(_, is_empty)| *is_empty) {
            return Err((field, Flaw::new(EMPTY)));
        }
        let id = parse_id(id).map_err(in_field(Field::SpiffeId))?;
        let mut ranges =
            split(&raw.chain, MAX_CHAIN).map_err(in_field(Field::Chain))?.into_iter().enumerate();
        let (_, leaf) =
            ranges.next().ok_or_else(|| flaw!("holds no certificate")).map_err(in_field(Field::Chain))?;
        let (info, public_key) = parse_leaf(id, &raw.chain[leaf.clone()]).map_err(in_field(Field::Chain))?;
        let entries = ranges.map(|(index, range)| {
            parse_intermediate(&raw.chain[range.clone()], index).map(|not_after| (range, not_after))
        });
        let entries = entries.collect::<Result<_, _>>().map_err(in_field(Field::Chain))?;
        let key = PrivateKey::parse(raw.key, &public_key).map_err(in_field(Field::Key))?;
        let bundle = X509Bundle::of_at_most(authorities, raw.bundle).map_err(in_field(Field::Bundle))?;
        let chain = Authorities { der: raw.chain, entries };
        let certificates = std::iter::once(&chain.der[leaf.clone()]);
        let certificates = certificates.chain(chain.iter().map(|intermediate| intermediate.der));
        let authorities = bundle.authorities().map(|authority| authority.der);
        let trust = Trust::find(&info.id.trust_domain(), certificates, authorities)?;
        Ok(Self { info, leaf: leaf.end, chain, key, bundle, trust })
    }
}

/// The fields that must not be empty, and whether they are (SPIFFE Workload API standard, section 5.2.1).
pub(super) fn mandatory_fields(id: &str, raw: &X509Fields) -> [(Field, bool); 4] {
    [
        (Field::SpiffeId, id.is_empty()),
        (Field::Chain, raw.chain.is_empty()),
        (Field::Key, raw.key.is_empty()),
        (Field::Bundle, raw.bundle.is_empty()),
    ]
}

/// The first URI of a chain's leaf, for a chain that comes without a SPIFFE ID.
pub(crate) fn uri_of_leaf(chain: &[u8]) -> Result<String, Flaw> {
    let leaf = split(chain, MAX_CHAIN)?.into_iter().next().unwrap_or_default();
    let uris = Certificate::parse(&chain[leaf], 0)?.uri_sans()?;
    uris.into_iter().next().ok_or_else(|| no_one_uri(0))
}

fn no_one_uri(number: usize) -> Flaw {
    flaw!("the leaf has {number} URI SANs (it must have exactly one)")
}

fn in_field(field: Field) -> impl Fn(Flaw) -> (Field, Flaw) {
    move |flaw| (field, flaw)
}

/// Identity and dates of a leaf, and its public key (a DER `SubjectPublicKeyInfo`). Its signature is
/// not verified, and neither is any other: the chain comes from the agent, not from the network.
fn parse_leaf(id: SpiffeId, der: &[u8]) -> Result<(SvidInfo, Vec<u8>), Flaw> {
    let leaf = Certificate::parse(der, 0)?;
    check_leaf(&id, &leaf)?;
    let Dates { not_before, not_after } = leaf.dates();
    let info = SvidInfo {
        id,
        kind: Kind::X509 { serial: hexadecimal(leaf.fields().serial_number().as_bytes()).into() },
        issued_at: not_before,
        not_before: Some(not_before),
        not_after,
    };
    let public_key = leaf.fields().subject_public_key_info().to_der();
    Ok((info, public_key.map_err(private_key::unreadable_public)?))
}

/// Checks one of the other certificates of a chain. Gives the last moment of its validity.
fn parse_intermediate(der: &[u8], index: usize) -> Result<SystemTime, Flaw> {
    let certificate = Certificate::parse(der, index)?;
    certificate.check_algorithm()?;
    certificate.check_extensions()?;
    let signs = certificate.key_usage()?.is_some_and(|usage| usage.key_cert_sign());
    if !signs || !certificate.is_ca()? {
        return Err(flaw!(
            "certificate {index} is not a CA with keyCertSign (every certificate after the leaf must be)"
        ));
    }
    Ok(certificate.dates().not_after)
}

/// Names and extensions (X.509-SVID standard, sections 2, 4.1 and 4.3).
fn check_leaf(id: &SpiffeId, leaf: &Certificate) -> Result<(), Flaw> {
    match leaf.uri_sans()?.as_slice() {
        [uri] if uri == id.as_str() => {}
        [uri] => return Err(flaw!("the leaf's URI SAN {uri:?} is not the SVID's SPIFFE ID")),
        uris => return Err(no_one_uri(uris.len())),
    }
    leaf.check_algorithm()?;
    leaf.check_extensions()?;
    if leaf.is_ca()? {
        return Err(flaw!("the leaf is a CA certificate (cA is true)"));
    }
    let usage = leaf.key_usage()?.ok_or_else(|| flaw!("the leaf's keyUsage is missing"))?;
    for (wrong, rule) in [
        (!usage.digital_signature(), "lacks digitalSignature"),
        (usage.key_cert_sign(), "has keyCertSign"),
        (usage.crl_sign(), "has cRLSign"),
    ] {
        if wrong {
            return Err(flaw!("the leaf's keyUsage {rule}"));
        }
    }
    Ok(())
}
