//! Warnings about a directory, logged once and not at every publication.

use std::cell::RefCell;
use std::fmt::Display;

/// The subject of a warning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Notice {
    NoLocks,
    NoHardLinks,
    NoSymbolicLinks,
    NarrowerMode,
    SharedByAllUsers,
    ForeignSet,
}

/// The notices that have been given.
#[derive(Default)]
pub(super) struct Notices(RefCell<Vec<Notice>>);

impl Notices {
    /// Logs a warning, the first time.
    pub(super) fn warn_once(&self, notice: Notice, message: impl Display) {
        let mut given = self.0.borrow_mut();
        if !given.contains(&notice) {
            given.push(notice);
            log::warn!("{message}");
        }
    }
}
