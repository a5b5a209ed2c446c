//! What an agent offers, before anything in it is checked: the plain parts of its responses.

use zeroize::Zeroizing;

/// One `X509SVIDResponse`.
pub struct OfferedX509Context {
    /// In the agent's order; the first is the default identity.
    pub svids: Vec<OfferedX509Svid>,
    /// Certificate revocation lists, each DER.
    pub crls: Vec<Vec<u8>>,
    /// Trust domain (as a SPIFFE ID) and bundle (concatenated DER) of each foreign trust domain.
    pub federated_bundles: Vec<(String, Vec<u8>)>,
}

/// One SVID of an `X509SVIDResponse`.
pub struct OfferedX509Svid {
    /// The identity, as text.
    pub spiffe_id: String,
    /// What the operator means the identity for; may be empty.
    pub hint: String,
    /// Concatenated DER, leaf first.
    pub chain: Vec<u8>,
    /// PKCS#8 DER.
    pub key: Zeroizing<Vec<u8>>,
    /// Concatenated DER.
    pub bundle: Vec<u8>,
}

/// One SVID of a `JWTSVIDResponse`.
pub struct OfferedJwtSvid {
    /// The identity, as text.
    pub spiffe_id: String,
    /// What the operator means the identity for; may be empty.
    pub hint: String,
    /// JWS compact serialization.
    pub token: Zeroizing<String>,
}

/// A `JWTBundlesResponse`: trust domain (as a SPIFFE ID) and JWKS document of each.
pub type OfferedJwtBundles = Vec<(String, Vec<u8>)>;
