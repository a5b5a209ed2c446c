//! The attributes of a name, by statx(2): whether it is a mount point, immutable or append-only.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd};

use nix::libc;

use super::error::Obstacle;

/// The attribute by which a name cannot be renamed or replaced, if it has one; `None` on a kernel
/// before 5.8, which does not report them. `name` is relative to `directory`, and not followed if it is a
/// link; an empty one means the directory itself.
pub(super) fn obstacle(directory: impl AsFd, name: &str) -> Option<Obstacle> {
    let attributes = attributes(directory, name)?;
    let has = |bit: libc::c_int| u64::try_from(bit).is_ok_and(|bit| attributes & bit != 0);
    if !name.is_empty() && has(libc::STATX_ATTR_MOUNT_ROOT) {
        Some(Obstacle::MountPoint)
    } else if has(libc::STATX_ATTR_IMMUTABLE) {
        Some(Obstacle::Immutable)
    } else if has(libc::STATX_ATTR_APPEND) {
        Some(Obstacle::AppendOnly)
    } else {
        None
    }
}

fn attributes(directory: impl AsFd, name: &str) -> Option<u64> {
    let name = CString::new(name).ok()?;
    let flags = libc::AT_SYMLINK_NOFOLLOW | libc::AT_NO_AUTOMOUNT | libc::AT_EMPTY_PATH;
    let directory = directory.as_fd().as_raw_fd();
    let mut found = std::mem::MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: the name ends with NUL; the buffer is a statx, of integers alone, so that zeroes are
    // one too.
    #[allow(unsafe_code, reason = "nix has no statx")]
    let (result, found) = unsafe {
        let result = libc::statx(directory, name.as_ptr(), flags, 0, found.as_mut_ptr());
        (result, found.assume_init())
    };
    (result == 0).then_some(found.stx_attributes & found.stx_attributes_mask)
}
