//! `inspect`: what the agent offers, for people and for programs.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Stdio};
use std::time::{Duration, SystemTime};

use grpcio::RpcStatusCode;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pod_svid_helper::for_tests::workload::X509SVIDResponse;
use rcgen::KeyUsagePurpose;
use serde_json::{Value, json};
use workload_api_server::authority::{Authority, KeyType, Recipe, jwt_response};
use workload_api_server::server::{Reply, WorkloadApiServer};
use workload_api_server::wit::{WitRecipe, seconds, wit_response};

use crate::pod::{Finished, Helper, ID, Pod, names, offer, serial};

fn inspect(pod: &Pod, arguments: &[&str]) -> Finished {
    let socket = format!("--workload-api-socket={}", pod.socket().display());
    Helper::new().argument("--mode=inspect").argument(socket).arguments(arguments).finish()
}

const EXPIRED_ID: &str = "spiffe://example.org/expired";

/// Offers two SVIDs that differ in everything, and a federated trust domain.
fn agent(pod: &Pod) -> (WorkloadApiServer, X509SVIDResponse) {
    let authority = Authority::new("example.org").with_intermediate();
    let first = Recipe::for_id(ID).hint("internal").key_type(KeyType::Rsa2048).ttl(Duration::from_secs(7300));
    let second = Recipe::for_id(EXPIRED_ID).expired_for(Duration::from_secs(100_000));
    let mut response = authority.response([&first, &second]);
    response.federated_bundles.insert(pod.federated.id(), pod.federated.bundle().repeat(3));
    (pod.agent(Reply::offer(&response)), response)
}

#[test]
fn inspect_prints_a_block_for_each_svid_and_the_federated_trust_domains() {
    let pod = Pod::new();
    let (_agent, response) = agent(&pod);
    let finished = inspect(&pod, &[]).succeeded();
    assert_eq!(finished.log, "");
    let blocks: Vec<_> = finished.stdout.split("\n\n").collect();
    let [first, second, federated] = blocks.as_slice() else { panic!("{}", finished.stdout) };
    for (block, lines) in [
        (
            first,
            [
                "SVID 1 of 2, the default identity",
                &format!("  SPIFFE ID   {ID}"),
                "  hint        internal",
                &format!("  serial      {}", serial(&response.svids[0])),
                "  key         RSA 2048",
                "  chain       the leaf and 1 intermediate",
                "  bundle      1 CA certificate",
            ],
        ),
        (
            second,
            [
                "SVID 2 of 2",
                &format!("  SPIFFE ID   {EXPIRED_ID}"),
                "  hint        (none)",
                &format!("  serial      {}", serial(&response.svids[1])),
                "  key         P-256",
                "  chain       the leaf and 1 intermediate",
                "  bundle      1 CA certificate",
            ],
        ),
    ] {
        lines.iter().for_each(|line| assert!(block.lines().any(|found| found == *line), "{line:?}: {block}"));
    }
    assert!(first.contains("  valid to    2") && first.contains(" (2 hours"), "{first}");
    assert!(second.contains("(expired 1 day 3 hours ago)"), "{second}");
    let dates = |block: &str, subject: &str| {
        let (_, rest) = block.split_once(&format!("\n              {subject}\n")).expect("a CA");
        rest.lines().next().expect("its dates").to_owned()
    };
    for subject in ["CN=example.org intermediate", "CN=example.org root"] {
        let dates = dates(first, subject);
        assert!(
            dates.starts_with("                1975-01-01T00:00:00Z to ") && dates.ends_with('Z'),
            "{dates}"
        );
    }
    let federated: Vec<_> = federated.lines().collect();
    assert_eq!(federated[..2], ["Federated trust domains", "  bundle      other.org: 3 CA certificates"]);
    assert_eq!(federated.len(), 8, "two lines for each CA");
}

#[test]
fn inspect_prints_json_for_programs() {
    let pod = Pod::new();
    let (_agent, response) = agent(&pod);
    let finished = inspect(&pod, &["--output=json"]).succeeded();
    let json: Value = serde_json::from_str(&finished.stdout).expect("JSON");
    let svid = &json["svids"][0];
    assert_eq!(svid["spiffe_id"], ID);
    assert_eq!(svid["hint"], "internal");
    assert_eq!(svid["serial_number"], serial(&response.svids[0]));
    assert_eq!(svid["key_type"], "RSA 2048");
    assert_eq!(svid["chain_certificates"], 2);
    assert_eq!(svid["bundle_certificates"], 1);
    assert_eq!(svid["bundle"][0]["subject"], "CN=example.org root");
    for date in ["not_before", "not_after"] {
        assert!(svid["bundle"][0][date].as_str().is_some_and(|time| time.ends_with('Z')), "{svid}");
    }
    assert!(svid["seconds_left"].as_u64().is_some_and(|left| (6000..=7300).contains(&left)), "{svid}");
    assert!(svid["not_before"].as_str().is_some_and(|time| time.ends_with('Z')), "{svid}");
    assert!(svid["not_after"].as_str().is_some_and(|time| time.ends_with('Z')), "{svid}");
    assert_eq!(json["svids"][1]["seconds_left"], 0);
    assert_eq!(json["federated_trust_domains"]["other.org"]["bundle_certificates"], 3);
    assert_eq!(svid["intermediates"][0]["subject"], "CN=example.org intermediate");
    assert_eq!(svid["key_usage"], json!(["digital signature"]));
    assert_eq!(svid["extended_key_usage"], json!(["server auth", "client auth"]));
    assert_eq!((&svid["dns_names"], &json["crls"], &json["jwt_svids"]), (&json!([]), &json!([]), &json!([])));
}

#[test]
fn inspect_shows_each_ca_with_its_dates_and_counts_those_beyond_ten() {
    let pod = Pod::new();
    let mut svid = pod.mint();
    svid.bundle.extend(pod.authority.expired_root().repeat(11));
    let _agent = pod.agent(offer([svid]));
    let text = inspect(&pod, &[]).succeeded().stdout;
    assert_eq!(text.matches("\n              CN=example.org old root\n").count(), 9, "{text}");
    assert_eq!(text.matches("Z, expired\n").count(), 9, "{text}");
    assert!(text.contains("\n              and 2 more\n"), "{text}");
}

#[test]
fn inspect_says_from_when_on_an_svid_is_valid() {
    let pod = Pod::new();
    let mut recipe = Recipe::for_id(ID);
    recipe.not_before = SystemTime::now() + Duration::from_secs(3600);
    recipe.not_after = recipe.not_before + Duration::from_secs(3600);
    let _agent = pod.agent(offer([pod.authority.mint(&recipe)]));
    let text = inspect(&pod, &[]).succeeded().stdout;
    assert!(text.contains("(not valid until 2") && !text.contains("left"), "{text}");
    let json = inspect(&pod, &["--output=json"]).succeeded().stdout;
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["svids"][0]["seconds_left"], 0);
}

#[test]
fn inspect_shows_the_first_date_of_1970_for_those_before_and_the_last_one_of_all() {
    let pod = Pod::new();
    let mut recipe = Recipe::for_id(ID);
    recipe.not_before = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
    recipe.not_after = SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_799);
    let _agent = pod.agent(offer([pod.authority.mint(&recipe)]));
    let json = inspect(&pod, &["--output=json"]).succeeded().stdout;
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["svids"][0]["not_before"], "1970-01-01T00:00:00Z");
    assert_eq!(json["svids"][0]["not_after"], "9999-12-31T23:59:59Z");
}

#[test]
fn inspect_never_shows_a_key_and_writes_nothing() {
    let pod = Pod::new();
    let svid = pod.mint();
    let _agent = pod.agent(offer([svid.clone()]));
    let key: String = svid.x509_svid_key[40..56].iter().map(|byte| format!("{byte:02x}")).collect();
    for arguments in [&["--log-level=trace"][..], &["--log-level=trace", "--output=json"]] {
        let finished = inspect(&pod, arguments).succeeded();
        for text in [finished.stdout, finished.log] {
            assert!(!text.contains("PRIVATE") && !text.contains(&key), "{text}");
        }
    }
    assert_eq!(names(&pod.volume()), [""; 0]);
}

#[test]
fn inspect_calls_once_and_reports_a_refusal() {
    let pod = Pod::new();
    let agent = pod.agent(Reply::refuse(RpcStatusCode::PERMISSION_DENIED));
    inspect(&pod, &[]).failed_with(&["PermissionDenied", "selectors"]);
    assert_eq!(agent.calls(), 1);
}

#[test]
fn inspect_without_an_agent_says_what_to_check() {
    inspect(&Pod::new(), &[]).failed_with(&["cannot connect", "is the agent running"]);
}

#[test]
fn inspect_waits_for_a_silent_agent_until_init_timeout() {
    let pod = Pod::new();
    let _agent = pod.agent(Reply::Silence);
    inspect(&pod, &["--init-timeout=300ms"]).failed_with(&["sent nothing", "within 300ms"]);
}

#[test]
fn inspect_shows_bad_svids_beside_good_ones() {
    let pod = Pod::new();
    let (good, mut bad) = (pod.mint(), pod.authority.mint(&Recipe::for_id(EXPIRED_ID).hint("\u{1b}[2J")));
    bad.bundle.pop();
    let mut response = X509SVIDResponse { svids: vec![bad, good], ..Default::default() };
    response.federated_bundles.insert(pod.federated.id(), vec![0x5a; 64]);
    let _agent = pod.agent(Reply::offer(&response));
    let text = inspect(&pod, &[]).succeeded().stdout;
    for line in [
        &format!("  SPIFFE ID   {EXPIRED_ID}"),
        "  hint        \\u{1b}[2J",
        "  not good    bundle: certificate 0 is not a DER certificate",
        &format!("  SPIFFE ID   {ID}"),
        "  key         P-256",
        "  not good    federated_bundles[\"spiffe://other.org\"]: certificate 0",
    ] {
        assert!(text.lines().any(|found| found.starts_with(line)), "{line:?}: {text}");
    }
    let json: Value =
        serde_json::from_str(&inspect(&pod, &["--output=json"]).succeeded().stdout).expect("JSON");
    let error = |value: &Value| value["error"].as_str().map(str::to_owned);
    assert!(error(&json["svids"][0]).is_some_and(|error| error.starts_with("bundle: ")), "{json}");
    assert_eq!(json["svids"][1]["spiffe_id"], ID);
    let federated = &json["federated_trust_domains"]["spiffe://other.org"];
    assert!(error(federated).is_some_and(|error| error.starts_with("certificate 0")), "{json}");
}

#[test]
fn inspect_fails_when_a_mandatory_field_is_empty() {
    let pod = Pod::new();
    let mut svid = pod.mint();
    svid.bundle.clear();
    let _agent = pod.agent(offer([svid]));
    inspect(&pod, &[]).failed_with(&["rejected", "svids[0]", "bundle: the mandatory field is empty"]);
}

const LONG_ID: &str =
    "spiffe://example.org/ns/a-namespace-with-a-long-name/sa/a-service-account-with-a-long-name";
const TOKENS: [&str; 2] = ["--jwt-svid=a=vault,database", "--jwt-svid=b=refused"];

/// An agent that offers everything, good and not. And what must never be printed: its keys and its tokens.
fn agent_with_everything(pod: &Pod) -> (WorkloadApiServer, Vec<String>) {
    let authority = Authority::new("example.org").with_intermediate();
    let mut good = Recipe::for_id(LONG_ID).hint("internal");
    good.dns_names = (1..=4).map(|number| format!("replica-{number}.database.example.org")).collect();
    good.key_usages.push(KeyUsagePurpose::KeyEncipherment);
    let mut response = authority.response([&good, &Recipe::for_id(ID), &Recipe::for_id(EXPIRED_ID)]);
    enlarge_purpose(&mut response.svids[1].x509_svid);
    response.svids[2].bundle.pop();
    response.federated_bundles.insert(pod.federated.id(), pod.federated.bundle());
    response.federated_bundles.insert("spiffe://bad.org".to_owned(), vec![0x5a; 64]);
    let mut unreadable = authority.crl();
    spoil(&mut unreadable, &CRL_NUMBER);
    response.crl =
        vec![authority.crl_of_serials(&[vec![1], vec![2]], Duration::ZERO), unreadable, vec![0x5a; 64]];
    let agent = pod.agent(Reply::offer(&response));
    let now = seconds(SystemTime::now());
    let issuer = "https://issuer.example.org";
    let claims = json!({ "sub": LONG_ID, "aud": ["vault", "database"], "iat": now, "exp": now + 300.0, "iss": issuer });
    let token = pod.authority.sign_jwt(LONG_ID, &claims);
    let mut wit = WitRecipe::for_id(ID);
    wit.claims["iss"] = json!("\u{1b}[2J");
    let wit = wit.mint(&pod.authority);
    let mut bad_wit = wit.clone();
    bad_wit.wit_svid_key = "{}".to_owned();
    agent.reply_with_wit(wit_response([wit.clone(), bad_wit]));
    let der = |der: &[u8]| der.iter().map(|byte| format!("{byte:02x}")).collect();
    let key: Value = serde_json::from_str(&wit.wit_svid_key).expect("a JWK");
    let mut secrets: Vec<String> =
        response.svids.iter().map(|svid| der(&svid.x509_svid_key[40..56])).collect();
    secrets.push(key["d"].as_str().expect("a number").to_owned());
    for token in [&token.svid, &wit.wit_svid] {
        secrets.extend(token.split('.').map(str::to_owned));
    }
    agent.issue_jwt(move |request| match request.audience[0].as_str() {
        "refused" => Reply::refuse(RpcStatusCode::PERMISSION_DENIED),
        _ => Reply::offer(&jwt_response([token.clone()])),
    });
    (agent, secrets)
}

/// The object identifiers of two extensions, DER.
const EXTENDED_KEY_USAGE: [u8; 5] = [0x06, 0x03, 0x55, 0x1d, 0x25];
const CRL_NUMBER: [u8; 5] = [0x06, 0x03, 0x55, 0x1d, 0x14];

/// Gives the first purpose a number of over 32 bits, which no reader has a word for.
fn enlarge_purpose(der: &mut [u8]) {
    let at = der.windows(5).position(|part| part == EXTENDED_KEY_USAGE).expect("the extension");
    // Behind the identifier: an OCTET STRING, a list, the first purpose, and its first byte.
    der[at + 12..at + 18].copy_from_slice(&[0xff; 6]);
}

/// Makes the first extension of this kind unreadable: its value gets another tag.
fn spoil(der: &mut [u8], extension: &[u8; 5]) {
    let at = der.windows(5).position(|part| part == extension).expect("the extension");
    der[at + 7] = 0x05;
}

#[test]
fn inspect_shows_everything_in_80_columns_but_for_ids_and_neither_keys_nor_tokens() {
    let pod = Pod::new();
    let (agent, secrets) = agent_with_everything(&pod);
    let finished = inspect(&pod, &TOKENS).succeeded();
    let text = finished.stdout;
    println!("{text}");
    for line in text.lines().filter(|line| line.len() > 80) {
        assert_eq!(line.trim_start_matches("  SPIFFE ID   "), LONG_ID);
    }
    assert!(!text.contains('\u{1b}'), "{text}");
    for lines in [
        "  DNS names   replica-1.database.example.org, replica-2.database.example.org,\n              replica-3",
        "  usage       digital signature, key encipherment; server auth, client auth\n",
        "  not good    the leaf: the extKeyUsage extension is duplicated or unreadable\n",
        "CRL 1 of 3\n  issuer      CN=example.org root\n  number      ",
        "  revokes     2 certificates\n",
        "  not good    the cRLNumber extension is duplicated or unreadable\n",
        "CRL 3 of 3\n  not good    not a DER certificate revocation list: ",
        "JWT-SVID 1 of 2\n  asked for   vault, database\n  SPIFFE ID   spiffe://example.org/ns/a-name",
        "  audience    vault, database\n  issued      2",
        " (4 minutes 5",
        "  issuer      https://issuer.example.org\n  algorithm   ES256\n  key ID      1\n",
        "JWT-SVID 2 of 2\n  asked for   refused\n  not good    ",
        "  issuer      \\u{1b}[2J\n  algorithm   ES256\n  key ID      1\n",
        "  not good    wit_svid_key: ",
    ] {
        assert!(text.contains(lines), "{lines:?}: {text}");
    }
    let (_, refused) = text.split_once("JWT-SVID 2 of 2").expect("a block");
    assert!(refused.contains("PermissionDenied"), "{refused}");
    assert_eq!(agent.jwt_calls(), 2);
    let json = inspect(&pod, &[TOKENS[0], TOKENS[1], "--output=json", "--log-level=trace"]).succeeded();
    println!("{}", json.stdout);
    for printed in [&text, &finished.log, &json.stdout, &json.log] {
        let secret = secrets.iter().find(|secret| printed.contains(*secret));
        assert!(secret.is_none() && !printed.contains("PRIVATE"), "{secret:?}: {printed}");
    }
}

/// The values of all fields, by their names as the page has them.
fn fields(name: &str, value: &Value, found: &mut BTreeMap<String, Vec<Value>>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                let key = if name == "federated_trust_domains" { "NAME" } else { key };
                let name = if name.is_empty() { key.to_owned() } else { format!("{name}.{key}") };
                fields(&name, value, found);
            }
        }
        Value::Array(all) if all.iter().any(Value::is_object) => {
            all.iter().for_each(|value| fields(&format!("{name}[]"), value, found));
        }
        value => found.entry(name.to_owned()).or_default().push(value.clone()),
    }
}

fn is_of_type(value: &Value, name: &str) -> bool {
    let is_time = |text: &str| text.len() == 20 && text.parse::<der::DateTime>().is_ok();
    match name.strip_suffix(" or null").unwrap_or(name) {
        _ if value.is_null() => name.ends_with(" or null"),
        "text" => value.is_string(),
        "number" => value.is_u64(),
        "time" => value.as_str().is_some_and(is_time),
        "list of texts" => value.as_array().is_some_and(|all| all.iter().all(Value::is_string)),
        _ => false,
    }
}

#[test]
fn the_page_has_each_field_of_the_json_and_no_other() {
    let pod = Pod::new();
    let (agent, _) = agent_with_everything(&pod);
    let mut found = BTreeMap::new();
    let mut look = || {
        let text = inspect(&pod, &[TOKENS[0], TOKENS[1], "--output=json"]).succeeded().stdout;
        fields("", &serde_json::from_str(&text).expect("JSON"), &mut found);
    };
    look();
    agent.reply_with_wit(Reply::refuse(RpcStatusCode::PERMISSION_DENIED));
    look();
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/manifests/inspect.md"));
    let page = page.expect("the page");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    let types: BTreeMap<&str, &str> =
        rows.map(|(name, rest)| (name, rest.split(" | ").next().expect("a type"))).collect();
    let printed: BTreeSet<&str> = found.keys().map(String::as_str).collect();
    assert_eq!(types.keys().copied().collect::<BTreeSet<_>>(), printed);
    for (name, values) in &found {
        let wrong = values.iter().find(|value| !is_of_type(value, types[name.as_str()]));
        assert!(wrong.is_none(), "{name}: {wrong:?}");
    }
    // What one part spoils is null.
    for name in ["svids[].dns_names", "crls[].number"] {
        assert!(found[name].contains(&Value::Null), "{name}");
    }
}

#[test]
fn inspect_shows_an_expired_token_and_one_without_what_a_token_need_not_have() {
    let (pod, agent) = Pod::with_agent();
    let now = seconds(SystemTime::now());
    let token = pod.authority.sign(
        &json!({ "alg": "ES256" }),
        &json!({ "sub": ID, "aud": "vault", "exp": now - 100_000.0, "nbf": now - 200_000.0 }),
    );
    let mut svid = pod.authority.mint_jwt(ID, &[], Duration::ZERO);
    svid.svid = token;
    agent.issue_jwt(move |_| Reply::offer(&jwt_response([svid.clone()])));
    let text = inspect(&pod, &["--jwt-svid=a=vault"]).succeeded().stdout;
    for part in ["  issued      (no date)\n", "(expired 1 day 3 hours ago)", "  key ID      (none)\n"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("issuer"), "{text}");
    let json = inspect(&pod, &["--jwt-svid=a=vault,other", "--output=json"]).succeeded().stdout;
    let json: Value = serde_json::from_str(&json).expect("JSON");
    let error = json["jwt_svids"][0]["error"].as_str().expect("an error");
    assert!(error.contains("its claim aud lacks the audience \"other\""), "{json}");
}

#[test]
fn inspect_waits_for_tokens_until_init_timeout_and_shows_the_rest() {
    let (pod, agent) = Pod::with_agent();
    agent.issue_jwt(|_| Reply::Silence);
    let text =
        inspect(&pod, &["--jwt-svid=a=one", "--jwt-svid=b=two", "--init-timeout=2s"]).succeeded().stdout;
    assert_eq!(text.matches("  not good    nothing within --init-timeout:").count(), 2, "{text}");
    assert!(text.contains("  key         P-256\n"), "{text}");
}

/// Its answer is longer than a pipe, of which one byte was read.
fn inspect_with_a_slow_reader(pod: &Pod) -> (WorkloadApiServer, Child) {
    let mut response = pod.authority.response([&Recipe::for_id(ID)]);
    for number in 0..500 {
        response.federated_bundles.insert(format!("spiffe://{number}.example.com"), pod.federated.bundle());
    }
    let agent = pod.agent(Reply::offer(&response));
    let socket = format!("--workload-api-socket={}", pod.socket().display());
    let inspect = Helper::new().argument("--mode=inspect").argument(socket).argument("--output=json");
    let mut inspect = inspect.start_with_stderr(Stdio::null());
    let stdout = inspect.stdout.as_mut().expect("a pipe");
    stdout.read_exact(&mut [0]).expect("the beginning of the answer");
    (agent, inspect)
}

#[test]
fn inspect_waits_for_a_slow_reader() {
    let pod = Pod::new();
    let (_agent, inspect) = inspect_with_a_slow_reader(&pod);
    // Longer than any call of inspect may take.
    std::thread::sleep(Duration::from_secs(6));
    let output = inspect.wait_with_output().expect("its output");
    assert!(output.status.success(), "{:?}", output.status);
    let text = String::from_utf8(output.stdout).expect("text");
    let json: Value = serde_json::from_str(&format!("{{{text}")).expect("the rest of an object");
    assert_eq!(json["federated_trust_domains"].as_object().map(serde_json::Map::len), Some(500), "{json}");
}

#[test]
fn inspect_that_waits_for_a_slow_reader_ends_at_a_signal() {
    let pod = Pod::new();
    let (_agent, mut inspect) = inspect_with_a_slow_reader(&pod);
    kill(Pid::from_raw(inspect.id() as i32), Signal::SIGINT).expect("it runs");
    let status = inspect.wait().expect("its end");
    assert_eq!(status.signal(), Some(Signal::SIGINT as i32), "{status:?}");
}
