//! Log lines on stderr, for people (text) or for programs (JSON, one object a line).

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt::{self, Write as _};
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

/// Enough for everything but an agent gone mad.
const LONGEST_MESSAGE: usize = 4096;

/// The message, or its beginning.
fn shortened(message: &str) -> Cow<'_, str> {
    match message.len() {
        ..=LONGEST_MESSAGE => message.into(),
        length => {
            let end = message.floor_char_boundary(LONGEST_MESSAGE);
            format!("{} ... ({length} bytes)", &message[..end]).into()
        }
    }
}

/// What an agent says goes into the log, but must not forge a line of it, or reorder one.
struct OneLine<T>(T);

impl<T: fmt::Display> fmt::Display for OneLine<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.to_string().chars().try_for_each(|letter| match is_harmless(letter) {
            true => f.write_char(letter),
            false => write!(f, "{}", letter.escape_default()),
        })
    }
}

fn is_harmless(letter: char) -> bool {
    // Line and paragraph separators, and the marks that change the direction of writing.
    let invisible =
        matches!(letter, '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !letter.is_control() && !invisible
}

/// What happens after a failure, for the end of a log line.
pub fn retrying_in(delay: Duration) -> String {
    match delay.as_millis() {
        0 => "; retrying at once".to_owned(),
        milliseconds => format!("; retrying in {:?}", Duration::from_millis(milliseconds as u64)),
    }
}

/// How often a state that lasts is brought back to mind.
const REMINDER: Duration = Duration::from_secs(60);

/// How many messages of one trouble are remembered; an agent may never say the same twice.
const REMEMBERED: usize = 8;

/// Chooses the level of messages about a trouble that may last: each message at full level at
/// first, at debug when it comes again, and at full level each minute as a reminder.
#[derive(Default)]
pub struct Repetition {
    began: Option<Instant>,
    told: VecDeque<Told>,
}

struct Told {
    message: String,
    level: Level,
    at: Instant,
    times: u32,
}

impl Repetition {
    /// Logs `message`, and what happens `next`, which may differ from time to time.
    pub fn log(&mut self, level: Level, message: &str, next: &str) {
        let message = shortened(message);
        let (level, reminder) = self.level(level, &message);
        log::log!(level, "{message}{next}{reminder}");
    }

    /// The level for `message`, and what to add to it when it is a reminder.
    fn level(&mut self, level: Level, message: &str) -> (Level, String) {
        let now = Instant::now();
        let began = *self.began.get_or_insert(now);
        let recent = |told: &Told| now.duration_since(told.at) < REMINDER;
        let Some(told) = self.told.iter_mut().find(|told| told.message == message) else {
            // Whoever says something else each time is not heard more often for it.
            if self.told.len() == REMEMBERED && self.told.iter().all(recent) {
                return (Level::Debug, String::new());
            }
            self.told.truncate(REMEMBERED - 1);
            self.told.push_front(Told { message: message.to_owned(), level, at: now, times: 1 });
            return (level, String::new());
        };
        told.times += 1;
        if recent(told) && level >= told.level {
            return (Level::Debug, String::new());
        }
        told.level = level;
        told.at = now;
        let lasted = now.duration_since(began).as_secs();
        (level, format!(" (for {lasted}s now, {} times)", told.times))
    }

    /// The trouble is over; says how long it lasted, if there was one.
    pub fn end(&mut self) -> Option<Duration> {
        self.told.clear();
        self.began.take().map(|began| began.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_message_of_a_trouble_is_told_once_and_then_at_debug() {
        let mut repetition = Repetition::default();
        let levels = ["a", "a", "b", "a", "b"].map(|message| repetition.level(Level::Warn, message).0);
        assert_eq!(levels, [Level::Warn, Level::Debug, Level::Warn, Level::Debug, Level::Debug]);
    }

    #[test]
    fn a_message_that_becomes_more_severe_is_told_again() {
        let mut repetition = Repetition::default();
        assert_eq!(repetition.level(Level::Warn, "a").0, Level::Warn);
        assert_eq!(repetition.level(Level::Error, "a").0, Level::Error);
    }

    #[test]
    fn ever_new_messages_are_not_told_for_ever() {
        let mut repetition = Repetition::default();
        let told = (0..100).filter(|n| repetition.level(Level::Warn, &n.to_string()).0 == Level::Warn);
        assert_eq!(told.count(), REMEMBERED);
    }

    #[test]
    fn a_message_without_end_is_cut() {
        assert_eq!(shortened(&"ü".repeat(5000)).len(), LONGEST_MESSAGE + " ... (10000 bytes)".len());
    }

    #[test]
    fn a_trouble_that_ended_is_told_in_full_again() {
        let mut repetition = Repetition::default();
        repetition.level(Level::Warn, "a");
        assert!(repetition.end().is_some());
        assert_eq!(repetition.level(Level::Warn, "a").0, Level::Warn);
    }

    #[test]
    fn what_an_agent_says_cannot_forge_a_log_line() {
        assert_eq!(OneLine("a\nb\u{1b}[0m ü\u{202e}").to_string(), "a\\nb\\u{1b}[0m ü\\u{202e}");
    }
}
