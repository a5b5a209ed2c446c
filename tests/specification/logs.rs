//! What the log says, and how.

use grpcio::RpcStatusCode;

use crate::pod::{ID, PATIENCE, Pod, offer, serial};
use crate::workload_api_server::server::Reply;

#[test]
fn a_text_line_has_a_utc_time_a_level_and_a_message() {
    let pod = Pod::new();
    let _agent = pod.agent(offer([pod.mint()]));
    let log = pod.init(&[]).succeeded().log;
    for line in log.lines() {
        let (time, rest) = line.split_once(' ').expect("a time");
        assert_eq!(
            (time.len(), &time[10..11], &time[23..]),
            ("2026-11-23T16:40:05.123Z".len(), "T", "Z"),
            "{line}"
        );
        assert!(
            ["ERROR ", "WARN  ", "INFO  ", "DEBUG "].iter().any(|level| rest.starts_with(level)),
            "{line}"
        );
    }
}

#[test]
fn a_json_line_is_an_object_with_time_level_message_and_fields() {
    let pod = Pod::new();
    let svid = pod.mint();
    let _agent = pod.agent(offer([svid.clone()]));
    let log = pod.init(&["--log-format=json"]).succeeded().log;
    let lines: Vec<serde_json::Value> =
        log.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let published =
        lines.iter().find(|line| line["message"].as_str().is_some_and(|text| text.starts_with("published")));
    let published = published.expect("a line about the publication");
    assert_eq!(published["level"], "info");
    assert!(published["time"].as_str().is_some_and(|time| time.ends_with('Z')));
    assert_eq!(published["spiffe_id"], ID);
    assert_eq!(published["serial"], serial(&svid));
    assert_eq!(published["path"], pod.volume().to_str().unwrap());
    assert!(published["not_after"].as_str().is_some_and(|time| time.ends_with('Z')));
}

#[test]
fn a_lasting_state_is_warned_of_once_and_then_told_at_debug() {
    let pod = Pod::new();
    let agent = pod.agent(Reply::refuse(RpcStatusCode::UNAVAILABLE));
    let mut refresh = pod.refresh(&[]);
    refresh.wait_for_log(&["WARN", "Unavailable", "retrying in"]);
    refresh.wait_for_log(&["DEBUG", "Unavailable", "retrying in"]);
    agent.wait_for_calls(4, PATIENCE);
    let log = refresh.stop();
    assert!(!log.iter().skip(2).any(|line| line.contains("WARN")), "{}", log.join("\n"));
}

#[test]
fn the_level_leaves_out_what_is_less_important() {
    let pod = Pod::new();
    let _agent = pod.agent(offer([pod.mint()]));
    assert_eq!(pod.init(&["--log-level=warn"]).succeeded().log, "");
}

#[test]
fn nothing_of_the_key_is_ever_logged() {
    let pod = Pod::new();
    let svid = pod.mint();
    let _agent = pod.agent(offer([svid.clone()]));
    let log = pod.init(&["--log-level=trace"]).succeeded().log;
    let pem = std::fs::read_to_string(pod.volume().join("svid-key.pem")).expect("a key");
    let middle = &svid.x509_svid_key[40..56];
    let hexadecimal: String = middle.iter().map(|byte| format!("{byte:02x}")).collect();
    let decimal = format!("{middle:?}");
    let base64 = pem.lines().filter(|line| !line.starts_with("-----"));
    for form in base64.chain([hexadecimal.as_str(), decimal.trim_matches(['[', ']'])]) {
        assert!(!log.to_lowercase().contains(&form.to_lowercase()), "{log}");
    }
}
