//! What is known of an item's files.

use std::time::SystemTime;

use crate::identity::bundle::BundleInfo;
use crate::identity::svid_info::SvidInfo;
use crate::identity::trust::Trust;

/// What the verdict, the log and the metrics know of an item's files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// The SVID, if it has one.
    pub(crate) svid: Option<SvidInfo>,
    /// How the SVID's chain leads to its bundle.
    pub(crate) trust: Option<Trust>,
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
    /// Each moment at which the verdict may change.
    pub(crate) fn changes(&self) -> impl Iterator<Item = SystemTime> {
        let svid = self.svid.iter().flat_map(|svid| [svid.not_before, svid.not_after]);
        svid.chain(self.trust.iter().flat_map(Trust::changes))
    }
}
