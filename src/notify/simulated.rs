//! A process of a simulation, which counts its signals.

use std::cell::Cell;

use nix::unistd::Pid;

use crate::process::facts::Reaction;

/// A process of a simulation.
#[derive(Debug)]
pub(crate) struct SimulatedProcess {
    pub(crate) pid: Cell<Pid>,
    /// What it does with the signal; `None`: it is not there.
    pub(crate) reaction: Cell<Option<Reaction>>,
    /// How many signals it has had.
    pub(crate) signals: Cell<u64>,
}
