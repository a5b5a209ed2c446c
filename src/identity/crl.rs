//! Certificate revocation lists. A list is kept until its issuer's next one: a missing or bad list must not
//! un-revoke a certificate.

use std::rc::Rc;
use std::time::SystemTime;

use der::Decode;
use der::asn1::OctetString;
use x509_cert::certificate::Raw;
use x509_cert::crl::{CertificateList, TbsCertList};
use x509_cert::ext::pkix::{AuthorityKeyIdentifier, CrlNumber};

use super::certificate::{Certificate, extension, hexadecimal, unreadable};
use super::digest;
use super::distinguished_name::{Comparable, Sameness, text_of};
use super::raw::shortened;
use crate::words::{Flaw, flaw};

/// One list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RevocationList {
    pub(crate) der: Vec<u8>,
    issuer: Comparable,
    /// Of the issuer's key: CAs of a trust domain may share a name.
    key: Option<OctetString>,
    this_update: SystemTime,
    next_update: Option<SystemTime>,
}

impl RevocationList {
    /// Checks that this is a list. No signature is verified: it comes from the agent.
    pub(crate) fn parse(der: Vec<u8>) -> Result<Self, Flaw> {
        let list = list_of(&der)?;
        // In a list that breaks the rules for it, the name alone says whose it is.
        let key = extension::<AuthorityKeyIdentifier>(list.crl_extensions.as_ref()).ok().flatten();
        Ok(Self {
            der,
            issuer: Comparable::of(&list.issuer),
            key: key.and_then(|key| key.key_identifier),
            this_update: list.this_update.to_system_time(),
            next_update: list.next_update.map(|time| time.to_system_time()),
        })
    }

    fn has_issuer_of(&self, other: &Self) -> bool {
        self.key == other.key && self.issuer.compare(&other.issuer) == Sameness::Same
    }

    /// Whether this CA may have issued it: by its name and, where both have one, by the identifier of its key.
    fn may_be_of(&self, ca: &[u8]) -> bool {
        let Ok(ca) = Certificate::parse(ca, 0) else { return false };
        let has_key = self.key.as_ref().zip(ca.key_id()).is_none_or(|(own, key)| *own == key.0);
        has_key && self.issuer.compare(&Comparable::of(ca.fields().subject())) != Sameness::Different
    }
}

/// The fields of a list.
fn list_of(der: &[u8]) -> Result<TbsCertList<Raw>, Flaw> {
    // `Raw` accepts serial numbers that RFC 5280 does not allow.
    let list = CertificateList::from_der(der).map_err(|cause: der::Error| {
        flaw!("not a DER certificate revocation list: {}", shortened(&cause.to_string()))
    })?;
    Ok(list.tbs_cert_list)
}

/// A list, for a person.
pub(crate) struct CrlDetails {
    /// Its issuer's name, as RFC 4514 writes it.
    pub(crate) issuer: String,
    /// Its number in lowercase hexadecimal, if it has one.
    pub(crate) number: Result<Option<String>, Flaw>,
    pub(crate) this_update: SystemTime,
    pub(crate) next_update: Option<SystemTime>,
    /// How many certificates it revokes.
    pub(crate) revoked: usize,
}

impl CrlDetails {
    /// Reads a list of any age.
    pub(crate) fn read(der: &[u8]) -> Result<Self, Flaw> {
        let list = list_of(der)?;
        let number = extension::<CrlNumber>(list.crl_extensions.as_ref()).map_err(unreadable("cRLNumber"));
        Ok(Self {
            issuer: shortened(&text_of(&list.issuer)),
            number: number.map(|number| number.map(|number| hexadecimal(number.0.as_bytes()))),
            this_update: list.this_update.to_system_time(),
            next_update: list.next_update.map(|time| time.to_system_time()),
            revoked: list.revoked_certificates.unwrap_or_default().len(),
        })
    }
}

/// The newest lists of each issuer, in an order that depends on them alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RevocationLists(Vec<Rc<RevocationList>>);

impl RevocationLists {
    /// Checks each list on its own. Gives the good ones, and what is wrong with the others.
    pub(crate) fn parse(ders: Vec<Vec<u8>>) -> (Self, Vec<String>) {
        let (mut good, mut flaws) = (Vec::new(), Vec::new());
        for (index, der) in ders.into_iter().enumerate() {
            match RevocationList::parse(der) {
                Ok(list) => good.push(Rc::new(list)),
                Err(error) => flaws.push(format!("left out crl[{index}]: {error}")),
            }
        }
        (Self::sorted(good), flaws)
    }

    fn sorted(mut lists: Vec<Rc<RevocationList>>) -> Self {
        lists.sort_unstable_by(|one, other| one.der.cmp(&other.der));
        lists.dedup();
        Self(lists)
    }

    /// These lists, and the `earlier` ones of issuers that have no list as new among these, as long as their CA
    /// is there. All lists of one issuer are replaced together: it may have split them.
    pub(crate) fn with<'a>(
        self,
        earlier: &Self,
        authorities: impl Iterator<Item = &'a [u8]> + Clone,
    ) -> Self {
        let newest = |lists: &Self, issuer: &RevocationList| {
            let lists = lists.0.iter().filter(|list| list.has_issuer_of(issuer));
            lists.map(|list| list.this_update).max()
        };
        let is_newest = |list: &&Rc<RevocationList>| newest(&self, list) < newest(earlier, list);
        let kept: Vec<_> = earlier.0.iter().filter(is_newest).cloned().collect();
        let is_newer = |list: &&Rc<RevocationList>| kept.iter().all(|newer| !newer.has_issuer_of(list));
        let new = self.0.iter().filter(is_newer).cloned();
        let is_wanted =
            |list: &&Rc<RevocationList>| authorities.clone().any(|authority| list.may_be_of(authority));
        Self::sorted(new.chain(kept.iter().filter(is_wanted).cloned()).collect())
    }

    /// The lists.
    pub(crate) fn ders(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(|list| list.der.as_slice())
    }

    /// A digest of all, if there are any.
    pub(crate) fn digest(&self) -> Option<u64> {
        (!self.is_empty()).then(|| digest::of(self.ders().collect::<Vec<_>>()))
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// When the first of them is due to be replaced, if one says so.
    pub(crate) fn earliest_next_update(&self) -> Option<SystemTime> {
        self.0.iter().filter_map(|list| list.next_update).min()
    }
}
