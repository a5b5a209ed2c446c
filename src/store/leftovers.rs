//! What earlier runs have left: names to repair at the start, and entries to remove after each publication.

use std::collections::HashSet;
use std::time::SystemTime;

use super::directory::{Data, Directory, check_replaceable, entries, is_generation_name};
use super::error::StoreError;
use super::file::FileName;
use super::generation::{is_acceptable, remove};
use super::names::{Naming, Staged, is_file_of};

/// Repairs names of the published set after a crash: missing names and, where names are files, those of
/// an earlier set. They are not synced.
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
/// not published, and files of these under names that the published set does not have. Goes on after a
/// failure, and returns the first.
pub(super) fn remove_leftovers(directory: &Directory<'_>) -> Result<(), StoreError> {
    let data = directory.data()?;
    let names = entries(&directory.fd).map_err(|cause| StoreError::write("list", directory.path, cause))?;
    let mut outcome = Ok(());
    for name in names {
        outcome = outcome.and(remove_leftover(directory, &data, &name));
    }
    outcome
}

fn remove_leftover(directory: &Directory<'_>, data: &Data, name: &str) -> Result<(), StoreError> {
    if is_generation_name(name) && *data != Data::Link(name.to_owned()) {
        remove_names_of(directory, data, name)?;
        return remove(directory, name);
    }
    if directory.is_our_link(name)? && directory.leads_nowhere(name) {
        return remove_name(directory, name);
    }
    Ok(())
}

/// Removes files of an earlier set under names that the published set does not have. Without a
/// published set, they are all there is.
fn remove_names_of(directory: &Directory<'_>, data: &Data, generation: &str) -> Result<(), StoreError> {
    let (published, earlier) = (directory.open_set(data)?, directory.open_ours(generation)?);
    let (Some(published), Some(earlier)) = (published, earlier) else { return Ok(()) };
    let published: HashSet<_> = file_names(directory, &published)?.into_iter().collect();
    for name in file_names(directory, &earlier)? {
        if !published.contains(&name) && is_file_of(directory, &earlier, &name)? {
            remove_name(directory, &name)?;
        }
    }
    Ok(())
}

fn remove_name(directory: &Directory<'_>, name: &str) -> Result<(), StoreError> {
    log::info!("removing {}: it is no longer in the set", directory.path.join(name).display());
    directory.unlink(name)
}
