//! The modes: the only place that knows the Workload API, identities and files at once.

pub mod init;
pub mod refresh;

use std::time::SystemTime;

use thiserror::Error;

use crate::identity::context::{NotOffered, Rejected, X509Context};
use crate::identity::offered::OfferedX509Context;
use crate::identity::spiffe_id::SpiffeId;
use crate::identity::x509_svid::{Term, X509Svid};
use crate::options::Options;
use crate::store::layout::PemLayout;
use crate::store::publish::{Publication, Store, StoreError};
use crate::timestamp::rfc3339;

/// Checks a response and picks the SVID to publish from it.
fn usable_svid(offered: OfferedX509Context, wanted: Option<&SpiffeId>) -> Result<X509Svid, Unusable> {
    let context = X509Context::parse(offered).map_err(Unusable::Rejected)?;
    let svid = context.select(wanted).map_err(Unusable::NotOffered)?;
    match svid.term().is_expired(SystemTime::now()) {
        true => Err(Unusable::Expired(svid.term().clone())),
        false => Ok(svid),
    }
}

/// What happens after a response that gives nothing to publish.
const AWAITING: &str = "; waiting for the agent's next response";

/// Why a response gives nothing to publish.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
enum Unusable {
    #[error("discarded a response that is no X509SVIDResponse: {0}")]
    Undecodable(String),
    #[error("discarded a response that is not good: {0}")]
    Rejected(Rejected),
    #[error("{0} (is --pod-spiffe-id right, and does an entry for it match this pod?)")]
    NotOffered(NotOffered),
    #[error(
        "the agent offers {} with an SVID that expired at {} (is the server behind the agent down, or this clock wrong?)",
        .0.id(), rfc3339(.0.not_after(), 0)
    )]
    Expired(Term),
}

/// Where the files go, and in which form.
struct Target {
    store: Store,
    layout: PemLayout,
}

impl Target {
    fn new(options: &Options) -> Self {
        Self {
            store: Store::new(options.svid_path.0.clone()),
            layout: PemLayout {
                certificate: options.svid_file_name.clone(),
                key: options.svid_key_file_name.clone(),
                bundle: options.bundle_file_name.clone(),
                certificate_mode: options.cert_file_mode,
                key_mode: options.key_file_mode,
            },
        }
    }

    /// Removes what a crash left, and looks at the directory; a trouble is no more than a warning,
    /// for a publication meets it again if it matters.
    fn prepare(&self) {
        if let Err(error) = self.store.clean() {
            log::warn!("{error}");
        }
        if self.store.is_shared() {
            log::warn!(
                "{} is shared by all users: they may be unable to follow the links there, and can block their names; a directory of the pod's own is better",
                self.store.path().display()
            );
        }
    }

    fn publish(&self, svid: &X509Svid) -> Result<(), PublishError> {
        let files = self
            .layout
            .files(svid.chain(), svid.key().der(), svid.bundle().authorities())
            .map_err(|cause| PublishError::Encode(cause.to_string()))?;
        let path = self.store.path().display();
        let term = svid.term();
        let (id, serial, expires) = (term.id(), term.serial(), rfc3339(term.not_after(), 0));
        match self.store.publish(&files).map_err(PublishError::Store)? {
            Publication::Replaced => log::info!(
                spiffe_id:% = id, serial, not_after = expires.as_str(), path:%;
                "published {id} (serial {serial}, valid until {expires}) in {path}"
            ),
            Publication::Unchanged => log::debug!(
                spiffe_id:% = id, serial, not_after = expires.as_str(), path:%;
                "{id} (serial {serial}, valid until {expires}) is already in {path}; nothing written"
            ),
        }
        Ok(())
    }

    fn withdraw(&self) -> Result<(), PublishError> {
        self.store.withdraw().map_err(PublishError::Store)?;
        log::info!("removed the files from {}", self.store.path().display());
        Ok(())
    }
}

/// Why an SVID is not published.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PublishError {
    /// The material does not fit into PEM.
    #[error("cannot encode the SVID as PEM: {0}")]
    Encode(String),
    /// The files could not be written.
    #[error("{0}")]
    Store(StoreError),
}

impl PublishError {
    /// Whether another process was writing: a matter of moments.
    fn is_busy(&self) -> bool {
        matches!(self, Self::Store(StoreError::Busy { .. }))
    }
}
