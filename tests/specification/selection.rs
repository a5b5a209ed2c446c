//! The choice among several SVIDs: `--pod-spiffe-id` and `--hint`.

use std::time::Duration;

use grpcio::RpcStatusCode;
use pod_svid_helper::for_tests::workload::X509SVID;
use workload_api_server::authority::{Authority, Recipe, jwt_response};
use workload_api_server::server::{Reply, WorkloadApiServer};
use workload_api_server::wit::{WitRecipe, wit_response};

use crate::init::says_why;
use crate::pod::{ID, OTHER_ID, Pod, claims, names, offer, wait_until};

fn recipe(id: &str, hint: &str) -> Recipe {
    Recipe::for_id(id).hint(hint)
}

/// Offers these IDs with these hints, in this order, and asserts which one is written.
fn picks(arguments: &[&str], offered: &[(&str, &str)], expected: usize) {
    let pod = Pod::new();
    let svids: Vec<_> = offered.iter().map(|(id, hint)| pod.authority.mint(&recipe(id, hint))).collect();
    let _agent = pod.agent(offer(svids.clone()));
    pod.init(arguments).succeeded();
    pod.wait_for(&svids[expected]);
}

#[test]
fn the_svid_with_the_hint_is_written() {
    picks(&["--hint=internal"], &[(OTHER_ID, "external"), (ID, "internal")], 1);
}

#[test]
fn of_two_svids_with_the_hint_the_first_is_written() {
    picks(&["--hint=internal"], &[(OTHER_ID, ""), (ID, "internal"), (OTHER_ID, "internal")], 1);
}

#[test]
fn of_two_svids_with_the_id_the_one_with_the_hint_is_written() {
    let id = format!("--pod-spiffe-id={ID}");
    picks(&[&id, "--hint=b"], &[(ID, "a"), (OTHER_ID, "b"), (ID, "b")], 2);
}

#[test]
fn without_the_option_hints_do_not_matter() {
    picks(&[], &[(ID, "a"), (OTHER_ID, "")], 0);
}

/// Offers one SVID with a hint and one without; neither matches.
fn is_not_offered(arguments: &[&str], parts: &[&str]) {
    let authority = Authority::new("example.org");
    let svids = [(ID, "external"), (OTHER_ID, "")].map(|(id, hint)| authority.mint(&recipe(id, hint)));
    says_why(offer(svids), arguments, parts);
}

#[test]
fn a_hint_that_is_not_offered_is_an_error_with_each_offered_id_and_hint() {
    let wanted = "does not offer an SVID with the hint \"internal\"";
    let first = format!("{ID} (hint \"external\")");
    let second = format!("{OTHER_ID} (no hint)");
    is_not_offered(&["--hint=internal"], &[wanted, &first, &second, "is --hint right"]);
}

#[test]
fn an_id_and_a_hint_that_are_offered_apart_are_not_offered() {
    let id = format!("--pod-spiffe-id={OTHER_ID}");
    let wanted = format!("does not offer {OTHER_ID} with the hint \"external\"");
    is_not_offered(&[&id, "--hint=external"], &[&wanted, "--pod-spiffe-id and --hint right"]);
}

#[test]
fn a_hint_that_moves_to_another_svid_is_followed() {
    let pod = Pod::new();
    let mint = |id, hint| pod.authority.mint(&recipe(id, hint));
    let (first, second) = (mint(ID, "active"), mint(OTHER_ID, "active"));
    let agent = pod.agent(offer([first.clone(), mint(OTHER_ID, "")]));
    let refresh = pod.refresh(&["--hint=active"]);
    pod.wait_for(&first);
    agent.reply(offer([mint(ID, ""), second.clone()]));
    pod.wait_for(&second);
    refresh.stop();
}

/// Issues tokens of this ID alone, with the hint "main".
fn issue_with_hint(pod: &Pod, agent: &WorkloadApiServer, id: &'static str) {
    let authority = pod.authority.clone();
    agent.issue_jwt(move |request| {
        let mut token = authority.mint_jwt(id, &request.audience, Duration::from_secs(300));
        token.hint = "main".to_owned();
        Reply::offer(&jwt_response([token]))
    });
}

/// An agent that offers an X.509-SVID and tokens with the hint "main".
fn pod_with_hinted_token() -> (Pod, WorkloadApiServer) {
    let pod = Pod::new();
    let svid = offer([pod.authority.mint(&recipe(ID, "main"))]);
    let agent = pod.agent_after(svid, |agent| issue_with_hint(&pod, agent, ID));
    (pod, agent)
}

/// The hint is another identity's from now on, which gets no token. Returns its X.509-SVID.
fn move_hint_without_token(pod: &Pod, agent: &WorkloadApiServer) -> X509SVID {
    agent.issue_jwt(|_| Reply::refuse(RpcStatusCode::UNAVAILABLE));
    let other = pod.authority.mint(&recipe(OTHER_ID, "main"));
    agent.reply(offer([other.clone()]));
    other
}

#[test]
fn a_hint_that_moves_to_another_identity_takes_the_tokens_with_it() {
    let (pod, agent) = pod_with_hinted_token();
    let options = ["--jwt-svid=token.jwt=one"];
    let mut refresh = pod.refresh(&["--hint=main", options[0]]);
    pod.wait_for_file("token.jwt", |token| claims(token)["sub"] == ID);
    issue_with_hint(&pod, &agent, OTHER_ID);
    let other = pod.authority.mint(&recipe(OTHER_ID, "main"));
    agent.reply(offer([other.clone()]));
    refresh.wait_for_log(&[
        "WARN",
        &format!("identity was {ID}"),
        "now offers another identity with the hint \"main\"; choose one with --pod-spiffe-id",
    ]);
    pod.wait_for(&other);
    // Its renewal would be due after minutes.
    pod.wait_for_file("token.jwt", |token| claims(token)["sub"] == OTHER_ID);
    pod.check(&options).succeeded();
    refresh.stop();
}

/// The other streams may tell it first: the X.509-SVID decides.
#[test]
fn a_wit_svid_of_another_identity_withdraws_nothing_before_the_x509_svid_has_come() {
    let pod = Pod::new();
    let x509 = |id| offer([pod.authority.mint(&recipe(id, "main"))]);
    let wit = |id| {
        let mut svid = WitRecipe::for_id(id).mint(&pod.authority);
        svid.hint = "main".to_owned();
        wit_response([svid])
    };
    let agent = pod.agent_after(x509(ID), |agent| agent.reply_with_wit(wit(ID)));
    let files = ["--wit-svid-file-name=wit.jwt", "--wit-key-file-name=wit.jwk"];
    let mut refresh = pod.refresh(&[&["--hint=main", "--on-revoked=remove"], &files[..]].concat());
    pod.wait_for_file("wit.jwt", |token| claims(token)["sub"] == ID);
    agent.reply(Reply::refuse(RpcStatusCode::UNAVAILABLE));
    refresh.wait_for_log(&["WARN", "Unavailable"]);
    agent.reply_with_wit(wit(OTHER_ID));
    refresh.wait_for_log(&["ERROR", "WIT-SVID wit.jwt", "does not offer", ID]);
    agent.reply(x509(OTHER_ID));
    pod.wait_for_file("wit.jwt", |token| claims(token)["sub"] == OTHER_ID);
    let log = refresh.stop();
    assert!(!log.iter().any(|line| line.contains("withdrawn the identity")), "{log:#?}");
}

/// It is of the same ID, and no entry with the hint offers it any more.
#[test]
fn a_hint_that_leaves_an_identity_withdraws_it_with_its_tokens() {
    let pod = Pod::new();
    let offers = |hint| offer([pod.authority.mint(&recipe(ID, hint))]);
    let agent = pod.agent_after(offers("main"), |agent| issue_with_hint(&pod, agent, ID));
    let mut refresh = pod.refresh(&["--hint=main", "--on-revoked=remove", "--jwt-svid=token.jwt=one"]);
    pod.wait_for_file("token.jwt", |token| claims(token)["sub"] == ID);
    let authority = pod.authority.clone();
    agent.issue_jwt(move |request| {
        Reply::offer(&jwt_response([authority.mint_jwt(ID, &request.audience, Duration::from_secs(300))]))
    });
    agent.reply(offers("other"));
    refresh.wait_for_log(&["ERROR", "withdrawn the identity", "removes the files"]);
    let calls = agent.jwt_calls();
    wait_until("a token was asked for twice more", || agent.jwt_calls() >= calls + 2);
    assert_eq!(names(&pod.volume()), [""; 0]);
    refresh.stop();
}

#[test]
fn a_found_token_of_another_identity_goes_with_the_first_publication() {
    let (pod, agent) = pod_with_hinted_token();
    let options = ["--hint=main", "--jwt-svid=token.jwt=one"];
    pod.init(&options).succeeded();
    let other = move_hint_without_token(&pod, &agent);
    let refresh = pod.refresh(&options);
    pod.wait_for(&other);
    wait_until("the token is gone", || !names(&pod.volume()).contains(&"token.jwt".to_owned()));
    refresh.stop();
}

#[test]
fn a_token_of_another_identity_goes_though_no_new_one_comes() {
    let (pod, agent) = pod_with_hinted_token();
    let refresh = pod.refresh(&["--hint=main", "--jwt-svid=token.jwt=one"]);
    pod.wait_for_file("token.jwt", |token| claims(token)["sub"] == ID);
    let other = move_hint_without_token(&pod, &agent);
    pod.wait_for(&other);
    wait_until("the token is gone", || !names(&pod.volume()).contains(&"token.jwt".to_owned()));
    pod.check(&[]).succeeded();
    issue_with_hint(&pod, &agent, OTHER_ID);
    pod.wait_for_file("token.jwt", |token| claims(token)["sub"] == OTHER_ID);
    refresh.stop();
}

#[test]
fn of_two_identities_with_the_hint_the_wit_svid_is_that_of_the_x509_svid() {
    let pod = Pod::new();
    let agent = pod.agent(offer([pod.authority.mint(&recipe(ID, "main"))]));
    let mut svids = [OTHER_ID, ID].map(|id| WitRecipe::for_id(id).mint(&pod.authority));
    svids.iter_mut().for_each(|svid| svid.hint = "main".to_owned());
    agent.reply_with_wit(wit_response(svids));
    pod.init(&["--hint=main", "--wit-svid-file-name=wit.jwt", "--wit-key-file-name=wit.jwk"]).succeeded();
    assert_eq!(claims(&pod.read("wit.jwt"))["sub"], ID);
}
