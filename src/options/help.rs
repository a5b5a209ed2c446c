//! The text of `--help`, from the table.

use std::fmt::Write;

use super::table::TABLE;
use super::value::Mode;
use crate::mode::columns::wrapped;

/// The column where descriptions begin.
const COLUMN: usize = 30;
/// The most columns of a line.
const WIDTH: usize = 80;

/// The whole text, with a closing line break; with a mode, its options alone.
pub(crate) fn help(mode: Option<Mode>) -> String {
    let mut text = String::from(HEAD);
    let mut group = "";
    for row in TABLE.iter().filter(|row| mode.is_none_or(|mode| row.modes.contains(&mode))) {
        if row.group != group {
            group = row.group;
            let _ = write!(text, "\n{group}:\n");
        }
        let name = format!("--{} {}", row.name(), row.placeholder);
        // A switch is off by default.
        let default = row.default.filter(|value| *value != "false");
        write_entry(&mut text, name.trim_end(), &row.description(), default);
    }
    text.push('\n');
    if mode.is_none_or(Mode::takes_command) {
        write_entry(&mut text, COMMAND.0, COMMAND.1, None);
    }
    write_entry(&mut text, "--help, -h", "print this text; with --mode, the options of that mode", None);
    write_entry(&mut text, "--version, -V", "print the version", None);
    text.push_str("\nExamples:\n");
    for (_, example) in EXAMPLES.iter().filter(|(of, _)| mode.is_none_or(|mode| mode == *of)) {
        let _ = writeln!(text, "  pod-svid-helper {example}");
    }
    text + TAIL
}

const HEAD: &str = "\
pod-svid-helper keeps a pod's SPIFFE identity, from the Workload API, in files.

Usage: pod-svid-helper [--NAME=VALUE]... [-- COMMAND [ARGUMENT]...]

Every option can also be set by a variable: --svid-path by HELPER_SVID_PATH.
Flags override variables; variables override defaults.
";

const COMMAND: (&str, &str) = (
    "-- COMMAND [ARGUMENT]...",
    "init, refresh: a hook, run to completion after each publication; run: the application. Without a shell",
);

/// An example of each mode: what follows the program's name.
const EXAMPLES: &[(Mode, &str)] = &[
    (Mode::Init, "--svid-path=/run/svid"),
    (Mode::Refresh, "--mode=refresh --svid-path=/run/svid --pid-file=/run/app.pid"),
    (Mode::Run, "--mode=run --svid-path=/run/svid -- /my-app --port=8443"),
    (Mode::Check, "--mode=check --svid-path=/run/svid --min-ttl=5m"),
    (Mode::Inspect, "--mode=inspect --output=json"),
    (Mode::Token, "--mode=token --audience=vault"),
];

const TAIL: &str = "
Exit codes: 0 success, 1 failure, 2 usage error. run: that of the application,
128+n if signal n killed it, 127 or 126 if it cannot be started.
";

// Writing to a String cannot fail.
fn write_entry(text: &mut String, name: &str, description: &str, default: Option<&str>) {
    let default = default.map(|default| format!("(default {default})"));
    let words = description.split(' ').chain(default.as_deref());
    let mut left = format!("  {name}");
    // Two spaces before the description, or a line of its own.
    if left.len() + 2 > COLUMN {
        let _ = writeln!(text, "{left}");
        left.clear();
    }
    for line in wrapped(words, WIDTH - COLUMN) {
        let _ = writeln!(text, "{left:<COLUMN$}{line}");
        left.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mode_has_an_example_that_is_accepted() {
        for mode in Mode::ALLOWED.replace(" or ", ", ").split(", ") {
            let mode: Mode = mode.parse().expect("a mode");
            let (_, example) = EXAMPLES.iter().find(|(of, _)| *of == mode).expect("an example");
            let words = example.split(' ').map(Into::into).collect();
            assert!(crate::options::read(words, []).is_ok(), "{example}");
        }
    }
}
