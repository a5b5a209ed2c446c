//! Warnings about a directory that are not logged at every publication.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::Instant;

use log::Level;

use crate::logging::Repetition;

/// The subject of a warning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Notice {
    NoLocks,
    NoHardLinks,
    NoSymbolicLinks,
    NarrowerMode,
    SharedByAllUsers,
    ForeignSet,
    /// Another program puts its own `..data` in the place of ours.
    OthersData,
    /// A file of the set before cannot be kept.
    LeftOut,
    /// What is of no use any more cannot be removed.
    NotRemoved,
}

/// The notices that have been given.
#[derive(Default)]
pub(super) struct Notices(RefCell<BTreeMap<Notice, Repetition>>);

impl Notices {
    /// Logs a warning about what never changes, the first time.
    pub(super) fn warn_once(&self, notice: Notice, message: impl Display) {
        self.0.borrow_mut().entry(notice).or_insert_with(|| {
            log::warn!("{message}");
            Repetition::default()
        });
    }

    /// Whether a warning was logged.
    pub(super) fn is_given(&self, notice: Notice) -> bool {
        self.0.borrow().contains_key(&notice)
    }

    /// Logs a warning about a state that may last, and then a reminder each minute.
    pub(super) fn warn(&self, notice: Notice, message: &str, now: Instant) {
        self.0.borrow_mut().entry(notice).or_default().log_state(Level::Warn, message, now);
    }

    /// The state is over.
    pub(super) fn end(&self, notice: Notice) {
        self.0.borrow_mut().entry(notice).or_default().end();
    }
}
