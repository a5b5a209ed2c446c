//! What an agent offers, before anything in it is checked: the plain parts of an
//! `X509SVIDResponse`.

use zeroize::Zeroizing;

/// One response.
pub struct OfferedX509Context {
    /// In the agent's order; the first is the default identity.
    pub svids: Vec<OfferedX509Svid>,
    /// Trust domain (as a SPIFFE ID) and bundle (concatenated DER) of each foreign trust domain.
    pub federated_bundles: Vec<(String, Vec<u8>)>,
}

/// One SVID of a response.
pub struct OfferedX509Svid {
    /// The identity, as text.
    pub spiffe_id: String,
    /// Concatenated DER, leaf first.
    pub chain: Vec<u8>,
    /// PKCS#8 DER.
    pub key: Zeroizing<Vec<u8>>,
    /// Concatenated DER.
    pub bundle: Vec<u8>,
}
