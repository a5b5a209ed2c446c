//! `inspect`: asks the Workload API once, and shows what this process is entitled to. Never a key.

use std::fmt::Write;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};
use thiserror::Error;

use crate::identity::context::{Rejected, X509Context};
use crate::identity::selection::Candidate;
use crate::identity::term::time_left;
use crate::identity::x509_svid::X509Svid;
use crate::options::Options;
use crate::options::value::OutputFormat;
use crate::timestamp::{in_words, rfc3339};
use crate::wait::{Interrupt, StopSignal, Waiter};
use crate::workload_api::client::{Client, start_grpc};
use crate::workload_api::failure::Failure;
use crate::workload_api::procedure::{FetchX509Svid, Procedure};
use crate::workload_api::watch::{Event, Watch};

/// What the agent offers, as text for people or as JSON for programs.
pub fn run(options: &Options, waiter: &Waiter) -> Result<String, InspectError> {
    let context = ask(options, waiter)?;
    Ok(match options.output {
        OutputFormat::Text => text(&context),
        OutputFormat::Json => format!("{:#}\n", json(&context)),
    })
}

fn ask(options: &Options, waiter: &Waiter) -> Result<X509Context, InspectError> {
    let timeout = options.init_timeout.0;
    let deadline = Instant::now() + timeout;
    let client = Client::new(options.workload_api_socket.clone(), start_grpc());
    let mut watch = Watch::new(waiter, client, FetchX509Svid);
    loop {
        let wake_at = watch.wake_at().map_or(deadline, |at| at.min(deadline));
        match waiter.for_ready(wake_at, |context| watch.poll(context)) {
            Ok(Event::Offered(offered)) => return Ok(X509Context::parse(offered)?),
            Ok(Event::Undecodable(cause)) => return Err(InspectError::Undecodable(cause)),
            Ok(Event::Failed { failure, .. }) => return Err(InspectError::Failed(failure)),
            Err(Interrupt::Stop(signal)) => return Err(InspectError::Stopped(signal)),
            Err(_) if Instant::now() >= deadline => {
                return Err(InspectError::Silence { timeout, what: watch.silence() });
            }
            Err(_) => {}
        }
    }
}

fn text(context: &X509Context) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        // Writing to a String cannot fail.
        let _ = match name {
            "" => writeln!(text, "{value}"),
            name => writeln!(text, "  {name:<10}  {value}"),
        };
    };
    for (index, svid) in context.svids.iter().enumerate() {
        let default = if index == 0 { ", the default identity" } else { "" };
        line("", &format!("SVID {} of {}{default}", index + 1, context.svids.len()));
        line("SPIFFE ID", svid.id().as_str());
        line("hint", if svid.hint().is_empty() { "(none)" } else { svid.hint() });
        line("serial", svid.term().serial.as_deref().unwrap_or_default());
        line("valid from", &rfc3339(svid.term().not_before, 0));
        line("valid to", &format!("{} ({})", rfc3339(svid.term().not_after, 0), validity(svid)));
        line("key", &svid.key().key_type().to_string());
        line("chain", &chain(svid));
        line("bundle", &count(svid.bundle().authorities().len(), "CA certificate"));
        line("", "");
    }
    line("", "Federated trust domains");
    for (trust_domain, bundle) in &context.federated {
        line("bundle", &format!("{trust_domain}: {}", count(bundle.authorities().len(), "CA certificate")));
    }
    if context.federated.is_empty() {
        line("bundle", "(none)");
    }
    if !context.crls.is_empty() {
        line("CRLs", &context.crls.len().to_string());
    }
    text
}

fn validity(svid: &X509Svid) -> String {
    let end = svid.term().not_after;
    match SystemTime::now().duration_since(end) {
        Ok(ago) if !ago.is_zero() => format!("expired {} ago", in_words(ago)),
        _ => format!("{} left", in_words(time_left(end))),
    }
}

fn chain(svid: &X509Svid) -> String {
    match svid.intermediates().len() {
        0 => "the leaf alone".to_owned(),
        number => format!("the leaf and {}", count(number, "intermediate")),
    }
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

fn json(context: &X509Context) -> Value {
    let svid = |svid: &X509Svid| {
        json!({
            "spiffe_id": svid.id().as_str(),
            "hint": svid.hint(),
            "serial_number": svid.term().serial,
            "not_before": rfc3339(svid.term().not_before, 0),
            "not_after": rfc3339(svid.term().not_after, 0),
            "seconds_left": time_left(svid.term().not_after).as_secs(),
            "key_type": svid.key().key_type().to_string(),
            "chain_certificates": svid.intermediates().len() + 1,
            "bundle_certificates": svid.bundle().authorities().len(),
        })
    };
    let federated: serde_json::Map<String, Value> = context
        .federated
        .iter()
        .map(|(trust_domain, bundle)| {
            (trust_domain.to_string(), json!({ "bundle_certificates": bundle.authorities().len() }))
        })
        .collect();
    json!({
        "svids": context.svids.iter().map(svid).collect::<Vec<_>>(),
        "federated_trust_domains": federated,
        "crls": context.crls.len(),
    })
}

/// Why there is nothing to show.
#[allow(missing_docs, reason = "the messages say what the variants mean")]
#[derive(Debug, Clone, Error)]
pub enum InspectError {
    #[error("{0}")]
    Failed(Failure),
    #[error("{what}, within {timeout:?} (--init-timeout)")]
    Silence { timeout: Duration, what: String },
    #[error("the agent's response is no {name}: {0}", name = FetchX509Svid::RESPONSE)]
    Undecodable(String),
    #[error("the agent's response is not good: {0}")]
    Rejected(#[from] Rejected),
    #[error("stopped by {0} before the agent answered")]
    Stopped(StopSignal),
}
