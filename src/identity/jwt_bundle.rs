//! JWT and WIT trust bundles: the keys of a trust domain, as a JWKS document.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::jwks::{self, check_jwks};
use super::limits::MAX_TRUST_DOMAINS;
use super::raw::{RawJwtBundles, shortened};
use super::spiffe_id::TrustDomain;
use super::token::Profile;
use crate::words::{Flaw, flaw};

/// The JWKS documents of one response, good and bad, by the SPIFFE ID of their trust domain.
pub(crate) struct JwtBundles {
    sent: BTreeMap<String, Result<(TrustDomain, Document), Flaw>>,
    /// The last good ones in place of the bad ones.
    kept: BTreeMap<String, (TrustDomain, Document)>,
}

/// A JWKS document, as it came. Shared: all together are large.
pub(crate) type Document = Rc<Vec<u8>>;

impl JwtBundles {
    /// Checks that a response has its mandatory field (SPIFFE Workload API standard, sections 6.2.2 and
    /// 7.2.2), and each of its documents on its own: a bad one does not hold up the others.
    pub(crate) fn parse(raw: RawJwtBundles, profile: Profile) -> Result<Self, Flaw> {
        if raw.is_empty() {
            return Err(flaw!("bundles: the mandatory field is empty"));
        }
        // Our own trust domain, and the federated ones.
        let most = MAX_TRUST_DOMAINS + 1;
        if raw.len() > most {
            return Err(flaw!("bundles: there are {} (at most {most} are accepted)", raw.len()));
        }
        let check = |(key, document): (String, Vec<u8>)| {
            let checked = TrustDomain::from_id(&key).and_then(|name| {
                check_jwks(&document, profile)?;
                Ok((name, Rc::new(document)))
            });
            let checked = checked.map_err(|flaw| flaw.within(format_args!("bundles[{:?}]", shortened(&key))));
            (key, checked)
        };
        Ok(Self { sent: raw.into_iter().map(check).collect(), kept: BTreeMap::new() })
    }

    /// Keeps the last good document of each trust domain whose new one is bad.
    pub(crate) fn keep_good_of(&mut self, last: &Self) {
        let bad = self.sent.iter().filter(|(_, entry)| entry.is_err());
        let last_good = |key| last.sent.get(key).and_then(|entry| entry.as_ref().ok()).or(last.kept.get(key));
        let kept = bad.filter_map(|(key, _)| Some((key.clone(), last_good(key)?.clone())));
        self.kept = kept.collect();
    }

    /// The document of one trust domain, as it came.
    pub(crate) fn of(&self, trust_domain: &TrustDomain) -> Result<&Document, Flaw> {
        match self.sent.get(&trust_domain.id()) {
            Some(Ok((_, document))) => Ok(document),
            Some(Err(flaw)) => Err(flaw.clone()),
            None => Err(flaw!("bundles: no bundle of {trust_domain}, our own trust domain")),
        }
    }

    /// Whether a trust domain's document has a key with this `kid`; never if [`Self::of`] gives none.
    pub(crate) fn has_key(&self, trust_domain: &TrustDomain, kid: &str) -> bool {
        self.of(trust_domain).is_ok_and(|document| jwks::has_key(document, kid))
    }

    /// All good documents: those that came, and those that are kept.
    pub(crate) fn good(&self) -> impl Iterator<Item = (&TrustDomain, &Document)> + Clone {
        self.sent.values().flatten().chain(self.kept.values()).map(|(name, document)| (name, document))
    }

    /// Why the others are refused, and whether the last good one is kept.
    pub(crate) fn bad(&self) -> impl Iterator<Item = (&Flaw, bool)> {
        self.sent.iter().filter_map(|(key, entry)| Some((entry.as_ref().err()?, self.kept.contains_key(key))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_bundles_than_trust_domains_are_written_are_refused_unread() {
        let parse = |count| {
            let raw = (0..count).map(|number| (format!("spiffe://{number}.org"), br#"{"keys":[]}"#.to_vec()));
            JwtBundles::parse(raw.collect(), Profile::Jwt).map(|bundles| bundles.good().count())
        };
        assert_eq!(parse(4097), Ok(4097));
        assert_eq!(parse(4098), Err(flaw!("bundles: there are 4098 (at most 4097 are accepted)")));
    }
}
