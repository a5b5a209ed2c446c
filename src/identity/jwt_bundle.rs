//! JWT and WIT trust bundles: the keys of a trust domain, as a JWKS document.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::rc::Rc;

use thiserror::Error;

use super::json_digest;
use super::jwks::{self, JwksError, check_jwks};
use super::raw::{RawJwtBundles, shortened};
use super::spiffe_id::{TrustDomain, TrustDomainError};
use super::token::Profile;

/// The JWKS documents of one response, good and bad, by trust domain.
pub(crate) struct JwtBundles(Vec<Entry>);

/// The document of one trust domain, or why it is refused.
type Entry = Result<(TrustDomain, Document), FederatedJwtBundleError>;

/// A JWKS document, as it came. Shared: all together are large.
pub(crate) type Document = Rc<Vec<u8>>;

impl JwtBundles {
    /// Checks that a response has its mandatory field (SPIFFE Workload API standard, sections 6.2.2 and
    /// 7.2.2), and each of its documents on its own: a bad one does not hold up the others.
    pub(crate) fn parse(raw: RawJwtBundles, profile: Profile) -> Result<Self, JwtBundlesError> {
        if raw.is_empty() {
            return Err(JwtBundlesError::None);
        }
        let bundles = raw.into_iter().map(|(key, document)| match check_bundle(&key, &document, profile) {
            Ok(trust_domain) => Ok((trust_domain, Rc::new(document))),
            Err(cause) => Err(FederatedJwtBundleError { key: shortened(&key), cause }),
        });
        Ok(Self(bundles.collect()))
    }

    /// The document of one trust domain, as it came.
    pub(crate) fn of(&self, trust_domain: &TrustDomain) -> Result<&Document, JwtBundlesError> {
        if let Some((_, document)) = self.good().find(|(name, _)| *name == trust_domain) {
            return Ok(document);
        }
        let id = trust_domain.id();
        let error = self.bad().find(|error| error.key == id);
        Err(error.map_or_else(|| JwtBundlesError::Missing(trust_domain.clone()), |e| e.clone().into()))
    }

    /// Whether a trust domain's document has a key with this `kid`; never if [`Self::of`] gives none.
    pub(crate) fn has_key(&self, trust_domain: &TrustDomain, kid: &str) -> bool {
        self.of(trust_domain).is_ok_and(|document| jwks::has_key(document, kid))
    }

    /// A digest of all documents, in which the order of their keys does not count; `own` is our own trust domain.
    pub(crate) fn digest(&self, own: &TrustDomain) -> u64 {
        let document =
            |(name, document): (&TrustDomain, &Document)| (name.clone(), json_digest::digest(document));
        BuildHasherDefault::<DefaultHasher>::default()
            .hash_one((own, self.good().map(document).collect::<Vec<_>>()))
    }

    /// All good documents.
    pub(crate) fn good(&self) -> impl Iterator<Item = (&TrustDomain, &Document)> + Clone {
        self.0.iter().filter_map(|entry| entry.as_ref().ok().map(|(name, document)| (name, document)))
    }

    /// Why the others are refused.
    pub(crate) fn bad(&self) -> impl Iterator<Item = &FederatedJwtBundleError> {
        self.0.iter().filter_map(|entry| entry.as_ref().err())
    }
}

fn check_bundle(key: &str, document: &[u8], profile: Profile) -> Result<TrustDomain, JwtBundleError> {
    let trust_domain = TrustDomain::from_id(key)?;
    check_jwks(document, profile)?;
    Ok(trust_domain)
}

/// Why a response with JWT bundles is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum JwtBundlesError {
    #[error("bundles: the mandatory field is empty")]
    None,
    #[error("bundles: no bundle of {0}, our own trust domain")]
    Missing(TrustDomain),
    #[error(transparent)]
    Bad(#[from] FederatedJwtBundleError),
}

/// Why the document of one trust domain is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("bundles[{key:?}]: {cause}")]
pub(crate) struct FederatedJwtBundleError {
    /// Its key in the response, which should be the SPIFFE ID of a trust domain; cut if it is long.
    pub(crate) key: String,
    /// What is wrong with it.
    pub(crate) cause: JwtBundleError,
}

/// Why a JWT bundle is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum JwtBundleError {
    #[error(transparent)]
    TrustDomain(#[from] TrustDomainError),
    #[error(transparent)]
    Document(#[from] JwksError),
}
