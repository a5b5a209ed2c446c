//! The modes: the only place that knows the Workload API, identities and files at once.

mod announce;
mod changes;
pub(crate) mod check;
pub(crate) mod desired_set;
pub(crate) mod follow;
mod follow_error;
mod follow_settings;
pub(crate) mod inspect;
mod member;
mod phase;
mod publisher;
mod schedule;
