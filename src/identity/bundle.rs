//! X.509 trust bundles: the CA certificates of one trust domain.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::SystemTime;

use super::certificate::{Certificate, split};
use super::dates::Dates;
use super::digest;
use super::distinguished_name::text_of;
use super::limits::MAX_BUNDLE;
use super::raw::shortened;
use super::spiffe_id::TrustDomain;
use crate::words::Flaw;

/// The CA certificates of a trust domain, one or more.
pub(crate) struct X509Bundle(Authorities);

/// A CA certificate: one of a bundle, or an intermediate of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Authority<'a> {
    /// The certificate.
    pub(crate) der: &'a [u8],
    /// The last moment of its validity.
    pub(crate) not_after: SystemTime,
}

impl Authority<'_> {
    /// Whether it has not expired by then, if there is a time.
    pub(crate) fn is_valid_at(&self, time: Option<SystemTime>) -> bool {
        time.is_none_or(|time| self.not_after >= time)
    }

    /// Its subject's name, as RFC 4514 writes it, and its dates. (`None`: unreadable, which none of a bundle or a chain is.)
    pub(crate) fn details(&self) -> Option<(String, Dates)> {
        let certificate = Certificate::parse(self.der, 0).ok()?;
        Some((shortened(&text_of(certificate.fields().subject())), certificate.dates()))
    }
}

/// The public facts of a published bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BundleInfo {
    pub(crate) trust_domain: TrustDomain,
    /// The end of the validity of the CA certificate that expires first.
    pub(crate) earliest_expiry: SystemTime,
    /// A digest of each certificate, to find out which ones are new.
    pub(crate) authorities: BTreeSet<u64>,
}

impl BundleInfo {
    /// Of the CA certificates that are written.
    pub(crate) fn of<'a>(
        trust_domain: TrustDomain,
        written: impl Iterator<Item = Authority<'a>> + Clone,
    ) -> Self {
        let ends = written.clone().map(|authority| authority.not_after);
        // A bundle has one CA at least.
        let earliest_expiry = ends.min().unwrap_or(SystemTime::UNIX_EPOCH);
        let authorities = written.map(|authority| digest::of(authority.der)).collect();
        Self { trust_domain, earliest_expiry, authorities }
    }
}

/// CA certificates in the bytes they came in.
pub(super) struct Authorities {
    /// There may be other bytes too.
    pub(super) der: Vec<u8>,
    /// Of each, its place in `der` and the last moment of its validity.
    pub(super) entries: Vec<(Range<usize>, SystemTime)>,
}

impl Authorities {
    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = Authority<'_>> + Clone {
        let authority = |(range, not_after): &(Range<usize>, SystemTime)| Authority {
            der: &self.der[range.clone()],
            not_after: *not_after,
        };
        self.entries.iter().map(authority)
    }
}

impl X509Bundle {
    /// Checks an agent's bundle: concatenated DER certificates, at least one, and nothing else.
    pub(crate) fn parse(der: Vec<u8>) -> Result<Self, Flaw> {
        Self::of_at_most(MAX_BUNDLE, der)
    }

    /// The same of a bundle of at most so many certificates. A file may have several bundles.
    pub(super) fn of_at_most(limit: usize, der: Vec<u8>) -> Result<Self, Flaw> {
        let parse = |(index, range): (usize, Range<usize>)| {
            let certificate = Certificate::parse(&der[range.clone()], index)?;
            Ok((range, certificate.dates().not_after))
        };
        let entries = split(&der, limit)?.into_iter().enumerate().map(parse);
        let entries = entries.collect::<Result<_, _>>()?;
        Ok(Self(Authorities { der, entries }))
    }

    /// The certificates.
    pub(crate) fn authorities(&self) -> impl ExactSizeIterator<Item = Authority<'_>> + Clone {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate() -> Vec<u8> {
        let certificate = rcgen::generate_simple_self_signed(["example.org".to_owned()]).unwrap();
        certificate.cert.der().to_vec()
    }

    #[test]
    fn a_bundle_keeps_the_bytes_it_came_in() {
        let (one, other) = (certificate(), certificate());
        let der = [one.as_slice(), &other].concat();
        let place = der.as_ptr();
        let bundle = X509Bundle::parse(der).unwrap_or_else(|error| panic!("{error}"));
        let authorities: Vec<_> = bundle.authorities().map(|authority| authority.der).collect();
        assert_eq!(authorities, [one, other]);
        assert_eq!(authorities[0].as_ptr(), place);
    }

    #[test]
    fn a_bad_certificate_is_named_by_its_index() {
        let der = [certificate(), vec![0x30, 0]].concat();
        let error = X509Bundle::parse(der).err().map(|error| error.to_string());
        assert!(error.is_some_and(|error| error.starts_with("certificate 1 is not a DER certificate")));
    }
}
