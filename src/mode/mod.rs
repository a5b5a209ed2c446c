//! The modes: the only place that knows the Workload API, identities and files at once.

mod announce;
mod changes;
pub(crate) mod check;
mod columns;
pub(crate) mod inspect;
mod item;
pub(crate) mod items;
pub(crate) mod main_loop;
mod publisher;
mod schedule;
#[cfg(test)]
#[path = "../../tests/simulation/mod.rs"]
mod simulation;
pub(crate) mod token;
