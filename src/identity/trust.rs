//! Whether a chain leads to a CA of its trust bundle, and for how long: by names and dates. No signature is
//! verified: a writer of the files could write good signatures too.

use std::time::{Duration, SystemTime};

use x509_cert::ext::pkix::AuthorityKeyIdentifier;

use super::bundle::X509Bundle;
use super::certificate::{Certificate, split};
use super::dates::{Dates, Validity};
use super::distinguished_name::{Sameness, compare, text_of};
use super::limits::{MAX_BUNDLE, MAX_CHAIN};
use super::raw::{Field, shortened};
use super::spiffe_id::{SpiffeId, TrustDomain};
use crate::words::{Flaw, flaw};

/// The ways from a leaf to the CAs of its own trust domain. There is at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trust {
    /// One for each certificate of the chain, the leaf first.
    steps: Vec<Step>,
    /// Whether a name on the ways has an encoding that cannot be compared, and they are a guess.
    pub(crate) is_guess: bool,
}

/// A certificate of the chain, and the certificates that may have issued it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Step {
    dates: Dates,
    /// In the chain, by index.
    intermediates: Vec<usize>,
    /// In the bundle, by index.
    authorities: Vec<(usize, Dates)>,
}

impl Trust {
    /// Walks from the leaf by issuer names (RFC 5280, section 6.1) to CAs of the bundle. Of several CAs with
    /// the name, key identifiers choose, where they can. A CA whose URI names another trust domain is none of
    /// the own ones: a file may hold federated bundles too.
    ///
    /// # Errors
    ///
    /// The field that is wrong, and why: no CA of the bundle has the name that is wanted.
    pub(super) fn find<'a>(
        own: &TrustDomain,
        chain: impl Iterator<Item = &'a [u8]>,
        bundle: &X509Bundle,
    ) -> Result<Self, (Field, Flaw)> {
        let of = |field| move |flaw| (field, flaw);
        let chain = parse(chain).map_err(of(Field::Chain))?;
        let bundle = parse(bundle.authorities().map(|ca| ca.der)).map_err(of(Field::Bundle))?;
        let authorities: Vec<_> = bundle.iter().enumerate().filter(|(_, ca)| is_ca_of(own, ca)).collect();
        for least in [Sameness::Same, Sameness::Unknown] {
            let steps = chain.iter().map(|certificate| {
                let others = chain.iter().enumerate().skip(1);
                let others = others.filter(|(_, other)| !std::ptr::eq(*other, certificate));
                Step {
                    dates: certificate.dates(),
                    intermediates: issuers(certificate, others, least).map(|(index, _)| index).collect(),
                    authorities: issuers(certificate, authorities.iter().copied(), least)
                        .map(|(index, ca)| (index, ca.dates()))
                        .collect(),
                }
            });
            let trust = Self { steps: steps.collect(), is_guess: least == Sameness::Unknown };
            if trust.reached(|_| true).any(|step| !step.authorities.is_empty()) {
                return Ok(trust);
            }
        }
        Err((Field::Bundle, no_issuer(&chain, &bundle, own)))
    }

    /// Checks that all certificates of some way are valid, the leaf aside, whose dates are its SVID's.
    ///
    /// # Errors
    ///
    /// The field whose certificates are not valid, and the one that was valid last.
    pub(crate) fn check(&self, now: SystemTime) -> Result<(), (Field, Flaw)> {
        let is_valid = |dates: Dates| dates.validity(now) == Validity::Valid;
        if self.reached(is_valid).any(|step| step.authorities.iter().any(|(_, dates)| is_valid(*dates))) {
            return Ok(());
        }
        // What stands in the way: an intermediate, if every way has one, or else the CAs.
        let authorities = self.reached(is_valid).flat_map(|step| &step.authorities);
        let authorities = authorities.map(|(index, dates)| (Field::Bundle, *index, *dates));
        let intermediates = self.steps.iter().enumerate().skip(1);
        let intermediates = intermediates.map(|(index, step)| (Field::Chain, index, step.dates));
        let blocking = |(field, index, dates): (Field, usize, Dates)| {
            dates.fault(now).map(|fault| (dates.not_after, field, flaw!("certificate {index} {fault}")))
        };
        let found = authorities.filter_map(blocking).max_by_key(|(end, ..)| *end);
        let found = found.or_else(|| intermediates.filter_map(blocking).max_by_key(|(end, ..)| *end));
        found.map_or(Ok(()), |(_, field, flaw)| Err((field, flaw)))
    }

    /// The last moment up to which [`check`](Self::check) goes on to succeed; `now` if it fails now.
    pub(crate) fn good_until(&self, now: SystemTime) -> SystemTime {
        if self.check(now).is_err() {
            return now;
        }
        let fails_after = |end: &SystemTime| self.check(*end + Duration::from_nanos(1)).is_err();
        let mut later: Vec<_> = self.changes().filter(|change| *change > now).collect();
        later.sort_unstable();
        later.into_iter().find(fails_after).unwrap_or(now)
    }

    /// Each moment at which the result of [`check`](Self::check) may change.
    pub(crate) fn changes(&self) -> impl Iterator<Item = SystemTime> {
        let authorities = self.steps.iter().flat_map(|step| &step.authorities).map(|(_, dates)| *dates);
        let all = self.steps.iter().skip(1).map(|step| step.dates).chain(authorities);
        all.flat_map(|dates| [dates.not_before, dates.not_after])
    }

    /// The next moment, not before this one, at which [`check`](Self::check) succeeds, if there is one.
    pub(crate) fn good_from(&self, time: SystemTime) -> Option<SystemTime> {
        let moments = self.changes().filter(|change| *change > time).chain([time]);
        moments.filter(|moment| self.check(*moment).is_ok()).min()
    }

    /// The leaf, and the intermediates that can be reached from it over those that are `passable`.
    fn reached(&self, passable: impl Fn(Dates) -> bool) -> impl Iterator<Item = &Step> {
        let mut reached = vec![false; self.steps.len()];
        let mut next = vec![0];
        while let Some(index) = next.pop() {
            let is_new = reached.get_mut(index).is_some_and(|reached| !std::mem::replace(reached, true));
            let Some(step) = self.steps.get(index).filter(|_| is_new) else { continue };
            let passable = |index: &&usize| self.steps.get(**index).is_some_and(|step| passable(step.dates));
            next.extend(step.intermediates.iter().filter(passable));
        }
        self.steps.iter().zip(reached).filter_map(|(step, reached)| reached.then_some(step))
    }
}

fn parse<'a>(ders: impl Iterator<Item = &'a [u8]>) -> Result<Vec<Certificate>, Flaw> {
    ders.enumerate().map(|(index, der)| Certificate::parse(der, index)).collect()
}

fn is_ca_of(own: &TrustDomain, certificate: &Certificate) -> bool {
    certificate.is_ca().unwrap_or(false) && other_trust_domain(own, certificate).is_none()
}

/// Another trust domain that a certificate names. A CA of a company may have URIs of its own, which name none.
fn other_trust_domain(own: &TrustDomain, certificate: &Certificate) -> Option<TrustDomain> {
    let uris = certificate.uri_sans().unwrap_or_default().into_iter();
    let ids = uris.filter_map(|uri| uri.parse::<SpiffeId>().ok());
    ids.map(|id| id.trust_domain()).find(|trust_domain| trust_domain != own)
}

/// Those whose subject is the certificate's issuer. If the key identifiers of some are the one that the
/// certificate names, these alone: CAs of a trust domain may share a name.
fn issuers<'a>(
    certificate: &Certificate,
    candidates: impl Iterator<Item = (usize, &'a Certificate)>,
    least: Sameness,
) -> impl Iterator<Item = (usize, &'a Certificate)> {
    let issuer = certificate.fields().issuer();
    let mut named: Vec<_> =
        candidates.filter(|(_, candidate)| compare(issuer, candidate.fields().subject()) >= least).collect();
    let key = certificate.extension::<AuthorityKeyIdentifier>().ok().flatten();
    let key = key.and_then(|identifier| identifier.key_identifier);
    let has_key =
        |(_, candidate): &(usize, &Certificate)| candidate.key_id().is_some_and(|own| Some(own.0) == key);
    if key.is_some() && named.iter().any(has_key) {
        named.retain(has_key);
    }
    named.into_iter()
}

/// Takes the intermediates out of a bundle to which the chain's were added: the certificates that another one
/// in the bundle has issued. DER, concatenated.
pub(crate) fn split_off_intermediates(bundle: &mut Vec<u8>) -> Result<Vec<u8>, Flaw> {
    let ders: Vec<_> =
        split(bundle, MAX_BUNDLE + MAX_CHAIN)?.into_iter().map(|range| &bundle[range]).collect();
    let all = parse(ders.iter().copied())?;
    let is_intermediate = |certificate: &Certificate| {
        let others = all.iter().enumerate().filter(|(_, other)| !std::ptr::eq(*other, certificate));
        let issuer = certificate.fields().issuer();
        compare(issuer, certificate.fields().subject()) != Sameness::Same
            && issuers(certificate, others, Sameness::Same).next().is_some()
    };
    let (intermediates, authorities): (Vec<_>, Vec<_>) =
        ders.iter().zip(&all).partition(|(_, certificate)| is_intermediate(certificate));
    let concatenated = |part: Vec<(&&[u8], _)>| part.into_iter().flat_map(|(der, _)| der.to_vec()).collect();
    let intermediates = concatenated(intermediates);
    *bundle = concatenated(authorities);
    Ok(intermediates)
}

/// Why no way leads to the bundle.
fn no_issuer(chain: &[Certificate], bundle: &[Certificate], own: &TrustDomain) -> Flaw {
    for (index, certificate) in bundle.iter().enumerate() {
        if !certificate.is_ca().unwrap_or(false) {
            return flaw!("certificate {index} is not a CA, and no other one has issued the SVID");
        }
        if let Some(other) = other_trust_domain(own, certificate) {
            return flaw!(
                "certificate {index} is of the trust domain {other}, not of {own}, and no other one has issued the SVID"
            );
        }
    }
    let issuer = chain.last().map(|last| text_of(last.fields().issuer())).unwrap_or_default();
    flaw!("holds no CA that has issued the SVID (its issuer is {:?})", shortened(&issuer))
}
