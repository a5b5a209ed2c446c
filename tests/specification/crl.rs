//! The agent's certificate revocation lists as a file. A list is kept until its issuer's next one.

use std::process::Command;
use std::time::{Duration, SystemTime};

use pod_svid_helper::for_tests::workload::{X509SVID, X509SVIDResponse};
use workload_api_server::authority::Authority;
use workload_api_server::server::Reply;

use crate::http::{ANY_PORT, Probe};
use crate::pod::{Pod, ders, mode_of, names, skip};

const CRL: &str = "--crl-file-name=crl.pem";
const MINUTE: Duration = Duration::from_secs(60);

fn response(svid: &X509SVID, lists: &[&[u8]]) -> Reply {
    let crl = lists.iter().map(|list| list.to_vec()).collect();
    Reply::offer(&X509SVIDResponse { svids: vec![svid.clone()], crl, ..Default::default() })
}

/// Waits until the file has these lists and no others.
fn wait_for(pod: &Pod, lists: &[&[u8]]) {
    let holds = |text: &str| {
        let found = ders(text, "X509 CRL");
        found.len() == lists.concat().len()
            && lists.iter().all(|list| found.windows(list.len()).any(|part| part == *list))
    };
    pod.wait_for_file("crl.pem", holds);
}

#[test]
fn the_lists_of_the_response_are_one_public_file() {
    let pod = Pod::new();
    let (own, other) = (pod.authority.crl(), pod.federated.crl());
    let _agent = pod.agent(response(&pod.mint(), &[&own, &other]));
    let mut refresh = pod.refresh(&[CRL, ANY_PORT]);
    let probe = Probe::of(&mut refresh);
    probe.wait_until_ready_is(200);
    wait_for(&pod, &[&own, &other]);
    assert_eq!(mode_of(&pod.volume().join("crl.pem")), 0o644);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs_f64();
    let next = probe.metric("crl_earliest_next_update_timestamp_seconds").expect("a metric");
    assert!(next > now && next < now + 3601.0, "{next}");
    refresh.stop();
    pod.check(&[CRL]).succeeded();
}

#[test]
fn openssl_refuses_a_revoked_svid_by_the_file() {
    let pod = Pod::new();
    let svid = pod.mint();
    let agent = pod.agent(response(&svid, &[&pod.authority.crl()]));
    let refresh = pod.refresh(&[CRL]);
    let verify = || {
        let file = |name: &str| pod.volume().join(name);
        let mut openssl = Command::new("openssl");
        openssl.args(["verify", "-crl_check", "-CAfile"]).arg(file("bundle.pem"));
        openssl.arg("-CRLfile").arg(file("crl.pem")).arg(file("svid.pem"));
        openssl
            .output()
            .ok()
            .map(|output| String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    pod.wait_for_file("crl.pem", |_| true);
    let Some(before) = verify() else { return skip("openssl is not installed") };
    assert!(before.contains(": OK"), "{before}");
    let revoking = pod.authority.crl_of(&[&svid], Duration::ZERO);
    agent.reply(response(&svid, &[&revoking]));
    wait_for(&pod, &[&revoking]);
    let after = verify().expect("openssl");
    assert!(after.contains("certificate revoked"), "{after}");
    refresh.stop();
}

#[test]
fn before_the_first_list_there_is_no_file() {
    let pod = Pod::new();
    let _agent = pod.agent(response(&pod.mint(), &[]));
    pod.init(&[CRL]).succeeded();
    assert!(!names(&pod.volume()).contains(&"crl.pem".to_owned()));
    pod.check(&[CRL]).succeeded();
}

#[test]
fn a_list_that_is_not_sent_again_stays() {
    let pod = Pod::new();
    let (first, second, list) = (pod.mint(), pod.mint(), pod.authority.crl());
    let agent = pod.agent(response(&first, &[&list]));
    let refresh = pod.refresh(&[CRL]);
    pod.wait_for(&first);
    agent.reply(response(&second, &[]));
    pod.wait_for(&second);
    wait_for(&pod, &[&list]);
    refresh.stop();
}

#[test]
fn a_bad_list_is_left_out_with_a_warning_and_the_last_good_one_stays() {
    let pod = Pod::new();
    let (first, second, list) = (pod.mint(), pod.mint(), pod.authority.crl());
    let agent = pod.agent(response(&first, &[&list]));
    let mut refresh = pod.refresh(&[CRL]);
    pod.wait_for(&first);
    agent.reply(response(&second, &[&list[..list.len() - 1]]));
    refresh.wait_for_log(&["WARN", "left out crl[0]: not a DER certificate revocation list"]);
    pod.wait_for(&second);
    wait_for(&pod, &[&list]);
    refresh.stop();
}

#[test]
fn a_newer_list_of_an_issuer_replaces_the_older_one_and_never_the_other_way_round() {
    let pod = Pod::new();
    let [first, second, third] = [0, 1, 2].map(|_| pod.mint());
    let [oldest, old, new] = [2, 1, 0].map(|age| pod.authority.crl_of(&[&first], age * MINUTE));
    let agent = pod.agent(response(&first, &[&old]));
    let refresh = pod.refresh(&[CRL]);
    wait_for(&pod, &[&old]);
    agent.reply(response(&second, &[&oldest]));
    pod.wait_for(&second);
    wait_for(&pod, &[&old]);
    agent.reply(response(&third, &[&new]));
    pod.wait_for(&third);
    wait_for(&pod, &[&new]);
    refresh.stop();
}

#[test]
fn a_list_from_the_future_is_replaced_by_the_next_one_after_a_restart_too_and_replaces_none() {
    let pod = Pod::new();
    let [first, second, third] = [0, 1, 2].map(|_| pod.mint());
    // Its number is the highest of all.
    let old = pod.authority.crl_of(&[&first], MINUTE);
    let new = pod.authority.crl_of(&[&first], Duration::ZERO);
    let future = pod.authority.crl_from(SystemTime::now() + 500_000 * MINUTE, &[]);
    let agent = pod.agent(response(&first, &[&future]));
    pod.init(&[CRL]).succeeded();
    wait_for(&pod, &[&future]);
    agent.reply(response(&second, &[&old]));
    let mut refresh = pod.refresh(&[CRL]);
    wait_for(&pod, &[&old]);
    agent.reply(response(&third, &[&future]));
    refresh.wait_for_log(&["WARN", "of CN=example.org root is not valid until", "it replaces no other"]);
    pod.wait_for(&third);
    wait_for(&pod, &[&old]);
    agent.reply(response(&first, &[&new]));
    wait_for(&pod, &[&new]);
    refresh.stop();
}

#[test]
fn a_list_that_is_not_sent_again_goes_with_its_ca() {
    let pod = Pod::new();
    let old = Authority::named("example.org", "old");
    let [mut first, mut second, third] = [0, 1, 2].map(|_| pod.mint());
    first.bundle.extend(old.bundle());
    second.bundle.extend(old.bundle());
    let (own_list, old_list) = (pod.authority.crl(), old.crl());
    let agent = pod.agent(response(&first, &[&own_list, &old_list]));
    let refresh = pod.refresh(&[CRL]);
    wait_for(&pod, &[&own_list, &old_list]);
    agent.reply(response(&second, &[]));
    pod.wait_for(&second);
    wait_for(&pod, &[&own_list, &old_list]);
    agent.reply(response(&third, &[]));
    pod.wait_for(&third);
    wait_for(&pod, &[&own_list]);
    refresh.stop();
}

#[test]
fn after_a_restart_a_list_that_is_not_sent_stays() {
    let pod = Pod::new();
    let (first, second, list) = (pod.mint(), pod.mint(), pod.authority.crl());
    let agent = pod.agent(response(&first, &[&list]));
    pod.init(&[CRL]).succeeded();
    agent.reply(response(&second, &[]));
    pod.init(&[CRL]).succeeded();
    pod.wait_for(&second);
    wait_for(&pod, &[&list]);
    pod.holds_one_set();
}

#[test]
fn check_refuses_a_file_that_holds_no_list() {
    let pod = Pod::new();
    let _agent = pod.agent(response(&pod.mint(), &[&pod.authority.crl()]));
    pod.init(&[CRL]).succeeded();
    let path = pod.volume().join("..data/crl.pem");
    for (text, reason) in [
        (String::new(), "does not hold certificate revocation lists and nothing else"),
        (pod.read("bundle.pem"), "does not hold certificate revocation lists and nothing else"),
        (pod.read("bundle.pem").replace("CERTIFICATE", "X509 CRL"), "not a DER certificate revocation list"),
    ] {
        std::fs::remove_file(&path).expect("a file");
        std::fs::write(&path, text).expect("a file");
        pod.check(&[CRL]).failed_with(&["crl.pem: ", reason]);
    }
}
