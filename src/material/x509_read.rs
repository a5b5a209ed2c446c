//! An X.509-SVID's published files, read back and checked: each is there, parses, and belongs to the others.

use zeroize::Zeroizing;

use super::crl_file;
use super::facts::Facts;
use super::file_flaw::{NOT_ONE_KEY, in_file};
use super::x509_part::{PemFiles, X509Part};
use crate::identity::bundle::{BundleInfo, X509Bundle};
use crate::identity::crl::RevocationLists;
use crate::identity::raw::{Field, X509Fields};
use crate::identity::spiffe_id::{SpiffeId, TrustDomain};
use crate::identity::x509_svid::{X509Svid, uri_of_leaf};
use crate::layout::bundle_map;
use crate::layout::pem::{self, Block, Label};
use crate::layout::pkcs12;
use crate::layout::{CREDENTIAL_BUNDLE, FEDERATED_SUFFIX, TRUST_BUNDLE_SUFFIX, of_trust_domain};
use crate::store::StoreError;
use crate::store::read::PublishedSet;
use crate::words::{Flaw, flaw};

/// The facts of the files in a published set.
pub(super) fn read(part: &X509Part, set: &PublishedSet<'_>) -> Result<Facts, StoreError> {
    Reader { part, set }.read()
}

struct Reader<'a> {
    part: &'a X509Part,
    set: &'a PublishedSet<'a>,
}

impl Reader<'_> {
    fn read(&self) -> Result<Facts, StoreError> {
        let pem = self.part.pem.as_ref();
        let (first, others) = self.svid_files()?;
        let name = first.chain.file.clone();
        let svid = first.parse()?;
        let mut trust = svid.trust.clone();
        for files in others {
            let other_name = files.chain.file.clone();
            let other = files.parse()?;
            if other.leaf() != svid.leaf() {
                return Err(flaw!("{name} and {other_name} hold different certificates").into());
            }
            // No other bundle can lack the intermediates.
            if other_name == CREDENTIAL_BUNDLE {
                trust = other.trust;
            }
        }
        let trust_domain = svid.info.id.trust_domain();
        let mut bundles = vec![BundleInfo::of(trust_domain, svid.bundle.authorities())];
        if pem.is_some_and(|pem| pem.federated_in_bundle) {
            // Whose CA is whose, the file does not say.
            bundles.clear();
        }
        self.add_other_bundles(&mut bundles)?;
        let crls = self.revocation_lists()?;
        Ok(Facts {
            crl_next_update: crls.earliest_next_update(),
            crls: crls.digest(),
            svid: Some(svid.info.clone()),
            trust: Some(trust),
            unchecked_key: svid.unchecked_key(),
            bundles,
            ..Facts::default()
        })
    }

    /// Adds the bundles of trust domains that are not there yet. No two files are in memory at a time.
    fn add_other_bundles(&self, all: &mut Vec<BundleInfo>) -> Result<(), StoreError> {
        let mut add = |trust_domain, bundle: X509Bundle| {
            if all.iter().all(|known| known.trust_domain != trust_domain) {
                all.push(BundleInfo::of(trust_domain, bundle.authorities()));
            }
        };
        let federated = self.part.pem.as_ref().is_some_and(|pem| pem.federated_files);
        let suffixes =
            [federated.then_some(FEDERATED_SUFFIX), self.part.spiffe.then_some(TRUST_BUNDLE_SUFFIX)];
        for suffix in suffixes.into_iter().flatten() {
            for name in self.set.names_ending_with(suffix)? {
                let bundle = X509Bundle::parse(self.certificates(&name)?.bytes).map_err(in_file(&name))?;
                let id = format!("spiffe://{}", name.strip_suffix(suffix).unwrap_or_default());
                // A file of another name is nobody's bundle.
                if let Ok(trust_domain) = TrustDomain::from_id(&id) {
                    add(trust_domain, bundle);
                }
            }
        }
        if let Some(name) = &self.part.bundle_map {
            let map = self.set.read(name.as_str())?;
            let bundles = bundle_map::read(&map).map_err(in_file(name.as_str()))?;
            bundles.into_iter().for_each(|(trust_domain, bundle)| add(trust_domain, bundle));
        }
        Ok(())
    }

    /// Before the agent sends the first list, there is no file.
    fn revocation_lists(&self) -> Result<RevocationLists, StoreError> {
        let Some(crls) = &self.part.crls else { return Ok(RevocationLists::default()) };
        let name = crls.name.as_str();
        if !self.set.names_ending_with(name)?.iter().any(|found| found == name) {
            return Ok(RevocationLists::default());
        }
        crl_file::parse(&self.set.read(name)?).map_err(in_file(name))
    }

    /// The key and its chain, from the first place that holds them, and from each other one.
    fn svid_files(&self) -> Result<(SvidFiles, Vec<SvidFiles>), StoreError> {
        let (mut others, part) = (Vec::new(), self.part);
        let first = match &part.pem {
            Some(pem) => self.pem_files(pem)?,
            None => self.combined(CREDENTIAL_BUNDLE, None)?,
        };
        if part.pem.is_some() && part.spiffe {
            others.push(self.combined(CREDENTIAL_BUNDLE, None)?);
        }
        if let Some(name) = &part.combined {
            others.push(self.combined(name.as_str(), Some(first.bundle.clone()))?);
        }
        let truststore = match &part.truststore {
            Some(name) => Some(named(self.keystore(name.as_str())?.certificates.concat(), name.as_str())),
            None => None,
        };
        if let Some(name) = &part.keystore {
            let contents = self.keystore(name.as_str())?;
            let key = contents.key.ok_or(Flaw::new(NOT_ONE_KEY)).map_err(in_file(name.as_str()))?;
            let bundle = truststore.unwrap_or_else(|| first.bundle.clone());
            let chain = named(contents.certificates.concat(), name.as_str());
            others.push(SvidFiles { chain, key: named(key, name.as_str()), bundle });
        } else if let Some(bundle) = truststore {
            others.push(SvidFiles { bundle, ..first.clone() });
        }
        Ok((first, others))
    }

    fn pem_files(&self, pem: &PemFiles) -> Result<SvidFiles, StoreError> {
        let name = pem.key.as_str();
        let blocks = self.blocks(name)?;
        let [(Label::PrivateKey, key)] = blocks.as_slice() else {
            return Err(in_file(name)(Flaw::new(NOT_ONE_KEY)));
        };
        Ok(SvidFiles {
            chain: self.certificates(pem.certificate.as_str())?,
            key: named(key.clone(), name),
            bundle: self.certificates(pem.bundle.as_str())?,
        })
    }

    /// A file with the key first, then the chain. Without `bundle`, the bundle of the credential folder
    /// belongs to it.
    fn combined(&self, name: &str, bundle: Option<Named>) -> Result<SvidFiles, StoreError> {
        let blocks = self.blocks(name)?;
        let Some(((Label::PrivateKey, key), chain)) = blocks.split_first() else {
            return Err(in_file(name)(flaw!("it does not begin with a private key")));
        };
        let chain = concatenated(chain).map_err(in_file(name))?;
        let bundle = match bundle {
            Some(bundle) => bundle,
            None => {
                let id = uri_of_leaf(&chain).and_then(|uri| uri.parse());
                let id: SpiffeId = id.map_err(in_file(name))?;
                let of_own =
                    of_trust_domain(&id.trust_domain(), TRUST_BUNDLE_SUFFIX).map_err(in_file(name))?;
                self.certificates(of_own.as_str())?
            }
        };
        Ok(SvidFiles { chain: named(chain, name), key: named(key.clone(), name), bundle })
    }

    fn keystore(&self, name: &str) -> Result<pkcs12::Contents, StoreError> {
        pkcs12::read(&self.set.read(name)?, &self.part.password.newest()).map_err(in_file(name))
    }

    fn blocks(&self, name: &str) -> Result<Vec<Block>, StoreError> {
        pem::decode(&self.set.read(name)?).map_err(in_file(name))
    }

    fn certificates(&self, name: &str) -> Result<Named, StoreError> {
        Ok(named(concatenated(&self.blocks(name)?).map_err(in_file(name))?, name))
    }
}

/// DER, and the name of its file.
#[derive(Clone)]
struct Named<T = Vec<u8>> {
    bytes: T,
    file: String,
}

fn named<T>(bytes: T, file: &str) -> Named<T> {
    Named { bytes, file: file.to_owned() }
}

/// A key with its chain and bundle.
#[derive(Clone)]
struct SvidFiles {
    chain: Named,
    key: Named<Zeroizing<Vec<u8>>>,
    bundle: Named,
}

impl SvidFiles {
    /// Checks each by itself, and that they belong together.
    fn parse(self) -> Result<X509Svid, StoreError> {
        let Self { chain, key, bundle } = self;
        let name = |field| match field {
            Field::Key => &key.file,
            Field::Bundle => &bundle.file,
            Field::SpiffeId | Field::Chain => &chain.file,
        };
        X509Svid::of_files(X509Fields { chain: chain.bytes, key: key.bytes, bundle: bundle.bytes })
            .map_err(|(field, flaw)| in_file(name(field))(flaw))
    }
}

/// The certificates of blocks that hold nothing else.
fn concatenated(blocks: &[Block]) -> Result<Vec<u8>, Flaw> {
    if blocks.is_empty() || blocks.iter().any(|(label, _)| *label != Label::Certificate) {
        return Err(flaw!("it does not hold certificates and nothing else"));
    }
    Ok(blocks.iter().flat_map(|(_, der)| der.iter().copied()).collect())
}
