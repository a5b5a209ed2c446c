//! What only root can make for a test: mounts, file attributes, a kernel setting. Undone when dropped.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

fn run(program: &str, arguments: &[&str], path: &Path) -> bool {
    let status = Command::new(program).args(arguments).arg(path).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// A tmpfs on a directory.
pub struct Tmpfs(pub PathBuf);

impl Tmpfs {
    pub fn mount(volume: &Path, options: &str) -> Self {
        assert!(run("mount", &["-t", "tmpfs", "-o", options, "tmpfs"], volume));
        Self(volume.to_owned())
    }

    pub fn remount(&self, options: &str) {
        assert!(run("mount", &["-o", &format!("remount,{options}")], &self.0));
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        run("umount", &["-l"], &self.0);
    }
}

/// A file mounted on another.
pub struct BindMount(PathBuf);

impl BindMount {
    pub fn mount(file: &Path, on: &Path) -> Self {
        assert!(run("mount", &["--bind", file.to_str().expect("UTF-8")], on));
        Self(on.to_owned())
    }
}

impl Drop for BindMount {
    fn drop(&mut self) {
        run("umount", &["-l"], &self.0);
    }
}

/// A file attribute of chattr(1).
pub struct Attribute(PathBuf, char);

impl Attribute {
    /// Nothing where the file system has no attributes.
    pub fn set(path: &Path, attribute: char) -> Option<Self> {
        let path = path.canonicalize().expect("a file");
        run("chattr", &[&format!("+{attribute}")], &path).then_some(Self(path, attribute))
    }
}

impl Drop for Attribute {
    fn drop(&mut self) {
        run("chattr", &[&format!("-{}", self.1)], &self.0);
    }
}

const PROTECTED_SYMLINKS: &str = "/proc/sys/fs/protected_symlinks";

/// Keeps `fs.protected_symlinks` at 1, as ordinary nodes have it, until the last of these is dropped. A
/// process of its own sets it back then, or when the tests are killed.
pub struct ProtectedSymlinks(());

struct Holders {
    number: u32,
    /// Sets it back when its standard input ends.
    restorer: Child,
}

static HOLDERS: Mutex<Option<Holders>> = Mutex::new(None);

impl ProtectedSymlinks {
    /// Nothing where that is not allowed.
    pub fn set() -> Option<Self> {
        let mut holders = HOLDERS.lock().expect("no panic");
        if let Some(holders) = &mut *holders {
            holders.number += 1;
            return Some(Self(()));
        }
        let before = std::fs::read_to_string(PROTECTED_SYMLINKS).ok()?;
        let script =
            "trap '' HUP INT TERM; read -r before; echo ready; cat >/dev/null; echo \"$before\" >\"$0\"";
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script, PROTECTED_SYMLINKS]).process_group(0);
        let mut restorer = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().ok()?;
        restorer.stdin.as_mut()?.write_all(before.as_bytes()).ok()?;
        let mut ready = [0; 6];
        std::io::Read::read_exact(restorer.stdout.as_mut()?, &mut ready).ok()?;
        std::fs::write(PROTECTED_SYMLINKS, "1").ok()?;
        *holders = Some(Holders { number: 1, restorer });
        Some(Self(()))
    }
}

impl Drop for ProtectedSymlinks {
    fn drop(&mut self) {
        let mut held = HOLDERS.lock().expect("no panic");
        let Some(holders) = &mut *held else { return };
        holders.number -= 1;
        if holders.number == 0 {
            drop(holders.restorer.stdin.take());
            let _ = holders.restorer.wait();
            *held = None;
        }
    }
}
