//! The text of `--help`, from the table.

use std::fmt::Write;

use super::table::{Row, TABLE};

/// Where the lines that say what an option is for begin.
const COLUMN: usize = 34;
/// Where they end at the latest.
const WIDTH: usize = 100;

/// The whole text, with a closing line break.
pub fn help() -> String {
    let mut text = String::from(HEAD);
    let mut group = "";
    for row in TABLE {
        if row.group != group {
            group = row.group;
            let _ = write!(text, "\n{group}:\n");
        }
        write_row(&mut text, row);
    }
    text.push_str(TAIL);
    text
}

const HEAD: &str = "\
pod-svid-helper keeps a pod's SPIFFE identity, from the Workload API, in files.

Usage: pod-svid-helper [--name=value | --name value]... [-- COMMAND [ARGUMENT]...]

What is not given as a flag is taken from the environment: HELPER_SVID_PATH for --svid-path, and so
for every option; then it has its default.
";

const TAIL: &str =
    "  -- COMMAND [ARGUMENT]...        run this, without a shell; while it still runs, it is signalled

  --help, -h                      this text
  --version, -V                   the version

Exit codes: 0 success, 1 it failed, 2 wrong usage.
";

// Writing to a String cannot fail.
fn write_row(text: &mut String, row: &Row) {
    let mut name = format!("  --{} {}", row.name(), row.placeholder);
    // A switch that is off says so by being a switch.
    let default = row.default.filter(|value| *value != "false").map(|value| format!("(default {value})"));
    let mut lines: Vec<String> = row.help.iter().map(|line| line.trim().to_owned()).collect();
    if let (Some(default), Some(last)) = (default, lines.last_mut()) {
        match COLUMN + last.len() + 1 + default.len() <= WIDTH {
            true => *last = format!("{last} {default}"),
            false => lines.push(default),
        }
    }
    for line in lines {
        let _ = writeln!(text, "{name:<COLUMN$}{line}");
        name.clear();
    }
}
