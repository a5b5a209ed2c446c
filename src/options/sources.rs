//! Where the value of an option comes from: flag before variable before default.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};

use super::row::Row;
use super::value::Value;
use crate::logging::shortened;
use crate::words::{Flaw, flaw};

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
    pub(crate) fn add_flag(&mut self, row: &'static Row, value: OsString) -> Result<(), Flaw> {
        let values = self.flags.entry(row.name()).or_default();
        if let Some(first) = values.first().filter(|_| !row.repeats) {
            return Err(flaw!(
                "--{} is given twice, as {:?} and as {:?}; give it once",
                row.name(),
                shown(first),
                shown(&value)
            ));
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
    pub(crate) fn value<T: Value>(&self, row: &'static Row) -> Result<T, Flaw> {
        let Some((place, texts)) = self.texts(row)? else {
            return T::unset().ok_or_else(|| missing(row));
        };
        let read = |text: String| T::read(&text).map_err(|flaw| bad(row, &place, text.into(), flaw));
        let values = texts.into_iter().map(read).reduce(|earlier, later| Ok(earlier?.and(later?)));
        values.unwrap_or_else(|| Err(missing(row)))
    }

    /// The texts that an option is set to, and the place where; `None` if it is not set. White space around one
    /// does not count: a variable that is filled from a file ends with a line break.
    fn texts(&self, row: &'static Row) -> Result<Option<(String, Vec<String>)>, Flaw> {
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
            Some("") => Err(missing(row)),
            Some(text) => Ok(text.to_owned()),
            None => Err(bad(row, &place, value, Flaw::new("it is not valid UTF-8"))),
        });
        let texts = texts.collect::<Result<_, _>>()?;
        Ok(Some((place, texts)))
    }
}

/// An option without its value; the sentence says what is allowed.
pub(super) fn missing(row: &Row) -> Flaw {
    flaw!("--{} needs a value: {}", row.name(), row.allowed)
}

/// A value that is not allowed, and its flaw.
fn bad(row: &Row, place: &str, value: OsString, flaw: Flaw) -> Flaw {
    let colon = if flaw == Flaw::obvious() { "" } else { ": " };
    flaw!("{place} takes {}, not {:?}{colon}{flaw}", row.allowed, shown(&value))
}

fn is_blank(value: &OsStr) -> bool {
    value.to_str().is_some_and(|text| text.trim().is_empty())
}

/// What was given, for a message: at most its beginning.
pub(super) fn shown(given: &OsStr) -> String {
    shortened(&given.to_string_lossy(), 300)
}
