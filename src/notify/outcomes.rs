//! Counts of successes and failures, for the metrics.

/// How often something has succeeded and failed, since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Outcomes {
    pub(crate) succeeded: u64,
    pub(crate) failed: u64,
}

impl Outcomes {
    /// Counts one more.
    pub(crate) fn count(&mut self, is_success: bool) {
        let count = if is_success { &mut self.succeeded } else { &mut self.failed };
        *count += 1;
    }
}
