//! The client's limits.

/// The largest response that is read, in MiB: twice what clients in Go read.
pub const MAX_MESSAGE_MIB: i32 = 8;

/// The most parts of a response: SVIDs, revocation lists and bundles. Of real bundles, 8 MiB hold half as many.
pub(super) const MAX_PARTS: usize = 65_536;

/// The most fields of a response that are not known, by their number or with their type of value; those of its
/// parts included.
pub(super) const MAX_UNKNOWN_FIELDS: usize = 8_192;
