//! strace(1): records the system calls of the program's main thread, and injects one fault.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::pod::Helper;

/// Whether it is here, and may trace and inject.
pub fn works() -> bool {
    let mut command = Command::new("strace");
    command.args(["-qq", "-o", "/dev/null", "-e", "inject=fsync:error=EIO", "true"]);
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// The helper under strace, which writes its log to a file. With `inject`, a fault: see strace(1).
pub fn around(helper: Helper, log: &Path, inject: Option<&str>) -> Helper {
    through(helper, log, inject, &["-qq"])
}

/// The same with strace as the helper's grandchild, so that signals reach the helper.
pub fn beside(helper: Helper, log: &Path, inject: Option<&str>) -> Helper {
    through(helper, log, inject, &["-D", "-q"])
}

fn through(helper: Helper, log: &Path, inject: Option<&str>, how: &[&str]) -> Helper {
    let inject = inject.map(|inject| format!("inject={inject}"));
    let log = log.to_str().expect("UTF-8");
    // With the path of each file descriptor, and without the contents of files.
    let mut arguments = [how, &["-y", "-s", "0", "-o", log, "-e", "trace=%file,%desc"]].concat();
    arguments.extend(inject.iter().flat_map(|inject| ["-e", inject.as_str()]));
    arguments.push("--");
    helper.through("strace", &arguments)
}
