//! What earlier runs have left: names to repair, and entries to remove after each publication.

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::time::SystemTime;

use super::directory::{Data, Directory, check_replaceable, entries, is_generation_name};
use super::error::StoreError;
use super::file::FileName;
use super::generation::{is_acceptable, remove_after};
use super::names::{Naming, Staged, is_file_of};

/// Repairs names of the published set after a crash, or after others have removed them: missing names and, where
/// names are files, those of an earlier set. They are not synced.
pub(super) fn repair_names(directory: &Directory<'_>, now: SystemTime) -> Result<(), StoreError> {
    let data = directory.data()?;
    let Some(set) = directory.open_set(&data)? else { return Ok(()) };
    let naming = Naming::of(directory, &data);
    let published = file_names(directory, &set)?;
    let mut names = Vec::new();
    for name in &published {
        let found = directory.look_at(name)?;
        let is_ours = found.is_none_or(|stat| naming == Naming::Files && is_acceptable(directory, &stat));
        if is_ours && !naming.is_right(directory, &set, name)? {
            names.push(name.as_str());
        }
    }
    if names.is_empty() {
        return Ok(());
    }
    check_replaceable(directory, &data, &names)?;
    // A loss of power must not bring back an older set than the names have.
    directory.sync()?;
    Staged::new(directory, &set, &names, naming, now)?.place()
}

/// The names of the files in one of our directories; other entries do not count.
pub(super) fn file_names(
    directory: &Directory<'_>,
    set: impl std::os::fd::AsFd,
) -> Result<Vec<String>, StoreError> {
    let mut names =
        entries(set).map_err(|cause| StoreError::write("list the files in", directory.path, cause))?;
    names.retain(|name| name.parse::<FileName>().is_ok());
    Ok(names)
}

/// Removes our unused entries: links through `..data` that lead nowhere, hidden directories that are
/// not published, and files of these under names that the published set does not have. Goes on where one
/// cannot be removed, and returns the first error.
pub(super) fn remove_leftovers(directory: &Directory<'_>) -> Result<(), StoreError> {
    let data = directory.data()?;
    // Without a published set, files under names are all there is.
    let published = directory.open_set(&data)?.map(|set| file_names(directory, &set)).transpose()?;
    remove_all_but(directory, &data, published.map(HashSet::from_iter).as_ref())
}

/// The same where nothing is to be published any more: no file stays under its name.
pub(super) fn remove_all(directory: &Directory<'_>) -> Result<(), StoreError> {
    remove_all_but(directory, &directory.data()?, Some(&HashSet::new()))
}

fn remove_all_but(
    directory: &Directory<'_>,
    data: &Data,
    published: Option<&HashSet<String>>,
) -> Result<(), StoreError> {
    let names = entries(&directory.fd).map_err(|cause| StoreError::write("list", directory.path, cause))?;
    let mut outcome = Ok(());
    for name in names {
        outcome = outcome.and(remove_leftover(directory, data, published, &name));
    }
    outcome
}

fn remove_leftover(
    directory: &Directory<'_>,
    data: &Data,
    published: Option<&HashSet<String>>,
    name: &str,
) -> Result<(), StoreError> {
    if is_generation_name(name) && *data != Data::Link(name.to_owned()) {
        // A directory that others may write to does not show which names are ours.
        let published = directory.open_ours(name)?.and(published);
        return remove_after(directory, name, |set, file| match published {
            Some(published) if !published.contains(file) => remove_name_of(directory, set, file),
            _ => Ok(()),
        });
    }
    // A name of the published set leads to its file.
    let is_published = published.is_some_and(|published| published.contains(name));
    if !is_published && directory.is_our_link(name)? && directory.leads_nowhere(name) {
        return remove_name(directory, name);
    }
    Ok(())
}

/// Removes a name if it is this file of a set.
pub(super) fn remove_name_of(directory: &Directory<'_>, set: &OwnedFd, name: &str) -> Result<(), StoreError> {
    let is_name = name.parse::<FileName>().is_ok();
    if is_name && is_file_of(directory, set, name)? { remove_name(directory, name) } else { Ok(()) }
}

fn remove_name(directory: &Directory<'_>, name: &str) -> Result<(), StoreError> {
    log::info!("removing {}: it is not published any more", directory.path.join(name).display());
    directory.unlink(name)
}
