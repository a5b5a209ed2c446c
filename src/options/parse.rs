//! Reads the command line.

use std::ffi::{OsStr, OsString};

use lexopt::Arg;
use thiserror::Error;

use super::sources::{Sources, ValueError, shown};
use super::table::TABLE;

/// A parsed command line.
pub(crate) enum CommandLine<'a> {
    Help,
    Version,
    /// Work, by these options.
    Options(Sources<'a>),
}

/// Reads the arguments, without the program's name.
pub(crate) fn parse<'a>(
    mut arguments: Vec<OsString>,
    variable: &'a dyn Fn(&str) -> Option<OsString>,
) -> Result<CommandLine<'a>, ParseError> {
    // lexopt would hand out a command's words one by one, as if they were ours.
    let command = match arguments.iter().position(|argument| argument == "--") {
        Some(position) => arguments.split_off(position).split_off(1),
        None => Vec::new(),
    };
    let mut sources = Sources::new(command, variable);
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("help") | Arg::Short('h') => return without_value(&mut parser, CommandLine::Help),
            Arg::Long("version") | Arg::Short('V') => {
                return without_value(&mut parser, CommandLine::Version);
            }
            Arg::Long(name) => {
                let row = TABLE.iter().find(|row| row.name() == name);
                let row = row.ok_or_else(|| ParseError::unknown(&format!("--{name}")))?;
                let value = if row.is_switch {
                    parser.optional_value().unwrap_or_else(|| "true".into())
                } else {
                    parser.value().map_err(|_| ValueError::Missing { row })?
                };
                sources.add_flag(row, value);
            }
            Arg::Short(letter) => return Err(ParseError::unknown(&format!("-{letter}"))),
            Arg::Value(stray) => return Err(ParseError::Stray(stray)),
        }
    }
    Ok(CommandLine::Options(sources))
}

fn without_value<'a>(
    parser: &mut lexopt::Parser,
    asked: CommandLine<'a>,
) -> Result<CommandLine<'a>, ParseError> {
    match parser.optional_value() {
        None => Ok(asked),
        Some(value) => Err(ParseError::ValueForHelp(value)),
    }
}

/// A command line that cannot be read; one line says why.
#[derive(Debug, Error)]
pub(crate) enum ParseError {
    #[error("there is no option {:?}; {}", shown(OsStr::new(.given)), match .nearest {
        Some(nearest) => format!("did you mean {nearest}?"),
        None => "--help lists them".to_owned(),
    })]
    Unknown { given: String, nearest: Option<String> },
    #[error("unexpected argument {:?}; every option is --name=value", shown(.0))]
    Stray(OsString),
    #[error(transparent)]
    Value(#[from] ValueError),
    #[error("--help and --version take no value, not {:?}", shown(.0))]
    ValueForHelp(OsString),
    #[error(transparent)]
    Syntax(#[from] lexopt::Error),
}

impl ParseError {
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
}
