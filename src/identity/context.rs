//! All that a workload is entitled to, from one response: its SVIDs and the bundles around them.

use std::fmt;

use thiserror::Error;

use super::bundle::{BundleFlaw, X509Bundle};
use super::offered::OfferedX509Context;
use super::spiffe_id::SpiffeId;
use super::x509_svid::{SvidFlaw, X509Svid};

/// A checked response: every part of it is good, and there is at least one SVID.
pub struct X509Context {
    svids: Vec<X509Svid>,
}

impl X509Context {
    /// Checks a response as a whole: one bad part makes all of it bad.
    pub fn parse(offered: OfferedX509Context) -> Result<Self, Rejected> {
        if offered.svids.is_empty() {
            return Err(Rejected::NoSvids);
        }
        let svids = offered
            .svids
            .into_iter()
            .enumerate()
            .map(|(index, svid)| {
                let id = svid.spiffe_id.clone();
                X509Svid::parse(svid).map_err(|flaw| Rejected::Svid { index, id, flaw })
            })
            .collect::<Result<_, _>>()?;
        // A trust domain without X.509 authorities has no bundle (X509-SVID standard, section 6.2).
        let federated = offered.federated_bundles.into_iter().filter(|(_, der)| !der.is_empty());
        for (trust_domain, der) in federated {
            X509Bundle::parse_federated(&trust_domain, &der)
                .map_err(|flaw| Rejected::FederatedBundle { trust_domain, flaw })?;
        }
        Ok(Self { svids })
    }

    /// Picks the SVID of the wanted ID, or the default identity: the first (SPIFFE Workload API
    /// standard, section 5.3).
    pub fn select(mut self, wanted: Option<&SpiffeId>) -> Result<X509Svid, NotOffered> {
        let index = match wanted {
            None => 0,
            Some(wanted) => {
                self.svids.iter().position(|svid| svid.id() == wanted).ok_or_else(|| NotOffered {
                    wanted: wanted.clone(),
                    offered: self.svids.iter().map(|svid| svid.id().clone()).collect(),
                })?
            }
        };
        Ok(self.svids.swap_remove(index))
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
}

/// The wanted SVID is not among those offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotOffered {
    wanted: SpiffeId,
    offered: Vec<SpiffeId>,
}

impl std::error::Error for NotOffered {}

impl fmt::Display for NotOffered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let offered: Vec<_> = self.offered.iter().map(SpiffeId::as_str).collect();
        write!(f, "the agent does not offer {}, only {}", self.wanted, offered.join(", "))
    }
}
