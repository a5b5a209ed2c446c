//! Command line and environment, resolved into a plan.
//!
//! [`table`] is the single source: it has each option's flag, variable, default, help and type
//! once, and `--help`, the errors and README.md come from it.

mod combinations;
mod help;
mod mistakes;
mod parse;
mod plan;
pub(crate) mod row;
mod sources;
pub(crate) mod table;
mod value;

use std::ffi::OsString;

pub(crate) use parse::Request;
pub(crate) use plan::{Plan, Task};
use table::Options;
pub(crate) use value::Mode;

use crate::layout::check_names;
use crate::words::Flaw;

/// Reads the arguments, without the program's name, and the environment.
///
/// An empty variable counts as unset.
///
/// # Errors
///
/// The command line cannot be followed; one line says why.
// Inlined, its frame would stay on the stack of the loop: a page of each sidecar.
#[inline(never)]
pub(crate) fn read(
    arguments: Vec<OsString>,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Request<Box<Plan>>, Flaw> {
    let mut sources = match parse::parse(arguments, variables.into_iter().collect())? {
        Request::Print(text) => return Ok(Request::Print(text)),
        Request::Do(sources) => sources,
    };
    combinations::forget_variables_of_other_modes(sources.value(&table::row::mode)?, &mut sources);
    let options = Options::from_sources(&sources)?;
    combinations::check(&options, |row| sources.is_flag(row))?;
    let plan = Plan::new(options, mistakes::in_environment(&sources))?;
    if let Task::Follow(settings) = &plan.task {
        let names: Vec<_> = settings.parts.iter().flat_map(|part| part.given_names()).collect();
        check_names(&names)?;
    }
    Ok(Request::Do(Box::new(plan)))
}
