//! The updates that sources return.

use crate::identity::bundle::BundleInfo;
use crate::identity::svid_info::SvidInfo;
use crate::store::file::File;

/// What a source has learned.
pub(crate) enum Update {
    /// Good files, in place of the source's earlier ones; with the SVID and the
    /// X.509 bundles in them, if there are any.
    /// Keys among them are wiped when they are dropped.
    Files(Vec<File>, Option<SvidInfo>, Vec<BundleInfo>),
    /// The agent has withdrawn the identity (SPIFFE Workload API standard, section 5.2.1). `next`
    /// says what the source does now, for the end of a log line.
    Withdrawn { cause: String, next: String },
    /// Something went wrong, and is logged; the source goes on.
    Trouble(String),
    /// The agent gave an answer that must not be retried.
    Refused(String),
}

/// For how long the sources are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// Until each has good files, or an answer that must not be retried.
    FirstSuccess,
    /// Until the process stops.
    Stopped,
}
