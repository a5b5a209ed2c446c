//! Where the value of an option comes from: flag before variable before default.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};

use thiserror::Error;

use super::row::Row;
use super::value::Value;
use crate::logging::shortened;

/// The flags that were given, the command behind `--`, and the environment.
pub(crate) struct Sources<'a> {
    flags: HashMap<String, OsString>,
    pub(crate) command: Vec<OsString>,
    variable: &'a dyn Fn(&str) -> Option<OsString>,
}

impl<'a> Sources<'a> {
    /// No flags yet. `variable` looks a variable up; an empty one counts as unset.
    pub(crate) fn new(command: Vec<OsString>, variable: &'a dyn Fn(&str) -> Option<OsString>) -> Self {
        Self { flags: HashMap::new(), command, variable }
    }

    /// Of several values, the last one counts, or all of them, one per line.
    pub(crate) fn add_flag(&mut self, row: &Row, mut value: OsString) {
        if let Some(mut earlier) = self.flags.remove(&row.name()).filter(|_| row.repeats) {
            earlier.push("\n");
            earlier.push(value);
            value = earlier;
        }
        self.flags.insert(row.name(), value);
    }

    /// Whether the option was given as a flag.
    pub(crate) fn is_flag(&self, row: &Row) -> bool {
        self.flags.contains_key(&row.name())
    }

    /// The value of one option. White space around it does not count: a variable that is filled
    /// from a file ends with a line break.
    pub(crate) fn value<T: Value>(&self, row: &'static Row) -> Result<T, ValueError> {
        let flag = || self.flags.get(&row.name()).map(|value| (format!("--{}", row.name()), value.clone()));
        let variable = |name: String| match (self.variable)(&name) {
            Some(value) if !value.is_empty() => Some((name, value)),
            _ => None,
        };
        let set = flag()
            .or_else(|| variable(row.variable()))
            .or_else(|| row.fallback_variable.and_then(|name| variable(name.to_owned())));
        let (place, value) = match (set, row.default, T::unset()) {
            (Some(set), _, _) => set,
            (None, Some(default), _) => (format!("--{}", row.name()), default.into()),
            (None, None, Some(unset)) => return Ok(unset),
            (None, None, None) => return Err(ValueError::Missing { row }),
        };
        let bad = |rule| ValueError::Bad { place: place.clone(), value: value.clone(), row, rule };
        let text = value.to_str().ok_or_else(|| bad("it is not valid UTF-8".to_owned()))?;
        T::read(text.trim()).map_err(bad)
    }
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
        "{place} takes {}, not {:?}{}{rule}",
        .row.allowed, shown(.value), if .rule.is_empty() { "" } else { ": " }
    )]
    Bad { place: String, value: OsString, row: &'static Row, rule: String },
}
