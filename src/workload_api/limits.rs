//! The client's limit.

/// The largest response that is read, in MiB: twice what clients in Go read.
pub const MAX_MESSAGE_MIB: i32 = 8;
