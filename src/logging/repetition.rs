//! Throttles log lines about a lasting state.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use log::Level;

use super::line::shortened;
use crate::time::timestamp::in_words;
use crate::time::timing::REMINDER;

/// How many different messages of one trouble are logged in full; an agent may never say the same
/// twice.
const REMEMBERED: usize = 8;

/// The length to which messages are cut, and compared.
const LONGEST_MESSAGE: usize = 1024;

/// Chooses the level of messages about a trouble that may last. Each message is logged once, and again
/// when it has become more severe; beyond that, one message a minute is a reminder. The rest (single
/// attempts) is for trace. Messages that differ every time are throttled too.
#[derive(Debug, Default)]
pub(crate) struct Repetition {
    trouble: Option<Box<Trouble>>,
    share: SharedReminder,
}

/// How many troubles there are at the moment. Troubles that share it take turns: together they log one
/// reminder a minute, however many they are.
#[derive(Debug, Clone, Default)]
pub(crate) struct SharedReminder(Rc<Cell<u32>>);

impl SharedReminder {
    fn add(&self, change: i32) {
        self.0.set(self.0.get().saturating_add_signed(change));
    }

    /// The time between two reminders of one trouble.
    fn interval(&self) -> Duration {
        REMINDER * self.0.get()
    }
}

#[derive(Debug)]
struct Trouble {
    began: Instant,
    logged_at: Instant,
    /// How many messages there were.
    times: u32,
    logged: Vec<(String, Level)>,
    newest: (String, Level),
}

/// How a message is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decision {
    InFull,
    Reminder { lasted: Duration, times: u32 },
    Trace,
}

impl Repetition {
    /// A trouble among others.
    pub(crate) fn sharing(share: SharedReminder) -> Self {
        Self { trouble: None, share }
    }

    /// Logs `message`, and what happens `next`, which may differ from time to time.
    pub(crate) fn log(&mut self, level: Level, message: &str, next: &str, now: Instant) {
        let message = shortened(message, LONGEST_MESSAGE);
        match self.decide(now, level, &message) {
            Decision::InFull => log::log!(level, "{message}{next}"),
            Decision::Reminder { lasted, times } => {
                log::log!(level, "{message}{next} (for {} now, {times} times)", in_words(lasted));
            }
            Decision::Trace => log::trace!("{message}{next}"),
        }
    }

    /// Logs a state that is looked at again and again, rather than an attempt.
    pub(crate) fn log_state(&mut self, level: Level, message: &str, now: Instant) {
        let message = shortened(message, LONGEST_MESSAGE);
        match self.decide(now, level, &message) {
            Decision::InFull => log::log!(level, "{message}"),
            Decision::Reminder { lasted, .. } => log::log!(level, "{message} (for {} now)", in_words(lasted)),
            Decision::Trace => {}
        }
    }

    /// Logs a state of several parts, or that it is over if there is none.
    pub(crate) fn log_all(&mut self, level: Level, parts: &[String], now: Instant) {
        match parts {
            [] => self.end(),
            parts => self.log_state(level, &parts.join("; "), now),
        }
    }

    /// Logs the newest message of a state again when its reminder is due, if the state lasts.
    pub(crate) fn remind(&mut self, now: Instant) {
        let Some(trouble) = &self.trouble else { return };
        if now.saturating_duration_since(trouble.logged_at) >= self.share.interval() {
            let (message, level) = trouble.newest.clone();
            self.log_state(level, &message, now);
        }
    }

    /// The trouble is over, if there was one.
    pub(crate) fn end(&mut self) {
        if self.trouble.take().is_some() {
            self.share.add(-1);
        }
    }

    fn decide(&mut self, now: Instant, level: Level, message: &str) -> Decision {
        let trouble = self.trouble.get_or_insert_with(|| {
            self.share.add(1);
            let newest = (String::new(), level);
            Box::new(Trouble { began: now, logged_at: now, times: 0, logged: Vec::new(), newest })
        });
        trouble.times += 1;
        trouble.newest = (message.to_owned(), level);
        let decision = match trouble.logged.iter().position(|(logged, _)| logged == message) {
            // `Level` counts downwards: an error is less than a warning.
            Some(index) if level < trouble.logged[index].1 => {
                trouble.logged[index].1 = level;
                Decision::InFull
            }
            None if trouble.logged.len() < REMEMBERED => {
                trouble.logged.push((message.to_owned(), level));
                Decision::InFull
            }
            _ if now.saturating_duration_since(trouble.logged_at) < self.share.interval() => {
                return Decision::Trace;
            }
            _ => {
                let lasted = now.saturating_duration_since(trouble.began);
                Decision::Reminder { lasted, times: trouble.times }
            }
        };
        trouble.logged_at = now;
        decision
    }
}

#[cfg(test)]
mod tests {
    use nix::errno::Errno;

    use super::*;
    use crate::time::timing::{AWAIT_ENDPOINT, HOOK_AGAIN};
    use crate::workload_api::call_error::CallError;

    const SECOND: Duration = Duration::from_secs(1);

    /// A trouble on a clock of the test's own.
    struct Clock {
        now: Instant,
        repetition: Repetition,
    }

    impl Clock {
        fn new() -> Self {
            Self { now: Instant::now(), repetition: Repetition::default() }
        }

        fn decide(&mut self, level: Level, message: &str) -> Decision {
            self.repetition.decide(self.now, level, message)
        }

        fn is_logged(&mut self, message: &str) -> bool {
            self.decide(Level::Warn, message) != Decision::Trace
        }
    }

    #[test]
    fn each_message_of_a_trouble_is_logged_once() {
        let mut clock = Clock::new();
        let logged = ["a", "a", "b", "a", "b"].map(|message| clock.is_logged(message));
        assert_eq!(logged, [true, false, true, false, false]);
    }

    #[test]
    fn a_trouble_that_lasts_is_logged_again_each_minute() {
        let mut clock = Clock::new();
        let mut logged = Vec::new();
        for second in 0..=150 {
            if clock.is_logged("a") {
                logged.push(second);
            }
            clock.now += SECOND;
        }
        assert_eq!(logged, [0, 60, 120]);
    }

    #[test]
    fn a_state_that_comes_in_one_message_is_due_again_each_minute_until_it_ends() {
        let mut clock = Clock::new();
        clock.is_logged("a");
        let mut reminded = Vec::new();
        for second in 1..=150 {
            clock.now += SECOND;
            if second == 130 {
                clock.repetition.end();
            }
            clock.repetition.remind(clock.now);
            if clock.repetition.trouble.as_ref().is_some_and(|trouble| trouble.logged_at == clock.now) {
                reminded.push(second);
            }
        }
        assert_eq!(reminded, [60, 120]);
    }

    #[test]
    fn a_reminder_says_how_long_and_how_often() {
        let mut clock = Clock::new();
        clock.is_logged("a");
        clock.now += 90 * SECOND;
        assert_eq!(clock.decide(Level::Warn, "a"), Decision::Reminder { lasted: 90 * SECOND, times: 2 });
    }

    #[test]
    fn a_message_that_becomes_more_severe_is_logged_again_and_once() {
        let mut clock = Clock::new();
        let levels = [Level::Warn, Level::Error, Level::Warn, Level::Error];
        let logged = levels.map(|level| clock.decide(level, "a") == Decision::InFull);
        assert_eq!(logged, [true, true, false, false]);
    }

    #[test]
    fn messages_that_differ_every_time_are_logged_once_a_minute() {
        let mut clock = Clock::new();
        let logged = (0..600).filter(|second| {
            clock.now += SECOND;
            clock.is_logged(&second.to_string())
        });
        assert_eq!(logged.count(), REMEMBERED + 9);
    }

    #[test]
    fn a_trouble_that_ended_is_logged_in_full_again() {
        let mut clock = Clock::new();
        clock.is_logged("a");
        clock.now += 5 * SECOND;
        clock.repetition.end();
        assert_eq!(clock.decide(Level::Warn, "a"), Decision::InFull);
    }

    /// Everything on at the default level, each trouble with its own cause: five sources that fail, six
    /// SVIDs that have expired, and a hook that fails.
    #[test]
    fn a_day_without_an_agent_is_less_than_a_mebibyte() {
        let endpoint = "/run/spire/agent-sockets/spire-agent.sock".parse().unwrap();
        let unreachable = CallError::unreachable(&endpoint, Errno::ENOENT).to_string();
        let id = format!("spiffe://example.org/ns/{}/sa/{}", "n".repeat(40), "s".repeat(40));
        let expired = format!(
            "the X.509-SVID of {id} expired at 2026-11-23T16:40:05Z, and the agent has sent no newer one"
        );
        // What a line has beside its message, at the longest.
        let rest = "2026-11-23T16:40:05.123Z ERROR ; retrying in 800ms (for 23 hours 59 minutes now, 100000 times)\n";
        let start = Instant::now();
        let end = start + Duration::from_secs(24 * 60 * 60);
        let (mut bytes, mut attempts) = (0, 0);
        let share = SharedReminder::default();
        for (message, count) in [(unreachable, 5), (expired, 6)] {
            let mut troubles: Vec<_> = (0..count).map(|_| Repetition::sharing(share.clone())).collect();
            let (mut now, mut backoff) = (start, AWAIT_ENDPOINT);
            while now < end {
                for (number, trouble) in troubles.iter_mut().enumerate() {
                    attempts += 1;
                    let message = format!("JWT-SVID token-{number}.jwt: {message}");
                    if trouble.decide(now, Level::Warn, &message) != Decision::Trace {
                        bytes += message.len() + rest.len();
                    }
                }
                now += backoff.advance();
            }
        }
        let hook = "/usr/local/bin/reload-the-application-with-its-new-files (process 4194304)";
        let run = format!(
            "2026-11-23T16:40:05.123Z INFO  running {hook}\n2026-11-23T16:40:05.123Z ERROR {hook} ended with exit code 255; retrying in 1m 0s\n"
        );
        let (mut now, mut backoff) = (start, HOOK_AGAIN);
        while now < end {
            bytes += run.len();
            now += backoff.advance();
        }
        assert!(attempts > 1_000_000, "{attempts}");
        assert!(bytes < 1 << 20, "{bytes}");
    }

    #[test]
    fn troubles_that_share_their_reminders_take_turns() {
        let share = SharedReminder::default();
        let mut troubles = [(); 3].map(|()| Repetition::sharing(share.clone()));
        let (start, mut logged) = (Instant::now(), [0; 3]);
        for second in 0..=600 {
            for (trouble, logged) in troubles.iter_mut().zip(&mut logged) {
                *logged +=
                    u32::from(trouble.decide(start + second * SECOND, Level::Warn, "a") != Decision::Trace);
            }
        }
        assert_eq!(logged, [4, 4, 4], "once at first, then every third minute");
        let now = start + 600 * SECOND;
        for trouble in &mut troubles[1..] {
            trouble.end();
            // It is over already.
            trouble.end();
        }
        assert_eq!(
            troubles[0].decide(now + 60 * SECOND, Level::Warn, "a"),
            Decision::Reminder { lasted: 660 * SECOND, times: 602 }
        );
    }
}
