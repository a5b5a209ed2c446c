//! The log lines of a simulation: those of its thread.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};

use log::{Level, LevelFilter, Log, Metadata, Record};

/// How many lines a report of a failure has.
const REMEMBERED: usize = 12;

/// What the lines say of states that last: a hook does not end; the identity is withdrawn.
pub(super) const LONG_RUN: &str = "has been running for more than a minute";
pub(super) const WITHDRAWN: &str = "has withdrawn the identity";

/// Lines since the last look.
#[derive(Default)]
pub(super) struct Lines {
    pub(super) severe: u64,
    pub(super) all: u64,
    /// Those that tell of each state that lasts.
    told: BTreeMap<&'static str, u64>,
    pub(super) last: VecDeque<String>,
}

thread_local! {
    static LINES: RefCell<Option<Lines>> = const { RefCell::new(None) };
}

struct OfThisThread;

impl Log for OfThisThread {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= Level::Debug && LINES.with_borrow(Option::is_some)
    }

    fn log(&self, record: &Record<'_>) {
        LINES.with_borrow_mut(|lines| {
            let Some(lines) = lines.as_mut().filter(|_| record.level() <= Level::Debug) else { return };
            lines.severe += u64::from(record.level() <= Level::Warn);
            lines.all += 1;
            let line = format!("{} {}", record.level(), record.args());
            for state in [LONG_RUN, WITHDRAWN] {
                let tells = record.level() <= Level::Warn && line.contains(state);
                *lines.told.entry(state).or_default() += u64::from(tells);
            }
            lines.last.push_back(line);
            if lines.last.len() > REMEMBERED {
                lines.last.pop_front();
            }
        });
    }

    fn flush(&self) {}
}

/// Begins to listen. Another test may have turned the log off.
pub(super) fn listen() {
    if LINES.with_borrow(Option::is_none) {
        // Another simulation may have set it.
        let _ = log::set_logger(&OfThisThread);
        LINES.set(Some(Lines::default()));
    }
    log::set_max_level(LevelFilter::Debug);
}

/// How many lines there were since the last call: warnings and errors, and all.
pub(super) fn take_counts() -> (u64, u64) {
    LINES.with_borrow_mut(|lines| {
        let lines = lines.as_mut().unwrap();
        (std::mem::take(&mut lines.severe), std::mem::take(&mut lines.all))
    })
}

/// The number of lines about a state since the last call.
pub(super) fn take_told(state: &'static str) -> u64 {
    LINES.with_borrow_mut(|lines| lines.as_mut().unwrap().told.remove(state).unwrap_or_default())
}

/// The last lines.
pub(super) fn last() -> String {
    LINES.with_borrow(|lines| {
        lines.iter().flat_map(|lines| &lines.last).fold(String::new(), |text, line| text + "\n  " + line)
    })
}
