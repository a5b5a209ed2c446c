//! The processes of a simulation, in place of the kernel's.

use std::cell::RefCell;
use std::rc::Rc;

use nix::unistd::Pid;

use super::environment::Variables;

/// What a kernel does with processes.
pub(crate) trait Processes {
    /// Starts a program as a child.
    fn spawn(&self, program: &str, variables: &Variables) -> nix::Result<Pid>;

    /// Takes a child that has ended, with its status as `waitpid` has it.
    fn reap(&self) -> Option<(Pid, i32)>;

    /// Sends the signal of a number.
    fn send(&self, pid: Pid, signal: i32) -> nix::Result<()>;

    /// The text of `/proc/PID/status`, as far as it is about signals.
    fn status(&self, pid: Pid) -> String;
}

thread_local! {
    /// Those of the simulation that runs in this thread.
    pub(crate) static PROCESSES: RefCell<Option<Rc<dyn Processes>>> = const { RefCell::new(None) };
}

/// Those of the simulation that runs in this thread, if one does.
pub(super) fn simulated() -> Option<Rc<dyn Processes>> {
    PROCESSES.with_borrow(Clone::clone)
}
