//! The text of `--help`, from the table.

use std::fmt::Write;

use super::row::Row;
use super::table::TABLE;

/// The column where descriptions begin.
const COLUMN: usize = 34;
/// The most columns of a line.
const WIDTH: usize = 100;

/// The whole text, with a closing line break.
pub(crate) fn help() -> String {
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

Every option can also be set by a variable: --svid-path by HELPER_SVID_PATH.
Flags override variables; variables override defaults.
";

const TAIL: &str =
    "  -- COMMAND [ARGUMENT]...        init, refresh: a hook, run to completion after each publication;
                                  run: the application. Without a shell

  --help, -h                      print this text
  --version, -V                   print the version

Exit codes: 0 success, 1 failure, 2 usage error.
";

// Writing to a String cannot fail.
fn write_row(text: &mut String, row: &Row) {
    let mut name = format!("  --{} {}", row.name(), row.placeholder);
    // A switch is off by default.
    let default = row.default.filter(|value| *value != "false").map(|value| format!("(default {value})"));
    let mut lines: Vec<String> = row.help.iter().map(|line| line.trim().to_owned()).collect();
    if let (Some(default), Some(last)) = (default, lines.last_mut()) {
        if COLUMN + last.len() + 1 + default.len() <= WIDTH {
            *last = format!("{last} {default}");
        } else {
            lines.push(default);
        }
    }
    for line in lines {
        let _ = writeln!(text, "{name:<COLUMN$}{line}");
        name.clear();
    }
}
