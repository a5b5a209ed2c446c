//! Whether a chain and a trust bundle belong together, by names, key identifiers and dates. No
//! signature is verified: a writer of the files could write good signatures too.

use std::time::SystemTime;

use der::Encode;
use thiserror::Error;
use x509_cert::ext::pkix::{AuthorityKeyIdentifier, SubjectKeyIdentifier};

use super::certificate::{Certificate, CertificateError};
use super::spiffe_id::TrustDomain;
use super::x509_svid::{Field, X509Svid};
use crate::timestamp::rfc3339;

/// Checks that each certificate of the chain is issued by the next, and the last by a CA of the
/// bundle; that the bundle holds CAs of the SVID's trust domain (and of others, if `merged`); and
/// that none of them has expired. The leaf's own dates are those of [`X509Svid::info`].
///
/// # Errors
///
/// The field that is wrong, and why.
pub(crate) fn check_trust(svid: &X509Svid, merged: bool, now: SystemTime) -> Result<(), (Field, TrustError)> {
    let of = |field| move |cause| (field, cause);
    let intermediates = svid.intermediates().map(|intermediate| intermediate.der);
    let chain = parse(std::iter::once(svid.leaf()).chain(intermediates)).map_err(of(Field::Chain))?;
    let bundle = parse(svid.bundle().authorities().map(|ca| ca.der)).map_err(of(Field::Bundle))?;
    for (index, certificate) in chain.iter().enumerate().skip(1) {
        check_end(index, certificate, now).map_err(of(Field::Chain))?;
    }
    let own = (!merged).then(|| svid.info().id.trust_domain());
    for (index, ca) in bundle.iter().enumerate() {
        check_ca(index, ca, own.as_ref())
            .and_then(|()| check_end(index, ca, now))
            .map_err(of(Field::Bundle))?;
    }
    check_links(&chain, &bundle)
}

fn parse<'a>(ders: impl Iterator<Item = &'a [u8]>) -> Result<Vec<Certificate>, TrustError> {
    ders.enumerate().map(|(index, der)| Ok(Certificate::parse(der, index)?)).collect()
}

fn check_end(index: usize, certificate: &Certificate, now: SystemTime) -> Result<(), TrustError> {
    let end = certificate.not_after();
    if end < now { Err(TrustError::Expired { index, end }) } else { Ok(()) }
}

fn check_ca(index: usize, ca: &Certificate, own: Option<&TrustDomain>) -> Result<(), TrustError> {
    if !ca.is_ca()? {
        return Err(TrustError::NotCa { index });
    }
    let Some(own) = own else { return Ok(()) };
    match ca.uri_sans()?.iter().find(|uri| uri.as_str() != own.id()) {
        Some(uri) => {
            Err(TrustError::OtherTrustDomain { index, uri: uri.as_str().to_owned(), own: own.clone() })
        }
        None => Ok(()),
    }
}

fn check_links(chain: &[Certificate], bundle: &[Certificate]) -> Result<(), (Field, TrustError)> {
    for (index, pair) in chain.windows(2).enumerate() {
        if !is_issued_by(&pair[0], &pair[1]) {
            return Err((Field::Chain, TrustError::BrokenChain { index }));
        }
    }
    let is_rooted = |last: &Certificate| {
        bundle.iter().any(|ca| is_issued_by(last, ca) || ca.fields().to_der() == last.fields().to_der())
    };
    if chain.last().is_some_and(is_rooted) {
        return Ok(());
    }
    Err((Field::Bundle, TrustError::NoIssuer))
}

/// By name, and by key identifiers where both have one: CAs of one trust domain may share a name.
fn is_issued_by(certificate: &Certificate, issuer: &Certificate) -> bool {
    let authority_key = certificate.fields().get_extension::<AuthorityKeyIdentifier>().ok().flatten();
    let authority_key = authority_key.and_then(|(_, identifier)| identifier.key_identifier);
    let subject_key = issuer.fields().get_extension::<SubjectKeyIdentifier>().ok().flatten();
    let same_key = match (authority_key, subject_key) {
        (Some(authority), Some((_, subject))) => authority == subject.0,
        _ => true,
    };
    certificate.fields().issuer() == issuer.fields().subject() && same_key
}

/// Why chain and bundle do not belong together.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum TrustError {
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    #[error("certificate {index} expired at {}", rfc3339(*.end, 0))]
    Expired { index: usize, end: SystemTime },
    #[error("certificate {index} is not a CA")]
    NotCa { index: usize },
    #[error("certificate {index} is of {uri:?}, not of the trust domain {own}")]
    OtherTrustDomain { index: usize, uri: String, own: TrustDomain },
    #[error("certificate {index} is not issued by the next one")]
    BrokenChain { index: usize },
    #[error("holds no CA that has issued the SVID")]
    NoIssuer,
}
