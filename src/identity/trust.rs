//! Whether a chain leads to a CA of its trust bundle, and for how long: by names and dates. No signature is
//! verified: a writer of the files could write good signatures too.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use x509_cert::ext::pkix::AuthorityKeyIdentifier;

use super::certificate::Certificate;
use super::dates::{Dates, Validity};
use super::distinguished_name::{Comparable, Sameness, text_of};
use super::raw::{Field, shortened};
use super::spiffe_id::{SpiffeId, TrustDomain};
use crate::words::{Flaw, flaw};

/// The ways from a leaf to the CAs of its own trust domain. There is at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trust {
    /// One for each certificate of the chain, the leaf first. Shared: a hostile agent's are large.
    steps: Rc<[Step]>,
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
    /// When one of the authorities at least is valid: in order, and without overlap.
    spans: Vec<Dates>,
}

impl Step {
    fn new(dates: Dates, intermediates: Vec<usize>, authorities: Vec<(usize, Dates)>) -> Self {
        let valid = authorities.iter().map(|(_, dates)| *dates);
        let mut spans: Vec<_> = valid.filter(|dates| dates.not_before <= dates.not_after).collect();
        spans.sort_unstable_by_key(|span| span.not_before);
        spans.dedup_by(|next, last| {
            let overlaps = next.not_before <= last.not_after;
            if overlaps {
                last.not_after = last.not_after.max(next.not_after);
            }
            overlaps
        });
        Self { dates, intermediates, authorities, spans }
    }

    fn has_authority(&self, at: SystemTime) -> bool {
        let begun = self.spans.partition_point(|span| span.not_before <= at);
        self.spans[..begun].last().is_some_and(|span| at <= span.not_after)
    }
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
        bundle: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Self, (Field, Flaw)> {
        let of = |field| move |flaw| (field, flaw);
        let chain = parse(chain).map_err(of(Field::Chain))?;
        let bundle = parse(bundle).map_err(of(Field::Bundle))?;
        let authorities: Vec<_> =
            bundle.iter().enumerate().filter(|(_, ca)| is_ca_of(own, &ca.certificate)).collect();
        for least in [Sameness::Same, Sameness::Unknown] {
            let steps = chain.iter().map(|named| {
                let others = chain.iter().enumerate().skip(1);
                let others = others.filter(|(_, other)| !std::ptr::eq(*other, named));
                let intermediates = issuers(&named.certificate, others, least).map(|(index, _)| index);
                let authorities = issuers(&named.certificate, authorities.iter().copied(), least)
                    .map(|(index, ca)| (index, ca.certificate.dates()));
                Step::new(named.certificate.dates(), intermediates.collect(), authorities.collect())
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
        if self.is_good(now) {
            return Ok(());
        }
        let is_valid = |dates: Dates| dates.validity(now) == Validity::Valid;
        // What stands in the way: an intermediate, if every way has one, or else the CAs.
        let authorities = self.reached(is_valid).flat_map(|step| &step.authorities);
        let authorities = authorities.map(|(index, dates)| (Field::Bundle, *index, *dates));
        let intermediates = self.steps.iter().enumerate().skip(1);
        let intermediates = intermediates.map(|(index, step)| (Field::Chain, index, step.dates));
        let is_blocking = |(.., dates): &(Field, usize, Dates)| !is_valid(*dates);
        let end = |(.., dates): &(Field, usize, Dates)| dates.not_after;
        let found = authorities.filter(is_blocking).max_by_key(end);
        let found = found.or_else(|| intermediates.filter(is_blocking).max_by_key(end));
        let flaw = |(field, index, dates): (Field, usize, Dates)| {
            Some((field, flaw!("certificate {index} {}", dates.fault(now)?)))
        };
        found.and_then(flaw).map_or(Ok(()), Err)
    }

    /// Whether [`check`](Self::check) succeeds, at little cost: bundles have thousands of CAs.
    fn is_good(&self, at: SystemTime) -> bool {
        self.reached(|dates| dates.validity(at) == Validity::Valid).any(|step| step.has_authority(at))
    }

    /// The last moment up to which [`check`](Self::check) goes on to succeed; `now` if it fails now.
    pub(crate) fn good_until(&self, now: SystemTime) -> SystemTime {
        if !self.is_good(now) {
            return now;
        }
        let fails_after = |end: &SystemTime| !self.is_good(*end + Duration::from_nanos(1));
        let ends: BTreeSet<_> = self.spans().map(|span| span.not_after).filter(|end| *end >= now).collect();
        ends.into_iter().find(fails_after).unwrap_or(now)
    }

    /// Each moment at which [`check`](Self::check) may begin to succeed, or succeeds for the last time.
    pub(crate) fn changes(&self) -> impl Iterator<Item = SystemTime> {
        self.spans().flat_map(|span| [span.not_before, span.not_after])
    }

    /// The validities of which the ways are made.
    fn spans(&self) -> impl Iterator<Item = Dates> {
        let intermediates = self.steps.iter().skip(1).map(|step| step.dates);
        intermediates.chain(self.steps.iter().flat_map(|step| &step.spans).copied())
    }

    /// The next moment, not before this one, at which [`check`](Self::check) succeeds, if there is one.
    pub(crate) fn good_from(&self, time: SystemTime) -> Option<SystemTime> {
        let begins = self.spans().map(|span| span.not_before).filter(|begin| *begin > time);
        let moments: BTreeSet<_> = begins.chain([time]).collect();
        moments.into_iter().find(|moment| self.is_good(*moment))
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

/// A certificate, and the name of its subject for comparisons with issuers.
struct Named {
    certificate: Certificate,
    subject: Comparable,
}

fn parse<'a>(ders: impl Iterator<Item = &'a [u8]>) -> Result<Vec<Named>, Flaw> {
    let parse = |(index, der)| {
        let certificate = Certificate::parse(der, index)?;
        let subject = Comparable::of(certificate.fields().subject());
        Ok(Named { certificate, subject })
    };
    ders.enumerate().map(parse).collect()
}

fn is_ca_of(own: &TrustDomain, certificate: &Certificate) -> bool {
    let is_readable = certificate.check_extensions().is_ok();
    is_readable && certificate.is_ca().unwrap_or(false) && other_trust_domain(own, certificate).is_none()
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
    candidates: impl Iterator<Item = (usize, &'a Named)>,
    least: Sameness,
) -> impl Iterator<Item = (usize, &'a Named)> {
    let issuer = Comparable::of(certificate.fields().issuer());
    let mut named: Vec<_> =
        candidates.filter(|(_, candidate)| issuer.compare(&candidate.subject) >= least).collect();
    let key = certificate.extension::<AuthorityKeyIdentifier>().ok().flatten();
    let key = key.and_then(|identifier| identifier.key_identifier);
    let has_key =
        |(_, named): &(usize, &Named)| named.certificate.key_id().is_some_and(|own| Some(own.0) == key);
    if key.is_some() && named.iter().any(has_key) {
        named.retain(has_key);
    }
    named.into_iter()
}

/// Why no way leads to the bundle.
fn no_issuer(chain: &[Named], bundle: &[Named], own: &TrustDomain) -> Flaw {
    for (index, Named { certificate, .. }) in bundle.iter().enumerate() {
        if let Err(flaw) = certificate.check_extensions() {
            return flaw!("certificate {index} is unusable ({flaw}), and no other one has issued the SVID");
        }
        if !certificate.is_ca().unwrap_or(false) {
            return flaw!("certificate {index} is not a CA, and no other one has issued the SVID");
        }
        if let Some(other) = other_trust_domain(own, certificate) {
            return flaw!(
                "certificate {index} is of the trust domain {other}, not of {own}, and no other one has issued the SVID"
            );
        }
    }
    let issuer = chain.last().map(|last| text_of(last.certificate.fields().issuer())).unwrap_or_default();
    flaw!("holds no CA that has issued the SVID (its issuer is {:?})", shortened(&issuer))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::limits::{MAX_BUNDLE, MAX_CHAIN};
    use crate::time::clock::thread_time;

    #[test]
    fn a_ca_with_an_unreadable_extension_has_issued_no_svid() {
        let own = TrustDomain::from_id("spiffe://example.org").unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let ca = |extensions: &[rcgen::CustomExtension]| {
            let mut params = rcgen::CertificateParams::default();
            params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            params.custom_extensions = extensions.to_vec();
            params.self_signed(&key).unwrap().der().to_vec()
        };
        let good = ca(&[]);
        let bad = ca(&[rcgen::CustomExtension::from_oid_content(&[2, 5, 29, 35], vec![5, 0])]);
        let find =
            |bundle: &[&[u8]]| Trust::find(&own, [good.as_slice()].into_iter(), bundle.iter().copied());
        assert!(find(&[&bad, &good]).is_ok());
        let (_, flaw) = find(&[&bad]).unwrap_err();
        assert_eq!(
            flaw.to_string(),
            "certificate 0 is unusable (the authorityKeyIdentifier extension is duplicated or unreadable), \
             and no other one has issued the SVID"
        );
    }

    fn at(second: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(second)
    }

    fn dates(begin: u64, end: u64) -> Dates {
        Dates { not_before: at(begin), not_after: at(end) }
    }

    fn trust(steps: impl IntoIterator<Item = Step>) -> Trust {
        Trust { steps: steps.into_iter().collect(), is_guess: false }
    }

    /// A leaf and its intermediates, all issued by each other and by these CAs.
    fn largest_chain(intermediate: Dates, authorities: &[(usize, Dates)]) -> Trust {
        let others = |index| (1..MAX_CHAIN).filter(|other| *other != index).collect();
        trust((0..MAX_CHAIN).map(|index| Step::new(intermediate, others(index), authorities.to_vec())))
    }

    #[test]
    fn the_dates_of_thousands_of_cas_are_looked_through_at_once() {
        let start = thread_time();
        let all = 1..MAX_BUNDLE as u64;
        let end_first: Vec<_> =
            all.clone().map(|number| (0, dates(100_000 + number, 50_000 + number))).collect();
        let backwards = largest_chain(dates(0, 200_000), &end_first);
        assert!(backwards.check(at(1)).is_err());
        assert_eq!((backwards.good_from(at(1)), backwards.good_until(at(1))), (None, at(1)));
        // One valid after the other, with gaps or none. The intermediates, which the first of them issued, have expired.
        for gap in [0, 1] {
            let one_by_one: Vec<_> =
                all.clone().map(|number| (0, dates(10 * number, 10 * (number + 1) - gap))).collect();
            let last = at(10 * (MAX_BUNDLE as u64));
            let chain = largest_chain(dates(0, 1_000_000), &one_by_one);
            assert_eq!(chain.good_from(at(1)), Some(at(10)));
            assert_eq!(chain.good_until(at(10)), if gap == 0 { last } else { at(19) });
            let mut expired = largest_chain(dates(0, 1), &one_by_one).steps.to_vec();
            expired[0].spans = vec![dates(50_000, 50_001)];
            assert_eq!(trust(expired).good_from(at(2)), Some(at(50_000)));
        }
        assert!(thread_time() - start < Duration::from_secs(5));
    }

    /// Whether all certificates of some way are valid, tried way by way.
    fn has_way(trust: &Trust, index: usize, seen: &[usize], now: SystemTime) -> bool {
        let is_valid = |dates: Dates| dates.validity(now) == Validity::Valid;
        let step = &trust.steps[index];
        step.authorities.iter().any(|(_, dates)| is_valid(*dates))
            || step.intermediates.iter().filter(|next| !seen.contains(next)).any(|next| {
                is_valid(trust.steps[*next].dates) && has_way(trust, *next, &[seen, &[*next]].concat(), now)
            })
    }

    #[test]
    fn trust_begins_and_ends_when_the_check_of_its_ways_says_so() {
        let mut state = 1_u64;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let half_seconds = || (0..=56).map(|half| at(0) + half * Duration::from_millis(500));
        for _ in 0..500 {
            let mut dates = || {
                let begin = random(20);
                dates(begin, (begin + random(8)).saturating_sub(1))
            };
            let mut steps: Vec<_> = (0..4).map(|_| (dates(), [dates(), dates()])).collect();
            let steps = steps.drain(..).enumerate().map(|(index, (dates, authorities))| {
                let intermediates = (1..4).filter(|other| *other != index && random(2) == 0).collect();
                let authorities = authorities.into_iter().enumerate().take(random(3) as usize);
                Step::new(dates, intermediates, authorities.collect())
            });
            let trust = trust(steps.collect::<Vec<_>>());
            for now in half_seconds() {
                let is_good = |at: &SystemTime| has_way(&trust, 0, &[0], *at);
                assert_eq!(trust.is_good(now), is_good(&now), "{trust:?} {now:?}");
                let later = || half_seconds().filter(|at| *at >= now);
                assert_eq!(trust.good_from(now), later().find(is_good), "{trust:?} {now:?}");
                let end = later().take_while(is_good).last().unwrap_or(now);
                assert_eq!(trust.good_until(now), end, "{trust:?} {now:?}");
            }
        }
    }
}
