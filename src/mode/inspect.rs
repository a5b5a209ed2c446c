//! `inspect`: calls the Workload API once, and shows the identities of this process. Never a key.

use std::fmt::Write;
use std::time::Duration;

use serde_json::{Value, json};

use crate::identity::bundle::{AuthorityDetails, X509Bundle};
use crate::identity::context::{InspectedSvid, Inspection};
use crate::identity::svid_info::SvidInfo;
use crate::identity::svid_info::Validity;
use crate::identity::wit_svid::{InspectedWitSvid, WitSvid};
use crate::identity::x509_svid::X509Svid;
use crate::logging::Printable;
use crate::material::{AskError, Rejection, Until, ask};
use crate::time::clock::Now;
use crate::time::timestamp::{in_words, rfc3339};
use crate::time::timing::SILENT_PROFILE;
use crate::wait::Waiter;
use crate::workload_api::endpoint::Endpoint;
use crate::workload_api::rpc::{FetchWitSvid, FetchX509Svid};

/// Which agent to call, and how to show its response.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) endpoint: Endpoint,
    /// How long to wait for the response.
    pub(crate) timeout: Duration,
    /// For programs, not for people.
    pub(crate) as_json: bool,
}

/// What the agent offers, as text for people or as JSON for programs.
pub(crate) fn run(settings: &Settings, waiter: &Waiter) -> Result<String, AskError> {
    let once = (Until::FirstAnswer, settings.timeout);
    let take = |raw, _| Inspection::parse(raw).map_err(Rejection::X509);
    let context = ask(&settings.endpoint, FetchX509Svid, once, waiter, take)?;
    let wit = wit(settings, waiter)?;
    let now = Now::look();
    Ok(match settings.as_json {
        true => format!("{:#}\n", json(&context, &wit, now)),
        false => text(&context, now) + &wit_text(&wit, now),
    })
}

/// The WIT-SVIDs, or why there are none. `None`: the agent does not have their profile, which is no failure.
type WitSvids = Option<Result<Vec<InspectedWitSvid>, String>>;

fn wit(settings: &Settings, waiter: &Waiter) -> Result<WitSvids, AskError> {
    // An agent whose server has the profile turned off is silent.
    let once = (Until::FirstAnswer, settings.timeout.min(SILENT_PROFILE));
    let take =
        |raw, now: Now| WitSvid::inspect(raw, now.time).map_err(|error| Rejection::Svids(error.to_string()));
    match ask(&settings.endpoint, FetchWitSvid, once, waiter, take) {
        Ok(svids) => Ok(Some(Ok(svids))),
        Err(AskError::Off) => Ok(None),
        Err(error @ AskError::Stopped(_)) => Err(error),
        Err(AskError::Late { .. }) => {
            Ok(Some(Err("the agent sends none (is its server's profile off?)".to_owned())))
        }
        Err(error @ AskError::Refused(_)) => Ok(Some(Err(error.to_string()))),
    }
}

fn text(context: &Inspection, now: Now) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| write_line(&mut text, name, value);
    for (index, svid) in context.svids.iter().enumerate() {
        let default = if index == 0 { ", the default identity" } else { "" };
        line("", &format!("SVID {} of {}{default}", index + 1, context.svids.len()));
        line("SPIFFE ID", &svid.id.escape_debug().to_string());
        let hint = svid.hint.escape_debug().to_string();
        line("hint", if hint.is_empty() { "(none)" } else { &hint });
        let svid = match &svid.svid {
            Ok(svid) => svid,
            Err(error) => {
                line("not good", &error.to_string());
                line("", "");
                continue;
            }
        };
        line("serial", svid.info().serial().unwrap_or_default());
        line("valid from", &rfc3339(svid.info().not_before, 0));
        line("valid to", &format!("{} ({})", rfc3339(svid.info().not_after, 0), validity(svid.info(), now)));
        line("key", &svid.key().key_type().to_string());
        line("chain", &chain(svid));
        line("bundle", &count(svid.bundle().authorities().len(), "CA certificate"));
        authorities(svid.bundle(), now).for_each(|authority| line("", &authority));
        line("", "");
    }
    line("", "Federated trust domains");
    for bundle in &context.federated {
        match bundle {
            Ok((trust_domain, bundle)) => {
                line(
                    "bundle",
                    &format!("{trust_domain}: {}", count(bundle.authorities().len(), "CA certificate")),
                );
                authorities(bundle, now).for_each(|authority| line("", &authority));
            }
            Err(error) => line("not good", &error.to_string()),
        }
    }
    if context.federated.is_empty() {
        line("bundle", "(none)");
    }
    if context.crls > 0 {
        line("CRLs", &context.crls.to_string());
    }
    text
}

fn write_line(text: &mut String, name: &str, value: &str) {
    // Writing to a String cannot fail.
    let _ = match name {
        "" => writeln!(text, "{value}"),
        name => writeln!(text, "  {name:<10}  {}", Printable(value)),
    };
}

fn wit_text(svids: &WitSvids, now: Now) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| write_line(&mut text, name, value);
    let Some(svids) = svids else { return text };
    let svids = match svids {
        Ok(svids) => svids,
        Err(error) => {
            line("", "\nWIT-SVIDs");
            line("(none)", error);
            return text;
        }
    };
    for (index, InspectedWitSvid { id, hint, svid }) in svids.iter().enumerate() {
        line("", &format!("\nWIT-SVID {} of {}", index + 1, svids.len()));
        line("SPIFFE ID", &id.escape_debug().to_string());
        let hint = hint.escape_debug().to_string();
        line("hint", if hint.is_empty() { "(none)" } else { &hint });
        match svid {
            Ok(svid) => {
                line("valid from", &rfc3339(svid.info.not_before, 0));
                let end = rfc3339(svid.info.not_after, 0);
                line("valid to", &format!("{end} ({})", validity(&svid.info, now)));
                line("key", &svid.key_type());
            }
            Err(error) => line("not good", &error.to_string()),
        }
    }
    text
}

/// The most CAs of a bundle that are shown one by one.
const SHOWN: usize = 10;

/// A line for each CA of a bundle: its name, and its dates.
fn authorities(bundle: &X509Bundle, now: Now) -> impl Iterator<Item = String> {
    let more = bundle.authorities().len().saturating_sub(SHOWN);
    let line = move |ca: AuthorityDetails| {
        let state = if ca.not_after < now.time { "expired" } else { "until" };
        format!("    {} ({state} {})", Printable(ca.subject.as_str()), rfc3339(ca.not_after, 0))
    };
    let rest = (more > 0).then(|| format!("    and {more} more"));
    bundle.details().take(SHOWN).map(line).chain(rest)
}

/// The same for programs: all CAs.
fn authorities_json(bundle: &X509Bundle) -> Vec<Value> {
    let ca = |ca: AuthorityDetails| {
        json!({
            "subject": ca.subject,
            "not_before": rfc3339(ca.not_before, 0),
            "not_after": rfc3339(ca.not_after, 0),
        })
    };
    bundle.details().map(ca).collect()
}

fn validity(info: &SvidInfo, now: Now) -> String {
    let expired_for = now.time.duration_since(info.not_after).unwrap_or_default();
    match info.validity(now.time) {
        Validity::NotYet => format!("not valid until {}", rfc3339(info.not_before, 0)),
        Validity::Valid => format!("{} left", in_words(now.until(info.not_after))),
        Validity::Expired => format!("expired {} ago", in_words(expired_for)),
    }
}

/// How long it is still valid; 0 if it is not valid now.
fn seconds_left(info: &SvidInfo, now: Now) -> u64 {
    match info.validity(now.time) {
        Validity::Valid => now.until(info.not_after).as_secs(),
        Validity::NotYet | Validity::Expired => 0,
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

fn json(context: &Inspection, wit: &WitSvids, now: Now) -> Value {
    let svid = |InspectedSvid { id, hint, svid }: &InspectedSvid| {
        let svid = match svid {
            Ok(svid) => svid,
            Err(error) => return json!({ "spiffe_id": id, "hint": hint, "error": error.to_string() }),
        };
        json!({
            "spiffe_id": id,
            "hint": hint,
            "serial_number": svid.info().serial(),
            "not_before": rfc3339(svid.info().not_before, 0),
            "not_after": rfc3339(svid.info().not_after, 0),
            "seconds_left": seconds_left(svid.info(), now),
            "key_type": svid.key().key_type().to_string(),
            "chain_certificates": svid.intermediates().len() + 1,
            "bundle_certificates": svid.bundle().authorities().len(),
            "bundle": authorities_json(svid.bundle()),
        })
    };
    let federated: serde_json::Map<String, Value> = context
        .federated
        .iter()
        .map(|bundle| match bundle {
            Ok((trust_domain, bundle)) => {
                let (number, bundle) = (bundle.authorities().len(), authorities_json(bundle));
                (trust_domain.to_string(), json!({ "bundle_certificates": number, "bundle": bundle }))
            }
            Err(error) => (error.key.clone(), json!({ "error": error.cause.to_string() })),
        })
        .collect();
    let mut json = json!({
        "svids": context.svids.iter().map(svid).collect::<Vec<_>>(),
        "federated_trust_domains": federated,
        "crls": context.crls,
    });
    match wit {
        Some(Ok(svids)) => json["wit_svids"] = svids.iter().map(|svid| wit_json(svid, now)).collect(),
        Some(Err(error)) => json["wit_error"] = error.as_str().into(),
        None => {}
    }
    json
}

fn wit_json(InspectedWitSvid { id, hint, svid }: &InspectedWitSvid, now: Now) -> Value {
    match svid {
        Ok(svid) => json!({
            "spiffe_id": id,
            "hint": hint,
            "not_before": rfc3339(svid.info.not_before, 0),
            "not_after": rfc3339(svid.info.not_after, 0),
            "seconds_left": seconds_left(&svid.info, now),
            "key_type": svid.key_type(),
        }),
        Err(error) => json!({ "spiffe_id": id, "hint": hint, "error": error.to_string() }),
    }
}
