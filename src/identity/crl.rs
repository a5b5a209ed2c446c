//! Certificate revocation lists.

use der::Decode;
use x509_cert::certificate::Raw;
use x509_cert::crl::CertificateList;

/// Checks that `der` is one certificate revocation list and nothing else (RFC 5280, section 5).
pub fn check(der: &[u8]) -> Result<(), der::Error> {
    CertificateList::<Raw>::from_der(der).map(|_| ())
}
