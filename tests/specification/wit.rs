//! WIT-SVIDs and WIT bundles in files.

use std::time::{Duration, SystemTime};

use grpcio::RpcStatusCode;
use nix::sys::signal::Signal;
use pod_svid_helper::for_tests::workload::WITSVID;
use serde_json::{Value, json};
use workload_api_server::authority::{KeyType, Recipe};
use workload_api_server::server::{Reply, WorkloadApiServer};
use workload_api_server::wit::{WitRecipe, seconds, wit_bundles, wit_response};

use crate::http::{ANY_PORT, Probe, SHORT};
use crate::pod::{Helper, ID, OTHER_ID, Pod, claims, ders, mode_of, names, offer, wait_until};

const FILES: [&str; 2] = ["--wit-svid-file-name=wit.jwt", "--wit-key-file-name=wit.jwk"];
const ALONE: [&str; 3] = ["--x509=false", FILES[0], FILES[1]];
const BUNDLE: &str = "--wit-bundle-file-name=wit.json";
const OFF: &str = "the agent's WIT-SVID profile is off";

fn with<'a>(some: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [some, more].concat()
}

/// An agent with an X.509-SVID and this WIT-SVID.
fn agent(pod: &Pod, svid: &WITSVID) -> WorkloadApiServer {
    pod.agent_after(offer([pod.mint()]), |agent| agent.reply_with_wit(wit_response([svid.clone()])))
}

/// An agent that says nothing of WIT-SVIDs yet.
fn silent_agent(pod: &Pod) -> WorkloadApiServer {
    pod.agent_after(offer([pod.mint()]), |agent| agent.reply_with_wit(Reply::Silence))
}

fn mint(pod: &Pod) -> WITSVID {
    WitRecipe::for_id(ID).mint(&pod.authority)
}

fn wait_for(pod: &Pod, svid: &WITSVID) {
    pod.wait_for_file("wit.jwt", |token| token == svid.wit_svid);
    pod.wait_for_file("wit.jwk", |key| key == svid.wit_svid_key);
}

#[test]
fn init_writes_token_and_key_as_they_came_beside_the_pem_files() {
    let pod = Pod::new();
    let svid = mint(&pod);
    let _agent = agent(&pod, &svid);
    let log = pod.init(&FILES).succeeded().log;
    assert_eq!((pod.read("wit.jwt"), pod.read("wit.jwk")), (svid.wit_svid, svid.wit_svid_key));
    assert!(log.contains(&format!("published the WIT-SVID of {ID} (valid until 2")), "{log}");
    assert!(log.contains(") as wit.jwt in "), "{log}");
    pod.holds_one_set();
}

#[test]
fn the_token_is_public_and_only_the_owner_reads_the_key_unless_their_modes_are_set() {
    let pod = Pod::new();
    let _agent = agent(&pod, &mint(&pod));
    let modes = || ["wit.jwt", "wit.jwk"].map(|name| mode_of(&pod.volume().join(name)));
    pod.init(&FILES).succeeded();
    assert_eq!(modes(), [0o644, 0o400]);
    pod.init(&with(&ALONE, &["--cert-file-mode=0444", "--key-file-mode=0440"])).succeeded();
    assert_eq!(modes(), [0o444, 0o440]);
}

#[test]
fn wit_alone_writes_no_pem_file() {
    let pod = Pod::new();
    let agent = agent(&pod, &mint(&pod));
    agent.reply_with_wit_bundles(wit_bundles([("spiffe://example.org", r#"{"keys":[]}"#)]));
    pod.init(&with(&ALONE, &[BUNDLE])).succeeded();
    assert_eq!(names(&pod.volume().join("..data")), ["wit.json", "wit.jwk", "wit.jwt"]);
    assert_eq!(agent.calls(), 0);
}

#[test]
fn a_key_is_written_as_pkcs8_that_openssl_loads() {
    for key_type in [KeyType::P256, KeyType::P384, KeyType::Rsa2048] {
        let pod = Pod::new();
        let _agent = agent(&pod, &WitRecipe::with_key(ID, key_type).mint(&pod.authority));
        let pem = with(&ALONE, &["--wit-key-format=pem"]);
        pod.init(&pem).succeeded();
        assert!(!ders(&pod.read("wit.jwk"), "PRIVATE KEY").is_empty());
        pod.check(&pem).succeeded();
        let path = pod.volume().join("wit.jwk");
        match std::process::Command::new("openssl")
            .args(["pkey", "-noout", "-check", "-in"])
            .arg(path)
            .output()
        {
            Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr)),
            Err(error) => crate::pod::skip(&format!("no openssl to load the key with ({error})")),
        }
    }
}

/// A WIT-SVID whose key is an RSA key without its primes.
fn without_primes() -> WitRecipe {
    let mut recipe = WitRecipe::with_key(ID, KeyType::Rsa2048);
    for member in ["p", "q", "dp", "dq", "qi"] {
        recipe.key.as_object_mut().expect("a JWK").remove(member);
    }
    recipe
}

#[test]
fn an_rsa_key_without_primes_is_written_as_jwk_and_refused_as_pem() {
    let pod = Pod::new();
    let recipe = without_primes();
    let svid = recipe.mint(&pod.authority);
    let _agent = agent(&pod, &svid);
    pod.init(&ALONE).succeeded();
    assert_eq!(pod.read("wit.jwk"), svid.wit_svid_key);
    let pem = with(&ALONE, &["--wit-key-format=pem", "--init-timeout=1s"]);
    pod.init(&pem).failed_with(&["wit_svid_key", "lacks its primes", "--wit-key-format=jwk"]);
    assert_eq!(pod.read("wit.jwk"), svid.wit_svid_key);
}

#[test]
fn an_rsa_key_without_primes_whose_modulus_is_no_number_is_refused() {
    let pod = Pod::new();
    let mut recipe = without_primes();
    for jwk in [&mut recipe.key, &mut recipe.claims["cnf"]["jwk"]] {
        jwk["n"] = "not base64url".into();
    }
    let _agent = agent(&pod, &recipe.mint(&pod.authority));
    pod.init(&with(&ALONE, &["--init-timeout=1s"]))
        .failed_with(&["wit_svid_key", "member n is not base64url"]);
}

#[test]
fn a_reader_through_data_never_sees_a_token_with_another_key() {
    let pod = Pod::new();
    let svids: Vec<_> = (0..40).map(|_| mint(&pod)).collect();
    let agent = agent(&pod, &svids[0]);
    let refresh = pod.refresh(&ALONE);
    wait_for(&pod, &svids[0]);
    let last = svids.last().expect("many").clone();
    let volume = pod.volume();
    let pairs: std::collections::HashMap<_, _> =
        svids.iter().map(|svid| (svid.wit_svid.clone(), svid.wit_svid_key.clone())).collect();
    let reader = std::thread::spawn(move || {
        loop {
            let data = volume.join(std::fs::read_link(volume.join("..data")).expect("a link"));
            let read = |name| std::fs::read_to_string(data.join(name)).ok();
            let (Some(token), Some(key)) = (read("wit.jwt"), read("wit.jwk")) else { continue };
            assert_eq!(pairs[&token], key);
            if token == last.wit_svid {
                return;
            }
        }
    });
    for svid in &svids {
        agent.reply_with_wit(wit_response([svid.clone()]));
        std::thread::sleep(Duration::from_millis(50));
    }
    reader.join().expect("pairs");
    refresh.stop();
}

#[test]
fn a_new_wit_svid_of_the_stream_replaces_token_and_key_and_leaves_the_rest() {
    let pod = Pod::new();
    let (first, second) = (mint(&pod), mint(&pod));
    let agent = agent(&pod, &first);
    let mut refresh = pod.refresh(&FILES);
    wait_for(&pod, &first);
    let chain = pod.wait_for_file("svid.pem", |_| true);
    agent.reply_with_wit(wit_response([second.clone()]));
    wait_for(&pod, &second);
    refresh.wait_for_log(&["INFO", "published the WIT-SVID of", ": renewed"]);
    assert_eq!(pod.read("svid.pem"), chain);
    refresh.stop();
    assert_eq!((agent.wit_calls(), agent.calls()), (1, 1));
}

#[test]
fn a_stream_that_brings_no_renewal_is_replaced_at_two_thirds_of_the_life() {
    let pod = Pod::new();
    let agent = silent_agent(&pod);
    let mut refresh = pod.refresh(&ALONE);
    wait_until("it is asked for", || agent.wit_calls() == 1);
    let svid = WitRecipe::for_id(ID).ttl(SHORT).mint(&pod.authority);
    agent.reply_with_wit(wit_response([svid]));
    refresh.wait_for_log(&["WARN", "WIT-SVID wit.jwt: ", "is due for renewal", "calling the agent again"]);
    wait_until("it is asked for again", || agent.wit_calls() == 2);
    refresh.stop();
}

#[test]
fn without_id_and_hint_it_is_of_the_identity_of_the_x509_svid() {
    let (pod, agent) = Pod::with_agent();
    let svids = [OTHER_ID, ID].map(|id| WitRecipe::for_id(id).mint(&pod.authority));
    agent.reply_with_wit(wit_response(svids));
    pod.init(&FILES).succeeded();
    assert_eq!(claims(&pod.read("wit.jwt"))["sub"], ID);
}

#[test]
fn alone_it_is_the_first_or_that_of_the_id_or_that_of_the_hint() {
    let first = "spiffe://example.org/first";
    for (arguments, id) in [
        (&["--hint=internal"][..], OTHER_ID),
        (&["--pod-spiffe-id=spiffe://example.org/workload"], ID),
        (&[], first),
    ] {
        let pod = Pod::new();
        let agent = pod.agent(Reply::refuse(RpcStatusCode::UNAVAILABLE));
        let mut svids = [first, ID, OTHER_ID, first].map(|id| WitRecipe::for_id(id).mint(&pod.authority));
        svids[2].hint = "internal".to_owned();
        svids[3].hint = "internal".to_owned();
        agent.reply_with_wit(wit_response(svids));
        pod.init(&with(&ALONE, arguments)).succeeded();
        assert_eq!(claims(&pod.read("wit.jwt"))["sub"], id);
    }
}

#[test]
fn first_messages_that_lack_the_identity_are_waited_out() {
    let pod = Pod::new();
    let agent = agent(&pod, &WitRecipe::for_id(OTHER_ID).mint(&pod.authority));
    let mut refresh = pod.refresh(&FILES);
    refresh.wait_for_log(&["ERROR", "WIT-SVID wit.jwt", "does not offer", ID]);
    let svid = mint(&pod);
    agent.reply_with_wit(wit_response([svid.clone()]));
    wait_for(&pod, &svid);
    refresh.stop();
}

/// Init gets a spoilt WIT-SVID, names these parts of the reason and writes nothing.
fn refused(spoil: impl FnOnce(&mut WitRecipe), parts: &[&str]) {
    refused_as(WitRecipe::for_id(ID), spoil, parts);
}

fn refused_as(mut recipe: WitRecipe, spoil: impl FnOnce(&mut WitRecipe), parts: &[&str]) {
    let pod = Pod::new();
    spoil(&mut recipe);
    let _agent = agent(&pod, &recipe.mint(&pod.authority));
    let finished = pod.init(&with(&ALONE, &["--init-timeout=700ms"]));
    assert!(recipe.key["d"].as_str().is_none_or(|d| d.len() < 40 || !finished.log.contains(d)));
    finished.failed_with(parts);
    assert_eq!(names(&pod.volume()), [""; 0]);
}

fn remove(object: &mut Value, member: &str) {
    object.as_object_mut().expect("an object").remove(member).expect("it was there");
}

macro_rules! refuses {
    ($($name:ident: $spoil:expr => $parts:expr;)+) => {$(
        #[test]
        fn $name() {
            refused($spoil, &$parts);
        }
    )+};
}

refuses! {
    a_header_without_kid_is_refused: |wit| remove(&mut wit.header, "kid") => ["svids[0] (\"spiffe://example.org/workload\") wit_svid: its header has no kid"];
    a_header_with_an_empty_kid_is_refused: |wit| wit.header["kid"] = json!("") => ["wit_svid: its header has no kid"];
    a_token_of_another_type_is_refused: |wit| wit.header["typ"] = json!("JWT") => ["wit_svid: its header's typ is \"JWT\" (it must be wit+jwt)"];
    a_token_without_type_is_refused: |wit| remove(&mut wit.header, "typ") => ["wit_svid: its header's typ is absent"];
    a_token_of_another_algorithm_is_refused: |wit| wit.header["alg"] = json!("EdDSA") => ["wit_svid: algorithm \"EdDSA\" is not allowed"];
    a_token_without_a_bound_key_is_refused: |wit| remove(&mut wit.claims, "cnf") => ["wit_svid: its claim cnf.jwk is missing"];
    a_bound_key_that_is_no_object_is_refused: |wit| wit.claims["cnf"]["jwk"] = json!("key") => ["wit_svid: its claim cnf.jwk"];
    a_bound_key_without_alg_is_refused: |wit| remove(&mut wit.claims["cnf"]["jwk"], "alg") => ["wit_svid: its claim cnf.jwk has no alg"];
    a_bound_key_of_another_algorithm_is_refused: |wit| wit.claims["cnf"]["jwk"]["alg"] = json!("HS256") => ["wit_svid: algorithm \"HS256\" of its claim cnf.jwk"];
    a_token_without_end_is_refused: |wit| remove(&mut wit.claims, "exp") => ["wit_svid: its claim exp is missing"];
    a_token_that_has_expired_is_refused: |wit| wit.claims["exp"] = json!(1) => ["the WIT-SVID wit.jwt of spiffe://example.org/workload expired at 1970-01-01T00:00:01Z"];
    a_token_with_an_audience_is_refused: |wit| wit.claims["aud"] = json!("one") => ["wit_svid: it has a claim aud"];
    a_token_of_another_subject_is_refused: |wit| wit.claims["sub"] = json!(OTHER_ID) => ["wit_svid: its claim sub is spiffe://example.org/other"];
    the_key_of_another_token_is_refused: |wit| wit.key = WitRecipe::for_id(ID).key => ["svids[0] (\"spiffe://example.org/workload\") wit_svid_key: not the key that the token is bound to"];
    a_key_of_another_type_is_refused: |wit| wit.key = WitRecipe::with_key(ID, KeyType::Rsa2048).key => ["wit_svid_key: not the key that the token is bound to"];
    a_private_number_of_another_point_is_refused: |wit| wit.key["d"] = WitRecipe::for_id(ID).key["d"].clone() => ["wit_svid_key: a JWK whose private number d does not belong to its point"];
    a_public_key_alone_is_refused: |wit| remove(&mut wit.key, "d") => ["wit_svid_key: a JWK without the member d"];
    a_key_that_is_no_jwk_is_refused: |wit| wit.key = json!("key") => ["wit_svid_key: not a JWK"];
    a_symmetric_key_is_refused: |wit| wit.key["kty"] = json!("oct") => ["wit_svid_key: a JWK whose kty is neither EC nor RSA"];
    a_key_of_another_curve_is_refused: |wit| wit.key["crv"] = json!("secp256k1") => ["wit_svid_key: a JWK whose crv is not P-256"];
    the_id_of_a_trust_domain_is_refused: |wit| wit.spiffe_id = "spiffe://example.org".to_owned() => ["spiffe_id: a workload's SPIFFE ID has a path"];
    a_malformed_spiffe_id_is_refused: |wit| wit.spiffe_id = "example".to_owned() => ["spiffe_id: not a SPIFFE ID"];
    an_empty_spiffe_id_is_refused: |wit| wit.spiffe_id.clear() => ["svids[0] (\"\") spiffe_id: the mandatory field is empty"];
}

#[test]
fn an_rsa_key_whose_numbers_do_not_agree_is_refused() {
    let spoil = |wit: &mut WitRecipe| wit.key["dp"] = wit.key["dq"].clone();
    let recipe = WitRecipe::with_key(ID, KeyType::Rsa2048);
    refused_as(recipe, spoil, &["wit_svid_key: an RSA key whose numbers do not belong together"]);
    let half = |wit: &mut WitRecipe| remove(&mut wit.key, "qi");
    let recipe = WitRecipe::with_key(ID, KeyType::Rsa2048);
    refused_as(recipe, half, &["wit_svid_key: a JWK without the member qi"]);
}

#[test]
fn mandatory_fields_that_are_empty_make_the_response_bad() {
    for (spoil, part) in [
        ((|svid| svid.wit_svid.clear()) as fn(&mut WITSVID), ") wit_svid: the mandatory field is empty"),
        (|svid| svid.wit_svid_key.clear(), ") wit_svid_key: the mandatory field is empty"),
    ] {
        let pod = Pod::new();
        let agent = pod.agent(Reply::Silence);
        let mut svids = [ID, OTHER_ID].map(|id| WitRecipe::for_id(id).mint(&pod.authority));
        spoil(&mut svids[1]);
        agent.reply_with_wit(wit_response(svids));
        pod.init(&with(&ALONE, &["--init-timeout=700ms"]))
            .failed_with(&["svids[1] (\"spiffe://example.org/other\"", part]);
    }
    let pod = Pod::new();
    let agent = pod.agent(Reply::Silence);
    agent.reply_with_wit(wit_response([]));
    let empty = ["svids: the mandatory field is empty"];
    pod.init(&with(&ALONE, &["--init-timeout=700ms"])).failed_with(&empty);
}

#[test]
fn the_broken_wit_svid_of_another_identity_holds_nothing_up() {
    let pod = Pod::new();
    let agent = pod.agent(Reply::Silence);
    let svid = mint(&pod);
    let mut broken = WitRecipe::for_id(OTHER_ID).mint(&pod.authority);
    broken.wit_svid = "broken".to_owned();
    agent.reply_with_wit(wit_response([broken, svid.clone()]));
    pod.init(&with(&ALONE, &[&format!("--pod-spiffe-id={ID}")])).succeeded();
    assert_eq!(pod.read("wit.jwt"), svid.wit_svid);
}

#[test]
fn a_bad_wit_svid_leaves_the_one_before() {
    let pod = Pod::new();
    let (first, second) = (mint(&pod), mint(&pod));
    let agent = agent(&pod, &first);
    let mut refresh = pod.refresh(&FILES);
    wait_for(&pod, &first);
    agent.reply_with_wit(wit_response([WITSVID {
        wit_svid_key: second.wit_svid_key.clone(),
        ..first.clone()
    }]));
    refresh.wait_for_log(&["ERROR", "WIT-SVID wit.jwt: rejected", "wit_svid_key", "waiting for"]);
    wait_for(&pod, &first);
    agent.reply_with_wit(wit_response([second.clone()]));
    wait_for(&pod, &second);
    refresh.stop();
}

#[test]
fn a_wit_svid_that_is_not_valid_yet_is_published_when_its_time_comes() {
    let pod = Pod::new();
    let agent = silent_agent(&pod);
    let mut refresh = pod.refresh(&ALONE);
    wait_until("it is asked for", || agent.wit_calls() == 1);
    let begins = SystemTime::now() + SHORT;
    let mut recipe = WitRecipe::for_id(ID);
    recipe.claims["nbf"] = json!(seconds(begins));
    let svid = recipe.mint(&pod.authority);
    agent.reply_with_wit(wit_response([svid.clone()]));
    refresh.wait_for_log(&[
        "ERROR",
        "WIT-SVID",
        ID,
        "is not valid until",
        "asking for it again at that time",
    ]);
    wait_for(&pod, &svid);
    assert!(SystemTime::now() >= begins, "it was published before its time");
    refresh.stop();
}

#[test]
fn a_wit_svid_that_was_issued_in_the_future_is_published() {
    let pod = Pod::new();
    let mut recipe = WitRecipe::for_id(ID);
    recipe.claims["iat"] = json!(seconds(SystemTime::now()) + 1800.0);
    let _agent = agent(&pod, &recipe.mint(&pod.authority));
    pod.init(&ALONE).succeeded();
}

#[test]
fn a_silent_wit_stream_holds_nothing_up_and_ready_names_it_as_missing() {
    let pod = Pod::new();
    let (first, second) = (pod.mint(), pod.mint());
    let agent = pod.agent(offer([first.clone()]));
    agent.reply_with_wit(Reply::Silence);
    let mut refresh = pod.refresh(&with(&FILES, &[ANY_PORT]));
    let probe = Probe::of(&mut refresh);
    pod.wait_for(&first);
    pod.rotate_to(&agent, &second);
    let answer = probe.wait_until_ready_is(503);
    assert!(answer.contains("no WIT-SVID wit.jwt yet"), "{answer}");
    refresh.stop();
}

#[test]
fn init_fails_at_once_without_the_profile_and_publishes_the_rest() {
    for code in [RpcStatusCode::UNIMPLEMENTED, RpcStatusCode::FAILED_PRECONDITION] {
        for options in [&FILES[..], &[BUNDLE]] {
            let pod = Pod::new();
            let svid = pod.mint();
            let agent = pod.agent(offer([svid.clone()]));
            agent.reply_with_wit(Reply::refuse(code));
            agent.reply_with_wit_bundles(Reply::refuse(code));
            let finished = pod.init(&with(options, &["--init-timeout=1h"]));
            finished.failed_with(&["not everything arrived", OFF, "enable_wit_svids = true", "answered"]);
            pod.wait_for(&svid);
        }
    }
}

#[test]
fn refresh_without_the_profile_says_so_once_and_asks_again_when_another_stream_has_ended() {
    let pod = Pod::new();
    let (first, second) = (pod.mint(), pod.mint());
    let agent = pod.agent(offer([first.clone()]));
    let mut refresh = pod.refresh(&FILES);
    refresh.wait_for_log(&["ERROR", "WIT-SVID wit.jwt", OFF, "asking again after the agent has restarted"]);
    pod.wait_for(&first);
    pod.rotate_to(&agent, &second);
    assert_eq!(agent.wit_calls(), 1);
    let svid = mint(&pod);
    agent.reply_with_wit(wit_response([svid.clone()]));
    agent.reply(Reply::Close);
    agent.reply(offer([second]));
    wait_for(&pod, &svid);
    let log = refresh.stop();
    assert_eq!(log.iter().filter(|line| line.contains(OFF)).count(), 1, "{}", log.join("\n"));
    assert_eq!(agent.wit_calls(), 2);
}

#[test]
fn a_restarted_agent_is_asked_for_the_profile_again() {
    let (pod, first) = Pod::with_agent();
    let mut refresh = pod.refresh(&with(&FILES, &[BUNDLE]));
    refresh.wait_for_log(&["ERROR", "WIT-SVID wit.jwt", OFF]);
    refresh.wait_for_log(&["published"]);
    drop(first);
    let svid = mint(&pod);
    let _second = pod.agent_after(offer([pod.mint()]), |agent| {
        agent.reply_with_wit(wit_response([svid.clone()]));
        agent.reply_with_wit_bundles(wit_bundles([("spiffe://example.org", r#"{"keys":[]}"#)]));
    });
    wait_for(&pod, &svid);
    pod.wait_for_file("wit.json", |_| true);
    refresh.stop();
}

#[test]
fn run_starts_no_application_without_its_wit_svid() {
    let (pod, agent) = Pod::with_agent();
    let script = pod.script("echo started >>\"$0/runs\"; exec sleep 60");
    let mut run = pod.helper(&with(&["--mode=run"], &FILES)).command(&script).start();
    run.wait_for_log(&["ERROR", OFF]);
    run.wait_for_log(&["published"]);
    assert_eq!(pod.runs(), "");
    agent.reply_with_wit(wit_response([mint(&pod)]));
    agent.reply(Reply::Close);
    agent.reply(offer([pod.mint()]));
    pod.wait_for_runs("started\n");
    run.signal(Signal::SIGTERM);
    run.end();
}

#[test]
fn an_identity_that_is_withdrawn_takes_its_wit_svid_along() {
    let pod = Pod::new();
    let svid = mint(&pod);
    let agent = agent(&pod, &svid);
    let refresh = pod.refresh(&with(&ALONE, &["--on-revoked=remove"]));
    wait_for(&pod, &svid);
    agent.reply_with_wit(Reply::refuse(RpcStatusCode::PERMISSION_DENIED));
    wait_until("nothing is left", || names(&pod.volume()).is_empty());
    refresh.stop();
}

#[test]
fn an_identity_that_its_stream_no_longer_offers_is_withdrawn() {
    let pod = Pod::new();
    let svid = mint(&pod);
    let agent = agent(&pod, &svid);
    let wanted = format!("--pod-spiffe-id={ID}");
    let mut refresh = pod.refresh(&with(&ALONE, &["--on-revoked=remove", &wanted]));
    wait_for(&pod, &svid);
    agent.reply_with_wit(wit_response([WitRecipe::for_id(OTHER_ID).mint(&pod.authority)]));
    refresh.wait_for_log(&["ERROR", "withdrawn the identity", "does not offer", ID]);
    wait_until("nothing is left", || names(&pod.volume()).is_empty());
    refresh.stop();
}

#[test]
fn an_identity_that_the_stream_of_x509_svids_still_offers_is_not_withdrawn() {
    let pod = Pod::new();
    let (x509, svid) = (pod.mint(), mint(&pod));
    let agent = agent(&pod, &svid);
    agent.reply(offer([x509.clone()]));
    let mut refresh = pod.refresh(&with(&FILES, &["--on-revoked=remove"]));
    wait_for(&pod, &svid);
    pod.wait_for(&x509);
    agent.reply_with_wit(wit_response([WitRecipe::for_id(OTHER_ID).mint(&pod.authority)]));
    refresh.wait_for_log(&["ERROR", "WIT-SVID wit.jwt", "does not offer", ID]);
    wait_for(&pod, &svid);
    agent.reply(offer([pod.authority.mint(&Recipe::for_id(OTHER_ID))]));
    refresh.wait_for_log(&["published", OTHER_ID]);
    refresh.stop();
}

#[test]
fn a_new_stream_whose_first_message_lacks_the_identity_withdraws_nothing() {
    let pod = Pod::new();
    let (svid, other) = (mint(&pod), WitRecipe::for_id(OTHER_ID).mint(&pod.authority));
    let first = agent(&pod, &svid);
    let wanted = format!("--pod-spiffe-id={ID}");
    let mut refresh = pod.refresh(&with(&ALONE, &["--on-revoked=remove", &wanted]));
    wait_for(&pod, &svid);
    drop(first);
    let second = agent(&pod, &other);
    refresh.wait_for_log(&["ERROR", "WIT-SVID wit.jwt", "does not offer", ID, "waiting for"]);
    wait_for(&pod, &svid);
    let svid = mint(&pod);
    second.reply_with_wit(wit_response([other, svid.clone()]));
    wait_for(&pod, &svid);
    let log = refresh.stop();
    assert!(!log.iter().any(|line| line.contains("withdrawn")), "{}", log.join("\n"));
}

#[test]
fn bundles_are_written_as_they_came_with_those_of_federated_trust_domains() {
    let pod = Pod::new();
    let (own, other) = (r#"{"keys":[{"kty":"EC","kid":"a"}]}"#, r#"{ "keys": [{"kid":"b","kty":"EC"}] }"#);
    let agent = pod.agent(offer([pod.mint()]));
    agent.reply_with_wit_bundles(wit_bundles([
        ("spiffe://example.org", own),
        ("spiffe://other.org", other),
        ("spiffe://broken.org", r#"{"keys":[{"kty":"EC"}]}"#),
    ]));
    let log = pod.init(&[BUNDLE, "--include-federated-bundles"]).succeeded().log;
    assert_eq!((pod.read("wit.json").as_str(), pod.read("other.org.wit.json").as_str()), (own, other));
    assert_eq!(mode_of(&pod.volume().join("wit.json")), 0o644);
    let parts = ["WARN", "a federated WIT bundle", "[\"spiffe://broken.org\"]", "a key has no \"kid\""];
    assert!(log.lines().any(|line| parts.iter().all(|part| line.contains(part))), "{log}");
}

#[test]
fn an_own_bundle_with_a_key_without_kid_is_refused() {
    let (pod, agent) = Pod::with_agent();
    agent.reply_with_wit_bundles(wit_bundles([("spiffe://example.org", r#"{"keys":[{"kty":"EC"}]}"#)]));
    let finished = pod.init(&[BUNDLE, "--init-timeout=1s"]);
    finished.failed_with(&["WIT bundles as ", "bundles[\"spiffe://example.org\"]", "a key has no \"kid\""]);
}

#[test]
fn bundles_with_the_same_keys_in_another_order_are_not_published_again() {
    let pod = Pod::new();
    let [first, same, new] = [
        r#"{"keys":[{"kid":"a"},{"kid":"b"}]}"#,
        r#"{"keys":[{"kid":"b"},{"kid":"a"}]}"#,
        r#"{"keys":[{"kid":"b"}]}"#,
    ];
    let (svid, rotated) = (pod.mint(), pod.mint());
    let agent = pod.agent(offer([svid]));
    let send = |document| agent.reply_with_wit_bundles(wit_bundles([("spiffe://example.org", document)]));
    send(first);
    let mut refresh = pod.refresh(&[BUNDLE]);
    pod.wait_for_file("wit.json", |text| text == first);
    send(same);
    pod.rotate_to(&agent, &rotated);
    send(new);
    pod.wait_for_file("wit.json", |text| {
        assert_ne!(text, same);
        text == new
    });
    refresh.wait_for_log(&["published the WIT bundles as wit.json", ": keys changed"]);
    refresh.stop();
}

#[test]
fn check_names_the_file_that_is_not_good() {
    let pod = Pod::new();
    let (first, second) = (mint(&pod), mint(&pod));
    let _agent = agent(&pod, &first);
    pod.init(&ALONE).succeeded();
    let found = pod.check(&ALONE).succeeded().stdout;
    assert!(found.starts_with(&format!("ok: {ID} (valid until 2")), "{found}");
    pod.check(&with(&ALONE, &["--min-ttl=2h"])).failed_with(&["the WIT-SVID of", "sooner than"]);
    pod.check(&with(&ALONE, &["--wit-key-format=pem"])).failed_with(&["wit.jwk: "]);
    let key = pod.volume().join("wit.jwk");
    std::fs::remove_file(pod.volume().join("..data/wit.jwk")).expect("a key");
    std::fs::write(pod.volume().join("..data/wit.jwk"), second.wit_svid_key).expect("a key");
    assert!(key.exists());
    pod.check(&ALONE).failed_with(&["wit.jwk: not the key that the token is bound to"]);
}

fn inspect(pod: &Pod, arguments: &[&str]) -> String {
    let socket = format!("--workload-api-socket={}", pod.socket().display());
    let helper = Helper::new().argument("--mode=inspect").argument(socket).arguments(arguments);
    helper.finish().succeeded().stdout
}

#[test]
fn inspect_shows_wit_svids_good_and_bad_and_never_a_key() {
    let (pod, agent) = Pod::with_agent();
    let (good, mut bad) = (WitRecipe::for_id(ID), WitRecipe::for_id(OTHER_ID));
    remove(&mut bad.header, "kid");
    bad.hint = "internal".to_owned();
    agent.reply_with_wit(wit_response([good.mint(&pod.authority), bad.mint(&pod.authority)]));
    let text = inspect(&pod, &[]);
    let (_, wit) = text.split_once("\n\nWIT-SVID 1 of 2\n").expect("a block");
    for line in [
        &format!("  SPIFFE ID   {ID}"),
        "  key         P-256",
        "WIT-SVID 2 of 2",
        "  hint        internal",
        "  not good    wit_svid: its header has no kid",
    ] {
        assert!(wit.lines().any(|found| found == line), "{line:?}: {wit}");
    }
    let text = inspect(&pod, &["--output=json"]);
    let json: Value = serde_json::from_str(&text).expect("JSON");
    let [first, second] = json["wit_svids"].as_array().expect("a list").as_slice() else { panic!("{json}") };
    assert_eq!((&first["spiffe_id"], &first["key_type"]), (&json!(ID), &json!("P-256")));
    assert_eq!(first["not_before"], Value::Null, "it has no nbf");
    assert!(first["seconds_left"].as_u64().is_some_and(|left| (3000..=3600).contains(&left)), "{first}");
    assert!(second["error"].as_str().is_some_and(|error| error.contains("kid")), "{second}");
    assert!(!text.contains(good.key["d"].as_str().expect("a number")));
}

#[test]
fn inspect_of_an_agent_without_the_profile_shows_the_rest_alone() {
    let (pod, agent) = Pod::with_agent();
    assert!(!inspect(&pod, &[]).contains("WIT"));
    agent.reply_with_wit(Reply::Silence);
    let text = inspect(&pod, &[]);
    assert!(text.contains("\n\nWIT-SVIDs\n  (none)      the agent sends none"), "{text}");
    let json: Value = serde_json::from_str(&inspect(&pod, &["--output=json"])).expect("JSON");
    assert!(json["wit_error"].is_string() && json["svids"].is_array(), "{json}");
}

#[test]
fn inspect_that_gets_no_x509_svid_makes_no_call_for_wit_svids() {
    let pod = Pod::new();
    let agent = pod.agent(Reply::refuse(RpcStatusCode::PERMISSION_DENIED));
    let socket = format!("--workload-api-socket={}", pod.socket().display());
    Helper::new().arguments(&["--mode=inspect", &socket]).finish().failed_with(&["PermissionDenied"]);
    assert_eq!((agent.calls(), agent.wit_calls()), (1, 0));
}

#[test]
fn the_end_of_a_wit_svid_is_a_metric_with_its_file() {
    let pod = Pod::new();
    let svid = mint(&pod);
    let _agent = agent(&pod, &svid);
    let mut refresh = pod.refresh(&with(&FILES, &[ANY_PORT]));
    let probe = Probe::of(&mut refresh);
    probe.wait_until_ready_is(200);
    let (_, answer) = probe.get("/metrics");
    let metric = format!("svid_not_after_timestamp_seconds{{file=\"wit.jwt\",spiffe_id=\"{ID}\"}} ");
    assert!(answer.contains(&metric), "{answer}");
    refresh.stop();
}

#[test]
fn a_key_is_never_logged() {
    let pod = Pod::new();
    let recipe = WitRecipe::for_id(ID);
    let _agent = agent(&pod, &recipe.mint(&pod.authority));
    let log = pod.init(&with(&FILES, &["--log-level=trace"])).succeeded().log;
    assert!(!log.contains(recipe.key["d"].as_str().expect("a number")), "{log}");
}

macro_rules! options_refuse {
    ($($name:ident: $arguments:expr => $parts:expr;)+) => {$(
        #[test]
        fn $name() {
            Helper::new().arguments(&$arguments).finish().refused_with(&$parts);
        }
    )+};
}

options_refuse! {
    a_wit_svid_without_its_key_is_refused: ["--wit-svid-file-name=a"] => ["--wit-svid-file-name has no meaning without --wit-key-file-name"];
    a_wit_key_without_its_svid_is_refused: ["--wit-key-file-name=a"] => ["--wit-key-file-name has no meaning without --wit-svid-file-name"];
    a_format_of_a_wit_key_without_one_is_refused: ["--wit-key-format=pem"] => ["--wit-key-format has no meaning without --wit-key-file-name"];
    a_format_that_does_not_exist_is_refused: ["--wit-key-format=der"] => ["--wit-key-format takes jwk or pem", "\"der\""];
    a_wit_svid_and_a_wit_key_with_one_name_are_refused: ["--wit-svid-file-name=a", "--wit-key-file-name=a"] => ["--wit-svid-file-name and --wit-key-file-name both name"];
    wit_bundles_alone_without_an_id_are_refused: ["--x509=false", "--wit-bundle-file-name=a"] => ["--wit-bundle-file-name has no meaning without --pod-spiffe-id"];
    a_mode_of_keys_with_wit_bundles_alone_is_refused: ["--x509=false", "--wit-bundle-file-name=a", "--pod-spiffe-id=spiffe://a/b", "--key-file-mode=0440"] => ["--key-file-mode has no meaning"];
}
