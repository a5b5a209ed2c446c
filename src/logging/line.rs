//! One log line, as text or as JSON.

use log::kv::{Key, Value, VisitSource};
use log::{Level, Record};
use serde_json::{Map, Value as Json};

use super::printable::Printable;
use crate::time::clock::Now;
use crate::time::timestamp::rfc3339;
use crate::words::words;

words! {
    /// How a log line is written.
    LogFormat {
        Text = "text",
        Json = "json",
    }
}

/// The longest line, with its line feed: a pipe takes this many bytes whole or not at all (PIPE_BUF).
pub(super) const LONGEST_LINE: usize = 4096;

/// How lines are written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Form {
    pub(super) format: LogFormat,
    /// Whether a text line begins with the time, for modes that run for a while. Without it, Kubernetes counts equal
    /// messages of an exec probe as one event. A JSON line always has it: programs that collect lines want one.
    pub(super) has_time: bool,
}

impl Form {
    /// The line, with its line feed; a line that is too long is cut.
    pub(super) fn line(self, record: &Record<'_>) -> Vec<u8> {
        let time = rfc3339(Now::look().time, 3);
        let line = match self.format {
            LogFormat::Text if self.has_time => text(&(time + " "), record),
            LogFormat::Text => text("", record),
            LogFormat::Json => json(&time, record),
        };
        (line + "\n").into_bytes()
    }
}

/// The most that a line holds before its line feed.
const ROOM: usize = LONGEST_LINE - 1;

fn text(time: &str, record: &Record<'_>) -> String {
    let line = format!("{time}{:<5} {}", record.level(), Printable(record.args()));
    shortened(&line, ROOM)
}

/// The text, or as much of its beginning as fits into `room` bytes beside a mark with its length.
pub(crate) fn shortened(text: &str, room: usize) -> String {
    if text.len() <= room {
        return text.to_owned();
    }
    let mark = format!(" ... ({} bytes)", text.len());
    let end = text.floor_char_boundary(room.saturating_sub(mark.len()));
    text[..end].to_owned() + &mark
}

fn json(time: &str, record: &Record<'_>) -> String {
    let mut room = ROOM;
    loop {
        let line = json_with(time, record, room);
        if line.len() <= ROOM {
            return line;
        }
        // A cut line must still be JSON, so each of its texts is cut.
        room /= 2;
    }
}

/// The object with texts of up to `room` bytes each.
fn json_with(time: &str, record: &Record<'_>, room: usize) -> String {
    let mut fields = Fields { object: Map::new(), room };
    fields.put("time", time.into());
    fields.put("level", record.level().as_str().to_lowercase().into());
    fields.put("message", shortened(&record.args().to_string(), room).into());
    // Fails if a field cannot be shown; the line is of use without it.
    let _ = record.key_values().visit(&mut fields);
    Json::Object(fields.object).to_string()
}

struct Fields {
    object: Map<String, Json>,
    room: usize,
}

impl Fields {
    fn put(&mut self, name: &str, value: Json) {
        self.object.insert(name.to_owned(), value);
    }
}

impl<'kvs> VisitSource<'kvs> for Fields {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), log::kv::Error> {
        let json = match (value.to_u64(), value.to_f64()) {
            (Some(whole), _) => whole.into(),
            (None, Some(real)) => real.into(),
            (None, None) => shortened(&value.to_string(), self.room).into(),
        };
        self.put(key.as_str(), json);
        Ok(())
    }
}

/// A record of our own, for a line that does not come through `log`.
pub(super) fn own_line(form: Form, level: Level, message: &str) -> Vec<u8> {
    form.line(&Record::builder().level(level).args(format_args!("{message}")).build())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMS: [Form; 2] =
        [Form { format: LogFormat::Text, has_time: true }, Form { format: LogFormat::Json, has_time: true }];

    #[test]
    fn no_line_is_longer_than_a_pipe_takes_at_once() {
        for message in ["ü".repeat(5000), "\u{1b}".repeat(5000), "\"".repeat(4095), "a".repeat(100_000)] {
            for form in FORMS {
                let line = own_line(form, Level::Warn, &message);
                assert!(line.len() <= LONGEST_LINE, "{}", line.len());
                assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
                assert_eq!(line.last(), Some(&b'\n'));
            }
        }
    }

    #[test]
    fn a_cut_line_says_how_long_it_was() {
        let line = own_line(FORMS[0], Level::Warn, &"a".repeat(5000));
        assert!(String::from_utf8(line).unwrap().ends_with("a ... (5031 bytes)\n"));
    }

    #[test]
    fn a_cut_json_line_is_still_json() {
        let line = own_line(FORMS[1], Level::Warn, &"\u{1b}".repeat(5000));
        let json: Json = serde_json::from_slice(&line).unwrap();
        assert_eq!(json["level"], "warn");
        assert!(json["message"].as_str().unwrap().ends_with("... (5000 bytes)"));
    }

    #[test]
    fn without_a_time_equal_messages_are_equal_text_lines() {
        let form = Form { format: LogFormat::Text, has_time: false };
        assert_eq!(own_line(form, Level::Error, "it is so"), b"ERROR it is so\n");
    }
}
