//! `init`: fetches until there is a good SVID, publishes it once, and ends.

use std::fmt;
use std::time::{Duration, Instant};

use super::{PublishError, Target, usable_svid};
use crate::identity::x509_svid::X509Svid;
use crate::logging::Repetition;
use crate::mode::Unusable;
use crate::options::Options;
use crate::wait::{Interrupt, StopSignal, Waiter};
use crate::workload_api::failure::{Failure, Remedy};
use crate::workload_api::watch::{Event, Watch};

/// How often a directory that another helper has locked is tried again.
const BUSY_RETRY: Duration = Duration::from_millis(50);

/// Publishes one SVID, or says why it could not within `--init-timeout`.
pub fn run(options: &Options, waiter: &Waiter) -> Result<(), InitError> {
    let target = Target::new(options);
    target.clean();
    let timeout = options.init_timeout.0;
    let deadline = Instant::now() + timeout;
    let svid = fetch(options, waiter, deadline)?;
    loop {
        match target.publish(&svid) {
            Err(error) if error.is_busy() => match waiter.until(deadline.min(Instant::now() + BUSY_RETRY)) {
                Interrupt::Stop(signal) => return Err(InitError::Stopped(signal)),
                Interrupt::Deadline if Instant::now() >= deadline => return Err(InitError::Publish(error)),
                Interrupt::Deadline => {}
            },
            done => return done.map_err(InitError::Publish),
        }
    }
}

fn fetch(options: &Options, waiter: &Waiter, deadline: Instant) -> Result<X509Svid, InitError> {
    let mut watch = Watch::new(waiter, options.workload_api_socket.clone());
    let mut problem = None;
    let mut repetition = Repetition::default();
    let mut report = |message: String, next: String| {
        let (level, reminder) = repetition.report(log::Level::Warn, &message);
        log::log!(level, "{message}; {next}{reminder}");
        problem = Some(message);
    };
    loop {
        let unusable = match watch.next(deadline) {
            Event::Offered(offered) => match usable_svid(offered, options.pod_spiffe_id.as_ref()) {
                Ok(svid) => return Ok(svid),
                Err(unusable) => unusable,
            },
            Event::Undecodable(cause) => Unusable::Undecodable(cause),
            Event::Failed { failure, .. } if failure.remedy() == Remedy::GiveUp => {
                return Err(InitError::Refused(failure));
            }
            Event::Failed { failure, retry_in, .. } => {
                report(failure.to_string(), format!("retrying in {}ms", retry_in.as_millis()));
                continue;
            }
            Event::Interrupted(Interrupt::Stop(signal)) => return Err(InitError::Stopped(signal)),
            Event::Interrupted(Interrupt::Deadline) => {
                let silent = format!(
                    "{} accepted the call and said nothing (is the agent stopped or overloaded?)",
                    options.workload_api_socket
                );
                let undelivered = matches!(watch.open_call(), Some((_, false)));
                let problem = problem.filter(|_| !undelivered).unwrap_or(silent);
                return Err(InitError::TimedOut { timeout: options.init_timeout.0, problem });
            }
        };
        report(unusable.to_string(), "waiting for the agent's next response".to_owned());
    }
}

/// Why init failed.
#[derive(Debug, Clone)]
pub enum InitError {
    /// What the agent said is final.
    Refused(Failure),
    TimedOut {
        timeout: Duration,
        problem: String,
    },
    Publish(PublishError),
    Stopped(StopSignal),
}

impl std::error::Error for InitError {}

impl fmt::Display for InitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(failure) => write!(f, "no SVID: {failure}"),
            Self::TimedOut { timeout, problem } => write!(f, "no SVID within {timeout:?}: {problem}"),
            Self::Publish(cause) => write!(f, "the SVID was fetched, but not published: {cause}"),
            Self::Stopped(signal) => write!(f, "stopped by {signal} before an SVID was published"),
        }
    }
}
