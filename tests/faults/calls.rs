//! System calls as strace(1) writes them, a line each.

use std::collections::HashMap;
use std::path::Path;

/// One system call that touches the volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    pub name: String,
    /// Which call of this name it is, of all that the main thread makes: the first is 1.
    pub number: usize,
    /// Which one it is of those that are about the same: file systems list names in different orders, so that
    /// nothing else tells which call of another run does the same.
    pub index: usize,
    /// What it is about: paths of file descriptors and names, in the order of the arguments. The volume
    /// and hidden directories have the same words in every run: see [`general`].
    pub about: Vec<String>,
    /// The line, so that a test can look for more.
    pub line: String,
}

impl Call {
    /// What it does, in the same words in every run.
    pub fn deed(&self) -> (&str, Vec<String>, usize) {
        (&self.name, self.subject(), self.index)
    }

    /// Whether it is the same call in another run.
    pub fn is_like(&self, other: &Self) -> bool {
        self.deed() == other.deed()
    }

    pub fn has_succeeded(&self) -> bool {
        self.line.rsplit_once(" = ").is_some_and(|(_, result)| !result.starts_with(['-', '?']))
    }

    pub fn was_injected(&self) -> bool {
        self.line.ends_with("(INJECTED)")
    }

    /// What it is about: hidden directories have other names in each run.
    fn subject(&self) -> Vec<String> {
        self.about.iter().take(self.subjects()).map(|text| general(text)).collect()
    }

    /// How many of `about` are arguments that go in: others are what a buffer holds.
    fn subjects(&self) -> usize {
        match self.name.as_str() {
            "renameat" | "renameat2" | "linkat" => 4,
            "symlinkat" => 3,
            "openat" | "mkdirat" | "unlinkat" | "newfstatat" | "statx" | "readlinkat" | "fchownat" => 2,
            _ => 1,
        }
    }
}

/// The calls in a log that touch something in this directory.
pub fn parse(log: &str, directory: &Path) -> Vec<Call> {
    let mut numbers = HashMap::<&str, usize>::new();
    let mut indices = HashMap::<(&str, Vec<String>), usize>::new();
    let mut calls = Vec::new();
    let directory = directory.to_str().expect("UTF-8");
    for line in log.lines() {
        let Some((name, rest)) = line.split_once('(') else { continue };
        if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            continue;
        }
        let number = numbers.entry(name).or_default();
        *number += 1;
        // The program's own start is not what it does; what exec(2) has in its arguments is no path it opens.
        let arguments = rest.rsplit_once(" = ").map_or(rest, |(arguments, _)| arguments);
        if name == "execve" || !arguments.contains(directory) {
            continue;
        }
        let about = texts(arguments).map(|text| text.replace(directory, "DIRECTORY")).collect();
        let mut call =
            Call { name: name.to_owned(), number: *number, index: 0, about, line: line.to_owned() };
        let index = indices.entry((name, call.subject())).or_default();
        *index += 1;
        call.index = *index;
        calls.push(call);
    }
    calls
}

/// The texts between `<` and `>` or between quotes.
fn texts(arguments: &str) -> impl Iterator<Item = &str> {
    let mut rest = arguments;
    std::iter::from_fn(move || {
        let start = rest.find(['<', '"'])?;
        let end = if rest[start..].starts_with('<') { '>' } else { '"' };
        let text = &rest[start + 1..];
        let length = text.find(end)?;
        rest = &text[length + 1..];
        Some(&text[..length])
    })
}

/// A path with the same word for every hidden directory.
fn general(path: &str) -> String {
    let part = |part| if is_generation(part) { "GENERATION" } else { part };
    path.split('/').map(part).collect::<Vec<_>>().join("/")
}

/// Whether a name has the form of a hidden directory's: `..2026-11-23T16-40-05.123456789Z`.
pub fn is_generation(name: &str) -> bool {
    name.strip_prefix("..2").is_some_and(|rest| rest.ends_with('Z'))
}

#[test]
fn a_call_is_found_by_what_it_does_in_whatever_order_a_file_system_lists_names() {
    let call = |name: &str| format!("newfstatat(3</run/svids>, \"{name}\", {{}}, 0) = 0\n");
    let (one, other) =
        (call("..2026-11-23T16-40-05.1Z") + &call("a"), call("a") + &call("..2026-11-23T17-00-00.2Z"));
    let [one, other] = [one, other].map(|log| parse(&log, Path::new("/run")));
    assert!(one[0].is_like(&other[1]) && one[1].is_like(&other[0]), "{one:?} {other:?}");
    assert!(!one[0].is_like(&other[0]));
}
