//! Asks the agent for one thing, for the modes that keep no files.

use std::mem::ManuallyDrop;
use std::task::Poll;
use std::time::Duration;

use log::Level;
use thiserror::Error;

use super::call::RetriedCall;
use super::part::{Agent, Call, Until, Update};
use super::rejection::Rejection;
use crate::last_resort;
use crate::process::signal::SignalNumber;
use crate::time::clock::Now;
use crate::wait::{Waiter, Woken};
use crate::workload_api::client::{Client, start_grpc};
use crate::workload_api::endpoint::Endpoint;
use crate::workload_api::rpc::Rpc;

/// The first response that `take` finds good. `until` says what is retried within the timeout.
pub(crate) fn ask<R: Rpc, Good>(
    endpoint: &Endpoint,
    rpc: R,
    (until, timeout): (Until, Duration),
    waiter: &Waiter,
    take: impl Fn(R::Raw, Now) -> Result<Good, Rejection>,
) -> Result<Good, AskError> {
    last_resort::end_within(timeout);
    let start = Now::look();
    let deadline = start.instant + timeout;
    let client = Client::new(endpoint.clone(), start_grpc());
    let agent = Agent { client: &client, waiter, until, share: Default::default() };
    // What goes wrong is told once, at the end: until then, it is worth a line of level info.
    let call = RetriedCall::new(String::new(), Level::Info, rpc, &agent, start);
    // Never dropped: to end its call, gRPC may need threads that it could not start.
    let mut call = ManuallyDrop::new(call);
    let mut trouble = None;
    loop {
        let now = Now::look();
        while let Poll::Ready(heard) = call.poll(false, now, &mut waiter.context()) {
            let update = match heard.map(|raw| take(raw, now)) {
                Ok(Ok(good)) => return Ok(good),
                Ok(Err(rejection)) => call.unusable(&rejection, now),
                Err(update) => update,
            };
            match update {
                Update::GaveUp(_) if call.is_off() => return Err(AskError::Off),
                Update::GaveUp(message) => return Err(AskError::GaveUp(message)),
                Update::Trouble(message) => trouble = Some(message),
                Update::Files(..) | Update::JwtKeys(_) | Update::Withdrawn { .. } => {}
            }
        }
        if now.instant >= deadline {
            let cause = trouble.unwrap_or_else(|| call.describe_wait());
            return Err(AskError::Late { timeout, cause });
        }
        let next = call.next_deadline().map_or(deadline, |next| next.min(deadline));
        if let Woken::Signal(received) = waiter.wait(next)
            && received.signal.asks_to_end()
        {
            return Err(AskError::Stopped(received.signal));
        }
    }
}

/// Why there is nothing good.
#[derive(Debug, Clone, Error)]
pub(crate) enum AskError {
    #[error("{0}")]
    GaveUp(String),
    #[error("the agent has this profile turned off")]
    Off,
    #[error("nothing usable within {timeout:?} (--init-timeout): {cause}")]
    Late { timeout: Duration, cause: String },
    #[error("stopped by {0} before the agent answered")]
    Stopped(SignalNumber),
}
