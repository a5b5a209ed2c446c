//! JWT and WIT trust bundles: the keys of a trust domain, as a JWKS document.

use std::rc::Rc;

use super::jwks::{self, check_jwks};
use super::raw::{RawJwtBundles, shortened};
use super::spiffe_id::TrustDomain;
use super::token::Profile;
use crate::words::{Flaw, flaw};

/// The JWKS documents of one response, good and bad, by trust domain.
pub(crate) struct JwtBundles(Vec<Entry>);

/// The document of one trust domain; or its key, as it came, and why it is refused.
type Entry = Result<(TrustDomain, Document), (String, Flaw)>;

/// A JWKS document, as it came. Shared: all together are large.
pub(crate) type Document = Rc<Vec<u8>>;

impl JwtBundles {
    /// Checks that a response has its mandatory field (SPIFFE Workload API standard, sections 6.2.2 and
    /// 7.2.2), and each of its documents on its own: a bad one does not hold up the others.
    pub(crate) fn parse(raw: RawJwtBundles, profile: Profile) -> Result<Self, Flaw> {
        if raw.is_empty() {
            return Err(flaw!("bundles: the mandatory field is empty"));
        }
        let bundles = raw.into_iter().map(|(key, document)| match check_bundle(&key, &document, profile) {
            Ok(trust_domain) => Ok((trust_domain, Rc::new(document))),
            Err(flaw) => {
                let flaw = flaw.within(format_args!("bundles[{:?}]", shortened(&key)));
                Err((key, flaw))
            }
        });
        Ok(Self(bundles.collect()))
    }

    /// The document of one trust domain, as it came.
    pub(crate) fn of(&self, trust_domain: &TrustDomain) -> Result<&Document, Flaw> {
        if let Some((_, document)) = self.good().find(|(name, _)| *name == trust_domain) {
            return Ok(document);
        }
        let id = trust_domain.id();
        let refused = self.0.iter().filter_map(|entry| entry.as_ref().err()).find(|(key, _)| *key == id);
        let missing = || flaw!("bundles: no bundle of {trust_domain}, our own trust domain");
        Err(refused.map_or_else(missing, |(_, flaw)| flaw.clone()))
    }

    /// Whether a trust domain's document has a key with this `kid`; never if [`Self::of`] gives none.
    pub(crate) fn has_key(&self, trust_domain: &TrustDomain, kid: &str) -> bool {
        self.of(trust_domain).is_ok_and(|document| jwks::has_key(document, kid))
    }

    /// All good documents.
    pub(crate) fn good(&self) -> impl Iterator<Item = (&TrustDomain, &Document)> + Clone {
        self.0.iter().filter_map(|entry| entry.as_ref().ok().map(|(name, document)| (name, document)))
    }

    /// Why the others are refused.
    pub(crate) fn bad(&self) -> impl Iterator<Item = &Flaw> {
        self.0.iter().filter_map(|entry| entry.as_ref().err().map(|(_, flaw)| flaw))
    }
}

fn check_bundle(key: &str, document: &[u8], profile: Profile) -> Result<TrustDomain, Flaw> {
    let trust_domain = TrustDomain::from_id(key)?;
    check_jwks(document, profile)?;
    Ok(trust_domain)
}
