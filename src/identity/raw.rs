//! The fields of an agent's responses, before any check.

use std::collections::BTreeMap;
use std::fmt;

use zeroize::Zeroizing;

use crate::logging;

/// One `X509SVIDResponse`.
#[derive(Default)]
pub(crate) struct RawX509Context {
    /// In the agent's order; the first is the default identity.
    pub(crate) svids: Vec<RawX509Svid>,
    /// Certificate revocation lists, each DER.
    pub(crate) crls: Vec<Vec<u8>>,
    /// For each foreign trust domain, its SPIFFE ID and its bundle (concatenated DER).
    pub(crate) federated_bundles: BTreeMap<String, Vec<u8>>,
}

/// One SVID of a response: what every kind has, and what only its kind has.
#[derive(Default)]
pub(crate) struct Offered<T> {
    /// The identity, as text.
    pub(crate) spiffe_id: String,
    /// The operator's hint at the use of the identity; may be empty.
    pub(crate) hint: String,
    /// The fields of its kind, unchecked. Once they are checked: the SVID, or what is wrong with it.
    pub(crate) fields: T,
}

/// One SVID of an `X509SVIDResponse`.
pub(crate) type RawX509Svid = Offered<X509Fields>;

/// What only an X.509-SVID has.
#[derive(Default)]
pub(crate) struct X509Fields {
    /// Concatenated DER, leaf first.
    pub(crate) chain: Vec<u8>,
    /// PKCS#8 DER.
    pub(crate) key: Zeroizing<Vec<u8>>,
    /// Concatenated DER.
    pub(crate) bundle: Vec<u8>,
}

/// A mandatory field of an SVID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Field {
    SpiffeId,
    Chain,
    Key,
    Bundle,
}

impl fmt::Display for Field {
    /// The field's name in the message `X509SVID`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SpiffeId => "spiffe_id",
            Self::Chain => "x509_svid",
            Self::Key => "x509_svid_key",
            Self::Bundle => "bundle",
        })
    }
}

/// One SVID of a `JWTSVIDResponse`: a token in JWS compact serialization.
pub(crate) type RawJwtSvid = Offered<Zeroizing<String>>;

/// One SVID of a `WITSVIDResponse`.
pub(crate) type RawWitSvid = Offered<WitFields>;

/// What only a WIT-SVID has.
#[derive(Default)]
pub(crate) struct WitFields {
    /// JWS compact serialization.
    pub(crate) token: Zeroizing<String>,
    /// The private JWK.
    pub(crate) key: Zeroizing<String>,
}

/// A `JWTBundlesResponse` or `WITBundlesResponse`: for each trust domain, its SPIFFE ID and its JWKS document.
pub(crate) type RawJwtBundles = BTreeMap<String, Vec<u8>>;

/// Cuts a text of a response for an error message, which must not become as long as the response. Only
/// the longest SPIFFE IDs are valid and cut.
pub(super) fn shortened(text: &str) -> String {
    const SHOWN: usize = 300;
    logging::shortened(text, SHOWN)
}

/// Bytes in hexadecimal, without the sign byte that DER puts before a serial number.
pub(super) fn hexadecimal(serial: &[u8]) -> String {
    let digits = serial.strip_prefix(&[0]).filter(|rest| !rest.is_empty()).unwrap_or(serial);
    digits.iter().map(|byte| format!("{byte:02x}")).collect()
}
