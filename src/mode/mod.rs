//! The modes, one file for each; init, refresh and run share one loop.

mod announce;
mod change_text;
pub(crate) mod check;
pub(crate) mod columns;
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
