//! `fs.protected_symlinks` belongs to the machine: tests that set it leave what they have found.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::mounts::ProtectedSymlinks;
use crate::pod::{names, wait_until};

/// A setting that only these tests have, which is 0.
struct Setting {
    directory: TempDir,
}

impl Setting {
    fn new() -> Self {
        let setting = Self { directory: TempDir::new().expect("a directory") };
        std::fs::write(setting.path(), "0\n").expect("a setting");
        setting
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("setting")
    }

    /// The setting, and the file with its value before.
    fn files(&self) -> [PathBuf; 2] {
        [self.path(), self.directory.path().join("before")]
    }

    fn protect(&self) -> ProtectedSymlinks {
        let [setting, before] = self.files();
        ProtectedSymlinks::set_with(&[&setting, &before]).expect("it can be set")
    }

    fn value(&self) -> String {
        std::fs::read_to_string(self.path()).expect("a setting")
    }
}

#[test]
fn of_several_tests_that_set_a_setting_the_last_one_sets_it_back() {
    let setting = Setting::new();
    let (first, second) = (setting.protect(), setting.protect());
    drop(first);
    assert_eq!(setting.value(), "1\n");
    drop(second);
    assert_eq!(setting.value(), "0\n");
    assert_eq!(names(setting.directory.path()), ["setting"]);
}

#[test]
fn what_tests_that_were_killed_have_set_the_next_ones_set_back() {
    let setting = Setting::new();
    let mut killed = setting.protect();
    killed.0.kill().expect("it runs");
    drop(killed);
    assert_eq!(setting.value(), "1\n");
    drop(setting.protect());
    assert_eq!(setting.value(), "0\n");
}

#[test]
fn what_a_test_that_is_killed_has_set_is_set_back_at_once() {
    let setting = Setting::new();
    let mut test = Command::new("/bin/sh");
    // Its end of the pipe is the keeper's standard input.
    test.args(["-c", "exec sleep 1000"]).stdout(Stdio::piped());
    let mut test = test.spawn().expect("a shell");
    let mut keeper = ProtectedSymlinks::keeper(test.stdout.take().expect("a pipe"));
    let mut keeper = keeper.args(setting.files()).spawn().expect("a shell");
    wait_until("it is set", || setting.value() == "1\n");
    test.kill().and_then(|()| test.wait()).expect("it runs");
    wait_until("it is set back", || setting.value() == "0\n");
    keeper.wait().expect("a child");
}
