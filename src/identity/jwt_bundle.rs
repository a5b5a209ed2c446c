//! JWT trust bundles: the keys of a trust domain, as a JWKS document.

use serde_json::Value;
use thiserror::Error;

use super::offered::OfferedJwtBundles;
use super::spiffe_id::{InvalidTrustDomain, TrustDomain};

/// The JWKS documents of one response, one for each trust domain, by name.
pub struct JwtBundles(Vec<(TrustDomain, Vec<u8>)>);

impl JwtBundles {
    /// Checks a response as a whole: there is a bundle, and each is a JWKS document.
    pub fn parse(offered: OfferedJwtBundles) -> Result<Self, RejectedJwtBundles> {
        if offered.is_empty() {
            return Err(RejectedJwtBundles::None);
        }
        let bundles = offered.into_iter().map(|(key, document)| {
            let flaw = |flaw| RejectedJwtBundles::Bundle { key: key.clone(), flaw };
            let trust_domain = TrustDomain::from_id(&key).map_err(|error| flaw(error.into()))?;
            check_jwks(&document).map_err(flaw)?;
            Ok((trust_domain, document))
        });
        let mut bundles = bundles.collect::<Result<Vec<_>, _>>()?;
        bundles.sort_by(|(one, _), (other, _)| one.cmp(other));
        Ok(Self(bundles))
    }

    /// The document of one trust domain, as it came.
    pub fn of(&self, trust_domain: &TrustDomain) -> Option<&[u8]> {
        self.0.iter().find(|(name, _)| name == trust_domain).map(|(_, document)| document.as_slice())
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = (&TrustDomain, &[u8])> {
        self.0.iter().map(|(trust_domain, document)| (trust_domain, document.as_slice()))
    }
}

/// Checks that a document is a JWK set: an object whose `keys` is a list of objects (RFC 7517,
/// section 5; SPIFFE Trust Domain and Bundle standard, section 4).
pub fn check_jwks(document: &[u8]) -> Result<(), JwtBundleFlaw> {
    let document: Value =
        serde_json::from_slice(document).map_err(|cause| JwtBundleFlaw::NotJson(cause.to_string()))?;
    let keys = document.get("keys").and_then(Value::as_array).ok_or(JwtBundleFlaw::NoKeys)?;
    match keys.iter().all(Value::is_object) {
        true => Ok(()),
        false => Err(JwtBundleFlaw::NoKeys),
    }
}

/// Which part of a response is not good, and why.
#[allow(missing_docs, reason = "the messages say what the variants mean")]
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RejectedJwtBundles {
    #[error("bundles: the mandatory field is empty")]
    None,
    #[error("bundles[{key:?}]: {flaw}")]
    Bundle { key: String, flaw: JwtBundleFlaw },
}

/// What is wrong with a JWT bundle.
#[allow(missing_docs, reason = "the messages say what the variants mean")]
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum JwtBundleFlaw {
    #[error("{0}")]
    TrustDomain(#[from] InvalidTrustDomain),
    #[error("it is not JSON: {0}")]
    NotJson(String),
    #[error("it has no list \"keys\" of JSON objects")]
    NoKeys,
}
