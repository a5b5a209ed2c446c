//! The log on stderr, for people (text) or for programs (JSON, one object a line).
//!
//! Logging never waits: a line that stderr has no room for is dropped and counted ([`output`]). A
//! lasting state is logged once and then each minute ([`Repetition`]).

mod libraries;
mod line;
mod output;
mod printable;
mod repetition;

use std::io::Write;
use std::time::{Duration, Instant};

use log::LevelFilter;

pub(crate) use line::{LogFormat, shortened};
pub(crate) use output::{dropped_lines, finish, next_deadline, run_due};
pub(crate) use printable::Printable;
pub(crate) use repetition::{Repetition, SharedReminder};

use libraries::LibraryLines;
use output::Stderr;

/// The module of this program's lines.
const OURS: &str = env!("CARGO_CRATE_NAME");

/// The least important lines of libraries that are logged: those about faults. Below, gRPC's tracing
/// would print whole messages, private keys among them.
const LIBRARIES: LevelFilter = LevelFilter::Warn;

/// Starts logging: this program's lines from `level` on, its libraries' from warn on. To be called
/// before gRPC starts and before there is another thread. `has_time`: text lines begin with the time.
pub(crate) fn start(level: LevelFilter, format: LogFormat, has_time: bool) {
    let form = line::Form { format, has_time };
    output::start(form);
    let library_lines = LibraryLines::default();
    env_logger::Builder::new()
        .filter_level(level.min(LIBRARIES))
        .filter_module(OURS, level)
        .format(move |buffer, record| {
            let is_ours = record.target().starts_with(OURS);
            if is_ours || library_lines.is_news(record.args().to_string(), Instant::now()) {
                buffer.write_all(&form.line(record))?;
            }
            Ok(())
        })
        .target(env_logger::Target::Pipe(Box::new(Stderr)))
        .init();
    redirect_c_core();
}

/// C-core has a log of its own, which would go to stderr past ours. Its verbosity is set before it
/// starts: it then ignores GRPC_VERBOSITY, and the lines that GRPC_TRACE asks for stay below.
fn redirect_c_core() {
    // `redirect_log` takes the verbosity from here; at off, it would leave C-core's own log on.
    let level = log::max_level();
    log::set_max_level(LIBRARIES);
    grpcio::redirect_log();
    log::set_max_level(level);
}

/// The next step after a failure, for the end of a log line.
pub(crate) fn retrying_in(delay: Duration) -> String {
    // Whole milliseconds are enough.
    match delay.as_millis() as u64 {
        0 => "; retrying at once".to_owned(),
        milliseconds => format!("; retrying in {:?}", Duration::from_millis(milliseconds)),
    }
}
