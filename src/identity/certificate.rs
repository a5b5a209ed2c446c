//! X.509 certificates in the form the Workload API has them: DER, one behind the other.

use der::asn1::Ia5String;
use der::{Decode, Reader, SliceReader};
use thiserror::Error;
use x509_cert::certificate::{CertificateInner, Raw};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{BasicConstraints, KeyUsage, SubjectAltName};

/// One certificate, parsed, beside the very bytes it was parsed from.
pub struct Certificate {
    der: Vec<u8>,
    // `Raw`: a CA's odd serial number is no business of ours.
    parsed: CertificateInner<Raw>,
}

impl Certificate {
    /// Parses concatenated DER, with nothing before, between or after the certificates: at least
    /// one, and no more than `limit`.
    pub fn parse_concatenated(der: &[u8], limit: usize) -> Result<Vec<Self>, CertificateFlaw> {
        let mut certificates = Vec::new();
        let mut rest = der;
        while !rest.is_empty() {
            if certificates.len() == limit {
                return Err(CertificateFlaw::TooMany { limit });
            }
            let (certificate, after) = Self::parse_first(rest)
                .map_err(|cause| CertificateFlaw::NotDer { index: certificates.len(), cause })?;
            certificates.push(certificate);
            rest = after;
        }
        match certificates.len() {
            0 => Err(CertificateFlaw::None),
            _ => Ok(certificates),
        }
    }

    fn parse_first(der: &[u8]) -> Result<(Self, &[u8]), der::Error> {
        let own = SliceReader::new(der)?.tlv_bytes()?;
        let parsed = CertificateInner::from_der(own)?;
        Ok((Self { der: own.to_vec(), parsed }, &der[own.len()..]))
    }

    /// The bytes as they came.
    pub fn into_der(self) -> Vec<u8> {
        self.der
    }

    /// The parsed fields.
    pub fn fields(&self) -> &x509_cert::certificate::TbsCertificateInner<Raw> {
        self.parsed.tbs_certificate()
    }

    /// Whether basicConstraints has cA set (X.509-SVID standard, section 4.1).
    pub fn is_ca(&self) -> Result<bool, CertificateFlaw> {
        let constraints = self.fields().get_extension::<BasicConstraints>();
        let constraints = constraints.map_err(|_| CertificateFlaw::Extension("basicConstraints"))?;
        Ok(constraints.is_some_and(|(_, constraints)| constraints.ca))
    }

    /// The keyUsage extension, if there is one (section 4.3).
    pub fn key_usage(&self) -> Result<Option<KeyUsage>, CertificateFlaw> {
        let usage = self.fields().get_extension::<KeyUsage>();
        let usage = usage.map_err(|_| CertificateFlaw::Extension("keyUsage"))?;
        Ok(usage.map(|(_, usage)| usage))
    }

    /// All URIs among the subject alternative names (section 2).
    pub fn uri_sans(&self) -> Result<Vec<Ia5String>, CertificateFlaw> {
        let names = self.fields().get_extension::<SubjectAltName>();
        let names = names.map_err(|_| CertificateFlaw::Extension("subjectAltName"))?;
        let names = names.map(|(_, names)| names.0).unwrap_or_default();
        Ok(names
            .into_iter()
            .filter_map(|name| match name {
                GeneralName::UniformResourceIdentifier(uri) => Some(uri),
                _ => None,
            })
            .collect())
    }
}

/// What is wrong with the encoding of certificates.
#[allow(missing_docs, reason = "the messages say what the variants mean")]
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CertificateFlaw {
    #[error("it holds no certificate")]
    None,
    #[error("it holds more than {limit} certificates")]
    TooMany { limit: usize },
    #[error("certificate {index} is not a DER certificate: {cause}")]
    NotDer { index: usize, cause: der::Error },
    #[error("the {0} extension is there twice or cannot be read")]
    Extension(&'static str),
}
