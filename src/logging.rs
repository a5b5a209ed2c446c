//! Log lines on stderr, for people (text) or for programs (JSON, one object a line).

use std::fmt;
use std::io::{self, Write};
use std::time::{Duration, Instant, SystemTime};

use log::kv::{Key, Value, VisitSource};
use log::{Level, LevelFilter, Record};
use serde_json::{Map, Value as Json};

use crate::options::value::LogFormat;
use crate::timestamp::rfc3339;

/// Starts logging: this program's lines from `level` on. Its libraries' lines are worth reading
/// only when something is wrong with them: from warn on, or all of them at trace.
pub fn start(level: LevelFilter, format: LogFormat) {
    let libraries = match level {
        LevelFilter::Trace => LevelFilter::Trace,
        level => level.min(LevelFilter::Warn),
    };
    env_logger::Builder::new()
        .filter_level(libraries)
        .filter_module(env!("CARGO_CRATE_NAME"), level)
        .format(move |out, record| match format {
            LogFormat::Text => write_text(out, record),
            LogFormat::Json => write_json(out, record),
        })
        .init();
    // C-core has a log of its own, which would go to stderr past ours.
    grpcio::redirect_log();
}

fn write_text(out: &mut impl Write, record: &Record<'_>) -> io::Result<()> {
    let time = rfc3339(SystemTime::now(), 3);
    writeln!(out, "{time} {:<5} {}", record.level(), OneLine(record.args()))
}

fn write_json(out: &mut impl Write, record: &Record<'_>) -> io::Result<()> {
    let mut fields = Fields(Map::new());
    let mut put = |name: &str, value: String| fields.0.insert(name.to_owned(), Json::String(value));
    put("time", rfc3339(SystemTime::now(), 3));
    put("level", record.level().as_str().to_lowercase());
    put("message", record.args().to_string());
    record.key_values().visit(&mut fields).map_err(io::Error::other)?;
    writeln!(out, "{}", Json::Object(fields.0))
}

struct Fields(Map<String, Json>);

impl<'kvs> VisitSource<'kvs> for Fields {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), log::kv::Error> {
        let json = match (value.to_u64(), value.to_f64()) {
            (Some(whole), _) => whole.into(),
            (None, Some(real)) => real.into(),
            (None, None) => value.to_string().into(),
        };
        self.0.insert(key.to_string(), json);
        Ok(())
    }
}

/// What an agent says goes into the log, but must not forge a line of it.
struct OneLine<T>(T);

impl<T: fmt::Display> fmt::Display for OneLine<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in self.0.to_string().split_inclusive(char::is_control) {
            match part.char_indices().next_back() {
                Some((at, control)) if control.is_control() => {
                    write!(f, "{}{}", &part[..at], control.escape_default())?;
                }
                _ => f.write_str(part)?,
            }
        }
        Ok(())
    }
}

/// How often a state that lasts is brought back to mind.
const REMINDER: Duration = Duration::from_secs(60);

/// Chooses the level of a message about a state that may last: the first at full level, the same
/// again at debug, and each minute a reminder at full level.
#[derive(Default)]
pub struct Repetition {
    current: Option<State>,
}

struct State {
    message: String,
    since: Instant,
    reported: Instant,
    times: u32,
}

impl Repetition {
    /// The level for `message`, and what to add to it when it is a reminder.
    pub fn report(&mut self, level: Level, message: &str) -> (Level, String) {
        let now = Instant::now();
        match &mut self.current {
            Some(state) if state.message == message => {
                state.times += 1;
                if now.duration_since(state.reported) < REMINDER {
                    return (Level::Debug, String::new());
                }
                state.reported = now;
                let lasted = now.duration_since(state.since).as_secs();
                (level, format!(" (the same for {lasted}s, {} times)", state.times))
            }
            _ => {
                self.current =
                    Some(State { message: message.to_owned(), since: now, reported: now, times: 1 });
                (level, String::new())
            }
        }
    }

    /// The state is over; says how long it lasted, if there was one.
    pub fn end(&mut self) -> Option<Duration> {
        self.current.take().map(|state| state.since.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_reported_once_and_then_at_debug_until_it_changes() {
        let mut repetition = Repetition::default();
        let levels = ["a", "a", "b", "a"].map(|message| repetition.report(Level::Warn, message).0);
        assert_eq!(levels, [Level::Warn, Level::Debug, Level::Warn, Level::Warn]);
    }

    #[test]
    fn a_state_that_ended_is_reported_in_full_again() {
        let mut repetition = Repetition::default();
        repetition.report(Level::Warn, "a");
        assert!(repetition.end().is_some());
        assert_eq!(repetition.report(Level::Warn, "a").0, Level::Warn);
    }

    #[test]
    fn what_an_agent_says_cannot_forge_a_log_line() {
        assert_eq!(OneLine("a\nb\u{1b}[0m ü").to_string(), "a\\nb\\u{1b}[0m ü");
    }
}
