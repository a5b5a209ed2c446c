//! Reads the command line.

use std::ffi::{OsStr, OsString};

use lexopt::Arg;

use super::help::help;
use super::mistakes::nearest;
use super::row::Row;
use super::sources::{Sources, Variables, missing, shown};
use super::table::TABLE;
use super::value::Mode;
use crate::words::{Flaw, flaw};

/// What the command line asks for.
pub(crate) enum Request<Work> {
    /// Print this: what `--help` or `--version` asks for.
    Print(String),
    /// Do this.
    Do(Work),
}

/// Reads the arguments, without the program's name.
pub(crate) fn parse(mut arguments: Vec<OsString>, variables: Variables) -> Result<Request<Sources>, Flaw> {
    // lexopt would hand out a command's words one by one, as if they were ours.
    let command = match arguments.iter().position(|argument| argument == "--") {
        Some(position) => arguments.split_off(position).split_off(1),
        None => Vec::new(),
    };
    let mut sources = Sources::new(command, variables);
    let mut parser = lexopt::Parser::from_args(&arguments);
    let mut switch = None;
    while let Some(whole) = parser.raw_args().map_err(syntax)?.peek().map(OsStr::to_owned) {
        if let Some(option) = with_other_dashes(&whole) {
            let (given, option) = (shown(&whole), shown(OsStr::new(&option)));
            let option = option.escape_debug();
            return Err(flaw!("unexpected argument {given:?}; write {option} with two dashes"));
        }
        match parser.next().map_err(syntax)? {
            Some(Arg::Long("help") | Arg::Short('h')) => {
                return without_value(&mut parser, help(mode_in(&arguments)));
            }
            Some(Arg::Long("version") | Arg::Short('V')) => {
                let version = concat!("pod-svid-helper ", env!("CARGO_PKG_VERSION"), "\n");
                return without_value(&mut parser, version.to_owned());
            }
            Some(Arg::Long(name)) => {
                let row = TABLE.iter().find(|row| row.name() == name);
                let row = row.ok_or_else(|| unknown(&whole))?;
                let is_switch = row.placeholder.is_empty();
                let value = match parser.optional_value() {
                    Some(value) => value,
                    None if is_switch => "true".into(),
                    None => next_value(&mut parser, row)?,
                };
                sources.add_flag(row, value)?;
                switch = is_switch.then(|| row.name());
            }
            Some(Arg::Short(_)) => return Err(unknown(&whole)),
            Some(Arg::Value(stray)) => return Err(unexpected(&stray, switch)),
            None => break,
        }
    }
    Ok(Request::Do(sources))
}

/// The next argument, unless it is an option: then the value was forgotten.
fn next_value(parser: &mut lexopt::Parser, row: &'static Row) -> Result<OsString, Flaw> {
    let mut arguments = parser.raw_args().map_err(syntax)?;
    let value = arguments.next().ok_or_else(|| missing(row))?;
    if value.as_encoded_bytes().starts_with(b"--") {
        let (name, next) = (row.name(), shown(&value));
        return Err(flaw!(
            "--{name} needs a value; {next:?} is the next option (write --{name}=VALUE if the value begins with dashes)"
        ));
    }
    Ok(value)
}

fn syntax(error: lexopt::Error) -> Flaw {
    flaw!("{error}")
}

fn without_value(parser: &mut lexopt::Parser, asked: String) -> Result<Request<Sources>, Flaw> {
    match parser.optional_value() {
        None => Ok(Request::Print(asked)),
        Some(value) => Err(flaw!("--help and --version take no value, not {:?}", shown(&value))),
    }
}

/// The mode in arguments that ask for help. One that does not exist counts as none: help shows which there are.
fn mode_in(arguments: &[OsString]) -> Option<Mode> {
    let following = arguments.iter().skip(1).map(Some).chain([None]);
    arguments.iter().zip(following).find_map(|(argument, next)| {
        let value = match argument.to_str()? {
            "--mode" => next?.to_str()?,
            argument => argument.strip_prefix("--mode=")?,
        };
        value.parse().ok()
    })
}

/// The names of all options, without their dashes.
fn names() -> impl Iterator<Item = String> {
    TABLE.iter().map(|row| row.name()).chain(["help".to_owned(), "version".to_owned()])
}

/// An argument without the dashes before it, and the name in that.
fn without_dashes(argument: &str) -> (&str, &str) {
    // A text program may have made one dash of two.
    let rest = argument.trim_start_matches(['-', '\u{2013}', '\u{2014}']);
    (rest, rest.split('=').next().unwrap_or(rest))
}

/// The option that an argument would be with two dashes: `-mode=init`, as programs in Go take it, or `mode=init`.
fn with_other_dashes(argument: &OsStr) -> Option<String> {
    let argument = argument.to_str().filter(|argument| !argument.starts_with("--"))?;
    let (rest, name) = without_dashes(argument);
    // Without dashes and value, it is just a word.
    (rest != name || rest != argument).then_some(())?;
    names().any(|known| known == name).then(|| format!("--{rest}"))
}

fn unknown(argument: &OsStr) -> Flaw {
    let argument = argument.to_string_lossy();
    let (_, name) = without_dashes(&argument);
    let given = shown(OsStr::new(argument.split('=').next().unwrap_or_default()));
    match nearest(name, names()) {
        Some(nearest) => flaw!("there is no option {given:?}; did you mean --{nearest}?"),
        None => flaw!("there is no option {given:?}; --help lists them"),
    }
}

/// `switch` is the switch before it, if there is one.
fn unexpected(given: &OsStr, switch: Option<String>) -> Flaw {
    let word = given.to_str().unwrap_or_default();
    let of_switch = || word.parse::<bool>().ok().zip(switch);
    let meant = match word.parse::<Mode>() {
        Ok(mode) => Some(format!("--mode={mode}")),
        Err(_) => of_switch().map(|(value, switch)| format!("--{switch}={value}")),
    };
    let given = shown(given);
    match meant {
        Some(meant) => flaw!("unexpected argument {given:?}; did you mean {meant}?"),
        None => {
            flaw!("unexpected argument {given:?}; every option is --name=value, and a command follows --")
        }
    }
}
