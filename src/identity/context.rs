//! One X.509 response: the SVIDs of a workload, and the bundles beside them.
//!
//! Every SVID must have the standard's mandatory fields. Beyond that, only the selected SVID is checked,
//! so that no other one holds it up.

use std::collections::BTreeMap;

use super::bundle::X509Bundle;
use super::crl::CrlDetails;
use super::raw::{RawX509Context, X509Fields, shortened};
use super::selection::Selection;
use super::spiffe_id::TrustDomain;
use super::svids::{self, Inspected, Unusable};
use super::x509_svid::{X509Svid, mandatory_fields};
use crate::words::Flaw;

/// A response with a good selected SVID.
pub(crate) struct X509Context {
    /// The selected SVID.
    pub(crate) svid: X509Svid,
    /// The bundles of foreign trust domains.
    pub(crate) federated: FederatedBundles,
    /// Certificate revocation lists, unchecked.
    pub(crate) crls: Vec<Vec<u8>>,
}

impl X509Context {
    /// Checks that a response has the mandatory fields (SPIFFE Workload API standard, section 5.2.1),
    /// and the selected SVID in full. Its dates are not checked.
    pub(crate) fn parse(raw: RawX509Context, selection: &Selection) -> Result<Self, Unusable> {
        svids::check_fields(&raw.svids, mandatory_fields)?;
        let svid = svids::select(raw.svids, selection, parse_svid)?;
        let own = svid.info.id.trust_domain().id();
        let mut federated = FederatedBundles::new(raw.federated_bundles);
        // A trust domain is not federated with itself, whatever the agent says.
        federated.0.remove(&own);
        Ok(Self { svid, federated, crls: raw.crls })
    }
}

/// A whole response: each part, or the reason why it is refused.
pub(crate) struct Inspection {
    /// In the agent's order; the first is the default identity.
    pub(crate) svids: Vec<Inspected<X509Svid>>,
    /// By trust domain.
    pub(crate) federated: Vec<FederatedBundle>,
    /// The certificate revocation lists, in the agent's order.
    pub(crate) crls: Vec<Result<CrlDetails, Flaw>>,
}

impl Inspection {
    /// Checks that a response has the mandatory fields, and each of its parts on its own.
    pub(crate) fn parse(raw: RawX509Context) -> Result<Self, Flaw> {
        svids::check_fields(&raw.svids, mandatory_fields)?;
        Ok(Self {
            svids: svids::inspect(raw.svids, parse_svid),
            federated: FederatedBundles::new(raw.federated_bundles).parse().collect(),
            crls: raw.crls.iter().map(|der| CrlDetails::read(der)).collect(),
        })
    }
}

fn parse_svid(id: &str, raw: X509Fields) -> Result<X509Svid, Flaw> {
    X509Svid::parse(id, raw).map_err(|(field, flaw)| flaw.within(field))
}

/// A foreign trust domain with its bundle; or its key in the response, cut if it is long, and what is wrong.
type FederatedBundle = Result<(TrustDomain, X509Bundle), (String, Flaw)>;

/// The federated bundles of a response, unchecked, by trust domain.
pub(crate) struct FederatedBundles(BTreeMap<String, Vec<u8>>);

impl FederatedBundles {
    fn new(mut bundles: BTreeMap<String, Vec<u8>>) -> Self {
        // A trust domain without X.509 authorities has no bundle (X.509-SVID standard, section 6.2).
        bundles.retain(|_, der| !der.is_empty());
        Self(bundles)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Checks each bundle on its own.
    pub(crate) fn parse(self) -> impl Iterator<Item = FederatedBundle> {
        self.0.into_iter().map(|(key, der)| {
            let parsed = TrustDomain::from_id(&key).and_then(|name| Ok((name, X509Bundle::parse(der)?)));
            parsed.map_err(|flaw| (shortened(&key), flaw))
        })
    }
}
