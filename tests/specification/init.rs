//! `init`: one good SVID, or a reason.

use der::Decode;
use grpcio::RpcStatusCode;
use nix::sys::signal::Signal;
use workload_api_server::authority::{Authority, KeyType, Recipe};
use workload_api_server::fault::Fault;
use workload_api_server::server::Reply;
use x509_cert::ext::pkix::SubjectAltName;

use crate::pod::{ID, Pod, Published, mode_of, names, offer, serial};

#[test]
fn init_writes_certificate_key_and_bundle_and_succeeds() {
    let pod = Pod::new();
    let svid = pod.mint();
    let _agent = pod.agent(offer([svid.clone()]));
    let finished = pod.init(&[]).succeeded();
    pod.wait_for(&svid);
    assert!(finished.log.contains(&format!("published {ID} (serial {}", serial(&svid))), "{}", finished.log);
    assert_eq!(finished.stdout, "");
}

#[test]
fn init_is_the_default_mode() {
    let (pod, _agent) = Pod::with_agent();
    pod.helper(&[]).finish().succeeded();
}

#[test]
fn certificate_and_bundle_are_readable_by_all_and_the_key_by_its_owner_alone() {
    let (pod, _agent) = Pod::with_agent();
    pod.init(&[]).succeeded();
    let modes = ["svid.pem", "svid-key.pem", "bundle.pem"].map(|name| mode_of(&pod.volume().join(name)));
    assert_eq!(modes, [0o644, 0o400, 0o644]);
}

#[test]
fn file_modes_do_not_depend_on_the_umask() {
    for umask in ["000", "077"] {
        let (pod, _agent) = Pod::with_agent();
        let script = format!("umask {umask}; exec \"$0\" \"$@\"");
        let helper = pod.helper(&["--key-file-mode=0440"]).through("sh", &["-c", &script]);
        helper.finish().succeeded();
        let modes = ["svid.pem", "svid-key.pem", "..data"].map(|name| mode_of(&pod.volume().join(name)));
        assert_eq!(modes, [0o644, 0o440, 0o755], "umask {umask}");
    }
}

#[test]
fn a_key_that_every_user_can_read_is_written_with_a_warning() {
    let (pod, _agent) = Pod::with_agent();
    let finished = pod.init(&["--key-file-mode=0444"]).succeeded();
    assert!(
        finished.log.contains("WARN  --key-file-mode=0444 lets every user read the private key"),
        "{}",
        finished.log
    );
    assert_eq!(mode_of(&pod.volume().join("svid-key.pem")), 0o444);
}

#[test]
fn every_key_type_is_published() {
    for (name, key_type) in KeyType::ALL {
        let pod = Pod::new();
        let svid = pod.authority.mint(&Recipe::for_id(ID).key_type(key_type));
        let _agent = pod.agent(offer([svid.clone()]));
        println!("{name}");
        pod.init(&[]).succeeded();
        pod.wait_for(&svid);
    }
}

#[test]
fn intermediates_follow_the_leaf_and_stay_out_of_the_bundle() {
    let pod = Pod::new();
    let authority = Authority::new("example.org").with_intermediate();
    let svid = authority.mint(&Recipe::for_id(ID));
    let _agent = pod.agent(offer([svid.clone()]));
    pod.init(&[]).succeeded();
    pod.wait_for(&svid);
    let pem = std::fs::read_to_string(pod.volume().join("svid.pem")).expect("a chain");
    assert_eq!(pem.matches("BEGIN CERTIFICATE").count(), 2);
    assert_eq!(Published::as_one(&pod.volume()).expect("a set").bundle(), authority.bundle());
}

#[test]
fn a_leaf_with_dns_names_beside_its_id_is_published() {
    let pod = Pod::new();
    let dns_names = vec!["db.example.org".to_owned(), "db".to_owned()];
    let svid = pod.authority.mint(&Recipe { dns_names, ..Recipe::for_id(ID) });
    let _agent = pod.agent(offer([svid.clone()]));
    pod.init(&[]).succeeded();
    pod.wait_for(&svid);
}

#[test]
fn a_leaf_without_a_subject_whose_names_are_critical_is_published() {
    let pod = Pod::new();
    let svid = pod.authority.mint(&Recipe { has_subject: false, ..Recipe::for_id(ID) });
    let leaf = x509_cert::Certificate::from_der(&svid.x509_svid).expect("a leaf");
    let names = leaf.tbs_certificate().get_extension::<SubjectAltName>().expect("DER");
    assert!(names.is_some_and(|(is_critical, _)| is_critical));
    let _agent = pod.agent(offer([svid.clone()]));
    pod.init(&[]).succeeded();
    pod.wait_for(&svid);
}

#[test]
fn without_pod_spiffe_id_the_first_svid_is_written() {
    let pod = Pod::new();
    let (first, second) = (pod.authority.mint(&Recipe::for_id("spiffe://example.org/first")), pod.mint());
    let _agent = pod.agent(offer([first.clone(), second]));
    pod.init(&[]).succeeded();
    pod.wait_for(&first);
}

#[test]
fn the_svid_of_pod_spiffe_id_is_picked_among_several() {
    let pod = Pod::new();
    let (first, second) = (pod.authority.mint(&Recipe::for_id("spiffe://example.org/first")), pod.mint());
    let _agent = pod.agent(offer([first, second.clone()]));
    pod.init(&[&format!("--pod-spiffe-id={ID}")]).succeeded();
    pod.wait_for(&second);
}

/// An init that cannot succeed logs the reason; then it is stopped.
pub fn says_why(reply: Reply, arguments: &[&str], parts: &[&str]) {
    let pod = Pod::new();
    let _agent = pod.agent(reply);
    let mut init = pod.helper(&["--init-timeout=1h"]).arguments(arguments).start();
    init.wait_for_log(parts);
    init.signal(Signal::SIGTERM);
    init.finish(1);
    assert_eq!(names(&pod.volume()), [""; 0]);
}

#[test]
fn an_id_that_is_not_offered_is_an_error_with_the_offered_ids() {
    let authority = Authority::new("example.org");
    let others = ["spiffe://example.org/one", "spiffe://example.org/two"];
    let reply = offer(others.map(|id| authority.mint(&Recipe::for_id(id))));
    let wanted = format!("--pod-spiffe-id={ID}");
    says_why(reply, &[&wanted], &["does not offer", ID, others[0], others[1], "--pod-spiffe-id"]);
}

#[test]
fn init_waits_for_its_id_to_be_offered() {
    let pod = Pod::new();
    let svid = pod.mint();
    let agent = pod.agent(offer([pod.authority.mint(&Recipe::for_id("spiffe://example.org/other"))]));
    let mut init = pod.helper(&[&format!("--pod-spiffe-id={ID}"), "--init-timeout=1h"]).start();
    init.wait_for_log(&["does not offer", ID]);
    agent.reply(offer([svid.clone()]));
    init.finish(0);
    pod.wait_for(&svid);
}

#[test]
fn init_waits_for_an_svid_that_has_not_expired() {
    let pod = Pod::new();
    let svid = pod.mint();
    let expired = Fault::named("expired").expect("a known fault").reply(&pod.authority, &Recipe::for_id(ID));
    let agent = pod.agent(expired);
    let mut init = pod.helper(&["--init-timeout=1h"]).start();
    init.wait_for_log(&["expired at", "server behind the agent"]);
    agent.reply(offer([svid.clone()]));
    init.finish(0);
    pod.wait_for(&svid);
}

#[test]
fn init_waits_for_the_agent_to_appear() {
    let pod = Pod::new();
    let svid = pod.mint();
    let mut init = pod.helper(&["--init-timeout=1h"]).start();
    init.wait_for_log(&["cannot connect", "retrying in"]);
    let _agent = pod.agent(offer([svid.clone()]));
    init.finish(0);
    pod.wait_for(&svid);
}

fn retried(code: RpcStatusCode, times: usize) {
    let pod = Pod::new();
    let svid = pod.mint();
    let agent = pod.agent(offer([svid.clone()]));
    (0..times).for_each(|_| agent.reply_once(Reply::refuse(code)));
    pod.init(&["--init-timeout=1h"]).succeeded();
    pod.wait_for(&svid);
    assert_eq!(agent.calls(), times as u64 + 1);
}

#[test]
fn init_tries_again_after_unavailable() {
    retried(RpcStatusCode::UNAVAILABLE, 1);
    retried(RpcStatusCode::UNAVAILABLE, 3);
}

#[test]
fn init_tries_again_after_permission_denied() {
    retried(RpcStatusCode::PERMISSION_DENIED, 1);
    retried(RpcStatusCode::PERMISSION_DENIED, 3);
}

#[test]
fn permission_denied_for_ever_is_an_error_that_says_what_to_check() {
    let reply = Reply::Refuse(RpcStatusCode::PERMISSION_DENIED, "no identity issued".to_owned());
    says_why(reply, &[], &["PermissionDenied \"no identity issued\"", "selectors", "retrying"]);
}

#[test]
fn unavailable_for_ever_is_an_error() {
    says_why(Reply::refuse(RpcStatusCode::UNAVAILABLE), &[], &["Unavailable", "retrying"]);
}

#[test]
fn when_its_time_is_up_init_fails_with_the_last_trouble() {
    let pod = Pod::new();
    pod.init(&["--init-timeout=300ms"]).failed_with(&["no SVID within 300ms: cannot connect"]);
}

#[test]
fn invalid_argument_ends_init_at_once() {
    let pod = Pod::new();
    let agent = pod.agent(Reply::refuse(RpcStatusCode::INVALID_ARGUMENT));
    pod.init(&["--init-timeout=1h"]).failed_with(&["InvalidArgument", "metadata"]);
    assert_eq!(agent.calls(), 1);
}

#[test]
fn unimplemented_ends_init_at_once() {
    let pod = Pod::new();
    let agent = pod.agent(Reply::refuse(RpcStatusCode::UNIMPLEMENTED));
    pod.init(&["--init-timeout=1h"]).failed_with(&["Unimplemented", "workload socket"]);
    assert_eq!(agent.calls(), 1);
}

#[test]
fn a_stream_that_is_closed_without_a_word_is_called_again() {
    let pod = Pod::new();
    let svid = pod.mint();
    let agent = pod.agent(offer([svid.clone()]));
    agent.reply_once(Reply::Close);
    pod.init(&["--init-timeout=1h"]).succeeded();
    pod.wait_for(&svid);
}

#[test]
fn init_replaces_the_files_of_an_earlier_init() {
    let pod = Pod::new();
    let (first, second) = (pod.mint(), pod.mint());
    let agent = pod.agent(offer([first.clone()]));
    pod.init(&[]).succeeded();
    pod.wait_for(&first);
    agent.reply(offer([second.clone()]));
    pod.init(&[]).succeeded();
    pod.wait_for(&second);
}

#[test]
fn a_failed_init_leaves_the_files_of_an_earlier_one() {
    let pod = Pod::new();
    let svid = pod.mint();
    let agent = pod.agent(offer([svid.clone()]));
    pod.init(&[]).succeeded();
    agent.reply(Reply::refuse(RpcStatusCode::UNIMPLEMENTED));
    pod.init(&[]).failed_with(&["Unimplemented"]);
    pod.wait_for(&svid);
}

#[test]
fn a_signal_ends_a_waiting_init_with_failure() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let pod = Pod::new();
        let mut init = pod.helper(&["--init-timeout=1h"]).start();
        init.wait_for_log(&["cannot connect"]);
        init.signal(signal);
        let log = init.finish(1);
        let last = log.last().expect("a log");
        assert!(last.contains(&format!("stopped by {signal} before anything was published")), "{last}");
    }
}
