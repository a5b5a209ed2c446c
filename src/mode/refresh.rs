//! `refresh`: follows every update and publishes each good one, until it is told to end. Nothing
//! that goes wrong ends it.

use std::time::{Duration, Instant, SystemTime};

use log::Level;

use super::part::{Part, Parts, Pursuit, Standing};
use super::{Publisher, check, notifier};
use crate::backoff::Backoff;
use crate::health::Health;
use crate::logging::{Repetition, retrying_in};
use crate::options::Options;
use crate::timestamp::rfc3339;
use crate::wait::{Interrupt, StopSignal, Waiter};
use crate::workload_api::client::{Client, start_grpc};

/// Between attempts to write.
const WRITE: Backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(10));
/// How long the first publication waits for parts that have not been heard of, so that one set
/// comes out of them, and the application is told once.
const GATHERING: Duration = Duration::from_millis(500);
/// The longest sleep: the clock may be set meanwhile, and dates then come nearer.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// Runs until a signal says to stop.
pub fn run(options: &Options, waiter: &Waiter) -> StopSignal {
    let mut refresh = Refresh::new(options, waiter);
    loop {
        refresh.on_time();
        let wake_at = refresh.wake_at();
        match waiter.for_ready(wake_at, |context| refresh.parts.poll(context)) {
            Ok(()) | Err(Interrupt::Deadline) => {}
            Err(Interrupt::ChildEnded) => refresh.publisher.notifier.reap(),
            Err(Interrupt::Stop(signal)) => {
                refresh.stop(signal);
                return signal;
            }
        }
    }
}

struct Refresh<'a> {
    parts: Parts<'a>,
    publisher: Publisher,
    health: Option<Health>,
    /// When the parts' changes are written, if there are any.
    write_at: Option<Instant>,
    has_written: bool,
    write_backoff: Backoff,
    write_trouble: Repetition,
}

impl<'a> Refresh<'a> {
    fn new(options: &'a Options, waiter: &'a Waiter) -> Self {
        let publisher = Publisher::new(options, notifier(options));
        let environment = start_grpc();
        let client = Client::new(options.workload_api_socket.clone(), environment.clone());
        let mut parts = Parts::new(options, waiter, &client, Pursuit::Forever);
        let health = options.health_address.map(|address| {
            // What init has left counts, whether the agent is there or not.
            let findings = check::findings(options, &publisher.store);
            for (part, finding) in parts.all_mut().zip(findings) {
                if let Ok(term) = finding {
                    part.status_mut().found(Standing::Good(term));
                }
            }
            Health::new(address, environment)
        });
        Self {
            parts,
            publisher,
            health,
            write_at: None,
            has_written: false,
            write_backoff: WRITE,
            write_trouble: Repetition::default(),
        }
    }

    /// When the next thing is to be done even if the agent stays silent.
    fn wake_at(&self) -> Instant {
        let health = self.health.as_ref().and_then(Health::wake_at);
        [self.write_at, self.parts.wake_at(), self.publisher.notifier.wake_at(), health]
            .into_iter()
            .flatten()
            .fold(Instant::now() + LONGEST_SLEEP, Instant::min)
    }

    /// Does what is due by now.
    fn on_time(&mut self) {
        self.parts.on_time();
        let has_news = self.parts.all_mut().fold(false, |news, part| part.status_mut().take_news() | news);
        if has_news || self.is_gathered() {
            self.write_backoff.reset();
            self.write_at = Some(match self.has_written || self.is_heard_of() {
                true => Instant::now(),
                false => self.write_at.unwrap_or(Instant::now() + GATHERING),
            });
        }
        self.write_when_due();
        self.publisher.notifier.on_time();
        self.update_health();
    }

    /// Whether every part has something to publish, or a trouble.
    fn is_heard_of(&self) -> bool {
        let is_heard_of =
            |part: &dyn Part| part.status().change().is_some() || part.status().problem().is_some();
        self.parts.all().all(is_heard_of)
    }

    /// Whether the first publication has waited for nothing but a trouble, which is here now.
    fn is_gathered(&self) -> bool {
        !self.has_written && self.write_at.is_some() && self.is_heard_of()
    }

    fn write_when_due(&mut self) {
        if self.write_at.take_if(|at| *at <= Instant::now()).is_none() {
            return;
        }
        match self.publisher.publish(&mut self.parts) {
            Ok(()) => {
                self.has_written = true;
                self.write_trouble.end();
            }
            Err(error) => {
                let retry_in = self.write_backoff.advance();
                self.write_at = Some(Instant::now() + retry_in);
                self.write_trouble.log(Level::Error, &error.to_string(), &retrying_in(retry_in));
            }
        }
    }

    fn update_health(&mut self) {
        let Some(health) = &mut self.health else { return };
        let now = SystemTime::now();
        let expired = self.parts.all().find_map(|part| match part.status().standing() {
            Standing::Good(Some(term)) if term.is_expired(now) => {
                Some(format!("the SVID of {} expired at {}", term.id, rfc3339(term.not_after, 0)))
            }
            _ => None,
        });
        let missing = self.parts.all().find(|part| *part.status().standing() == Standing::Nothing);
        let missing = missing.map(|part| format!("{} is not published", part.describe()));
        health.update([missing.or(expired.clone()), expired]);
        health.on_time();
    }

    fn stop(&mut self, signal: StopSignal) {
        for part in self.parts.all().filter(|part| part.status().change().is_some()) {
            log::warn!("{signal} comes before {} could be published or removed", part.describe());
        }
        self.publisher.notifier.stop();
    }
}
