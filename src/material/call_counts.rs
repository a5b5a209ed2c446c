//! Counts of a source's calls, for the metrics.

use std::collections::BTreeMap;

use crate::workload_api::call_error::USUAL_FAILURES;

/// Counts since the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CallCounts {
    /// The RPC's name.
    pub(crate) rpc: &'static str,
    /// Whether the last call has delivered a response, with the identity if it is for that, and has not failed since.
    pub(crate) is_connected: bool,
    /// Responses that were discarded: they cannot be decoded, break the standard, or lack the
    /// selected SVID.
    pub(crate) rejected: u64,
    /// Failed calls by gRPC's name of the status, or `Unreachable` without a connection. The usual ones are there
    /// from the start: an increase can be seen only where there was a number before.
    pub(crate) failed: BTreeMap<&'static str, u64>,
    /// Calls that the agent has ended after a response, and calls that found no agent: the next may find a new one.
    pub(crate) ended: u64,
}

impl CallCounts {
    pub(crate) fn new(rpc: &'static str) -> Self {
        let failed = USUAL_FAILURES.into_iter().map(|code| (code, 0)).collect();
        Self { rpc, is_connected: false, rejected: 0, failed, ended: 0 }
    }

    pub(crate) fn failed(&mut self, code: &'static str) {
        self.is_connected = false;
        *self.failed.entry(code).or_default() += 1;
    }
}
