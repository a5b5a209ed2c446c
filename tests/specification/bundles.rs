//! Bundles beside the trust domain's own: federated trust domains, intermediates, what has
//! expired, revocation lists.

use std::time::{Duration, SystemTime};

use pod_svid_helper::for_tests::workload::{X509SVID, X509SVIDResponse};
use workload_api_server::authority::{Authority, Recipe};
use workload_api_server::server::Reply;

use crate::http::{ANY_PORT, Probe, SHORT};
use crate::pod::{ID, PATIENCE, Pod, Published, ders, mode_of, names, offer, wait_until};

fn federated(svid: &X509SVID, others: &[&Authority]) -> Reply {
    let mut response = X509SVIDResponse { svids: vec![svid.clone()], ..Default::default() };
    response.federated_bundles = others.iter().map(|other| (other.id(), other.bundle())).collect();
    Reply::offer(&response)
}

fn certificates(pod: &Pod, name: &str) -> Vec<u8> {
    ders(&pod.read(name), "CERTIFICATE")
}

#[test]
fn by_default_no_federated_bundle_is_written() {
    let pod = Pod::new();
    let svid = pod.mint();
    let _agent = pod.agent(federated(&svid, &[&pod.federated]));
    pod.init(&[]).succeeded();
    pod.wait_for(&svid);
    assert_eq!(names(&pod.volume().join("..data")), ["bundle.pem", "svid-key.pem", "svid.pem"]);
}

#[test]
fn each_federated_trust_domain_gets_a_file_of_its_own() {
    let pod = Pod::new();
    let (svid, third) = (pod.mint(), Authority::new("third.org"));
    let _agent = pod.agent(federated(&svid, &[&pod.federated, &third]));
    pod.init(&["--include-federated-bundles"]).succeeded();
    pod.wait_for(&svid);
    assert_eq!(certificates(&pod, "other.org.bundle.pem"), pod.federated.bundle());
    assert_eq!(certificates(&pod, "third.org.bundle.pem"), third.bundle());
    assert_eq!(mode_of(&pod.volume().join("third.org.bundle.pem")), 0o644);
}

#[test]
fn the_bundle_of_a_trust_domain_that_is_no_longer_federated_disappears() {
    let pod = Pod::new();
    let (first, second, third) = (pod.mint(), pod.mint(), Authority::new("third.org"));
    let agent = pod.agent(federated(&first, &[&pod.federated, &third]));
    let refresh = pod.refresh(&["--include-federated-bundles"]);
    pod.wait_for(&first);
    agent.reply(federated(&second, &[&third]));
    pod.wait_for(&second);
    refresh.stop();
    pod.holds_one_set();
    assert!(!names(&pod.volume()).contains(&"other.org.bundle.pem".to_owned()));
    assert_eq!(certificates(&pod, "third.org.bundle.pem"), third.bundle());
}

/// What follows the own bundle where federated ones are merged.
fn merged(pod: &Pod, own: &X509SVID) -> Vec<u8> {
    certificates(pod, "bundle.pem").strip_prefix(own.bundle.as_slice()).expect("the own bundle").to_vec()
}

#[test]
fn while_a_federated_bundle_is_broken_the_last_good_one_of_its_trust_domain_stays_until_it_leaves() {
    for option in ["--include-federated-bundles", "--merge-federated-bundles"] {
        let pod = Pod::new();
        let svids = [pod.mint(), pod.mint(), pod.mint(), pod.mint()];
        let other = pod.federated.bundle();
        let agent = pod.agent(federated(&svids[0], &[&pod.federated, &Authority::new("third.org")]));
        let mut refresh = pod.refresh(&[option, "--bundle-map-file-name=map.json"]);
        let wait_for = |svid: &X509SVID| {
            pod.wait_for_file("svid.pem", |text| ders(text, "CERTIFICATE") == svid.x509_svid);
        };
        wait_for(&svids[0]);
        // Again and again, and not for a trust domain that leaves meanwhile.
        for svid in &svids[1..3] {
            let mut response = X509SVIDResponse { svids: vec![svid.clone()], ..Default::default() };
            response.federated_bundles.insert(pod.federated.id(), b"broken".to_vec());
            agent.reply(Reply::offer(&response));
            wait_for(svid);
            match option {
                "--include-federated-bundles" => {
                    assert_eq!(certificates(&pod, "other.org.bundle.pem"), other)
                }
                _ => assert_eq!(merged(&pod, svid), other),
            }
            let map: serde_json::Value = serde_json::from_str(&pod.read("map.json")).expect("JSON");
            let trust_domains = map["trust_domains"].as_object().expect("trust domains");
            assert_eq!(trust_domains.keys().collect::<Vec<_>>(), ["example.org", "other.org"]);
        }
        refresh.wait_for_log(&[
            "WARN",
            "left out a federated bundle: federated_bundles[\"spiffe://other.org\"]",
            "; the last good one stays",
        ]);
        agent.reply(federated(&svids[3], &[]));
        wait_for(&svids[3]);
        wait_until("it goes", || !names(&pod.volume()).contains(&"other.org.bundle.pem".to_owned()));
        assert_eq!(certificates(&pod, "bundle.pem"), svids[3].bundle);
        refresh.stop();
    }
}

#[test]
fn a_change_of_a_federated_bundle_alone_is_published() {
    let pod = Pod::new();
    let (svid, renewed) = (pod.mint(), Authority::new("other.org"));
    let agent = pod.agent(federated(&svid, &[&pod.federated]));
    let refresh = pod.refresh(&["--include-federated-bundles"]);
    pod.wait_for(&svid);
    agent.reply(federated(&svid, &[&renewed]));
    pod.wait_for_file("other.org.bundle.pem", |text| ders(text, "CERTIFICATE") == renewed.bundle());
    refresh.stop();
}

#[test]
fn a_trust_domain_that_no_file_can_be_named_after_is_left_out_with_a_warning() {
    let pod = Pod::new();
    let (svid, hidden) = (pod.mint(), Authority::new(".hidden"));
    let _agent = pod.agent(federated(&svid, &[&hidden, &pod.federated]));
    let log = pod.init(&["--include-federated-bundles"]).succeeded().log;
    assert!(log.contains("WARN") && log.contains("\".hidden\""), "{log}");
    pod.wait_for(&svid);
    assert_eq!(certificates(&pod, "other.org.bundle.pem"), pod.federated.bundle());
}

#[test]
fn the_own_trust_domain_among_the_federated_ones_is_not_merged() {
    let pod = Pod::new();
    let (svid, impostor) = (pod.mint(), Authority::new("example.org"));
    let _agent = pod.agent(federated(&svid, &[&impostor, &pod.federated]));
    pod.init(&["--merge-federated-bundles"]).succeeded();
    assert_eq!(certificates(&pod, "bundle.pem"), [svid.bundle, pod.federated.bundle()].concat());
}

#[test]
fn an_upper_case_trust_domain_is_left_out_with_a_warning() {
    let pod = Pod::new();
    let (svid, upper_case) = (pod.mint(), Authority::new("Upper.org"));
    let _agent = pod.agent(federated(&svid, &[&upper_case, &pod.federated]));
    let log = pod.init(&["--include-federated-bundles"]).succeeded().log;
    assert!(log.contains("WARN") && log.contains("\"spiffe://Upper.org\""), "{log}");
    pod.wait_for(&svid);
    assert_eq!(certificates(&pod, "other.org.bundle.pem"), pod.federated.bundle());
    assert!(!names(&pod.volume()).iter().any(|name| name.to_lowercase().starts_with("upper")));
}

/// A trust domain's name has up to 255 bytes, and so has a file's, ending included.
#[test]
fn the_longest_trust_domain_that_a_file_can_be_named_after_has_one() {
    let pod = Pod::new();
    let longest = "d".repeat(255 - ".bundle.pem".len());
    let authorities = [longest.clone(), "e".repeat(longest.len() + 1), "f".repeat(255)];
    let authorities = authorities.map(|name| Authority::new(&name));
    let svid = pod.mint();
    let _agent = pod.agent(federated(&svid, &authorities.each_ref()));
    let log = pod.init(&["--include-federated-bundles"]).succeeded().log;
    pod.wait_for(&svid);
    assert_eq!(certificates(&pod, &format!("{longest}.bundle.pem")), authorities[0].bundle());
    let files = names(&pod.volume());
    for (first, length) in [("e", longest.len() + 1), ("f", 255)] {
        assert!(!files.iter().any(|name| name.starts_with(first)), "{files:?}");
        assert!(
            log.lines().any(|line| line.contains("WARN") && line.contains(&first.repeat(length))),
            "{log}"
        );
    }
}

#[test]
fn merged_federated_bundles_follow_the_own_one() {
    let pod = Pod::new();
    let svid = pod.mint();
    let _agent = pod.agent(federated(&svid, &[&pod.federated]));
    pod.init(&["--merge-federated-bundles"]).succeeded();
    assert_eq!(certificates(&pod, "bundle.pem"), [svid.bundle, pod.federated.bundle()].concat());
    assert!(!names(&pod.volume()).contains(&"other.org.bundle.pem".to_owned()));
}

#[test]
fn intermediates_go_into_the_bundle_instead_of_the_chain() {
    let pod = Pod::new();
    let authority = Authority::new("example.org").with_intermediate();
    let svid = authority.mint(&Recipe::for_id(ID));
    let _agent = pod.agent(federated(&svid, &[&pod.federated]));
    pod.init(&["--add-intermediates-to-bundle", "--merge-federated-bundles"]).succeeded();
    let set = Published::as_one(&pod.volume()).expect("a set");
    let (leaf, intermediates) = (set.chain(), svid.x509_svid[set.chain().len()..].to_vec());
    assert!(svid.x509_svid.starts_with(&leaf) && !intermediates.is_empty());
    assert_eq!(set.bundle(), [svid.bundle, intermediates, pod.federated.bundle()].concat());
}

#[test]
fn expired_cas_are_left_out_with_omit_expired() {
    let pod = Pod::new();
    let mut svid = pod.mint();
    let good = svid.bundle.clone();
    svid.bundle.extend(pod.authority.expired_root());
    let mut response = X509SVIDResponse { svids: vec![svid.clone()], ..Default::default() };
    let other = [pod.federated.expired_root(), pod.federated.bundle()].concat();
    response.federated_bundles.insert(pod.federated.id(), other);
    // Nothing is left of it.
    response.federated_bundles.insert("spiffe://third.org".to_owned(), pod.federated.expired_root());
    let _agent = pod.agent(Reply::offer(&response));
    pod.init(&[]).succeeded();
    assert_eq!(certificates(&pod, "bundle.pem"), svid.bundle);
    pod.init(&["--omit-expired", "--include-federated-bundles"]).succeeded();
    assert_eq!(certificates(&pod, "bundle.pem"), good);
    assert_eq!(certificates(&pod, "other.org.bundle.pem"), pod.federated.bundle());
    assert!(!names(&pod.volume()).contains(&"third.org.bundle.pem".to_owned()));
}

#[test]
fn a_bundle_without_any_valid_ca_is_not_published() {
    let pod = Pod::new();
    let (first, mut second) = (pod.mint(), pod.mint());
    let agent = pod.agent(federated(&first, &[]));
    let mut refresh = pod.refresh(&["--omit-expired"]);
    pod.wait_for(&first);
    second.bundle = pod.authority.root_until(SystemTime::now() - Duration::from_secs(60));
    agent.reply(federated(&second, &[]));
    refresh.wait_for_log(&["ERROR", "rejected the agent's response: bundle.pem: certificate 0 expired at"]);
    pod.wait_for(&first);
    refresh.stop();
}

#[test]
fn a_ca_that_expires_leaves_at_its_end_with_omit_expired() {
    let pod = Pod::new();
    let mut svid = pod.mint();
    let old = Authority::named("example.org", "old");
    let agent = pod.agent(Reply::Silence);
    let mut refresh = pod.refresh(&["--omit-expired", ANY_PORT]);
    let probe = Probe::of(&mut refresh);
    agent.wait_for_calls(1, PATIENCE);
    svid.bundle.extend(old.bundle_until("old", SystemTime::now() + SHORT));
    agent.reply(offer([svid]));
    probe.wait_until_ready_is(200);
    let earliest = || probe.metric("bundle_earliest_expiry_timestamp_seconds{trust_domain=\"example.org\"}");
    let before = earliest();
    refresh.wait_for_log(&["INFO", "published", ": CA removed"]);
    wait_until("the bundle has one CA", || certificates(&pod, "bundle.pem") == pod.authority.bundle());
    assert!(earliest() > before, "the metric is not of the file as written");
    probe.wait_until_ready_is(200);
    refresh.stop();
}

#[test]
fn the_end_of_the_issuing_ca_has_a_metric_of_its_own() {
    let pod = Pod::new();
    let mut svid = pod.mint();
    svid.bundle.extend(pod.authority.expired_root());
    let _agent = pod.agent(federated(&svid, &[]));
    let mut refresh = pod.refresh(&[ANY_PORT]);
    let probe = Probe::of(&mut refresh);
    probe.wait_until_ready_is(200);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs_f64();
    let earliest = probe.metric("bundle_earliest_expiry_timestamp_seconds{trust_domain=\"example.org\"}");
    assert!(earliest.is_some_and(|end| end < now), "{earliest:?}");
    let series = format!("issuer_not_after_timestamp_seconds{{file=\"svid.pem\",spiffe_id=\"{ID}\"}}");
    let issuer = probe.metric(&series);
    assert!(issuer.is_some_and(|end| end > now), "{issuer:?}");
    refresh.stop();
}

#[test]
fn the_end_of_a_ca_is_not_forgotten_over_a_bad_response_with_omit_expired() {
    let pod = Pod::new();
    let good = |end| {
        let mut svid = pod.mint();
        svid.bundle.extend(Authority::named("example.org", "old").bundle_until("old", end));
        federated(&svid, &[])
    };
    let (agent, mut refresh) = (pod.agent(Reply::Silence), pod.refresh(&["--omit-expired"]));
    agent.wait_for_calls(1, PATIENCE);
    agent.reply(good(SystemTime::now() + SHORT));
    refresh.wait_for_log(&["INFO", "published"]);
    let expired = pod.authority.mint(&Recipe::for_id(ID).expired_for(Duration::from_secs(5)));
    agent.reply(federated(&expired, &[]));
    refresh.wait_for_log(&["ERROR", "rejected the agent's response"]);
    // The CA has expired.
    agent.wait_for_calls(2, PATIENCE);
    refresh.stop();
}
