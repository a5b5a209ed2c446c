//! Obstacles to a publication, found before anything has moved.

use nix::sys::stat::{Mode, SFlag, fstat};
use nix::unistd::geteuid;

use super::attributes::obstacle;
use super::directory::{DATA, Data, Directory};
use super::error::{Obstacle, StoreError};
use super::file::kind;
use crate::process::facts::has_fowner;

/// Fails if a name, or `..data`, cannot be replaced:
///
/// a. the directory itself is immutable or append-only;
/// b. the published set, or a file of it, is a mount point, or immutable or append-only: that set could
///    not be removed, and the file is meant to stay;
/// c. the name is a mount point, or immutable or append-only;
/// d. a directory has the name;
/// e. it belongs to another user, in a sticky directory that is not ours either.
pub(super) fn check(directory: &Directory<'_>, data: &Data, names: &[&str]) -> Result<(), StoreError> {
    // a.
    if let Some(obstacle) = obstacle(&directory.fd, "") {
        return Err(StoreError::Obstacle { path: directory.path.to_owned(), obstacle });
    }
    let of_directory = fstat(&directory.fd).map_err(|cause| directory.error("look at", "", cause))?;
    let is_sticky = of_directory.st_mode & Mode::S_ISVTX.bits() != 0 && !directory.owns(&of_directory);
    if let Some(set) = directory.open_set(data)? {
        // b.
        for name in names.iter().copied().chain([""]) {
            if let Some(obstacle) = obstacle(&set, name) {
                return Err(StoreError::Obstacle { path: directory.path.join(DATA).join(name), obstacle });
            }
        }
    }
    for name in names.iter().copied().chain([DATA]) {
        let Some(stat) = directory.look_at(name)? else { continue };
        let is_set = name == DATA && *data == Data::Directory;
        let found = if let Some(obstacle) = obstacle(&directory.fd, name) {
            // c.
            Some(obstacle)
        } else if kind(&stat) == SFlag::S_IFDIR && !is_set {
            // d.
            Some(Obstacle::Directory)
        } else if is_sticky && !directory.owns(&stat) && !overrides_owners() {
            // e.
            Some(Obstacle::OtherUsers(stat.st_uid))
        } else {
            None
        };
        if let Some(obstacle) = found {
            return Err(StoreError::Obstacle { path: directory.path.join(name), obstacle });
        }
    }
    Ok(())
}

/// Whether this process may replace other users' files in a sticky directory: root may lack the
/// capability.
fn overrides_owners() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    has_fowner(&status).unwrap_or_else(|| geteuid().is_root())
}
