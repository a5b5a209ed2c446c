//! Why a keystore cannot be written or read.

use thiserror::Error;

/// Why a keystore cannot be written or read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum Pkcs12Error {
    #[error("there is no certificate to put into the keystore")]
    NoCertificate,
    #[error("it is not the DER of PKCS#12: {0}")]
    Der(#[from] der::Error),
    #[error("it is longer than {limit} bytes")]
    Size { limit: usize },
    #[error("its MAC does not use SHA-256")]
    Mac,
    #[error("its encryption is not PBES2 with PBKDF2, HMAC-SHA-256 and AES-256-CBC")]
    Encryption,
    #[error("its key derivation has {iterations} iterations (1 to {limit} are accepted)")]
    Iterations { iterations: u32, limit: u32 },
    #[error("the password is wrong, or the file is damaged")]
    Password,
    #[error("it holds something other than X.509 certificates and one encrypted key")]
    Content,
}
