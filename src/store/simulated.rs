//! What happens to a simulation's disk, and to the process that writes there.

use std::cell::Cell;
use std::fs::File;
use std::io::Write;
use std::panic::resume_unwind;

use nix::errno::Errno;

use crate::time::backoff::chance;

/// The disk of the simulation that runs in this thread.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Disk {
    /// Has room for some files alone.
    pub(crate) is_full: bool,
    /// After so many steps of a publication, the process dies.
    pub(crate) dies_after: Option<u64>,
    /// It has died. What we clean up at its end is not cleaned up.
    pub(crate) is_dead: bool,
    /// Whether there were steps since somebody asked.
    pub(crate) has_steps: bool,
}

/// What unwinds the stack of the process that dies. Nothing on it cleans up.
pub(crate) struct Death;

thread_local! {
    pub(crate) static DISK: Cell<Disk> = Cell::default();
}

/// A step that needs no room: the process may die before it.
pub(super) fn step() {
    let disk = Disk { has_steps: true, ..DISK.get() };
    DISK.set(disk);
    let Some(steps) = disk.dies_after else { return };
    DISK.set(Disk { dies_after: steps.checked_sub(1), is_dead: steps == 0, ..disk });
    if steps == 0 {
        resume_unwind(Box::new(Death));
    }
}

/// Before the contents of a file are written: there may be room for a part alone, or the process dies then.
pub(super) fn write_part(file: &mut File) -> nix::Result<()> {
    let Disk { is_full, dies_after, .. } = DISK.get();
    let has_room = !is_full || chance().is_multiple_of(4);
    if !has_room || dies_after == Some(0) {
        file.write_all(b"-----BEGIN ").ok();
    }
    step();
    if has_room { Ok(()) } else { Err(Errno::ENOSPC) }
}
