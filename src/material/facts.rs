//! What is known of a part's files.

use std::collections::BTreeMap;
use std::time::SystemTime;

use crate::identity::bundle::BundleInfo;
use crate::identity::private_key::KeyType;
use crate::identity::svid_info::SvidInfo;
use crate::identity::trust::Trust;

/// What the verdict, the log and the metrics know of a part's files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// The SVID, if it has one.
    pub(crate) svid: Option<SvidInfo>,
    /// How the SVID's chain leads to its bundle.
    pub(crate) trust: Option<Trust>,
    /// The type of the SVID's key, if it is one that cannot be checked.
    pub(crate) unchecked_key: Option<KeyType>,
    /// The X.509 bundles in the files, our own trust domain's first.
    pub(crate) bundles: Vec<BundleInfo>,
    /// How many CA certificates the bundle map leaves out, as far as that is known.
    pub(crate) bundle_map_omitted: Option<usize>,
    /// When the first revocation list in the files is due to be replaced.
    pub(crate) crl_next_update: Option<SystemTime>,
    /// A digest of the revocation lists in the files, if there are any.
    pub(crate) crls: Option<u64>,
    /// The keys in the files, as a digest that does not depend on their order.
    pub(crate) keys: Option<u64>,
}

impl Facts {
    /// Whether both have the same CAs of the same trust domains. Files of an earlier process may not show whose
    /// CAs they have: then it is not known.
    pub(super) fn has_same_bundles(&self, other: &Self) -> bool {
        let [own, others] = [self, other].map(|facts| {
            let bundles = facts.bundles.iter();
            bundles.map(|bundle| (&bundle.trust_domain, &bundle.authorities)).collect::<BTreeMap<_, _>>()
        });
        own == others
    }

    /// What cannot be checked, though the files may be good: sentences for a warning.
    pub(crate) fn doubts(&self) -> impl Iterator<Item = String> {
        let name = "a name in the chain or the bundle cannot be compared, and may be another's";
        let is_guess = self.trust.as_ref().is_some_and(|trust| trust.is_guess);
        let key = |key_type: KeyType| {
            format!("the key cannot be checked against its certificate: its type is {key_type}")
        };
        is_guess.then(|| name.to_owned()).into_iter().chain(self.unchecked_key.map(key))
    }

    /// Each moment at which the verdict may change.
    pub(crate) fn verdict_times(&self) -> impl Iterator<Item = SystemTime> {
        let svid = self.svid.iter().flat_map(|svid| svid.not_before.into_iter().chain([svid.not_after]));
        svid.chain(self.trust.iter().flat_map(Trust::changes))
    }
}
