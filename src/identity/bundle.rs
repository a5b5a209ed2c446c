//! X.509 trust bundles: the CA certificates of one trust domain.

use thiserror::Error;

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
#[allow(missing_docs, reason = "the messages say what the variants mean")]
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BundleFlaw {
    #[error("its key is no trust domain: {0}")]
    TrustDomain(InvalidSpiffeId),
    #[error("its key is a workload's SPIFFE ID, not a trust domain's")]
    Path,
    #[error("{0}")]
    Certificates(CertificateFlaw),
}
