//! `inspect`: calls the Workload API once, and shows the identities of this process. Never a key, and never a token.
//! manifests/inspect.md has the fields of its JSON.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::columns::Columns;
use crate::identity::bundle::Authority;
use crate::identity::context::Inspection;
use crate::identity::crl::CrlDetails;
use crate::identity::dates::{Dates, Validity};
use crate::identity::jwt_svid::JwtSvid;
use crate::identity::raw::Offered;
use crate::identity::selection::Selection;
use crate::identity::svid_info::SvidInfo;
use crate::identity::svids::Inspected;
use crate::identity::token::{Profile, Token};
use crate::identity::wit_svid::WitSvid;
use crate::identity::x509_svid::{LeafDetails, X509Svid};
use crate::material::{AskError, Rejection, Until, ask};
use crate::time::clock::Now;
use crate::time::timestamp::{in_words, rfc3339};
use crate::time::timing::SILENT_PROFILE;
use crate::wait::Waiter;
use crate::words::Flaw;
use crate::workload_api::endpoint::Endpoint;
use crate::workload_api::rpc::{FetchJwtSvid, FetchWitSvid, FetchX509Svid};

/// Which agent to call, and how to show its response.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) endpoint: Endpoint,
    /// How long to wait for the responses. (That with WIT-SVIDs may come a little later.)
    pub(crate) timeout: Duration,
    /// For each of them, a JWT-SVID is asked for.
    pub(crate) audiences: Vec<Vec<String>>,
    /// For programs, not for people.
    pub(crate) as_json: bool,
}

/// What the agent offers.
struct Report<'a> {
    x509: Inspection,
    jwt: Vec<InspectedJwtSvid<'a>>,
    wit: WitSvids,
}

/// What the agent offers, as text for people or as JSON for programs.
pub(crate) fn run(settings: &Settings, waiter: &Waiter) -> Result<String, AskError> {
    let deadline = Now::look().instant + settings.timeout;
    let once = (Until::FirstAnswer, settings.timeout);
    let take = |raw, _| Ok(Inspection::parse(raw)?);
    let x509 = ask(&settings.endpoint, FetchX509Svid, once, waiter, take)?;
    let jwt = jwt(settings, deadline, waiter)?;
    let report = Report { x509, jwt, wit: wit(settings, waiter)? };
    let now = Now::look();
    Ok(if settings.as_json { format!("{:#}\n", json(&report, now)) } else { text(&report, now) })
}

/// A JWT-SVID, or why there is none.
struct InspectedJwtSvid<'a> {
    /// The audience that was asked for.
    audience: &'a [String],
    svid: Result<(SvidInfo, Token), String>,
}

fn jwt<'a>(
    settings: &'a Settings,
    deadline: Instant,
    waiter: &Waiter,
) -> Result<Vec<InspectedJwtSvid<'a>>, AskError> {
    let inspect = |audience: &'a Vec<String>| {
        let rpc = FetchJwtSvid { audience: audience.clone(), id: None };
        let left = deadline.saturating_duration_since(Now::look().instant);
        let take = |raw, now: Now| {
            let any = Selection::default();
            let svid = JwtSvid::select(raw, &any, audience, now.time).map_err(Rejection::of(&any))?;
            let token = Token::read(&svid.token, Profile::Jwt)?;
            Ok((svid.info.clone(), token))
        };
        let svid = match ask(&settings.endpoint, rpc, (Until::FirstAnswer, left), waiter, take) {
            Ok(svid) => Ok(svid),
            Err(error @ AskError::Stopped(_)) => return Err(error),
            Err(AskError::Late { cause, .. }) => Err(format!("nothing within --init-timeout: {cause}")),
            Err(error @ (AskError::Off | AskError::GaveUp(_))) => Err(error.to_string()),
        };
        Ok(InspectedJwtSvid { audience, svid })
    };
    settings.audiences.iter().map(inspect).collect()
}

/// The WIT-SVIDs, or why there are none. `None`: the agent does not have their profile, which is no failure.
type WitSvids = Option<Result<Vec<Inspected<WitSvid>>, String>>;

fn wit(settings: &Settings, waiter: &Waiter) -> Result<WitSvids, AskError> {
    // An agent whose server has the profile turned off is silent.
    let once = (Until::FirstAnswer, settings.timeout.min(SILENT_PROFILE));
    let take = |raw, now: Now| Ok(WitSvid::inspect(raw, now.time)?);
    match ask(&settings.endpoint, FetchWitSvid, once, waiter, take) {
        Ok(svids) => Ok(Some(Ok(svids))),
        Err(AskError::Off) => Ok(None),
        Err(error @ AskError::Stopped(_)) => Err(error),
        Err(AskError::Late { .. }) => {
            Ok(Some(Err("the agent sends none (is its server's profile off?)".to_owned())))
        }
        Err(error @ AskError::GaveUp(_)) => Ok(Some(Err(error.to_string()))),
    }
}

/// A good WIT-SVID with its token, or why there is none.
fn read_wit(svid: &Inspected<WitSvid>) -> Result<(&WitSvid, Token), String> {
    let svid = svid.fields.as_ref().map_err(ToString::to_string)?;
    let token = Token::read(&svid.token, Profile::Wit).map_err(|error| error.to_string())?;
    Ok((svid, token))
}

fn text(report: &Report<'_>, now: Now) -> String {
    let mut text = Columns::default();
    let svids = &report.x509.svids;
    for (index, svid) in svids.iter().enumerate() {
        let default = if index == 0 { ", the default identity" } else { "" };
        text.heading(&format!("SVID {} of {}{default}", index + 1, svids.len()));
        identity(&mut text, &svid.spiffe_id, &svid.hint);
        match &svid.fields {
            Ok(svid) => x509_text(&mut text, svid, now),
            Err(error) => text.line("not good", &error.to_string()),
        }
    }
    text.heading("Federated trust domains");
    for bundle in &report.x509.federated {
        match bundle {
            Ok((trust_domain, bundle)) => {
                let number = count(bundle.authorities().len(), "CA certificate");
                text.line("bundle", &format!("{trust_domain}: {number}"));
                authorities(&mut text, bundle.authorities(), now);
            }
            Err((key, flaw)) => text.line("not good", &format!("federated_bundles[{key:?}]: {flaw}")),
        }
    }
    if report.x509.federated.is_empty() {
        text.line("bundle", "(none)");
    }
    for (index, crl) in report.x509.crls.iter().enumerate() {
        text.heading(&format!("CRL {} of {}", index + 1, report.x509.crls.len()));
        match crl {
            Ok(crl) => crl_text(&mut text, crl),
            Err(error) => text.line("not good", &error.to_string()),
        }
    }
    for (index, InspectedJwtSvid { audience, svid }) in report.jwt.iter().enumerate() {
        text.heading(&format!("JWT-SVID {} of {}", index + 1, report.jwt.len()));
        text.line("asked for", &audience.join(", "));
        match svid {
            Ok((info, token)) => {
                text.line("SPIFFE ID", info.id.as_str());
                text.line("audience", &token.audience.join(", "));
                text.line("issued", &token.issued_at.map_or("(no date)".to_owned(), |time| rfc3339(time, 0)));
                text.line("expires", &end(info, now));
                token_text(&mut text, token);
            }
            Err(error) => text.line("not good", error),
        }
    }
    wit_text(&mut text, &report.wit, now);
    text.into_text()
}

fn identity(text: &mut Columns, id: &str, hint: &str) {
    text.line("SPIFFE ID", &id.escape_debug().to_string());
    let hint = hint.escape_debug().to_string();
    text.line("hint", if hint.is_empty() { "(none)" } else { &hint });
}

fn x509_text(text: &mut Columns, svid: &X509Svid, now: Now) {
    text.line("serial", svid.info.serial().unwrap_or_default());
    text.line("valid from", &rfc3339(svid.info.begins_at(), 0));
    text.line("valid to", &end(&svid.info, now));
    text.line("key", &svid.key.key_type().to_string());
    match svid.leaf_details() {
        Ok(LeafDetails { dns_names, key_usage, extended_key_usage }) => {
            if !dns_names.is_empty() {
                text.line("DNS names", &dns_names.join(", "));
            }
            let usages = [key_usage.join(", "), extended_key_usage.join(", ")];
            let usages: Vec<_> = usages.into_iter().filter(|usage| !usage.is_empty()).collect();
            text.line("usage", &usages.join("; "));
        }
        Err(error) => text.line("not good", &format!("the leaf: {error}")),
    }
    match svid.intermediates().len() {
        0 => text.line("chain", "the leaf alone"),
        number => text.line("chain", &format!("the leaf and {}", count(number, "intermediate"))),
    }
    authorities(text, svid.intermediates(), now);
    text.line("bundle", &count(svid.bundle.authorities().len(), "CA certificate"));
    authorities(text, svid.bundle.authorities(), now);
}

fn crl_text(text: &mut Columns, crl: &CrlDetails) {
    text.line("issuer", &crl.issuer);
    match &crl.number {
        Ok(number) => text.line("number", number.as_deref().unwrap_or("(none)")),
        Err(error) => text.line("not good", &error.to_string()),
    }
    let next = crl.next_update.map_or("(no date)".to_owned(), |time| rfc3339(time, 0));
    text.line("update", &format!("this {}, next {next}", rfc3339(crl.this_update, 0)));
    text.line("revokes", &count(crl.revoked, "certificate"));
}

fn wit_text(text: &mut Columns, svids: &WitSvids, now: Now) {
    let svids = match svids {
        Some(Ok(svids)) => svids,
        Some(Err(error)) => {
            text.heading("WIT-SVIDs");
            return text.line("(none)", error);
        }
        None => return,
    };
    for (index, svid) in svids.iter().enumerate() {
        text.heading(&format!("WIT-SVID {} of {}", index + 1, svids.len()));
        identity(text, &svid.spiffe_id, &svid.hint);
        match read_wit(svid) {
            Ok((svid, token)) => {
                if let Some(from) = svid.info.not_before {
                    text.line("valid from", &rfc3339(from, 0));
                }
                text.line("valid to", &end(&svid.info, now));
                text.line("key", &svid.key_type());
                token_text(text, &token);
            }
            Err(error) => text.line("not good", &error),
        }
    }
}

/// What both kinds of tokens have. Not the token, and not its signature.
fn token_text(text: &mut Columns, token: &Token) {
    if let Some(issuer) = &token.issuer {
        text.line("issuer", issuer);
    }
    text.line("algorithm", token.algorithm);
    text.line("key ID", token.key_id.as_deref().unwrap_or("(none)"));
}

/// The most CAs of a bundle or a chain that are shown one by one.
const SHOWN: usize = 10;

/// Two lines for each CA: its name, and its dates.
fn authorities<'a>(text: &mut Columns, all: impl ExactSizeIterator<Item = Authority<'a>>, now: Now) {
    let more = all.len().saturating_sub(SHOWN);
    for (subject, Dates { not_before, not_after }) in all.take(SHOWN).filter_map(|ca| ca.details()) {
        text.line("", if subject.is_empty() { "(no subject)" } else { &subject });
        let state = if not_after < now.time { ", expired" } else { "" };
        text.below(&format!("{} to {}{state}", rfc3339(not_before, 0), rfc3339(not_after, 0)));
    }
    if more > 0 {
        text.line("", &format!("and {more} more"));
    }
}

/// The end of an SVID, and what that means now.
fn end(info: &SvidInfo, now: Now) -> String {
    let expired_for = now.time.duration_since(info.not_after).unwrap_or_default();
    let dates = info.dates();
    let meaning = match dates.validity(now.time) {
        Validity::NotYet => format!("not valid until {}", rfc3339(dates.not_before, 0)),
        Validity::Valid => format!("{} left", in_words(now.until(info.not_after))),
        Validity::Expired if dates.not_before > dates.not_after => "ends before it begins".to_owned(),
        Validity::Expired => format!("expired {} ago", in_words(expired_for)),
    };
    format!("{} ({meaning})", rfc3339(info.not_after, 0))
}

/// How long it is still valid; 0 if it is not valid now.
fn seconds_left(info: &SvidInfo, now: Now) -> u64 {
    if info.dates().validity(now.time) == Validity::Valid { now.until(info.not_after).as_secs() } else { 0 }
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

fn json(report: &Report<'_>, now: Now) -> Value {
    let x509 = &report.x509;
    let federated = x509.federated.iter().map(|bundle| match bundle {
        Ok((trust_domain, bundle)) => {
            let (number, bundle) = (bundle.authorities().len(), authorities_json(bundle.authorities()));
            (trust_domain.to_string(), json!({ "bundle_certificates": number, "bundle": bundle }))
        }
        Err((key, flaw)) => (key.clone(), json!({ "error": flaw.to_string() })),
    });
    let mut json = json!({
        "svids": x509.svids.iter().map(|svid| x509_json(svid, now)).collect::<Vec<_>>(),
        "federated_trust_domains": federated.collect::<serde_json::Map<_, _>>(),
        "crls": x509.crls.iter().map(crl_json).collect::<Vec<_>>(),
        "jwt_svids": report.jwt.iter().map(|svid| jwt_json(svid, now)).collect::<Vec<_>>(),
    });
    match &report.wit {
        Some(Ok(svids)) => json["wit_svids"] = svids.iter().map(|svid| wit_json(svid, now)).collect(),
        Some(Err(error)) => json["wit_error"] = error.as_str().into(),
        None => {}
    }
    json
}

fn x509_json(Offered { spiffe_id: id, hint, fields }: &Inspected<X509Svid>, now: Now) -> Value {
    let svid = match fields {
        Ok(svid) => svid,
        Err(error) => return json!({ "spiffe_id": id, "hint": hint, "error": error.to_string() }),
    };
    let leaf = svid.leaf_details();
    let of_leaf = leaf.as_ref().ok();
    let mut json = json!({
        "spiffe_id": id,
        "hint": hint,
        "serial_number": svid.info.serial(),
        "not_before": rfc3339(svid.info.begins_at(), 0),
        "not_after": rfc3339(svid.info.not_after, 0),
        "seconds_left": seconds_left(&svid.info, now),
        "key_type": svid.key.key_type().to_string(),
        "dns_names": of_leaf.map(|leaf| &leaf.dns_names),
        "key_usage": of_leaf.map(|leaf| &leaf.key_usage),
        "extended_key_usage": of_leaf.map(|leaf| &leaf.extended_key_usage),
        "chain_certificates": svid.intermediates().len() + 1,
        "intermediates": authorities_json(svid.intermediates()),
        "bundle_certificates": svid.bundle.authorities().len(),
        "bundle": authorities_json(svid.bundle.authorities()),
    });
    if let Err(error) = leaf {
        json["error"] = format!("the leaf: {error}").into();
    }
    json
}

/// All CAs.
fn authorities_json<'a>(all: impl Iterator<Item = Authority<'a>>) -> Vec<Value> {
    let ca = |(subject, Dates { not_before, not_after }): (String, Dates)| {
        json!({
            "subject": subject,
            "not_before": rfc3339(not_before, 0),
            "not_after": rfc3339(not_after, 0),
        })
    };
    all.filter_map(|ca| ca.details()).map(ca).collect()
}

fn crl_json(crl: &Result<CrlDetails, Flaw>) -> Value {
    let crl = match crl {
        Ok(crl) => crl,
        Err(error) => return json!({ "error": error.to_string() }),
    };
    let mut json = json!({
        "issuer": crl.issuer,
        "number": crl.number.as_ref().ok(),
        "this_update": rfc3339(crl.this_update, 0),
        "next_update": crl.next_update.map(|time| rfc3339(time, 0)),
        "revoked_certificates": crl.revoked,
    });
    if let Err(error) = &crl.number {
        json["error"] = error.to_string().into();
    }
    json
}

fn jwt_json(InspectedJwtSvid { audience, svid }: &InspectedJwtSvid<'_>, now: Now) -> Value {
    match svid {
        Ok((info, token)) => json!({
            "requested_audience": audience,
            "spiffe_id": info.id.as_str(),
            "audience": token.audience,
            "issued_at": token.issued_at.map(|time| rfc3339(time, 0)),
            "not_after": rfc3339(info.not_after, 0),
            "seconds_left": seconds_left(info, now),
            "issuer": token.issuer,
            "algorithm": token.algorithm,
            "key_id": token.key_id,
        }),
        Err(error) => json!({ "requested_audience": audience, "error": error }),
    }
}

fn wit_json(svid: &Inspected<WitSvid>, now: Now) -> Value {
    let (id, hint) = (&svid.spiffe_id, &svid.hint);
    match read_wit(svid) {
        Ok((svid, token)) => json!({
            "spiffe_id": id,
            "hint": hint,
            "not_before": svid.info.not_before.map(|time| rfc3339(time, 0)),
            "not_after": rfc3339(svid.info.not_after, 0),
            "seconds_left": seconds_left(&svid.info, now),
            "key_type": svid.key_type(),
            "issuer": token.issuer,
            "algorithm": token.algorithm,
            "key_id": token.key_id,
        }),
        Err(error) => json!({ "spiffe_id": id, "hint": hint, "error": error }),
    }
}
