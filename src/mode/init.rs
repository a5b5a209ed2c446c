//! `init`: fetches until there is a good SVID, publishes it once, and ends.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use thiserror::Error;

use super::part::{Part, Parts, Pursuit};
use super::{Publisher, notifier};
use crate::notify::Notifier;
use crate::options::Options;
use crate::store::publish::StoreError;
use crate::wait::{Interrupt, StopSignal, Waiter};
use crate::workload_api::client::{Client, start_grpc};

/// How often a directory that another helper has locked is tried again.
const BUSY_RETRY: Duration = Duration::from_millis(50);

/// Publishes all that the options ask for, once, or says what is missing after `--init-timeout`.
/// What did come is published even then: one part does not hold up another.
pub fn run(options: &Options, waiter: &Waiter) -> Result<(), InitError> {
    let notifier = match options.init_notify {
        true => notifier(options),
        false => Notifier::new(Signal::SIGHUP, Vec::new(), &[]),
    };
    let mut publisher = Publisher::new(options, notifier);
    let deadline = Instant::now() + options.init_timeout.0;
    let client = Client::new(options.workload_api_socket.clone(), start_grpc());
    let mut parts = Parts::new(options, waiter, &client, Pursuit::Once);
    fetch(&mut parts, waiter, deadline)?;
    let missing = Missing::of(&parts, options.init_timeout.0);
    let publishes = parts.all().any(|part| part.status().change().is_some());
    if publishes {
        publish(&mut publisher, &mut parts, waiter, deadline)?;
        see_notification_through(&mut publisher.notifier, waiter, deadline);
    }
    match missing {
        None => Ok(()),
        Some(missing) if publishes => Err(InitError::Incomplete(missing)),
        Some(missing) => Err(InitError::NoSvid(missing)),
    }
}

/// Waits until every part has something to publish, or will have nothing, or the time is up.
fn fetch(parts: &mut Parts<'_>, waiter: &Waiter, deadline: Instant) -> Result<(), InitError> {
    let is_settled = |part: &dyn Part| part.status().change().is_some() || part.status().refusal().is_some();
    loop {
        let wake_at = parts.wake_at().map_or(deadline, |at| at.min(deadline));
        if let Err(Interrupt::Stop(signal)) = waiter.for_ready(wake_at, |context| parts.poll(context)) {
            return Err(InitError::Stopped(signal));
        }
        parts.on_time();
        if parts.all().all(is_settled) || Instant::now() >= deadline {
            return Ok(());
        }
    }
}

fn publish(
    publisher: &mut Publisher,
    parts: &mut Parts<'_>,
    waiter: &Waiter,
    deadline: Instant,
) -> Result<(), InitError> {
    loop {
        match publisher.publish(parts) {
            Err(error @ StoreError::Busy { .. }) if Instant::now() >= deadline => {
                return Err(InitError::Publish(error));
            }
            Err(StoreError::Busy { .. }) => {
                if let Interrupt::Stop(signal) = waiter.until(deadline.min(Instant::now() + BUSY_RETRY)) {
                    return Err(InitError::Stopped(signal));
                }
            }
            done => return done.map_err(InitError::Publish),
        }
    }
}

/// The files are there, so nothing that happens now is a failure of init.
fn see_notification_through(notifier: &mut Notifier, waiter: &Waiter, deadline: Instant) {
    while !notifier.is_done() {
        match waiter.until(notifier.wake_at().map_or(deadline, |at| at.min(deadline))) {
            Interrupt::ChildEnded => notifier.reap(),
            Interrupt::Deadline if Instant::now() < deadline => notifier.on_time(),
            Interrupt::Deadline => {
                log::error!("the application could not be told within --init-timeout");
                break;
            }
            Interrupt::Stop(signal) => {
                log::warn!("{signal} comes before the application was told");
                break;
            }
        }
    }
    notifier.stop();
}

/// What has not come, and why.
#[derive(Debug, Clone)]
pub struct Missing {
    /// How long it was waited for; not at all if the agent said no for good.
    within: Option<Duration>,
    /// What goes wrong with each part.
    problems: String,
}

impl Missing {
    fn of(parts: &Parts<'_>, timeout: Duration) -> Option<Self> {
        let missing: Vec<_> = parts.all().filter(|part| part.status().change().is_none()).collect();
        let problem = |part: &&dyn Part| match (part.status().refusal(), part.status().problem()) {
            (Some(refusal), _) => part.status().labelled(&refusal.to_string()),
            (None, Some(problem)) => problem.to_owned(),
            (None, None) => part.status().labelled(&part.silence()),
        };
        let problems: Vec<_> = missing.iter().map(problem).collect();
        let is_final = missing.iter().all(|part| part.status().refusal().is_some());
        (!missing.is_empty())
            .then(|| Self { within: (!is_final).then_some(timeout), problems: problems.join("; ") })
    }
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.within {
            Some(within) => write!(f, " within {within:?}: {}", self.problems),
            None => write!(f, ": {}", self.problems),
        }
    }
}

/// Why init failed.
#[allow(missing_docs, reason = "the messages say what the variants mean")]
#[derive(Debug, Clone, Error)]
pub enum InitError {
    #[error("no SVID{0}")]
    NoSvid(Missing),
    #[error("not everything came, and only the rest is published{0}")]
    Incomplete(Missing),
    #[error("the SVID was fetched, but not published: {0}")]
    Publish(StoreError),
    #[error("stopped by {0} before an SVID was published")]
    Stopped(StopSignal),
}
