//! Thousands of rotations while readers read, and everything around the program goes wrong now and then.
//!
//! A *step* is one rotation, and what disturbs it: see [`plan::Step`]. All steps are drawn from a seed, which is
//! printed at the start; `make soak SEED=… ROTATIONS=…` draws the same ones again. Meanwhile three kinds of
//! readers compare all they read with what the agent has offered: see `readers.rs`. At the end
//!
//! - no reader has met a mixture where README excludes one, and none has met an older set after a newer one;
//! - the last set stands, the hook has seen it, and the application was signalled after it;
//! - the program has no more memory, descriptors and threads, and the volume no more entries, than it had when
//!   each kind of disturbance had occurred once: see `growth.rs`.
//!
//! The wall clock is stepped for the program alone: see `clock.rs`.
//!
//! `make test` runs a short one, `make soak` 10,000 rotations. Beside them, `make soak` lets another helper meet random
//! peers for minutes: see `peers.rs`.

mod clock;
pub mod growth;
mod ledger;
mod peers;
pub mod plan;
mod process;
mod readers;
mod rotations;
mod summary;

use std::time::{SystemTime, UNIX_EPOCH};

use rotations::Soak;

const SHORT: usize = 150;
const LONG: usize = 10_000;
const MINUTES: u64 = 2;

#[test]
fn through_hundreds_of_rotations_every_reader_finds_whole_sets_and_nothing_grows() {
    Soak::new(seed(), SHORT).run();
}

#[test]
#[ignore = "takes minutes: make soak"]
fn through_thousands_of_rotations_every_reader_finds_whole_sets_and_nothing_grows() {
    let rotations = variable("SOAK_ROTATIONS").map_or(LONG, |number| number as usize);
    Soak::new(seed(), rotations).run();
}

#[test]
#[ignore = "takes minutes: make soak"]
fn through_minutes_of_random_peers_nothing_grows_and_each_good_agent_is_served() {
    peers::meet(seed(), variable("SOAK_MINUTES").unwrap_or(MINUTES));
}

fn seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    variable("SOAK_SEED").unwrap_or(now.as_nanos() as u64 % 1_000_000_000)
}

/// A number in a variable; an empty one counts as unset.
fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}
