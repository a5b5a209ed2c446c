//! `check`: are the published files good? Asks nobody, and opens no socket: it is the exec probe of
//! an image without a shell.

use std::time::{Duration, SystemTime};

use thiserror::Error;
use zeroize::Zeroizing;

use super::part::layout;
use crate::identity::bundle::X509Bundle;
use crate::identity::crl;
use crate::identity::jwt_bundle::check_jwks;
use crate::identity::jwt_svid::JwtSvid;
use crate::identity::offered::OfferedX509Svid;
use crate::identity::spiffe_id::SpiffeId;
use crate::identity::term::{Term, time_left};
use crate::identity::x509_svid::{BUNDLE, KEY, X509Svid, uri_of_leaf};
use crate::options::Options;
use crate::options::value::JwtSvidFile;
use crate::store::layout::{
    CREDENTIAL_BUNDLE, FEDERATED_SUFFIX, FileName, Layout, TRUST_BUNDLE_SUFFIX, trust_domain_file,
};
use crate::store::pem::{self, Block, Label};
use crate::store::publish::{PublishedSet, Store, StoreError};
use crate::timestamp::{in_words, rfc3339};

/// Checks every file that the options name; says in one line what there is.
pub fn run(options: &Options) -> Result<String, CheckError> {
    let store = Store::new(options.svid_path.clone());
    let terms = findings(options, &store).into_iter().collect::<Result<Vec<_>, _>>()?;
    let now = SystemTime::now();
    let mut said = None;
    for (index, term) in terms.into_iter().flatten().enumerate() {
        if term.is_expired(now) {
            return Err(CheckError::Expired(term));
        }
        // JWT-SVIDs live for minutes, and only count where there is nothing else.
        let is_measured = index == 0 || !options.x509;
        if let Some(least) = options.min_ttl.filter(|_| is_measured)
            && time_left(term.not_after) <= least.0
        {
            return Err(CheckError::TooShort { term, least: least.0 });
        }
        said.get_or_insert_with(|| {
            let (id, end) = (&term.id, rfc3339(term.not_after, 0));
            let serial = term.serial.as_ref().map(|serial| format!("serial {serial}, ")).unwrap_or_default();
            format!("{id} ({serial}valid until {end}, {} left)", in_words(time_left(term.not_after)))
        });
    }
    let what = said.unwrap_or_else(|| "the JWT bundles".to_owned());
    Ok(format!("ok: {what} in {}", options.svid_path.display()))
}

/// What there is to say of each part that the options ask for: X.509, the JWT-SVIDs, the JWT
/// bundles. Dates are not looked at.
pub fn findings(options: &Options, store: &Store) -> Vec<Result<Option<Term>, CheckError>> {
    loop {
        let set = match store.published() {
            Ok(set) => Set { options, set },
            Err(error) => {
                let parts = usize::from(options.x509)
                    + options.jwt_svid.len()
                    + usize::from(options.jwt_bundle_file_name.is_some());
                return vec![Err(error.into()); parts];
            }
        };
        let x509 = options.x509.then(|| set.x509().map(Some));
        let jwt_svids = options.jwt_svid.iter().map(|file| set.jwt_svid(file).map(Some));
        let jwt_bundles =
            options.jwt_bundle_file_name.as_ref().map(|name| set.jwt_bundles(name).map(|()| None));
        let findings: Vec<_> = x509.into_iter().chain(jwt_svids).chain(jwt_bundles).collect();
        // A set that is replaced while it is read loses its files.
        if findings.iter().all(Result::is_ok) || set.set.is_current() {
            return findings;
        }
    }
}

struct Set<'a> {
    options: &'a Options,
    set: PublishedSet<'a>,
}

impl Set<'_> {
    fn x509(&self) -> Result<Term, CheckError> {
        let layout = layout(self.options);
        let mut found: Option<(X509Svid, String)> = None;
        for view in self.views(&layout)? {
            let name = view.chain_name.clone();
            let svid = view.parse()?;
            match &found {
                Some((other, other_name)) if other.leaf() != svid.leaf() => {
                    return Err(CheckError::Different { names: [other_name.clone(), name] });
                }
                Some(_) => {}
                None => found = Some((svid, name)),
            }
        }
        let suffixes = [
            layout.pem.as_ref().is_some_and(|pem| pem.federated_files).then_some(FEDERATED_SUFFIX),
            layout.spiffe.then_some(TRUST_BUNDLE_SUFFIX),
        ];
        for suffix in suffixes.into_iter().flatten() {
            for name in self.names_ending_with(suffix)? {
                let der = self.certificates(&name)?;
                X509Bundle::parse(&der).map_err(|flaw| bad(&name, flaw))?;
            }
        }
        if let Some(name) = layout.crl.as_ref().map(FileName::as_str)
            && self.set.names()?.iter().any(|found| found == name)
        {
            for (label, der) in self.blocks(name)? {
                if label != Label::Crl {
                    return Err(bad(name, "it holds something else than revocation lists"));
                }
                crl::check(&der).map_err(|flaw| bad(name, flaw))?;
            }
        }
        let (svid, name) = found.ok_or_else(|| bad("--layout", "it names no file with an SVID"))?;
        let term = svid.term().clone();
        self.check_id(&name, &term.id)?;
        Ok(term)
    }

    /// The key and its chain, from each place where they stand.
    fn views(&self, layout: &Layout) -> Result<Vec<View>, CheckError> {
        let mut views = Vec::new();
        if let Some(pem) = &layout.pem {
            let [certificate, key, bundle] = [&pem.certificate, &pem.key, &pem.bundle].map(FileName::as_str);
            let key_blocks = self.blocks(key)?;
            let [(Label::PrivateKey, key_der)] = key_blocks.as_slice() else {
                return Err(bad(key, "it does not hold one private key and nothing else"));
            };
            views.push(View {
                chain: self.certificates(certificate)?,
                key: key_der.clone(),
                bundle: self.certificates(bundle)?,
                chain_name: certificate.to_owned(),
                key_name: key.to_owned(),
                bundle_name: bundle.to_owned(),
            });
        }
        if layout.spiffe {
            views.push(self.one_file_view(CREDENTIAL_BUNDLE, None)?);
        }
        if let Some(name) = &layout.combined {
            let bundle = views.first().map(|view| (view.bundle.clone(), view.bundle_name.clone()));
            views.push(self.one_file_view(name.as_str(), bundle)?);
        }
        Ok(views)
    }

    /// Of a file with the key first and the chain behind it.
    fn one_file_view(&self, name: &str, bundle: Option<(Vec<u8>, String)>) -> Result<View, CheckError> {
        let blocks = self.blocks(name)?;
        let Some(((Label::PrivateKey, key), chain)) = blocks.split_first() else {
            return Err(bad(name, "it does not begin with a private key"));
        };
        let chain = concatenated(name, chain)?;
        let (bundle, bundle_name) = match bundle {
            Some(bundle) => bundle,
            None => {
                let id: Option<SpiffeId> = uri_of_leaf(&chain).and_then(|uri| uri.parse().ok());
                let id = id.ok_or_else(|| bad(name, "its first certificate has no SPIFFE ID"))?;
                let bundle_name = trust_domain_file(id.trust_domain().as_str(), TRUST_BUNDLE_SUFFIX)
                    .map_err(|error| bad(name, error))?;
                (self.certificates(bundle_name.as_str())?, bundle_name.to_string())
            }
        };
        let (chain_name, key_name) = (name.to_owned(), name.to_owned());
        Ok(View { chain, key: key.clone(), bundle, chain_name, key_name, bundle_name })
    }

    fn jwt_svid(&self, file: &JwtSvidFile) -> Result<Term, CheckError> {
        let name = file.name.as_str();
        let contents = self.set.read(name)?;
        let token = std::str::from_utf8(&contents).map_err(|_| bad(name, "it is not text"))?;
        let token = Zeroizing::new(token.trim_end().to_owned());
        let svid = JwtSvid::read(token, &file.audience, SystemTime::now()).map_err(|flaw| bad(name, flaw))?;
        self.check_id(name, &svid.term().id)?;
        Ok(svid.term().clone())
    }

    fn jwt_bundles(&self, name: &FileName) -> Result<(), CheckError> {
        let mut names = vec![name.to_string()];
        if self.options.include_federated_bundles {
            names.extend(self.names_ending_with(&format!(".{name}"))?);
        }
        for name in names {
            check_jwks(&self.set.read(&name)?).map_err(|flaw| bad(&name, flaw))?;
        }
        Ok(())
    }

    fn check_id(&self, name: &str, found: &SpiffeId) -> Result<(), CheckError> {
        match &self.options.pod_spiffe_id {
            Some(wanted) if wanted != found => {
                Err(bad(name, format!("it is the SVID of {found}, not of {wanted} (--pod-spiffe-id)")))
            }
            _ => Ok(()),
        }
    }

    fn names_ending_with(&self, suffix: &str) -> Result<Vec<String>, CheckError> {
        let mut names = self.set.names()?;
        names.retain(|name| name.ends_with(suffix));
        Ok(names)
    }

    fn blocks(&self, name: &str) -> Result<Vec<Block>, CheckError> {
        pem::decode(&self.set.read(name)?).map_err(|flaw| bad(name, flaw))
    }

    fn certificates(&self, name: &str) -> Result<Vec<u8>, CheckError> {
        concatenated(name, &self.blocks(name)?)
    }
}

/// A key with its chain and bundle, and where each was read.
struct View {
    chain: Vec<u8>,
    key: Zeroizing<Vec<u8>>,
    bundle: Vec<u8>,
    chain_name: String,
    key_name: String,
    bundle_name: String,
}

impl View {
    fn parse(self) -> Result<X509Svid, CheckError> {
        let offered = OfferedX509Svid {
            spiffe_id: uri_of_leaf(&self.chain).unwrap_or_default(),
            hint: String::new(),
            chain: self.chain,
            key: self.key,
            bundle: self.bundle,
        };
        X509Svid::parse(offered).map_err(|flaw| {
            let name = match flaw.field {
                KEY => self.key_name,
                BUNDLE => self.bundle_name,
                _ => self.chain_name,
            };
            bad(&name, flaw.flaw)
        })
    }
}

fn concatenated(name: &str, blocks: &[Block]) -> Result<Vec<u8>, CheckError> {
    if blocks.is_empty() || blocks.iter().any(|(label, _)| *label != Label::Certificate) {
        return Err(bad(name, "it does not hold certificates and nothing else"));
    }
    Ok(blocks.iter().flat_map(|(_, der)| der.iter().copied()).collect())
}

fn bad(name: &str, flaw: impl ToString) -> CheckError {
    CheckError::Bad { name: name.to_owned(), flaw: flaw.to_string() }
}

/// Why the published files are not good.
#[allow(missing_docs, reason = "the messages say what the variants mean")]
#[derive(Debug, Clone, Error)]
pub enum CheckError {
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("{name}: {flaw}")]
    Bad { name: String, flaw: String },
    #[error("{} and {} hold different certificates", .names[0], .names[1])]
    Different { names: [String; 2] },
    #[error("the {} of {} expired at {}", .0.kind(), .0.id, rfc3339(.0.not_after, 0))]
    Expired(Term),
    #[error(
        "the {} of {} is valid until {}: {} left, and --min-ttl asks for more than {}",
        .term.kind(), .term.id, rfc3339(.term.not_after, 0), in_words(time_left(.term.not_after)), in_words(*.least)
    )]
    TooShort { term: Term, least: Duration },
}
