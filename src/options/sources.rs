//! Where the value of an option comes from: flag before variable before default.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};

use thiserror::Error;

use super::row::Row;
use super::value::Value;
use crate::logging::shortened;

/// The environment.
pub(crate) type Variables = BTreeMap<OsString, OsString>;

/// The flags that were given, the command behind `--`, and the environment.
pub(crate) struct Sources {
    /// The values of each flag, by its name.
    flags: HashMap<String, Vec<OsString>>,
    pub(crate) command: Vec<OsString>,
    variables: Variables,
}

impl Sources {
    /// No flags yet.
    pub(crate) fn new(command: Vec<OsString>, variables: Variables) -> Self {
        Self { flags: HashMap::new(), command, variables }
    }

    /// Refuses a second value, unless the option repeats.
    pub(crate) fn add_flag(&mut self, row: &'static Row, value: OsString) -> Result<(), ValueError> {
        let values = self.flags.entry(row.name()).or_default();
        if let Some(first) = values.first().filter(|_| !row.repeats) {
            return Err(ValueError::Twice { row, first: first.clone(), second: value });
        }
        values.push(value);
        Ok(())
    }

    /// Whether the option was given as a flag.
    pub(crate) fn is_flag(&self, row: &Row) -> bool {
        self.flags.contains_key(&row.name())
    }

    /// Forgets the option's variables.
    pub(crate) fn forget_variables(&mut self, row: &Row) {
        for name in [Some(row.variable().as_str()), row.fallback_variable].into_iter().flatten() {
            self.variables.remove(OsStr::new(name));
        }
    }

    /// Whether the option's variable is there without a value, and there is no flag.
    pub(crate) fn is_empty_variable(&self, row: &Row) -> bool {
        let value = self.variables.get(OsStr::new(&row.variable()));
        !self.is_flag(row) && value.is_some_and(|value| is_blank(value))
    }

    /// The names of the variables that have a value.
    pub(crate) fn set_variables(&self) -> impl Iterator<Item = &str> {
        self.variables.iter().filter(|(_, value)| !is_blank(value)).filter_map(|(name, _)| name.to_str())
    }

    /// The value of one option.
    pub(crate) fn value<T: Value>(&self, row: &'static Row) -> Result<T, ValueError> {
        let Some((place, texts)) = self.texts(row)? else {
            return T::unset().ok_or(ValueError::Missing { row });
        };
        let mut all: Option<T> = None;
        for text in texts {
            let value = T::read(&text).map_err(|rule| bad(row, &place, text.into(), rule))?;
            all = Some(match all {
                Some(earlier) => earlier.and(value),
                None => value,
            });
        }
        all.ok_or(ValueError::Missing { row })
    }

    /// The texts that an option is set to, and the place where; `None` if it is not set. White space around one
    /// does not count: a variable that is filled from a file ends with a line break.
    fn texts(&self, row: &'static Row) -> Result<Option<(String, Vec<String>)>, ValueError> {
        let flag = format!("--{}", row.name());
        let variable = |name: &str| {
            let value = self.variables.get(OsStr::new(name)).filter(|value| !is_blank(value))?;
            Some((name.to_owned(), vec![value.clone()]))
        };
        let given = self.flags.get(&row.name()).map(|values| (flag.clone(), values.clone()));
        let set = given
            .or_else(|| variable(&row.variable()))
            .or_else(|| row.fallback_variable.and_then(variable))
            .or_else(|| row.default.map(|value| (flag, vec![value.into()])));
        let Some((place, values)) = set else { return Ok(None) };
        let texts = values.into_iter().map(|value| match value.to_str().map(str::trim) {
            Some("") => Err(ValueError::Missing { row }),
            Some(text) => Ok(text.to_owned()),
            None => Err(bad(row, &place, value, "it is not valid UTF-8".to_owned())),
        });
        let texts = texts.collect::<Result<_, _>>()?;
        Ok(Some((place, texts)))
    }
}

fn bad(row: &'static Row, place: &str, value: OsString, rule: String) -> ValueError {
    ValueError::Bad { place: place.to_owned(), value, row, rule }
}

fn is_blank(value: &OsStr) -> bool {
    value.to_str().is_some_and(|text| text.trim().is_empty())
}

/// What was given, for a message: at most its beginning.
pub(super) fn shown(given: &OsStr) -> String {
    shortened(&given.to_string_lossy(), 300)
}

/// An option's value that is missing or bad; one line says what is allowed.
#[derive(Debug, Error)]
pub(crate) enum ValueError {
    #[error("--{} needs a value: {}", .row.name(), .row.allowed)]
    Missing { row: &'static Row },
    #[error(
        "--{name} needs a value; {:?} is the next option (write --{name}=VALUE if the value begins with dashes)",
        shown(.next), name = .row.name()
    )]
    NextOption { row: &'static Row, next: OsString },
    #[error(
        "--{} is given twice, as {:?} and as {:?}; give it once",
        .row.name(), shown(.first), shown(.second)
    )]
    Twice { row: &'static Row, first: OsString, second: OsString },
    #[error(
        "{place} takes {}, not {:?}{}{rule}",
        .row.allowed, shown(.value), if .rule.is_empty() { "" } else { ": " }
    )]
    Bad { place: String, value: OsString, row: &'static Row, rule: String },
}
