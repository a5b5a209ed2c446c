//! The limits of a response: far above what a real agent sends, and small enough for the memory of a
//! small container.

/// SVIDs of one response.
pub const MAX_SVIDS: usize = 1024;

/// Federated trust domains whose bundles are written.
pub(crate) const MAX_TRUST_DOMAINS: usize = 4096;

/// Bytes of federated trust bundles that are kept for the case that a later one is unusable. They are in memory beside
/// the next response.
pub(crate) const MAX_KEPT_BUNDLES: usize = 1024 * 1024;

/// Certificate revocation lists that are kept.
pub(crate) const MAX_REVOCATION_LISTS: usize = 1024;

/// Bytes of one certificate.
pub(crate) const MAX_CERTIFICATE: usize = 256 * 1024;

/// Certificates of one chain, the leaf included.
pub const MAX_CHAIN: usize = 32;

/// Bytes of one token.
pub(crate) const MAX_TOKEN: usize = 64 * 1024;

/// Bytes of one private key. An RSA key of 16,384 bits has 9,300.
pub(crate) const MAX_KEY: usize = 16 * 1024;

/// Members of one object in a JWKS document. A key has a dozen.
pub(crate) const MAX_MEMBERS: usize = 1024;

/// CAs of one trust bundle, and keys of one JWKS document.
pub const MAX_BUNDLE: usize = 4096;
