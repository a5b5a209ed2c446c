//! Fixed names, names from trust domains, and the check that no two files have the same name.

use std::fmt;

use thiserror::Error;

use super::{Layout, X509Layout};
use crate::identity::spiffe_id::TrustDomain;
use crate::store::file::{FileName, FileNameError};

/// How the names of federated bundles' files end.
pub(crate) const FEDERATED_SUFFIX: &str = ".bundle.pem";
/// The key and the chain, in a credential folder.
pub(crate) const CREDENTIAL_BUNDLE: &str = "credential-bundle.private-key.x509.pem";
/// How the names of trust bundles' files end, in a credential folder.
pub(crate) const TRUST_BUNDLE_SUFFIX: &str = ".spiffe-trust-bundle.x509.pem";

/// The name of a trust domain's file: the trust domain and `suffix`.
pub(crate) fn of_trust_domain(
    trust_domain: &TrustDomain,
    suffix: &str,
) -> Result<FileName, TrustDomainNameError> {
    let name = format!("{trust_domain}{suffix}");
    name.parse().map_err(|cause| TrustDomainNameError { trust_domain: trust_domain.clone(), cause })
}

/// The name of a trust domain is too long for a file name, or begins with a dot.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the trust domain {trust_domain:?} cannot be part of a file name: {cause}")]
pub(crate) struct TrustDomainNameError {
    trust_domain: TrustDomain,
    cause: FileNameError,
}

/// The name of a file, or of one file for each trust domain.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Name {
    /// This very name.
    Exact(String),
    /// Any trust domain's name, and this.
    Suffix(String),
}

/// A name, and the option that sets it.
struct Given {
    option: &'static str,
    name: Name,
}

impl Layout {
    /// Fails if two files would have the same name.
    pub(crate) fn check_names(&self) -> Result<(), ClashError> {
        let given = self.given();
        for (index, later) in given.iter().enumerate() {
            for earlier in &given[..index] {
                if let Some(cause) = clash(earlier, later) {
                    return Err(cause);
                }
            }
        }
        Ok(())
    }

    /// All names, those of trust domains' files as `*` and their ending.
    pub(crate) fn patterns(&self) -> impl Iterator<Item = String> {
        self.given().into_iter().map(|given| match given.name {
            Name::Exact(name) => name,
            Name::Suffix(suffix) => format!("*{suffix}"),
        })
    }

    fn given(&self) -> Vec<Given> {
        let mut given = Vec::new();
        if let Some(x509) = &self.x509 {
            x509.give(&mut given);
        }
        for jwt_svid in &self.jwt_svids {
            given.push(exact("jwt-svid", jwt_svid.file.name.as_str()));
        }
        if let Some(bundles) = &self.jwt_bundles {
            given.push(exact("jwt-bundle-file-name", bundles.name.as_str()));
            if bundles.federated_files {
                given.push(suffix("jwt-bundle-file-name", &bundles.suffix()));
            }
        }
        given
    }
}

impl X509Layout {
    fn give(&self, given: &mut Vec<Given>) {
        if let Some(pem) = &self.pem {
            given.push(exact("svid-file-name", pem.certificate.as_str()));
            given.push(exact("svid-key-file-name", pem.key.as_str()));
            given.push(exact("bundle-file-name", pem.bundle.as_str()));
            if pem.federated_files {
                given.push(suffix("include-federated-bundles", FEDERATED_SUFFIX));
            }
        }
        if self.spiffe {
            given.push(exact("layout", CREDENTIAL_BUNDLE));
            given.push(suffix("layout", TRUST_BUNDLE_SUFFIX));
        }
        if let Some(name) = &self.combined {
            given.push(exact("combined-file-name", name.as_str()));
        }
        if let Some(name) = &self.keystore {
            given.push(exact("keystore-file-name", name.as_str()));
        }
        if let Some(name) = &self.truststore {
            given.push(exact("truststore-file-name", name.as_str()));
        }
    }
}

fn exact(option: &'static str, name: &str) -> Given {
    Given { option, name: Name::Exact(name.to_owned()) }
}

fn suffix(option: &'static str, suffix: &str) -> Given {
    Given { option, name: Name::Suffix(suffix.to_owned()) }
}

fn clash(one: &Given, other: &Given) -> Option<ClashError> {
    let options = [one.option, other.option];
    match (&one.name, &other.name) {
        (Name::Exact(name), Name::Exact(same)) if name == same => {
            Some(ClashError::Same { options, name: name.clone() })
        }
        (Name::Exact(name), Name::Suffix(suffix)) if name.ends_with(suffix) => {
            Some(ClashError::OfTrustDomains { options, name: name.clone(), suffix: suffix.clone() })
        }
        (Name::Suffix(suffix), Name::Exact(name)) if name.ends_with(suffix) => {
            let options = [other.option, one.option];
            Some(ClashError::OfTrustDomains { options, name: name.clone(), suffix: suffix.clone() })
        }
        (Name::Suffix(one), Name::Suffix(other)) if one.ends_with(other) || other.ends_with(one) => {
            let (longer, suffix) = if one.len() > other.len() { (one, other) } else { (other, one) };
            Some(ClashError::Suffixes { options, longer: longer.clone(), suffix: suffix.clone() })
        }
        _ => None,
    }
}

/// Two files would have the same name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ClashError {
    Same { options: [&'static str; 2], name: String },
    OfTrustDomains { options: [&'static str; 2], name: String, suffix: String },
    Suffixes { options: [&'static str; 2], longer: String, suffix: String },
}

impl std::error::Error for ClashError {}

impl fmt::Display for ClashError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Same { options: [one, other], name } => {
                write!(f, "--{one} and --{other} both name {name:?}; each file needs a name of its own")
            }
            Self::OfTrustDomains { options: [one, other], name, suffix } => write!(
                f,
                "--{one} names {name:?}, but with --{other}, names that end with {suffix:?} belong to trust domains"
            ),
            Self::Suffixes { options: [one, other], longer, suffix } => {
                write!(f, "--{one} and --{other} can name the same file: {longer:?} ends with {suffix:?}")
            }
        }
    }
}
