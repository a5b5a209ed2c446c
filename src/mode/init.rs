//! `init`: fetches until there is a good SVID, publishes it once, and ends.

use std::time::{Duration, Instant};

use thiserror::Error;

use super::part::{Part, Parts, Pursuit, Standing};
use super::{NotWritten, Publisher, notifier};
use crate::notify::Notifier;
use crate::options::Options;
use crate::store::publish::{Publication, StoreError};
use crate::wait::{Interrupt, StopSignal, Waiter};
use crate::workload_api::client::{Client, start_grpc};

/// Publishes all that the options ask for, once, or says what is missing after `--init-timeout`.
/// What did come is published even then: one part does not hold up another.
pub fn run(options: &Options, waiter: &Waiter) -> Result<(), InitError> {
    let mut publisher = Publisher::new(options);
    let deadline = Instant::now() + options.init_timeout.0;
    let client = Client::new(options.workload_api_socket.clone(), start_grpc());
    let mut parts = Parts::new(options, waiter, &client, Pursuit::Once);
    let published = publish(&mut publisher, &mut parts, waiter, deadline)?;
    if let Some(publication) = published.filter(|_| options.init_notify) {
        let mut notifier = notifier(options);
        publisher.tell(&mut notifier, &parts, publication);
        // It has a time of its own: waiting for what does not come may have used up the other.
        see_through(&mut notifier, waiter, Instant::now() + options.init_timeout.0);
    }
    match (Missing::of(&parts, options.init_timeout.0), published) {
        (None, _) => Ok(()),
        (Some(missing), None) => Err(InitError::NoSvid(missing)),
        (Some(missing), Some(_)) => Err(InitError::Incomplete(missing)),
    }
}

/// Publishes what comes, until all has, or what has not never will, or the time is up.
fn publish(
    publisher: &mut Publisher,
    parts: &mut Parts<'_>,
    waiter: &Waiter,
    deadline: Instant,
) -> Result<Option<Publication>, InitError> {
    let is_settled =
        |part: &dyn Part| *part.status().standing() != Standing::Nothing || part.status().refusal().is_some();
    let mut published = None;
    let mut busy = None;
    loop {
        let wake_at =
            [parts.wake_at(), publisher.wake_at()].into_iter().flatten().fold(deadline, Instant::min);
        if let Err(Interrupt::Stop(signal)) = waiter.for_ready(wake_at, |context| parts.poll(context)) {
            let what = if published.is_none() { "an SVID" } else { "everything" };
            return Err(InitError::Stopped { signal, what });
        }
        parts.on_time();
        let is_late = Instant::now() >= deadline;
        if is_late {
            publisher.hurry();
        }
        match publisher.on_time(parts) {
            None => {}
            // A set that was there already must not hide that another was new.
            Some(Ok(publication)) => {
                published =
                    published.filter(|earlier| *earlier == Publication::Replaced).or(Some(publication));
                busy = None;
            }
            // Another helper is at it: a matter of moments.
            Some(Err(NotWritten { error: error @ StoreError::Busy { .. }, .. })) => busy = Some(error),
            Some(Err(NotWritten { error, .. })) => return Err(InitError::Publish(error)),
        }
        if parts.all().all(is_settled) || is_late {
            return busy.map_or(Ok(published), |error| Err(InitError::Publish(error)));
        }
    }
}

/// The files are there, so nothing that happens now is a failure of init.
fn see_through(notifier: &mut Notifier, waiter: &Waiter, deadline: Instant) {
    while !notifier.is_done() {
        match waiter.until(notifier.wake_at().map_or(deadline, |at| at.min(deadline))) {
            Interrupt::ChildEnded => notifier.reap(),
            Interrupt::Deadline if Instant::now() < deadline => notifier.on_time(),
            Interrupt::Deadline => {
                log::error!(
                    "--init-timeout is over: the application is not told yet, or the command still runs and is ended now"
                );
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
        let missing = parts.all().filter(|part| *part.status().standing() == Standing::Nothing);
        let missing: Vec<_> = missing.collect();
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
    #[error("not everything came{0} (the rest is published)")]
    Incomplete(Missing),
    #[error("the SVID was fetched, but not published: {0}")]
    Publish(StoreError),
    #[error("stopped by {signal} before {what} was published")]
    Stopped { signal: StopSignal, what: &'static str },
}
