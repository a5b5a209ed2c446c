//! Processes, by POSIX and `/proc`: signals by number, children, facts about other processes. Knows
//! nothing of files or SVIDs.

pub(crate) mod child;
pub(crate) mod core_dumps;
pub(crate) mod environment;
pub(crate) mod facts;
pub(crate) mod signal;
#[cfg(test)]
pub(crate) mod simulated;
