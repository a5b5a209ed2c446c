//! The outside of files: their names, and the two formats that have them (PEM, PKCS#12).

mod names;
pub(crate) mod pem;
pub(crate) mod pkcs12;

use std::str::FromStr;

pub(crate) use names::{
    CREDENTIAL_BUNDLE, ClashError, FEDERATED_SUFFIX, GivenName, TRUST_BUNDLE_SUFFIX, TrustDomainNameError,
    check_names, of_trust_domain,
};

/// Which of the two X.509 layouts are written, one or both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum X509Layouts {
    Pem,
    Spiffe,
    Both,
}

impl X509Layouts {
    pub(crate) fn has_pem(self) -> bool {
        self != Self::Spiffe
    }

    pub(crate) fn has_spiffe(self) -> bool {
        self != Self::Pem
    }
}

impl FromStr for X509Layouts {
    type Err = crate::words::WordError;

    fn from_str(text: &str) -> Result<Self, crate::words::WordError> {
        match text.to_ascii_lowercase().as_str() {
            "pem" => Ok(Self::Pem),
            "spiffe" => Ok(Self::Spiffe),
            "pem,spiffe" | "spiffe,pem" => Ok(Self::Both),
            _ => Err(crate::words::WordError),
        }
    }
}
