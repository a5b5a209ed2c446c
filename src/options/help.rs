//! The text of `--help`, from the table.

use std::fmt::Write;

use super::table::{Row, TABLE};

/// The whole text, with a closing line break.
pub fn help() -> String {
    let mut text = String::from(HEAD);
    for row in TABLE {
        write_row(&mut text, row);
    }
    text.push_str(TAIL);
    text
}

const HEAD: &str = "\
pod-svid-helper fetches a pod's X.509-SVID from the SPIFFE Workload API and keeps it in files.

Usage: pod-svid-helper [--name=value | --name value]...

An option that is not given is taken from the environment variable beside it, then from the default.

";

const TAIL: &str = "  --help, -h
        this text
  --version, -V
        the version

Exit codes: 0 success, 1 it failed, 2 wrong usage.
";

fn write_row(text: &mut String, row: &Row) {
    let fallback = row.fallback_variable.map(|name| format!(", {name}")).unwrap_or_default();
    let default = row.default.map(|value| format!(" (default {value})")).unwrap_or_default();
    // Writing to a String cannot fail.
    let _ = writeln!(text, "  --{} {}  [{}{fallback}]{default}", row.name(), row.placeholder, row.variable());
    for line in row.help {
        let _ = writeln!(text, "        {}", line.trim());
    }
}
