//! A directory into which sets of files are published, each set as one. Knows names and bytes, nothing
//! of their contents.
//!
//! ```text
//! publish: open and lock ──► look ──► prepare ──► swap ──► clean up
//!          open              directory   generation, names     leftovers
//! read:    the published set, by the names that an application opens
//! ```
//!
//! The steps of a publication are those of [`Store::publish`].

mod directory;
mod error;
pub(crate) mod file;
mod generation;
mod leftovers;
mod locks;
mod names;
mod notices;
pub(crate) mod owner;
mod permissions;
mod publish;
pub(crate) mod read;
#[cfg(test)]
pub(crate) mod simulated;
#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use directory::{Absent, Data, Directory, lock_error};
pub(crate) use error::StoreError;
use generation::Generation;
use locks::{Claim, Claimed};
use notices::{Notice, Notices};
use owner::Owner;
use read::{PublishedSet, Snapshot};

use crate::time::clock::Now;
use crate::words::flaw;

/// The file that claims the names. Older programs compare all of it with their own names.
const NAMES: &str = "..names";
/// The file that claims the identity.
const IDENTITY: &str = "..identity";

/// A directory into which sets of files are published.
pub(crate) struct Store {
    path: PathBuf,
    owner: Option<Owner>,
    /// Whether a signal asks the program to end: a publication then stops.
    is_told_to_end: fn() -> bool,
    /// The names that we publish, one a line; nothing is claimed if there are none.
    names: String,
    /// The identity that we publish, if it is known before the first publication.
    identity: Option<String>,
    notices: Notices,
    /// Held as long as the process lives, by the names of their files.
    claims: RefCell<BTreeMap<&'static str, Claim>>,
    /// Whether a set of ours was seen here.
    is_ours: Cell<bool>,
    /// Whether a publication would drop files that were found at the start.
    drops_found: Cell<bool>,
    /// A publication has swapped its set in, and failed after that: the next one finishes it.
    is_unfinished: Cell<bool>,
    snapshot: RefCell<Snapshot>,
}

/// The outcome of a publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Publication {
    /// The set replaced what was there.
    Replaced,
    /// The set that was last published or found here is still the right one; nothing was written.
    Unchanged,
    /// Another helper has published the very same set meanwhile; nothing was written.
    Found,
    /// The set is empty: all files were removed.
    Removed,
}

impl Store {
    /// Touches nothing yet.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self {
            path,
            owner: None,
            is_told_to_end: || false,
            names: String::new(),
            identity: None,
            notices: Notices::default(),
            claims: RefCell::default(),
            is_ours: Cell::default(),
            drops_found: Cell::default(),
            is_unfinished: Cell::default(),
            snapshot: RefCell::default(),
        }
    }

    /// Gives files and directories to an owner; without one, they stay ours.
    pub(crate) fn owned_by(mut self, owner: Option<Owner>) -> Self {
        self.owner = owner;
        self
    }

    /// Stops a publication when this says so.
    pub(crate) fn stopped_by(mut self, is_told_to_end: fn() -> bool) -> Self {
        self.is_told_to_end = is_told_to_end;
        self
    }

    /// Keeps helpers that publish other names or another identity out of the directory. The names may be
    /// patterns: all these are only compared with another helper's, and shown.
    pub(crate) fn claiming(
        mut self,
        names: impl IntoIterator<Item = String>,
        identity: Option<String>,
    ) -> Self {
        let mut names: Vec<_> = names.into_iter().collect();
        names.sort_unstable();
        self.names = names.join("\n");
        self.identity = identity;
        self
    }

    /// The directory.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Prepares the directory for the first publication:
    ///
    /// 1. make the directory, if it is not there;
    /// 2. claim the names, and the identity if the options name it;
    /// 3. move another program's `..data` aside, if a set of ours is here;
    /// 4. try whether files can be given to the owner;
    /// 5. repair what a crash left: names of the published set that are missing or earlier
    ///    ones; hidden directories of ours that are not published; names that lead nowhere.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unfit`] should end the program. A publication meets the others again if they matter.
    pub(crate) fn start(&self, now: Now) -> Result<(), StoreError> {
        let prepared = self.prepare(now);
        // The published set is looked after even if a step has failed.
        let names = self.names_of_set();
        if !names.is_empty() {
            self.remember(names.iter().map(String::as_str));
        }
        prepared
    }

    fn prepare(&self, now: Now) -> Result<(), StoreError> {
        let directory = match self.lock(Absent::Create) {
            // Another helper writes there just now. The first publication meets what it leaves.
            Err(StoreError::Busy(_)) | Ok(None) => return Ok(()),
            Ok(Some(directory)) => directory,
            Err(error) => return Err(error),
        };
        if directory.is_shared {
            let path = self.path.display();
            self.notices.warn_once(
                Notice::SharedByAllUsers,
                format_args!(
                    "{path} is shared by all users: they can block names there, and the files are replaced one by one; use a subdirectory (--svid-path={path}/svid)"
                ),
            );
        }
        self.claim(&directory, None)?;
        let data = self.data(&directory, now)?;
        self.drops_found.set(!publish::keeps_all(&directory, &data)?);
        if self.owner.is_some() {
            let probe = Generation::new(&directory, now.time)?;
            let given = probe.finish();
            generation::remove(&directory, &probe.name)?;
            given?;
        }
        leftovers::repair_names(&directory, now.time)?;
        // A helper may have died between its publication, or a withdrawal, and the sync. A loss of power must not
        // bring back a set whose files are removed here.
        directory.sync()?;
        leftovers::remove_leftovers(&directory)
    }

    /// Opens the published set for reading, or else the directory itself, with files that are not
    /// the helper's own.
    pub(crate) fn published(&self) -> Result<PublishedSet<'_>, StoreError> {
        PublishedSet::open(&self.path)
    }

    /// Whether the next publication would drop files that were found at the start. Where the directory cannot be
    /// locked, that is not known, and nothing is published.
    pub(crate) fn drops_found(&self) -> bool {
        self.drops_found.get()
    }

    /// Whether a set of ours was published or found here. Others may have removed or changed it since.
    pub(crate) fn has_set(&self) -> bool {
        self.is_ours.get()
    }

    /// Whether the set that was last published or found is still there, by its names and through `..data`, unchanged.
    /// Reads no file.
    pub(crate) fn is_intact(&self) -> bool {
        self.snapshot.borrow().is_unchanged()
    }

    /// The names of the published set; none if there is none.
    pub(crate) fn names_of_set(&self) -> Vec<String> {
        self.published().and_then(|set| set.names_of_set()).unwrap_or_default()
    }

    /// Whether another helper has published its set since, and all of that is there.
    pub(crate) fn is_replaced(&self) -> bool {
        let names = self.names_of_set();
        let found = Snapshot::take(&self.path, names.iter().map(String::as_str));
        self.snapshot.borrow().is_replaced() && !names.is_empty() && found.is_unchanged()
    }

    /// Puts back names of the published set that others have removed. Whether all is as it was then.
    pub(crate) fn put_names_back(&self, now: Now) -> bool {
        let put_back = || {
            let Some(directory) = self.lock(Absent::Ignore)? else { return Ok(()) };
            leftovers::repair_names(&directory, now.time)?;
            directory.sync()?;
            if self.is_intact() { leftovers::remove_leftovers(&directory) } else { Ok(()) }
        };
        put_back().unwrap_or_else(|error: StoreError| log::debug!("{error}"));
        self.is_intact()
    }

    fn remember<'a>(&self, names: impl IntoIterator<Item = &'a str>) {
        self.snapshot.replace(Snapshot::take(&self.path, names));
    }

    /// What `..data` is. Where a set of ours is or was, another program's `..data` is moved aside: that program
    /// has moved ours away.
    fn data(&self, directory: &Directory<'_>, now: Now) -> Result<Data, StoreError> {
        match directory.data() {
            Err(StoreError::OthersData(path)) if self.is_ours.get() || generation::is_one_in(directory)? => {
                self.is_ours.set(true);
                let aside = generation::move_data_aside(directory, now.time)?;
                let message = format!(
                    "another program has put its own {} in the place of ours: moved it aside, to {aside} (let no other user write to that directory)",
                    path.display()
                );
                self.notices.warn(Notice::OthersData, &message, now.instant);
                Ok(Data::Absent)
            }
            data => {
                let data = data?;
                self.is_ours.set(self.is_ours.get() || directory.open_set(&data)?.is_some());
                self.notices.end(Notice::OthersData);
                Ok(data)
            }
        }
    }

    fn lock(&self, absent: Absent) -> Result<Option<Directory<'_>>, StoreError> {
        Directory::lock(&self.path, self.owner, absent, self.is_told_to_end, &self.notices)
    }

    /// Claims the names and the identity, which the options may name.
    fn claim(&self, directory: &Directory<'_>, identity: Option<&str>) -> Result<(), StoreError> {
        let identity = self.identity.as_deref().or(identity).unwrap_or_default();
        let mut claims = self.claims.borrow_mut();
        for (name, text) in [(NAMES, self.names.as_str()), (IDENTITY, identity)] {
            if text.is_empty() || claims.get(name).is_some_and(|claim| claim.holds(&directory.fd, name, text))
            {
                continue;
            }
            // Our own claim to an earlier identity would be in the way. So would we be, where another helper's
            // identity changes as well.
            claims.remove(name);
            match Claim::take(&directory.fd, name, text)
                .map_err(|cause| lock_error(&directory.fd, &self.path, name, cause))?
            {
                Claimed::Yes(claim) => claims.extend(claim.map(|claim| (name, claim))),
                Claimed::Others(claim) => {
                    return Err(StoreError::Unfit(flaw!(
                        "another helper that is running publishes {claim} in {}: give each helper a directory of its own, or the same options",
                        self.path.display()
                    )));
                }
            }
        }
        Ok(())
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let claims = self.claims.take();
        #[cfg(test)]
        if simulated::DISK.get().is_dead {
            return;
        }
        if !claims.is_empty()
            && let Ok(Some(directory)) = self.lock(Absent::Ignore)
        {
            claims.into_iter().for_each(|(name, claim)| claim.release(&directory.fd, name));
        }
    }
}
