//! X.509 trust bundles: the CA certificates of one trust domain.

use std::time::SystemTime;

use thiserror::Error;

use super::certificate::{Certificate, CertificateFlaw};
use super::spiffe_id::{InvalidTrustDomain, TrustDomain};

/// More CAs than any trust domain has; beyond it, a bundle is an accident.
pub const MAX_BUNDLE: usize = 4096;

/// The CA certificates of a trust domain, one or more.
pub struct X509Bundle {
    authorities: Vec<Authority>,
}

/// A CA certificate: one of a bundle, or an intermediate of a chain.
#[derive(Debug, Clone)]
pub struct Authority {
    /// The certificate.
    pub der: Vec<u8>,
    /// The last moment of its validity.
    pub not_after: SystemTime,
}

impl From<Certificate> for Authority {
    fn from(certificate: Certificate) -> Self {
        let not_after = certificate.fields().validity().not_after.to_system_time();
        Self { der: certificate.into_der(), not_after }
    }
}

impl X509Bundle {
    /// Checks a bundle: concatenated DER certificates, at least one, and nothing else.
    pub fn parse(der: &[u8]) -> Result<Self, CertificateFlaw> {
        let authorities = Certificate::parse_concatenated(der, MAX_BUNDLE)?;
        Ok(Self { authorities: authorities.into_iter().map(Authority::from).collect() })
    }

    /// The certificates.
    pub fn authorities(&self) -> &[Authority] {
        &self.authorities
    }

    /// Checks the key and the value of one federated bundle.
    pub fn parse_federated(key: &str, der: &[u8]) -> Result<(TrustDomain, Self), BundleFlaw> {
        let trust_domain = TrustDomain::from_id(key)?;
        Ok((trust_domain, Self::parse(der)?))
    }
}

/// What is wrong with a federated bundle.
#[allow(missing_docs, reason = "the messages say what the variants mean")]
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BundleFlaw {
    #[error("{0}")]
    TrustDomain(#[from] InvalidTrustDomain),
    #[error("{0}")]
    Certificates(#[from] CertificateFlaw),
}
