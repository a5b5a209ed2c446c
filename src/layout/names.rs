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

/// The name of a file, or of one file for each trust domain, and the option that sets it.
pub(crate) struct GivenName {
    option: &'static str,
    name: String,
    /// Whether any trust domain's name comes before it.
    is_suffix: bool,
}

impl GivenName {
    /// This very name.
    pub(crate) fn exact(option: &'static str, name: &FileName) -> Self {
        Self { option, name: name.to_string(), is_suffix: false }
    }

    /// Any trust domain's name, and this.
    pub(crate) fn suffix(option: &'static str, suffix: &str) -> Self {
        Self { option, name: suffix.to_owned(), is_suffix: true }
    }
}

/// For files of trust domains, `*` and the name's ending.
impl fmt::Display for GivenName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.is_suffix { "*" } else { "" }, self.name)
    }
}

/// Fails if two files would have the same name.
pub(crate) fn check_names(given: &[GivenName]) -> Result<(), Flaw> {
    for (index, later) in given.iter().enumerate() {
        given.iter().take(index).try_for_each(|earlier| check_pair(earlier, later))?;
    }
    Ok(())
}

/// Fails if both can name one file.
fn check_pair(one: &GivenName, other: &GivenName) -> Result<(), Flaw> {
    let (first, second) = (one.option, other.option);
    let (left, right) = (&one.name, &other.name);
    match (one.is_suffix, other.is_suffix) {
        (false, false) if left == right => {
            Err(flaw!("--{first} and --{second} both name {left:?}; each file needs a name of its own"))
        }
        (false, true) if left.ends_with(right) => Err(flaw!(
            "--{first} names {left:?}, but with --{second}, names that end with {right:?} belong to trust domains"
        )),
        (true, false) => check_pair(other, one),
        (true, true) if left.ends_with(right) || right.ends_with(left) => {
            let (longer, end) = if left.len() > right.len() { (left, right) } else { (right, left) };
            Err(flaw!("--{first} and --{second} can name the same file: {longer:?} ends with {end:?}"))
        }
        _ => Ok(()),
    }
}
