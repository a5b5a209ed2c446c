//! `init`: fetches until there is a good SVID, publishes it once, and ends.

use std::time::{Duration, Instant};

use thiserror::Error;

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
    target.prepare();
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
#[allow(missing_docs, reason = "the messages say what the variants mean")]
#[derive(Debug, Clone, Error)]
pub enum InitError {
    #[error("no SVID: {0}")]
    Refused(Failure),
    #[error("no SVID within {timeout:?}: {problem}")]
    TimedOut { timeout: Duration, problem: String },
    #[error("the SVID was fetched, but not published: {0}")]
    Publish(PublishError),
    #[error("stopped by {0} before an SVID was published")]
    Stopped(StopSignal),
}
