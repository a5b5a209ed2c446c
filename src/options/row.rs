//! One entry of the table of options.

use super::value::Mode;

/// One entry of the table.
#[derive(Debug)]
pub struct Row {
    /// The field's name: `svid_path` for `--svid-path` and `HELPER_SVID_PATH`.
    pub(crate) field: &'static str,
    /// The heading above it in the help.
    pub group: &'static str,
    /// The name of the value in the help; empty for a switch: its flag alone means `true`.
    pub placeholder: &'static str,
    /// `None`: the option may be left out, and `help` says what happens then.
    pub default: Option<&'static str>,
    /// A variable that counts when neither flag nor `HELPER_` variable is set.
    pub(crate) fallback_variable: Option<&'static str>,
    /// Its description: the lines that the table has, each with a space before it.
    pub(crate) help: &'static str,
    /// The allowed values, as an error names them.
    pub(crate) allowed: &'static str,
    /// The modes that accept the flag; another mode refuses it.
    pub(crate) modes: &'static [Mode],
    /// The modes that read the variable; another mode ignores it, value and all: the containers of a
    /// pod can share their variables.
    pub(crate) variable_modes: &'static [Mode],
    /// Whether the flag may be given again, for one more value.
    pub(crate) repeats: bool,
}

impl Row {
    /// The flag's name, without its dashes.
    pub fn name(&self) -> String {
        self.field.replace('_', "-")
    }

    /// What it does, in one line.
    pub fn description(&self) -> &'static str {
        self.help.trim_start()
    }

    /// The environment variable.
    pub fn variable(&self) -> String {
        format!("HELPER_{}", self.field.to_uppercase())
    }
}
