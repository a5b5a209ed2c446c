//! Reads the options: flag before variable before default.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};

use lexopt::Arg;
use thiserror::Error;

use super::combinations::{self, BadCombination};
use super::table::{Options, Row, TABLE};
use super::value::Value;

/// What the command line asks for.
#[derive(Debug, Clone)]
pub enum Request {
    /// Print the help.
    Help,
    /// Print the version.
    Version,
    /// Do what the options say.
    Run(Box<Options>),
}

/// Reads the arguments (without the program's name) and the environment.
///
/// `variable` looks a variable up; an empty one counts as unset.
pub fn parse(
    arguments: impl IntoIterator<Item = OsString>,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<Request, UsageError> {
    let mut arguments: Vec<OsString> = arguments.into_iter().collect();
    // lexopt would hand out a command's words one by one, as if they were ours.
    let command = match arguments.iter().position(|argument| argument == "--") {
        Some(position) => arguments.split_off(position).split_off(1),
        None => Vec::new(),
    };
    let mut sources = Sources { flags: HashMap::new(), command, variable: &variable };
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next().map_err(UsageError::other)? {
        match argument {
            Arg::Long("help") | Arg::Short('h') => return without_value(&mut parser, Request::Help),
            Arg::Long("version") | Arg::Short('V') => return without_value(&mut parser, Request::Version),
            Arg::Long(name) => {
                let row = TABLE.iter().find(|row| row.name() == name);
                let row = row.ok_or_else(|| UsageError::unknown(&format!("--{name}")))?;
                let value = match row.is_switch {
                    true => parser.optional_value().unwrap_or_else(|| "true".into()),
                    false => parser.value().map_err(|_| UsageError::MissingValue { row })?,
                };
                sources.add_flag(row, value);
            }
            Arg::Short(letter) => return Err(UsageError::unknown(&format!("-{letter}"))),
            Arg::Value(stray) => return Err(UsageError::Stray(stray)),
        }
    }
    let options = Options::from_sources(&sources)?;
    combinations::check(&options, |row| sources.flags.contains_key(&row.name()))?;
    Ok(Request::Run(Box::new(options)))
}

fn without_value(parser: &mut lexopt::Parser, request: Request) -> Result<Request, UsageError> {
    match parser.optional_value() {
        None => Ok(request),
        Some(value) => {
            Err(UsageError::Other(format!("--help and --version take no value, not {:?}", lossy(&value))))
        }
    }
}

/// Where values come from.
pub(super) struct Sources<'a> {
    flags: HashMap<String, OsString>,
    pub(super) command: Vec<OsString>,
    variable: &'a dyn Fn(&str) -> Option<OsString>,
}

impl Sources<'_> {
    /// Of several values, the last one counts, or all of them, a line each.
    fn add_flag(&mut self, row: &Row, value: OsString) {
        let mut value = value;
        if let Some(mut earlier) = self.flags.remove(&row.name()).filter(|_| row.repeats) {
            earlier.push("\n");
            earlier.push(value);
            value = earlier;
        }
        self.flags.insert(row.name(), value);
    }

    /// The value of one option.
    pub(super) fn value<T: Value>(&self, row: &'static Row) -> Result<T, UsageError> {
        let flag = || self.flags.get(&row.name()).map(|value| (format!("--{}", row.name()), value.clone()));
        let variable = |name: String| match (self.variable)(&name) {
            Some(value) if !value.is_empty() => Some((name, value)),
            _ => None,
        };
        let set = flag()
            .or_else(|| variable(row.variable()))
            .or_else(|| row.fallback_variable.and_then(|name| variable(name.to_owned())));
        let (source, value) = match (set, row.default, T::unset()) {
            (Some(set), _, _) => set,
            (None, Some(default), _) => (format!("--{}", row.name()), default.into()),
            (None, None, Some(unset)) => return Ok(unset),
            (None, None, None) => return Err(UsageError::MissingValue { row }),
        };
        let bad =
            |rule: String| UsageError::BadValue { place: source.clone(), value: value.clone(), row, rule };
        let text = value.to_str().ok_or_else(|| bad("it is not valid UTF-8".to_owned()))?;
        T::read(text).map_err(bad)
    }
}

/// A command line that cannot be followed; one line says why.
#[allow(missing_docs, reason = "the messages say what the variants mean")]
#[derive(Debug, Error)]
pub enum UsageError {
    #[error("there is no option {given:?}; {}", match .nearest {
        Some(nearest) => format!("did you mean {nearest}?"),
        None => "--help lists them".to_owned(),
    })]
    Unknown { given: String, nearest: Option<String> },
    #[error("unexpected argument {:?}; every option is --name=value", lossy(.0))]
    Stray(OsString),
    #[error("--{} needs a value: {}", .row.name(), .row.allowed)]
    MissingValue { row: &'static Row },
    #[error("{place} takes {}, not {:?}{}{rule}", .row.allowed, lossy(.value), if .rule.is_empty() { "" } else { ": " })]
    BadValue { place: String, value: OsString, row: &'static Row, rule: String },
    #[error("{0}")]
    Combination(#[from] BadCombination),
    #[error("{0}")]
    Other(String),
}

impl UsageError {
    fn unknown(given: &str) -> Self {
        let near = |name: &String| strsim::damerau_levenshtein(given, name) <= given.len() / 3;
        let nearest = TABLE
            .iter()
            .map(|row| format!("--{}", row.name()))
            .chain(["--help".to_owned(), "--version".to_owned()])
            .filter(near)
            .min_by_key(|name| strsim::damerau_levenshtein(given, name));
        Self::Unknown { given: given.to_owned(), nearest }
    }

    fn other(error: lexopt::Error) -> Self {
        Self::Other(error.to_string())
    }
}

fn lossy(text: &OsStr) -> std::borrow::Cow<'_, str> {
    text.to_string_lossy()
}
