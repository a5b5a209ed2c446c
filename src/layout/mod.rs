//! The outside of files: their names, and their formats (PEM, PKCS#12, the SPIFFE bundle map).

pub(crate) mod bundle_map;
mod names;
pub(crate) mod pem;
pub(crate) mod pkcs12;

pub(crate) use names::{
    CREDENTIAL_BUNDLE, FEDERATED_SUFFIX, GivenName, TRUST_BUNDLE_SUFFIX, check_names, of_trust_domain,
};

use crate::words::words;

words! {
    /// Which of the two X.509 layouts are written, one or both.
    X509Layouts {
        Pem = "pem",
        Spiffe = "spiffe",
        Both = "pem,spiffe" | "spiffe,pem",
    }
}

impl X509Layouts {
    pub(crate) fn has_pem(self) -> bool {
        self != Self::Spiffe
    }

    pub(crate) fn has_spiffe(self) -> bool {
        self != Self::Pem
    }
}
