//! All that a workload is entitled to, from one response: its SVIDs and the bundles around them.

use thiserror::Error;

use super::bundle::{BundleFlaw, X509Bundle};
use super::crl;
use super::offered::OfferedX509Context;
use super::spiffe_id::TrustDomain;
use super::x509_svid::{SvidFlaw, X509Svid};

/// A checked response: every part of it is good, and there is at least one SVID.
pub struct X509Context {
    /// In the agent's order.
    pub svids: Vec<X509Svid>,
    /// Of foreign trust domains, by name.
    pub federated: Vec<(TrustDomain, X509Bundle)>,
    /// Certificate revocation lists, each DER.
    pub crls: Vec<Vec<u8>>,
}

impl X509Context {
    /// Checks a response as a whole: one bad part makes all of it bad.
    pub fn parse(offered: OfferedX509Context) -> Result<Self, Rejected> {
        if offered.svids.is_empty() {
            return Err(Rejected::NoSvids);
        }
        let svids = offered.svids.into_iter().enumerate().map(|(index, svid)| {
            let id = svid.spiffe_id.clone();
            X509Svid::parse(svid).map_err(|flaw| Rejected::Svid { index, id, flaw })
        });
        let svids = svids.collect::<Result<_, _>>()?;
        // A trust domain without X.509 authorities has no bundle (X509-SVID standard, section 6.2).
        let federated = offered.federated_bundles.into_iter().filter(|(_, der)| !der.is_empty());
        let federated = federated.map(|(trust_domain, der)| {
            X509Bundle::parse_federated(&trust_domain, &der)
                .map_err(|flaw| Rejected::FederatedBundle { trust_domain, flaw })
        });
        let mut federated = federated.collect::<Result<Vec<_>, _>>()?;
        // The message's map has no order; the same response must give the same files.
        federated.sort_by(|(one, _), (other, _)| one.cmp(other));
        for (index, der) in offered.crls.iter().enumerate() {
            crl::check(der).map_err(|cause| Rejected::Crl { index, cause })?;
        }
        Ok(Self { svids, federated, crls: offered.crls })
    }
}

/// Which part of a response is not good, and why.
#[allow(missing_docs, reason = "the messages say what the variants mean")]
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Rejected {
    #[error("svids: the mandatory field is empty")]
    NoSvids,
    #[error("svids[{index}] ({id:?}) {flaw}")]
    Svid { index: usize, id: String, flaw: SvidFlaw },
    #[error("federated_bundles[{trust_domain:?}]: {flaw}")]
    FederatedBundle { trust_domain: String, flaw: BundleFlaw },
    #[error("crl[{index}]: it is not a DER certificate revocation list: {cause}")]
    Crl { index: usize, cause: der::Error },
}
