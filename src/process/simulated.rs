//! The processes of a simulation, in place of the kernel's.

use std::cell::RefCell;
use std::rc::Rc;

use nix::unistd::Pid;

use super::child::{ExitStatus, Program};
use super::environment::Variables;
use super::facts::Reaction;
use super::signal::SignalNumber;

/// What a kernel does with processes.
pub(crate) trait Processes {
    /// Starts a child.
    fn spawn(&self, program: &Program, variables: &Variables) -> nix::Result<Pid>;

    /// Takes a child that has ended.
    fn reap(&self) -> Option<(Pid, ExitStatus)>;

    /// Sends a signal.
    fn send(&self, pid: Pid, signal: SignalNumber) -> nix::Result<()>;

    /// What a process does with the renewal signal.
    fn reaction(&self, pid: Pid) -> Reaction;
}

thread_local! {
    /// Those of the simulation that runs in this thread.
    pub(crate) static PROCESSES: RefCell<Option<Rc<dyn Processes>>> = const { RefCell::new(None) };
}

/// Those of the simulation that runs in this thread, if one does.
pub(super) fn simulated() -> Option<Rc<dyn Processes>> {
    PROCESSES.with_borrow(Clone::clone)
}
