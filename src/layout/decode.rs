//! Published files, read back and checked: each is there, parses, and belongs to the others.

use std::time::SystemTime;

use thiserror::Error;
use zeroize::Zeroizing;

use super::names::{self, CREDENTIAL_BUNDLE, FEDERATED_SUFFIX, TRUST_BUNDLE_SUFFIX, TrustDomainNameError};
use super::pem::{self, Block, Label, PemError};
use super::pkcs12::{self, Contents, Pkcs12Error};
use super::{JwtBundleLayout, JwtSvidLayout, Layout, Part, PemLayout, X509Layout};
use crate::identity::bundle::X509Bundle;
use crate::identity::certificate::CertificateError;
use crate::identity::jwks::{JwksError, check_jwks};
use crate::identity::jwt_svid::{JwtSvid, JwtSvidError};
use crate::identity::raw::RawX509Svid;
use crate::identity::spiffe_id::SpiffeId;
use crate::identity::svid_info::SvidInfo;
use crate::identity::trust::{Trust, TrustError, split_off_intermediates};
use crate::identity::x509_svid::{Field, FieldError, X509Svid, uri_of_leaf};
use crate::store::read::PublishedSet;
use crate::store::{Store, StoreError};

/// The SVID of each part of the published set, in the order of [`Layout::parts`]; `None` for the JWT
/// bundles. Does not check the SVID's own dates; a token without a date of issue counts as issued at
/// `now`.
pub(crate) fn published(
    layout: &Layout,
    store: &Store,
    now: SystemTime,
) -> Vec<Result<Option<SvidInfo>, DecodeError>> {
    loop {
        let set = match store.published() {
            Ok(set) => set,
            Err(error) => return layout.parts().map(|_| Err(error.clone().into())).collect(),
        };
        let found: Vec<_> = layout.parts().map(|part| Reader(&set).part(part, now)).collect();
        // A set that is replaced meanwhile loses its files: read the new one.
        if found.iter().all(Result::is_ok) || set.is_current() {
            return found;
        }
    }
}

struct Reader<'a>(&'a PublishedSet<'a>);

impl Reader<'_> {
    fn part(&self, part: Part<'_>, now: SystemTime) -> Result<Option<SvidInfo>, DecodeError> {
        match part {
            Part::X509(layout) => self.x509(layout, now).map(Some),
            Part::JwtSvid(layout) => self.jwt_svid(layout, now).map(Some),
            Part::JwtBundles(layout) => self.jwt_bundles(layout).map(|()| None),
        }
    }

    fn x509(&self, layout: &X509Layout, now: SystemTime) -> Result<SvidInfo, DecodeError> {
        let mut found: Option<(X509Svid, String)> = None;
        let has_intermediates = layout.pem.as_ref().is_some_and(|pem| pem.intermediates_in_bundle);
        for files in self.keys_and_chains(layout)? {
            let name = files.chain_name.clone();
            let svid = files.parse(has_intermediates, now)?;
            match &found {
                Some((other, other_name)) if other.leaf() != svid.leaf() => {
                    return Err(DecodeError::Different { names: [other_name.clone(), name] });
                }
                Some(_) => {}
                None => found = Some((svid, name)),
            }
        }
        let federated = layout.pem.as_ref().is_some_and(|pem| pem.federated_files);
        let suffixes = [federated.then_some(FEDERATED_SUFFIX), layout.spiffe.then_some(TRUST_BUNDLE_SUFFIX)];
        for suffix in suffixes.into_iter().flatten() {
            for name in self.names_ending_with(suffix)? {
                X509Bundle::parse(self.certificates(&name)?).map_err(in_file(&name))?;
            }
        }
        let (svid, _) = found.ok_or(ContentError::NoSvid).map_err(in_file(layout.certificate_file()))?;
        Ok(svid.info().clone())
    }

    /// The key and its chain, from each place that holds them.
    fn keys_and_chains(&self, layout: &X509Layout) -> Result<Vec<KeyAndChain>, DecodeError> {
        let mut all = Vec::new();
        if let Some(pem) = &layout.pem {
            all.push(self.three_files(pem)?);
        }
        if layout.spiffe {
            all.push(self.combined(CREDENTIAL_BUNDLE, None)?);
        }
        if let Some(name) = &layout.combined {
            let bundle = all.first().map(|files| (files.bundle.clone(), files.bundle_name.clone()));
            all.push(self.combined(name.as_str(), bundle)?);
        }
        let truststore = match &layout.truststore {
            Some(name) => {
                Some((self.keystore(name.as_str(), layout)?.certificates.concat(), name.to_string()))
            }
            None => None,
        };
        if let Some(name) = &layout.keystore {
            let bundle = all.first().map(|files| (files.bundle.clone(), files.bundle_name.clone()));
            let contents = self.keystore(name.as_str(), layout)?;
            let key = contents.key.ok_or(ContentError::NotOneKey).map_err(in_file(name.as_str()))?;
            let (bundle, bundle_name) = truststore.or(bundle).unwrap_or_default();
            let (chain_name, key_name) = (name.to_string(), name.to_string());
            let chain = contents.certificates.concat();
            all.push(KeyAndChain { chain, key, bundle, chain_name, key_name, bundle_name });
        } else if let (Some((bundle, bundle_name)), Some(files)) = (truststore, all.first()) {
            all.push(KeyAndChain { bundle, bundle_name, ..files.clone() });
        }
        Ok(all)
    }

    fn three_files(&self, pem: &PemLayout) -> Result<KeyAndChain, DecodeError> {
        let [certificate, key, bundle] = [&pem.certificate, &pem.key, &pem.bundle].map(|name| name.as_str());
        let blocks = self.blocks(key)?;
        let [(Label::PrivateKey, key_der)] = blocks.as_slice() else {
            return Err(in_file(key)(ContentError::NotOneKey));
        };
        Ok(KeyAndChain {
            chain: self.certificates(certificate)?,
            key: key_der.clone(),
            bundle: self.certificates(bundle)?,
            chain_name: certificate.to_owned(),
            key_name: key.to_owned(),
            bundle_name: bundle.to_owned(),
        })
    }

    /// A file with the key first, then the chain. Without `bundle`, the bundle of the credential folder
    /// belongs to it.
    fn combined(&self, name: &str, bundle: Option<(Vec<u8>, String)>) -> Result<KeyAndChain, DecodeError> {
        let blocks = self.blocks(name)?;
        let Some(((Label::PrivateKey, key), chain)) = blocks.split_first() else {
            return Err(in_file(name)(ContentError::NoKeyFirst));
        };
        let chain = concatenated(chain).map_err(in_file(name))?;
        let (bundle, bundle_name) = match bundle {
            Some(bundle) => bundle,
            None => {
                let id: Option<SpiffeId> = uri_of_leaf(&chain).and_then(|uri| uri.parse().ok());
                let id = id.ok_or(ContentError::NoSpiffeId).map_err(in_file(name))?;
                let bundle_name =
                    names::of_trust_domain(&id.trust_domain(), TRUST_BUNDLE_SUFFIX).map_err(in_file(name))?;
                (self.certificates(bundle_name.as_str())?, bundle_name.to_string())
            }
        };
        let (chain_name, key_name) = (name.to_owned(), name.to_owned());
        Ok(KeyAndChain { chain, key: key.clone(), bundle, chain_name, key_name, bundle_name })
    }

    fn keystore(&self, name: &str, layout: &X509Layout) -> Result<Contents, DecodeError> {
        pkcs12::read(&self.0.read(name)?, &layout.password).map_err(in_file(name))
    }

    fn jwt_svid(&self, layout: &JwtSvidLayout, now: SystemTime) -> Result<SvidInfo, DecodeError> {
        let name = layout.file.name.as_str();
        let contents = self.0.read(name)?;
        let token = std::str::from_utf8(&contents).map_err(|_| in_file(name)(ContentError::NotText))?;
        let token = Zeroizing::new(token.trim_end().to_owned());
        let svid = JwtSvid::read(token, &layout.file.audience, now).map_err(in_file(name))?;
        Ok(svid.info().clone())
    }

    fn jwt_bundles(&self, layout: &JwtBundleLayout) -> Result<(), DecodeError> {
        let mut names = vec![layout.name.to_string()];
        if layout.federated_files {
            names.extend(self.names_ending_with(&layout.suffix())?);
        }
        names.iter().try_for_each(|name| check_jwks(&self.0.read(name)?).map_err(in_file(name)))
    }

    fn names_ending_with(&self, suffix: &str) -> Result<Vec<String>, DecodeError> {
        let mut names = self.0.names()?;
        names.retain(|name| name.ends_with(suffix));
        Ok(names)
    }

    fn blocks(&self, name: &str) -> Result<Vec<Block>, DecodeError> {
        pem::decode(&self.0.read(name)?).map_err(in_file(name))
    }

    fn certificates(&self, name: &str) -> Result<Vec<u8>, DecodeError> {
        concatenated(&self.blocks(name)?).map_err(in_file(name))
    }
}

/// A key with its chain and bundle, and the names of their files.
#[derive(Clone)]
struct KeyAndChain {
    chain: Vec<u8>,
    key: Zeroizing<Vec<u8>>,
    bundle: Vec<u8>,
    chain_name: String,
    key_name: String,
    bundle_name: String,
}

impl KeyAndChain {
    /// Checks each by itself, and that they belong together. `has_intermediates`: the bundle has the chain's.
    fn parse(self, has_intermediates: bool, now: SystemTime) -> Result<X509Svid, DecodeError> {
        let Self { mut chain, key, mut bundle, chain_name, key_name, bundle_name } = self;
        if has_intermediates {
            chain.append(&mut split_off_intermediates(&mut bundle).map_err(in_file(&bundle_name))?);
        }
        let raw = RawX509Svid {
            spiffe_id: uri_of_leaf(&chain).unwrap_or_default(),
            hint: String::new(),
            chain,
            key,
            bundle,
        };
        let name = |field| match field {
            Field::Key => &key_name,
            Field::Bundle => &bundle_name,
            Field::SpiffeId | Field::Chain => &chain_name,
        };
        let svid = X509Svid::parse(raw).map_err(|error| in_file(name(error.field))(error.cause))?;
        let trust = Trust::find(&svid).and_then(|trust| trust.check(now).map(|()| trust));
        let trust = trust.map_err(|(field, error)| in_file(name(field))(error))?;
        if trust.is_guess {
            log::warn!("{bundle_name}: names have an encoding that cannot be compared");
        }
        Ok(svid)
    }
}

/// The certificates of blocks that hold nothing else.
fn concatenated(blocks: &[Block]) -> Result<Vec<u8>, ContentError> {
    if blocks.is_empty() || blocks.iter().any(|(label, _)| *label != Label::Certificate) {
        return Err(ContentError::NotCertificatesAlone);
    }
    Ok(blocks.iter().flat_map(|(_, der)| der.iter().copied()).collect())
}

fn in_file<E: Into<ContentError>>(name: &str) -> impl FnOnce(E) -> DecodeError {
    move |cause| DecodeError::File { name: name.to_owned(), cause: cause.into() }
}

/// Why a published file is not good.
#[derive(Debug, Clone, Error)]
pub(crate) enum DecodeError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{name}: {cause}")]
    File { name: String, cause: ContentError },
    #[error("{} and {} hold different certificates", .names[0], .names[1])]
    Different { names: [String; 2] },
}

impl DecodeError {
    /// Whether a name does not lead into the published set.
    pub(crate) fn leads_elsewhere(&self) -> bool {
        matches!(self, Self::Store(StoreError::NotOfTheSet { .. }))
    }
}

/// Why the contents of a file are not good.
#[derive(Debug, Clone, Error)]
pub(crate) enum ContentError {
    #[error("no file of the layout holds an SVID")]
    NoSvid,
    #[error("it does not hold one private key and nothing else")]
    NotOneKey,
    #[error("it does not begin with a private key")]
    NoKeyFirst,
    #[error("its first certificate has no SPIFFE ID")]
    NoSpiffeId,
    #[error("it does not hold certificates and nothing else")]
    NotCertificatesAlone,
    #[error("it is not text")]
    NotText,
    #[error(transparent)]
    Pem(#[from] PemError),
    #[error(transparent)]
    Pkcs12(#[from] Pkcs12Error),
    #[error(transparent)]
    X509Svid(#[from] FieldError),
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    #[error(transparent)]
    Trust(#[from] TrustError),
    #[error(transparent)]
    JwtSvid(#[from] JwtSvidError),
    #[error(transparent)]
    Jwks(#[from] JwksError),
    #[error(transparent)]
    TrustDomainName(#[from] TrustDomainNameError),
}
