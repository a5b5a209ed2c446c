//! The SPIFFE bundle map: the CAs of all trust domains in one JSON file.

use std::collections::BTreeMap;
use std::process::Command;

use base64ct::{Base64, Base64UrlUnpadded, Encoding};
use der::Decode;
use der::asn1::UintRef;
use pod_svid_helper::for_tests::workload::X509SVIDResponse;
use serde_json::Value;
use workload_api_server::authority::{Authority, KeyType};
use workload_api_server::server::Reply;

use crate::http::{ANY_PORT, Probe};
use crate::pod::{Pod, mode_of, names, skip};

const MAP: &str = "--bundle-map-file-name=map.json";

/// An SVID whose bundle is this, with federated trust domains.
fn response(pod: &Pod, own: &[&[u8]], others: &[(&str, &[&[u8]])]) -> Reply {
    let mut svid = pod.mint();
    svid.bundle = own.concat();
    let mut response = X509SVIDResponse { svids: vec![svid], ..Default::default() };
    response.federated_bundles =
        others.iter().map(|(name, ders)| (format!("spiffe://{name}"), ders.concat())).collect();
    Reply::offer(&response)
}

fn bytes(key: &Value, member: &str) -> Vec<u8> {
    Base64UrlUnpadded::decode_vec(key[member].as_str().expect(member)).expect(member)
}

/// Reads a map as strictly as its strictest reader: the certificates of each trust domain.
fn read(text: &str) -> BTreeMap<String, Vec<Vec<u8>>> {
    let map: Value = serde_json::from_str(text).expect("JSON");
    assert_eq!(map.as_object().expect("an object").len(), 1, "{map}");
    let trust_domains = map["trust_domains"].as_object().expect("trust domains");
    let read = |(name, jwks): (&String, &Value)| {
        assert_eq!(jwks.as_object().expect("an object").len(), 1, "{jwks}");
        let keys = jwks["keys"].as_array().expect("keys");
        assert!(!keys.is_empty(), "{name}");
        (name.clone(), keys.iter().map(certificate).collect())
    };
    trust_domains.iter().map(read).collect()
}

/// The certificate of a key, which has exactly the certificate's public key beside it.
fn certificate(key: &Value) -> Vec<u8> {
    assert_eq!(key["use"], "x509-svid");
    let x5c = key["x5c"].as_array().expect("a list");
    let [Value::String(text)] = x5c.as_slice() else { panic!("{x5c:?}") };
    let der = Base64::decode_vec(text).expect("base64 with padding");
    let parsed = x509_cert::Certificate::from_der(&der).expect("a certificate");
    let public = parsed.tbs_certificate().subject_public_key_info().subject_public_key.raw_bytes();
    let members: Vec<_> = key.as_object().expect("an object").keys().map(String::as_str).collect();
    if key["kty"] == "RSA" {
        assert_eq!(members, ["e", "kty", "n", "use", "x5c"]);
        let public = pkcs1::RsaPublicKey::<UintRef<'_>>::from_der(public).expect("an RSA key");
        assert_eq!(bytes(key, "n"), public.modulus.as_bytes());
        assert_eq!(bytes(key, "e"), public.public_exponent.as_bytes());
    } else {
        assert_eq!(members, ["crv", "kty", "use", "x", "x5c", "y"]);
        let length = match key["crv"].as_str() {
            Some("P-256") => 32,
            Some("P-384") => 48,
            Some("P-521") => 66,
            other => panic!("{other:?}"),
        };
        let (x, y) = (bytes(key, "x"), bytes(key, "y"));
        assert_eq!((key["kty"].as_str(), x.len(), y.len()), (Some("EC"), length, length));
        assert_eq!([&[4], x.as_slice(), &y].concat(), public);
    }
    der
}

/// A CA with a key that rcgen cannot generate; `None` if OpenSSL is not installed.
fn p521() -> Option<Vec<u8>> {
    let arguments = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-521 -nodes -keyout /dev/null -outform DER -subj /CN=p521";
    match Command::new("openssl").args(arguments.split(' ')).output() {
        Ok(output) => {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            Some(output.stdout)
        }
        Err(_) => {
            skip("openssl is not installed");
            None
        }
    }
}

#[test]
fn the_map_holds_the_own_and_all_federated_trust_domains_by_name() {
    let pod = Pod::new();
    let (own, other, first) = (pod.authority.bundle(), pod.federated.bundle(), Authority::new("a.org"));
    let second = Authority::named("other.org", "second").bundle();
    let others = [("other.org", &[&other[..], &second][..]), ("a.org", &[&first.bundle()])];
    let _agent = pod.agent(response(&pod, &[&own], &others));
    pod.init(&[MAP]).succeeded();
    let map = read(&pod.read("map.json"));
    let expected =
        [("a.org", vec![first.bundle()]), ("example.org", vec![own]), ("other.org", vec![other, second])];
    assert_eq!(map, expected.map(|(name, ders)| (name.to_owned(), ders)).into());
    let text = pod.read("map.json");
    let places = ["\"a.org\"", "\"example.org\"", "\"other.org\""].map(|name| text.find(name).expect(name));
    assert!(places.is_sorted(), "{text}");
    assert_eq!(mode_of(&pod.volume().join("map.json")), 0o644);
    assert!(!names(&pod.volume()).contains(&"other.org.bundle.pem".to_owned()));
    pod.check(&[MAP]).succeeded();
}

#[test]
fn without_federated_bundles_the_map_holds_the_own_trust_domain() {
    let (pod, _agent) = Pod::with_agent();
    pod.init(&[MAP, "--layout=spiffe"]).succeeded();
    assert_eq!(
        read(&pod.read("map.json")),
        [("example.org".to_owned(), vec![pod.authority.bundle()])].into()
    );
}

#[test]
fn each_key_of_rsa_and_of_the_three_curves_is_in_the_map() {
    let pod = Pod::new();
    let kinds = [KeyType::P256, KeyType::P384, KeyType::Rsa2048];
    let mut ders: Vec<_> = kinds.map(|kind| Authority::with_key("other.org", kind).bundle()).into();
    ders.extend(p521());
    let others: Vec<_> = ders.iter().map(Vec::as_slice).collect();
    let _agent = pod.agent(response(&pod, &[&pod.authority.bundle()], &[("other.org", &others)]));
    pod.init(&[MAP]).succeeded();
    assert_eq!(read(&pod.read("map.json"))["other.org"], ders);
    pod.check(&[MAP]).succeeded();
}

#[test]
fn a_ca_with_another_key_is_left_out_with_a_warning_and_a_metric() {
    let pod = Pod::new();
    let ed25519 = Authority::with_key("example.org", KeyType::Ed25519).bundle();
    let (own, other) = (pod.authority.bundle(), Authority::with_key("a.org", KeyType::Ed25519).bundle());
    let others = [("a.org", &[&other[..]][..]), ("other.org", &[&pod.federated.bundle()])];
    let agent = pod.agent(response(&pod, &[&own, &ed25519], &others));
    let mut refresh = pod.refresh(&[MAP, ANY_PORT]);
    let probe = Probe::of(&mut refresh);
    probe.wait_until_ready_is(200);
    refresh.wait_for_log(&[
        "WARN",
        "map.json: left out the trust domain a.org",
        "map.json: left out 1 of 2 CA certificates of example.org",
    ]);
    let map = read(&pod.read("map.json"));
    assert_eq!(map.into_keys().collect::<Vec<_>>(), ["example.org", "other.org"]);
    assert_eq!(probe.metric("bundle_map_omitted_certificates"), Some(2.0));
    pod.check(&[MAP]).succeeded();
    agent.reply(response(&pod, &[&own], &others[1..]));
    crate::pod::wait_until("nothing is left out", || {
        probe.metric("bundle_map_omitted_certificates") == Some(0.0)
    });
    refresh.stop();
}

#[test]
fn expired_cas_are_not_in_the_map_with_omit_expired() {
    let pod = Pod::new();
    let (own, other) = (pod.authority.bundle(), pod.federated.bundle());
    let [own_old, other_old] = [&pod.authority, &pod.federated].map(|authority| authority.expired_root());
    let others = [("a.org", &[&other_old[..]][..]), ("other.org", &[&other_old, &other])];
    let _agent = pod.agent(response(&pod, &[&own_old, &own], &others));
    pod.init(&[MAP]).succeeded();
    assert_eq!(read(&pod.read("map.json")).len(), 3);
    pod.init(&[MAP, "--omit-expired"]).succeeded();
    let expected = [("example.org", own), ("other.org", other)];
    assert_eq!(read(&pod.read("map.json")), expected.map(|(name, der)| (name.to_owned(), vec![der])).into());
}

#[test]
fn an_unchanged_map_is_not_written_again_and_a_changed_one_is() {
    let pod = Pod::new();
    let (svid, renewed) = (pod.mint(), Authority::new("other.org"));
    let with = |other: &Authority| {
        let mut response = X509SVIDResponse { svids: vec![svid.clone()], ..Default::default() };
        response.federated_bundles.insert("spiffe://other.org".to_owned(), other.bundle());
        Reply::offer(&response)
    };
    let agent = pod.agent(with(&pod.federated));
    pod.init(&[MAP]).succeeded();
    let mut refresh = pod.refresh(&[MAP]);
    refresh.wait_for_log(&["nothing written"]);
    agent.reply(with(&renewed));
    refresh.wait_for_log(&["INFO", "published", "federated other.org: CA added, CA removed"]);
    pod.wait_for_file("map.json", |text| read(text)["other.org"] == [renewed.bundle()]);
    refresh.stop();
}

#[test]
fn check_refuses_a_map_that_is_not_of_the_standard() {
    let pod = Pod::new();
    let _agent =
        pod.agent(response(&pod, &[&pod.authority.bundle()], &[("other.org", &[&pod.federated.bundle()])]));
    pod.init(&[MAP]).succeeded();
    pod.check(&[MAP]).succeeded();
    let path = pod.volume().join("..data/map.json");
    let good: Value = serde_json::from_str(&pod.read("map.json")).expect("JSON");
    let key = |place: &str| format!("/trust_domains/{place}/keys/0");
    let other = good.pointer(&key("other.org")).expect("a key").clone();
    let refused = |spoil: &dyn Fn(&mut Value), reason: &str| {
        let mut map = good.clone();
        spoil(&mut map);
        std::fs::remove_file(&path).expect("a file");
        std::fs::write(&path, map.to_string()).expect("a file");
        pod.check(&[MAP]).failed_with(&["map.json: not a SPIFFE bundle map", reason]);
    };
    refused(&|map| *map = Value::Null, "no object \"trust_domains\"");
    refused(&|map| map["trust_domains"]["No"] = other.clone(), "trust domain \"No\"");
    refused(&|map| map["trust_domains"]["other.org"] = Value::Null, "no list \"keys\"");
    refused(
        &|map| map["trust_domains"]["other.org"]["keys"] = Vec::<Value>::new().into(),
        "holds no certificate",
    );
    let of_key = |member: &str, value: Value, reason: &str| {
        refused(&|map| map.pointer_mut(&key("example.org")).expect("a key")[member] = value.clone(), reason);
    };
    of_key("x", other["x"].clone(), "not the key of its certificate");
    of_key("kid", "1".into(), "not the key of its certificate and nothing else");
    of_key("use", "jwt-svid".into(), "not the key of its certificate");
    of_key("x5c", other["x5c"].clone(), "not the key of its certificate");
    of_key("x5c", vec![other["x5c"][0].clone(); 2].into(), "exactly one certificate");
    of_key("x5c", vec!["AA=="].into(), "no certificate");
    of_key("x5c", vec!["AA"].into(), "not base64");
    std::fs::write(&path, "{").expect("a file");
    pod.check(&[MAP]).failed_with(&["map.json: not a SPIFFE bundle map"]);
}
