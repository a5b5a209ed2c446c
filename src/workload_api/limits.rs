//! The client's limits.

/// The largest response that is read, in MiB: twice what clients in Go read.
pub const MAX_MESSAGE_MIB: i32 = 8;

/// The most fields of a response, those of its SVIDs and bundles included: 1,024 SVIDs have 6,144, a bundle
/// has 3.
pub(super) const MAX_FIELDS: usize = 32_768;
