//! `init`: fetches until there is a good SVID, publishes it once, and ends.

use std::time::{Duration, Instant};

use log::Level;
use thiserror::Error;

use super::{AWAITING, PublishError, Target, Unusable, usable_svid};
use crate::identity::x509_svid::X509Svid;
use crate::logging::{Repetition, retrying_in};
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
    let mut trouble = Repetition::default();
    let mut problem = None;
    loop {
        let (message, next) = match watch.next(deadline) {
            Event::Offered(offered) => match usable_svid(offered, options.pod_spiffe_id.as_ref()) {
                Ok(svid) => return Ok(svid),
                Err(unusable) => (unusable.to_string(), AWAITING.to_owned()),
            },
            Event::Undecodable(cause) => (Unusable::Undecodable(cause).to_string(), AWAITING.to_owned()),
            Event::Failed { failure, .. } if failure.remedy() == Remedy::GiveUp => {
                return Err(InitError::Refused(failure));
            }
            Event::Failed { failure, retry_in, .. } => (failure.to_string(), retrying_in(retry_in)),
            Event::Interrupted(Interrupt::Stop(signal)) => return Err(InitError::Stopped(signal)),
            Event::Interrupted(Interrupt::Deadline) => break,
        };
        trouble.log(Level::Warn, &message, &next);
        problem = Some(message);
        // An agent that floods us with bad responses never lets a wait end by its deadline.
        if Instant::now() >= deadline {
            break;
        }
    }
    let nothing = || match watch.open_call() {
        Some(_) => format!(
            "{} accepted the call and said nothing (is the agent stopped or overloaded?)",
            options.workload_api_socket
        ),
        None => format!("{} did not accept a connection in time", options.workload_api_socket),
    };
    Err(InitError::TimedOut { timeout: options.init_timeout.0, problem: problem.unwrap_or_else(nothing) })
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
