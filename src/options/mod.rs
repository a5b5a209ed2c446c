//! Command line and environment.
//!
//! [`table`] is the single source: each option's flag, variable, default, help and type stand
//! there once, and `--help`, the errors and README.md come from it.

mod combinations;
mod help;
mod parse;
pub mod table;
pub mod value;

pub use help::help;
pub use parse::{Request, UsageError, parse};
pub use table::Options;
