//! Fixed names, names from trust domains, and the check that no two files have the same name.

use std::fmt;

use crate::identity::spiffe_id::TrustDomain;
use crate::store::file::FileName;
use crate::words::{Flaw, flaw};

/// How the names of federated bundles' files end.
pub(crate) const FEDERATED_SUFFIX: &str = ".bundle.pem";
/// The key and the chain, in a credential folder.
pub(crate) const CREDENTIAL_BUNDLE: &str = "credential-bundle.private-key.x509.pem";
/// How the names of trust bundles' files end, in a credential folder.
pub(crate) const TRUST_BUNDLE_SUFFIX: &str = ".spiffe-trust-bundle.x509.pem";

/// The name of a trust domain's file: the trust domain and `suffix`.
pub(crate) fn of_trust_domain(trust_domain: &TrustDomain, suffix: &str) -> Result<FileName, Flaw> {
    let name = format!("{trust_domain}{suffix}");
    name.parse().map_err(|cause| {
        flaw!("the trust domain {:?} cannot be part of a file name: {cause}", trust_domain.to_string())
    })
}

/// The name of a file, or of one file for each trust domain.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Name {
    /// This very name.
    Exact(String),
    /// Any trust domain's name, and this.
    Suffix(String),
}

/// The name of a file, or of one file for each trust domain, and the option that sets it.
pub(crate) struct GivenName {
    option: &'static str,
    name: Name,
}

impl GivenName {
    /// This very name.
    pub(crate) fn exact(option: &'static str, name: &FileName) -> Self {
        Self { option, name: Name::Exact(name.as_str().to_owned()) }
    }

    /// Any trust domain's name, and this.
    pub(crate) fn suffix(option: &'static str, suffix: &str) -> Self {
        Self { option, name: Name::Suffix(suffix.to_owned()) }
    }
}

/// For files of trust domains, `*` and the name's ending.
impl fmt::Display for GivenName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Name::Exact(name) => f.write_str(name),
            Name::Suffix(suffix) => write!(f, "*{suffix}"),
        }
    }
}

/// Fails if two files would have the same name.
pub(crate) fn check_names(given: &[GivenName]) -> Result<(), Flaw> {
    for (index, later) in given.iter().enumerate() {
        if let Some(cause) = given.iter().take(index).find_map(|earlier| clash(earlier, later)) {
            return Err(cause);
        }
    }
    Ok(())
}

/// What is wrong if both can name one file.
fn clash(one: &GivenName, other: &GivenName) -> Option<Flaw> {
    let (first, second) = (one.option, other.option);
    match (&one.name, &other.name) {
        (Name::Exact(name), Name::Exact(same)) if name == same => {
            Some(flaw!("--{first} and --{second} both name {name:?}; each file needs a name of its own"))
        }
        (Name::Exact(name), Name::Suffix(suffix)) if name.ends_with(suffix) => Some(flaw!(
            "--{first} names {name:?}, but with --{second}, names that end with {suffix:?} belong to trust domains"
        )),
        (Name::Suffix(_), Name::Exact(_)) => clash(other, one),
        (Name::Suffix(one), Name::Suffix(other)) if one.ends_with(other) || other.ends_with(one) => {
            let (longer, suffix) = if one.len() > other.len() { (one, other) } else { (other, one) };
            Some(flaw!("--{first} and --{second} can name the same file: {longer:?} ends with {suffix:?}"))
        }
        _ => None,
    }
}
