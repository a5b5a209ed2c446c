//! The metrics: counts and facts about the published files.
//!
//! Each count is kept where its event happens, and handed in.

mod exposition;

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use exposition::{Sample, Text, timestamp};

use crate::logging::dropped_lines;
use crate::material::{CallCounts, Facts};
use crate::notify::Outcomes;
use crate::workload_api::rpc::{
    FetchJwtBundles, FetchJwtSvid, FetchWitBundles, FetchWitSvid, FetchX509Svid, Rpc,
};

/// The data of a scrape.
pub(crate) struct Scrape<'a> {
    /// Whether `/ready` answers 200.
    pub(crate) is_ready: bool,
    /// The published parts: the name of a file of each (of the certificate's, for an X.509-SVID), and its facts.
    pub(crate) published: Vec<(&'a str, &'a Facts)>,
    /// The time of the scrape.
    pub(crate) now: SystemTime,
    pub(crate) publications: Publications,
    /// One for each source; sources of the same RPC are added up.
    pub(crate) calls: Vec<&'a CallCounts>,
    pub(crate) signals: Outcomes,
    pub(crate) hook_runs: Outcomes,
    /// For how long the hook has been running; zero if none runs.
    pub(crate) hook_running: Duration,
}

/// How often a set was written. (An unchanged set is not written.)
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Publications {
    pub(crate) count: u64,
    /// The time of the last one.
    pub(crate) last: Option<SystemTime>,
}

/// The RPCs, in the order in which they tell whether the agent is there. A stream of keys may be silent for days, and a
/// single response tells nothing of later times.
const BY_LIVELINESS: [&str; 5] = [
    FetchX509Svid::NAME,
    FetchWitSvid::NAME,
    FetchJwtBundles::NAME,
    FetchWitBundles::NAME,
    FetchJwtSvid::NAME,
];

/// The text of a scrape (Prometheus exposition format, version 0.0.4).
pub(crate) fn render(scrape: &Scrape<'_>) -> String {
    let mut text = Text::default();
    text.family(
        "build_info",
        "The version of pod-svid-helper.",
        [Sample::of(1).label("version", env!("CARGO_PKG_VERSION"))],
    );
    text.family(
        "ready",
        "Whether every wanted file is on disk and valid now, and the application of run runs.",
        [Sample::of(u8::from(scrape.is_ready))],
    );
    calls(&mut text, &scrape.calls);
    svids(&mut text, &scrape.published, scrape.now);
    let bundles = scrape.published.iter().flat_map(|(_, facts)| &facts.bundles);
    text.family(
        "bundle_earliest_expiry_timestamp_seconds",
        "The end of the validity of the CA certificate in a published trust bundle that expires first.",
        bundles.map(|bundle| {
            Sample::of(timestamp(bundle.earliest_expiry)).label("trust_domain", &bundle.trust_domain)
        }),
    );
    let omitted = scrape.published.iter().filter_map(|(_, facts)| facts.bundle_map_omitted);
    text.family(
        "bundle_map_omitted_certificates",
        "CA certificates that the bundle map leaves out because its readers do not know such keys.",
        omitted.map(Sample::of),
    );
    let next_updates = scrape.published.iter().filter_map(|(_, facts)| facts.crl_next_update);
    text.family(
        "crl_earliest_next_update_timestamp_seconds",
        "When the first of the published certificate revocation lists is due to be replaced.",
        next_updates.map(|time| Sample::of(timestamp(time))),
    );
    text.family(
        "publications_total",
        "Sets of files written, and removals.",
        [Sample::of(scrape.publications.count)],
    );
    text.family(
        "last_publication_timestamp_seconds",
        "When this process wrote a set of files last, or removed one.",
        scrape.publications.last.map(|time| Sample::of(timestamp(time))),
    );
    text.family(
        "notifications_total",
        "Signals to the application after a publication.",
        outcomes(scrape.signals),
    );
    text.family(
        "hook_runs_total",
        "Runs of the hook after a publication that have ended.",
        outcomes(scrape.hook_runs),
    );
    text.family(
        "hook_running_seconds",
        "For how long the hook has been running; 0 if none runs.",
        [Sample::of(format_args!("{:.3}", scrape.hook_running.as_secs_f64()))],
    );
    text.family(
        "dropped_log_lines_total",
        "Log lines dropped because nobody read stderr fast enough.",
        [Sample::of(dropped_lines())],
    );
    text.0
}

fn outcomes(outcomes: Outcomes) -> [Sample; 2] {
    [("success", outcomes.succeeded), ("failure", outcomes.failed)]
        .map(|(outcome, count)| Sample::of(count).label("outcome", outcome))
}

fn calls(text: &mut Text, calls: &[&CallCounts]) {
    let decides = |rpc: &&str| calls.iter().any(|calls| calls.rpc == *rpc);
    let deciding = BY_LIVELINESS.into_iter().find(decides);
    let is_connected = calls.iter().any(|calls| Some(calls.rpc) == deciding && calls.is_connected);
    text.family(
        "agent_connected",
        "Whether the stream that brings SVIDs is open and has brought something (or else that of keys, or the last call).",
        [Sample::of(u8::from(is_connected))],
    );
    let (mut rejected, mut failed) = (BTreeMap::new(), BTreeMap::new());
    for calls in calls {
        *rejected.entry(calls.rpc).or_insert(0) += calls.rejected;
        for (code, count) in &calls.failed {
            *failed.entry((calls.rpc, *code)).or_insert(0) += count;
        }
    }
    // From zero on: increase() misses the first event of a series that begins with it.
    text.family(
        "rejected_responses_total",
        "Responses of the agent that were discarded because they were not good.",
        rejected.into_iter().map(|(rpc, count)| Sample::of(count).label("procedure", rpc)),
    );
    text.family(
        "failed_calls_total",
        "Calls of the Workload API that failed, by gRPC code (Unreachable: no connection).",
        failed
            .into_iter()
            .map(|((rpc, code), count)| Sample::of(count).label("procedure", rpc).label("code", code)),
    );
}

fn svids(text: &mut Text, published: &[(&str, &Facts)], now: SystemTime) {
    let svids = || {
        let all = published.iter();
        all.filter_map(|(file, facts)| {
            let svid = facts.svid.as_ref()?;
            let sample =
                move |value: String| Sample::of(value).label("file", file).label("spiffe_id", &svid.id);
            Some((sample, svid, facts))
        })
    };
    text.family(
        "svid_not_after_timestamp_seconds",
        "The end of the validity of a published SVID.",
        svids().map(|(sample, svid, _)| sample(timestamp(svid.not_after))),
    );
    text.family(
        "svid_not_before_timestamp_seconds",
        "The beginning of the validity of a published SVID; if a token names none, when it was issued.",
        svids().map(|(sample, svid, _)| sample(timestamp(svid.begins_at()))),
    );
    text.family(
        "issuer_not_after_timestamp_seconds",
        "Until when a published X.509-SVID has a valid CA in its bundle, over valid intermediates.",
        svids()
            .filter_map(|(sample, _, facts)| Some(sample(timestamp(facts.trust.as_ref()?.good_until(now))))),
    );
    text.family(
        "svid_serial_info",
        "The serial number of a published X.509-SVID, in hexadecimal.",
        svids().filter_map(|(sample, svid, _)| Some(sample("1".to_owned()).label("serial", svid.serial()?))),
    );
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::identity::bundle::BundleInfo;
    use crate::identity::svid_info::{Kind, SvidInfo};

    fn at(milliseconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(milliseconds)
    }

    fn everything() -> String {
        let id = "spiffe://example.org/workload".parse().unwrap();
        let x509 = SvidInfo {
            id,
            kind: Kind::X509 { serial: "c0ffee".into() },
            issued_at: at(1_000),
            not_before: Some(at(1_000)),
            not_after: at(3_601_000),
        };
        // As SPIRE's: it does not say from when on it is valid.
        let jwt = SvidInfo { kind: Kind::Jwt, issued_at: at(7_000), not_before: None, ..x509.clone() };
        let (mut stream, mut tokens) = (CallCounts::new("FetchX509SVID"), CallCounts::new("FetchJWTSVID"));
        stream.is_connected = true;
        stream.rejected += 1;
        tokens.failed("Unavailable");
        let bundle = BundleInfo {
            trust_domain: x509.id.trust_domain(),
            earliest_expiry: at(86_400_000),
            authorities: Default::default(),
        };
        let x509 = Facts { svid: Some(x509), bundles: vec![bundle], ..Facts::default() };
        let jwt = Facts { svid: Some(jwt), ..Facts::default() };
        render(&Scrape {
            is_ready: true,
            published: vec![("svid.pem", &x509), ("a \"token\"\\\n", &jwt)],
            now: at(0),
            publications: Publications { count: 1, last: Some(at(1_500)) },
            calls: vec![&stream, &tokens, &tokens],
            signals: Outcomes { succeeded: 1, failed: 0 },
            hook_runs: Outcomes { succeeded: 0, failed: 1 },
            hook_running: Duration::from_millis(61_500),
        })
    }

    #[test]
    fn each_metric_has_the_recorded_value() {
        let text = everything();
        for line in [
            concat!("build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
            "agent_connected 1",
            "svid_not_after_timestamp_seconds{file=\"svid.pem\",spiffe_id=\"spiffe://example.org/workload\"} 3601",
            "svid_not_before_timestamp_seconds{file=\"svid.pem\",spiffe_id=\"spiffe://example.org/workload\"} 1",
            r#"svid_not_before_timestamp_seconds{file="a \"token\"\\\n",spiffe_id="spiffe://example.org/workload"} 7"#,
            "svid_serial_info{file=\"svid.pem\",spiffe_id=\"spiffe://example.org/workload\",serial=\"c0ffee\"} 1",
            "bundle_earliest_expiry_timestamp_seconds{trust_domain=\"example.org\"} 86400",
            "publications_total 1",
            "last_publication_timestamp_seconds 1.500",
            "rejected_responses_total{procedure=\"FetchX509SVID\"} 1",
            "rejected_responses_total{procedure=\"FetchJWTSVID\"} 0",
            "failed_calls_total{procedure=\"FetchJWTSVID\",code=\"Unavailable\"} 2",
            "notifications_total{outcome=\"success\"} 1",
            "notifications_total{outcome=\"failure\"} 0",
            "hook_runs_total{outcome=\"failure\"} 1",
            "hook_running_seconds 61.500",
            "dropped_log_lines_total 0",
        ] {
            let line = format!("\npod_svid_helper_{line}\n");
            assert!(text.contains(&line), "{line:?} is not in {text}");
        }
    }

    #[test]
    fn label_values_are_escaped() {
        assert!(everything().contains("{file=\"a \\\"token\\\"\\\\\\n\","));
    }

    #[test]
    fn there_is_no_series_about_files_that_are_not_published() {
        let text = render(&Scrape {
            is_ready: false,
            published: Vec::new(),
            now: at(0),
            publications: Publications::default(),
            calls: Vec::new(),
            signals: Outcomes::default(),
            hook_runs: Outcomes::default(),
            hook_running: Duration::ZERO,
        });
        assert!(text.contains("\npod_svid_helper_ready 0\n"));
        assert!(text.contains("\npod_svid_helper_agent_connected 0\n"));
        for name in ["svid_", "bundle_", "last_publication", "failed_calls"] {
            assert!(!text.contains(&format!("pod_svid_helper_{name}")), "{text}");
        }
    }
}
