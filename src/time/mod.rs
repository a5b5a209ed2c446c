//! The time: handed in, written, and waited for.

pub(crate) mod backoff;
pub(crate) mod clock;
pub(crate) mod timestamp;
pub(crate) mod timing;
