//! `refresh`: follows every update and publishes each good one, until it is told to end. Nothing
//! that goes wrong ends it.

use std::time::{Duration, Instant, SystemTime};

use log::Level;

use super::part::{Parts, Pursuit, Standing};
use super::{NotWritten, Publisher, check, notifier};
use crate::health::Health;
use crate::identity::term::time_left;
use crate::logging::{Repetition, retrying_in};
use crate::notify::Notifier;
use crate::options::Options;
use crate::timestamp::rfc3339;
use crate::wait::{Interrupt, StopSignal, Waiter};
use crate::workload_api::client::{Client, start_grpc};

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
            Err(Interrupt::ChildEnded) => refresh.notifier.reap(),
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
    write_trouble: Repetition,
    notifier: Notifier,
    health: Option<Health>,
}

impl<'a> Refresh<'a> {
    fn new(options: &'a Options, waiter: &'a Waiter) -> Self {
        let publisher = Publisher::new(options);
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
        Self { parts, publisher, write_trouble: Repetition::default(), notifier: notifier(options), health }
    }

    /// When the next thing is to be done even if the agent stays silent.
    fn wake_at(&self) -> Instant {
        let health = self.health.as_ref().and_then(Health::wake_at);
        // What init left expires too, and no part of ours thinks of it.
        let ends = self.parts.all().filter_map(|part| match part.status().standing() {
            Standing::Good(Some(term)) => Some(time_left(term.not_after)),
            _ => None,
        });
        let end = ends.filter(|left| !left.is_zero()).min().map(|left| Instant::now() + left);
        [end, self.parts.wake_at(), self.publisher.wake_at(), self.notifier.wake_at(), health]
            .into_iter()
            .flatten()
            .fold(Instant::now() + LONGEST_SLEEP, Instant::min)
    }

    /// Does what is due by now.
    fn on_time(&mut self) {
        self.parts.on_time();
        match self.publisher.on_time(&mut self.parts) {
            None => {}
            Some(Ok(publication)) => {
                self.write_trouble.end();
                self.publisher.tell(&mut self.notifier, &self.parts, publication);
            }
            Some(Err(NotWritten { error, retry_in })) => {
                self.write_trouble.log(Level::Error, &error.to_string(), &retrying_in(retry_in));
            }
        }
        self.notifier.on_time();
        self.update_health();
    }

    fn update_health(&mut self) {
        let Some(health) = &mut self.health else { return };
        let now = SystemTime::now();
        let expired = self.parts.all().find_map(|part| match part.status().standing() {
            Standing::Good(Some(term)) if term.is_expired(now) => {
                Some(format!("the {} of {} expired at {}", term.kind(), term.id, rfc3339(term.not_after, 0)))
            }
            _ => None,
        });
        let missing = self.parts.all().find(|part| *part.status().standing() == Standing::Nothing);
        let missing = missing.map(|part| format!("{} is not published", part.status().name()));
        health.update([missing.or(expired.clone()), expired]);
        health.on_time();
    }

    fn stop(&mut self, signal: StopSignal) {
        for part in self.parts.all().filter(|part| part.status().change().is_some()) {
            log::warn!("{signal} comes before {} could be published or removed", part.describe());
        }
        self.notifier.stop();
    }
}
