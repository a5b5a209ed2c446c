//! What only root can make for a test: mounts, file attributes, a kernel setting. Undone when dropped.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

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

/// Keeps `fs.protected_symlinks` at 1, as ordinary nodes have it, until the last of these is dropped, here or in
/// other tests on this machine. A process of its own sets it back then, even if the tests are killed.
pub struct ProtectedSymlinks(pub Child);

impl ProtectedSymlinks {
    /// Nothing where that is not allowed.
    pub fn set() -> Option<Self> {
        Self::set_with(&[])
    }

    /// With other files: see the script.
    pub fn set_with(files: &[&Path]) -> Option<Self> {
        let mut keeper = Self(Self::keeper(Stdio::piped()).args(files).spawn().ok()?);
        let mut ready = [0; 6];
        keeper.0.stdout.as_mut()?.read_exact(&mut ready).ok()?;
        Some(keeper)
    }

    /// What sets it, until this standard input ends.
    pub fn keeper(stdin: impl Into<Stdio>) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", include_str!("../e2e/protect-symlinks"), "protect-symlinks"]);
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0);
        command
    }
}

impl Drop for ProtectedSymlinks {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}
