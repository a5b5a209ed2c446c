//! X.509 trust bundles: the CA certificates of one trust domain.

use std::fmt;

use super::certificate::{Certificate, CertificateFlaw};
use super::spiffe_id::{InvalidSpiffeId, SpiffeId};

/// More CAs than any trust domain has; beyond it, a bundle is an accident.
pub const MAX_BUNDLE: usize = 4096;

/// The CA certificates of a trust domain, one or more.
pub struct X509Bundle {
    authorities: Vec<Vec<u8>>,
}

impl X509Bundle {
    /// Checks a bundle: concatenated DER certificates, at least one, and nothing else.
    pub fn parse(der: &[u8]) -> Result<Self, CertificateFlaw> {
        let authorities = Certificate::parse_concatenated(der, MAX_BUNDLE)?;
        Ok(Self { authorities: authorities.into_iter().map(Certificate::into_der).collect() })
    }

    /// The certificates, DER.
    pub fn authorities(&self) -> &[Vec<u8>] {
        &self.authorities
    }

    /// Checks the key and the value of one federated bundle.
    pub fn parse_federated(trust_domain: &str, der: &[u8]) -> Result<Self, BundleFlaw> {
        let id: SpiffeId = trust_domain.parse().map_err(BundleFlaw::TrustDomain)?;
        if !id.path().is_empty() {
            return Err(BundleFlaw::Path);
        }
        Self::parse(der).map_err(BundleFlaw::Certificates)
    }
}

/// What is wrong with a federated bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BundleFlaw {
    TrustDomain(InvalidSpiffeId),
    Path,
    Certificates(CertificateFlaw),
}

impl std::error::Error for BundleFlaw {}

impl fmt::Display for BundleFlaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TrustDomain(cause) => write!(f, "its key is no trust domain: {cause}"),
            Self::Path => f.write_str("its key is a workload's SPIFFE ID, not a trust domain's"),
            Self::Certificates(cause) => cause.fmt(f),
        }
    }
}
