//! An X.509-SVID and its bundles as files.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::rc::Rc;
use std::time::SystemTime;

use super::x509_part::{PemFiles, X509Part};
use crate::identity::bundle::{Authority, BundleInfo, X509Bundle};
use crate::identity::ca_jwk;
use crate::identity::context::{FederatedBundles, X509Context};
use crate::identity::crl::RevocationLists;
use crate::identity::limits::{MAX_KEPT_BUNDLES, MAX_TRUST_DOMAINS};
use crate::identity::spiffe_id::TrustDomain;
use crate::identity::x509_svid::X509Svid;
use crate::layout::bundle_map;
use crate::layout::pem::{self, Label};
use crate::layout::pkcs12::{self, Alias, Password};
use crate::layout::{CREDENTIAL_BUNDLE, FEDERATED_SUFFIX, TRUST_BUNDLE_SUFFIX, of_trust_domain};
use crate::store::file::{Contents, File, FileMode, FileName};
use crate::words::{Flaw, first_few};

/// Files, and what is known of them.
pub(crate) struct Written {
    pub(crate) files: Vec<File>,
    /// The bundles in the files, our own trust domain's first.
    pub(super) bundles: Vec<BundleInfo>,
    /// How many CA certificates the bundle map leaves out, if there is one.
    pub(super) bundle_map_omitted: Option<usize>,
    /// What was left out, and why: it must not hold up the SVID.
    pub(super) flaws: Vec<String>,
    /// When the first CA expires that is then to be left out.
    pub(super) expires_at: Option<SystemTime>,
}

/// Good bundles of federated trust domains.
pub(crate) type Federated = BTreeMap<TrustDomain, Rc<X509Bundle>>;

/// The files of an X.509-SVID with its bundles. `last_good`: the federated bundles of the last response, and then those
/// of this one.
///
/// # Errors
///
/// The trust domain cannot be part of a file name that is needed.
pub(crate) fn write(
    part: &X509Part,
    context: X509Context,
    crls: RevocationLists,
    last_good: &mut Federated,
    now: SystemTime,
) -> Result<Written, Flaw> {
    let X509Context { svid, federated, .. } = context;
    let mut flaws = Vec::new();
    if part.writes_federated() {
        *last_good = good(federated, last_good, &mut flaws);
    }
    let valid_at = part.omit_expired.then_some(now);
    let federated = last_good.iter().filter(|(_, bundle)| valid(bundle, valid_at).next().is_some());
    let federated: Vec<_> =
        federated.map(|(trust_domain, bundle)| (trust_domain.clone(), bundle.clone())).collect();
    let kept = last_good.values().flat_map(|bundle| bundle.authorities());
    if kept.map(|authority| authority.der.len()).sum::<usize>() > MAX_KEPT_BUNDLES {
        last_good.clear();
    }
    let material = Material {
        trust_domain: svid.info.id.trust_domain(),
        svid,
        federated,
        crls,
        valid_at,
        merges_federated: part.pem.as_ref().is_some_and(|pem| pem.federated_in_bundle),
        adds_intermediates: part.has_intermediates_in_bundle(),
        alias: part.alias.clone(),
        password: part.password.newest(),
    };
    let own = BundleInfo::of(material.trust_domain.clone(), material.own_and_added());
    let federated = material.federated().map(|(trust_domain, bundle)| {
        let written = bundle.authorities().filter(|authority| authority.is_valid_at(valid_at));
        BundleInfo::of(trust_domain.clone(), written)
    });
    let bundles: Vec<_> = std::iter::once(own).chain(federated).collect();
    let expires_at = valid_at.and_then(|_| bundles.iter().map(|bundle| bundle.earliest_expiry).min());
    let mut files = Files { part, material: Rc::new(material), all: Vec::new(), flaws };
    if let Some(pem) = &part.pem {
        files.add_pem_files(pem);
    }
    if let Some(name) = &part.combined {
        files.add(name.clone(), part.key_mode, Material::write_key_and_chain);
    }
    if part.spiffe {
        files.add_credential_folder()?;
    }
    if let Some(name) = &part.keystore {
        files.add(name.clone(), part.key_mode, |material, out| {
            let (key, chain) = (material.svid.key.der(), material.chain().collect::<Vec<_>>());
            pkcs12::key_store(key, &chain, &material.alias, &material.password, out)
        });
    }
    if let Some(name) = &part.truststore {
        files.add(name.clone(), part.certificate_mode, |material, out| {
            pkcs12::trust_store(material.trusted(), &material.password, out)
        });
    }
    let bundle_map_omitted = part.bundle_map.as_ref().map(|name| files.add_bundle_map(name));
    if let Some(crls) = part.crls.as_ref().filter(|_| !files.material.crls.is_empty()) {
        files.add(crls.name.clone(), part.certificate_mode, |material, out| {
            pem::write(material.crls.ders().map(|der| (Label::RevocationList, der)), out)
        });
    }
    let Files { all, flaws, .. } = files;
    Ok(Written { files: all, bundles, bundle_map_omitted, flaws, expires_at })
}

/// The good bundles of a response. While one is unusable, the last good one of its trust domain stays.
fn good(federated: FederatedBundles, last_good: &Federated, flaws: &mut Vec<String>) -> Federated {
    flaws.extend(too_many(federated.len()));
    let (mut good, mut bad) = (Federated::new(), Vec::new());
    for bundle in federated.parse().take(MAX_TRUST_DOMAINS) {
        let (key, flaw) = match bundle {
            Ok((trust_domain, bundle)) => {
                good.insert(trust_domain, Rc::new(bundle));
                continue;
            }
            Err(flawed) => flawed,
        };
        let kept = TrustDomain::from_id(&key).ok().and_then(|name| last_good.get_key_value(&name));
        let next = if kept.is_some() { LAST_ONE_STAYS } else { "" };
        bad.push(format!("left out a federated bundle: federated_bundles[{key:?}]: {flaw}{next}"));
        good.extend(kept.map(|(trust_domain, bundle)| (trust_domain.clone(), bundle.clone())));
    }
    flaws.extend(first_few(bad));
    good
}

/// What happens though a federated bundle is unusable.
pub(super) const LAST_ONE_STAYS: &str = "; the last good one stays";

/// What is left out of so many federated trust domains.
fn too_many(federated: usize) -> Option<String> {
    (federated > MAX_TRUST_DOMAINS).then(|| {
        format!(
            "there are {federated} federated trust domains; only the first {MAX_TRUST_DOMAINS} are written"
        )
    })
}

/// An SVID and its bundles: what all files of X.509 are made of.
struct Material {
    svid: X509Svid,
    /// The SVID's.
    trust_domain: TrustDomain,
    federated: Vec<(TrustDomain, Rc<X509Bundle>)>,
    crls: RevocationLists,
    /// CA certificates that have expired by then are left out.
    valid_at: Option<SystemTime>,
    /// The federated CAs are trusted as the own are.
    merges_federated: bool,
    /// The bundle in PEM and the truststore have the intermediates, and the certificate's file the leaf alone.
    adds_intermediates: bool,
    /// Of the key in a keystore.
    alias: Alias,
    /// Of keystores.
    password: Password,
}

impl Material {
    fn write_key(&self, out: &mut dyn Write) -> io::Result<()> {
        pem::write([(Label::PrivateKey, self.svid.key.der())], out)
    }

    fn intermediates(&self) -> impl Iterator<Item = &[u8]> {
        self.svid.intermediates().map(|authority| authority.der)
    }

    fn chain(&self) -> impl Iterator<Item = &[u8]> {
        [self.svid.leaf()].into_iter().chain(self.intermediates())
    }

    fn write_key_and_chain(&self, out: &mut dyn Write) -> io::Result<()> {
        self.write_key(out)?;
        write_certificates(self.chain(), out)
    }

    fn federated(&self) -> impl Iterator<Item = (&TrustDomain, &X509Bundle)> {
        self.federated.iter().map(|(trust_domain, bundle)| (trust_domain, bundle.as_ref()))
    }

    /// All trust domains with their bundles, by name.
    fn trust_domains(&self) -> BTreeMap<&TrustDomain, &X509Bundle> {
        self.federated().chain([(&self.trust_domain, &self.svid.bundle)]).collect()
    }

    fn own(&self) -> impl Iterator<Item = &[u8]> + Clone {
        valid(&self.svid.bundle, self.valid_at)
    }

    /// The own CAs, and the intermediates if they are added.
    fn own_and_added(&self) -> impl Iterator<Item = Authority<'_>> + Clone {
        let intermediates = self.svid.intermediates().filter(|_| self.adds_intermediates);
        let all = self.svid.bundle.authorities().chain(intermediates);
        all.filter(|authority| authority.is_valid_at(self.valid_at))
    }

    /// What the bundle in PEM and the truststore hold: with these, the federated CAs that are trusted as the own are.
    fn trusted(&self) -> impl Iterator<Item = &[u8]> + Clone {
        let merged = self.federated.iter().filter(|_| self.merges_federated);
        let merged = merged.flat_map(|(_, bundle)| valid(bundle, self.valid_at));
        self.own_and_added().map(|authority| authority.der).chain(merged)
    }
}

/// The CA certificates of a bundle, DER; those that are valid at a time, if there is one.
fn valid(bundle: &X509Bundle, at: Option<SystemTime>) -> impl Iterator<Item = &[u8]> + Clone {
    let is_valid = move |authority: &Authority<'_>| authority.is_valid_at(at);
    bundle.authorities().filter(is_valid).map(|authority| authority.der)
}

fn write_certificates<'a>(ders: impl Iterator<Item = &'a [u8]>, out: &mut dyn Write) -> io::Result<()> {
    pem::write(ders.map(|der| (Label::Certificate, der)), out)
}

/// Files that are made of one material.
struct Files<'a> {
    part: &'a X509Part,
    material: Rc<Material>,
    all: Vec<File>,
    flaws: Vec<String>,
}

impl Files<'_> {
    fn add(
        &mut self,
        name: FileName,
        mode: FileMode,
        write: impl Fn(&Material, &mut dyn Write) -> io::Result<()> + 'static,
    ) {
        let material = self.material.clone();
        let contents = Contents::new(move |out| write(&material, out));
        self.all.push(File { name, mode, contents });
    }

    fn add_pem_files(&mut self, pem: &PemFiles) {
        self.add(pem.certificate.clone(), self.part.certificate_mode, |material, out| {
            if material.adds_intermediates {
                write_certificates([material.svid.leaf()].into_iter(), out)
            } else {
                write_certificates(material.chain(), out)
            }
        });
        self.add(pem.key.clone(), self.part.key_mode, Material::write_key);
        self.add(pem.bundle.clone(), self.part.certificate_mode, |material, out| {
            write_certificates(material.trusted(), out)
        });
        if pem.federated_files {
            self.add_federated(FEDERATED_SUFFIX);
        }
    }

    fn add_credential_folder(&mut self) -> Result<(), Flaw> {
        self.add(CREDENTIAL_BUNDLE.parse()?, self.part.key_mode, Material::write_key_and_chain);
        let name = of_trust_domain(&self.material.trust_domain, TRUST_BUNDLE_SUFFIX)?;
        self.add(name, self.part.certificate_mode, |material, out| write_certificates(material.own(), out));
        self.add_federated(TRUST_BUNDLE_SUFFIX);
        Ok(())
    }

    /// Returns how many CA certificates it leaves out.
    fn add_bundle_map(&mut self, name: &FileName) -> usize {
        self.add(name.clone(), self.part.certificate_mode, |material, out| {
            let all = material.trust_domains().into_iter();
            bundle_map::write(all.map(|(name, bundle)| (name, valid(bundle, material.valid_at))), out)
        });
        let mut all_omitted = 0;
        for (trust_domain, bundle) in self.material.trust_domains() {
            let authorities = valid(bundle, self.material.valid_at);
            let all = authorities.clone().count();
            let omitted = authorities.filter(|authority| ca_jwk::members(authority).is_none()).count();
            all_omitted += omitted;
            let what = match omitted {
                0 => continue,
                _ if omitted == all => format!("the trust domain {trust_domain}"),
                _ => format!("{omitted} of {all} CA certificates of {trust_domain}"),
            };
            self.flaws.push(format!(
                "{name}: left out {what}: their keys are neither RSA nor EC (P-256, P-384, P-521), and readers refuse a whole bundle map for another key"
            ));
        }
        all_omitted
    }

    fn add_federated(&mut self, suffix: &str) {
        let material = self.material.clone();
        for (index, (other, _)) in material.federated.iter().enumerate() {
            match of_trust_domain(other, suffix) {
                Ok(name) => self.add(name, self.part.certificate_mode, move |material, out| {
                    let bundle = material.federated.get(index).into_iter();
                    write_certificates(bundle.flat_map(|(_, bundle)| valid(bundle, material.valid_at)), out)
                }),
                Err(error) => self.flaws.push(format!("{error}; its bundle is left out")),
            }
        }
    }
}
