//! Why published files are not good.

use thiserror::Error;

use crate::identity::certificate::CertificateError;
use crate::identity::jwks::JwksError;
use crate::identity::jwt_svid::JwtSvidError;
use crate::identity::token::TokenError;
use crate::identity::wit_svid::JwkError;
use crate::identity::x509_svid::FieldError;
use crate::layout::TrustDomainNameError;
use crate::layout::bundle_map::BundleMapError;
use crate::layout::pem::PemError;
use crate::layout::pkcs12::Pkcs12Error;
use crate::store::StoreError;

/// Adds the name of the file.
pub(super) fn in_file<E: Into<ContentError>>(name: &str) -> impl FnOnce(E) -> DecodeError {
    move |cause| DecodeError::File { name: name.to_owned(), cause: cause.into() }
}

/// What is wrong with a published file.
#[derive(Debug, Clone, Error)]
pub(crate) enum DecodeError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{name}: {cause}")]
    File { name: String, cause: ContentError },
    #[error("{} and {} hold different certificates", .names[0], .names[1])]
    Different { names: [String; 2] },
}

impl DecodeError {
    /// Whether a name does not lead into the published set.
    pub(crate) fn leads_elsewhere(&self) -> bool {
        matches!(self, Self::Store(StoreError::NotOfTheSet { .. }))
    }
}

/// Why the contents of a file are not good.
#[derive(Debug, Clone, Error)]
pub(crate) enum ContentError {
    #[error("no file of the layout holds an SVID")]
    NoSvid,
    #[error("it does not hold one private key and nothing else")]
    NotOneKey,
    #[error("it does not begin with a private key")]
    NoKeyFirst,
    #[error("its first certificate has no SPIFFE ID")]
    NoSpiffeId,
    #[error("it does not hold certificates and nothing else")]
    NotCertificatesAlone,
    #[error("it does not hold certificate revocation lists and nothing else")]
    NotRevocationListsAlone,
    #[error("{0}")]
    RevocationList(String),
    #[error("it is not text")]
    NotText,
    #[error(transparent)]
    Pem(#[from] PemError),
    #[error(transparent)]
    Pkcs12(#[from] Pkcs12Error),
    #[error(transparent)]
    BundleMap(#[from] BundleMapError),
    #[error(transparent)]
    X509Svid(#[from] FieldError),
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    #[error(transparent)]
    JwtSvid(#[from] JwtSvidError),
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error(transparent)]
    Jwk(#[from] JwkError),
    #[error(transparent)]
    Jwks(#[from] JwksError),
    #[error(transparent)]
    TrustDomainName(#[from] TrustDomainNameError),
}
