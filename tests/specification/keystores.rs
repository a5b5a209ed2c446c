//! Keystores: PKCS#12 for a JVM, as part of the one set.

use std::process::Command;
use std::sync::Arc;

use workload_api_server::authority::{Authority, Recipe};

use crate::pod::{ID, Pod, mode_of, offer, skip};

const STORES: [&str; 2] = ["--keystore-file-name=svid.p12", "--truststore-file-name=trust.p12"];

/// What OpenSSL finds in a keystore; `None` if it is not installed.
fn openssl(pod: &Pod, name: &str, password: &str) -> Option<String> {
    let path = pod.volume().join(name);
    let arguments = ["pkcs12", "-nodes", "-passin", &format!("pass:{password}"), "-in"];
    match Command::new("openssl").args(arguments).arg(path).output() {
        Ok(output) => {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            Some(String::from_utf8(output.stdout).expect("text"))
        }
        Err(_) => {
            skip("openssl is not installed");
            None
        }
    }
}

/// The lines of each PEM block in a text, without the text between the blocks.
fn blocks(text: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut block = None;
    for line in text.lines() {
        if line.starts_with("-----BEGIN ") {
            block = Some(String::new());
        }
        if let Some(block) = &mut block {
            block.push_str(line);
        }
        if line.starts_with("-----END ") {
            blocks.extend(block.take());
        }
    }
    blocks.sort();
    blocks
}

#[test]
fn the_keystore_has_key_and_chain_and_the_truststore_has_the_cas() {
    let pod = Pod::new();
    let authority = Authority::new("example.org").with_intermediate();
    let _agent = pod.agent(offer([authority.mint(&Recipe::for_id(ID))]));
    pod.init(&STORES).succeeded();
    let Some(keystore) = openssl(&pod, "svid.p12", "changeit") else { return };
    assert_eq!(blocks(&keystore), blocks(&(pod.read("svid-key.pem") + &pod.read("svid.pem"))));
    assert!(keystore.contains("friendlyName: svid"), "{keystore}");
    let truststore = openssl(&pod, "trust.p12", "changeit").expect("openssl");
    assert_eq!(blocks(&truststore), blocks(&pod.read("bundle.pem")));
    assert_eq!(mode_of(&pod.volume().join("svid.p12")), 0o400);
    assert_eq!(mode_of(&pod.volume().join("trust.p12")), 0o644);
}

#[test]
fn the_key_has_the_alias_that_was_asked_for() {
    let (pod, _agent) = Pod::with_agent();
    let options = ["--keystore-file-name=svid.p12", "--keystore-alias=user"];
    pod.init(&options).succeeded();
    let Some(keystore) = openssl(&pod, "svid.p12", "changeit") else { return };
    assert!(
        keystore.contains("friendlyName: user") && !keystore.contains("friendlyName: svid"),
        "{keystore}"
    );
}

#[test]
fn an_unchanged_update_and_a_restart_touch_nothing() {
    let pod = Pod::new();
    let svid = pod.mint();
    let agent = pod.agent(offer([svid.clone()]));
    pod.init(&STORES).succeeded();
    let set = || std::fs::read_link(pod.volume().join("..data")).expect("a link");
    let first = set();
    let log = pod.init(&STORES).succeeded().log;
    assert!(log.contains("nothing written"), "{log}");
    assert_eq!(set(), first);
    let mut refresh = pod.refresh(&STORES);
    refresh.wait_for_log(&["nothing written"]);
    agent.reply(offer([svid]));
    refresh.wait_for_log(&["nothing written"]);
    refresh.stop();
    assert_eq!(set(), first);
}

#[test]
fn the_password_comes_from_a_file() {
    let (pod, _agent) = Pod::with_agent();
    let path = pod.path().join("password");
    std::fs::write(&path, "a better one\n").expect("a file");
    let option = format!("--keystore-password-file={}", path.display());
    pod.helper(&STORES).arguments(&[&option]).finish().succeeded();
    if openssl(&pod, "svid.p12", "a better one").is_none() {
        return;
    }
    pod.check(&[&STORES[..], &[&option]].concat()).succeeded();
    pod.check(&STORES).failed_with(&["trust.p12", "password"]);
}

#[test]
fn a_password_file_that_cannot_be_used_is_named_with_the_reason() {
    let pod = Pod::new();
    let path = pod.path().join("password");
    let option = format!("--keystore-password-file={}", path.display());
    let refused = |reason: &str| {
        let helper = pod.helper(&STORES).arguments(&[&option]);
        helper.finish().refused_with(&["--keystore-password-file", path.to_str().expect("UTF-8"), reason]);
    };
    refused("No such file");
    std::fs::write(&path, "\n").expect("a file");
    refused("empty");
    std::fs::write(&path, "x".repeat(4097)).expect("a file");
    refused("longer than 4096 bytes");
    std::fs::remove_file(&path).expect("a file");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    refused("not a regular file");
    std::fs::remove_file(&path).expect("a pipe");
    std::os::unix::fs::symlink("/dev/zero", &path).expect("a link");
    refused("not a regular file");
}

#[test]
fn check_reads_a_trust_store_that_stands_alone() {
    const TRUST_STORE: &str = "--truststore-file-name=trust.p12";
    let (pod, mut other) = (Pod::new(), Pod::new());
    other.authority = Arc::new(Authority::named("example.org", "other"));
    for pod in [&pod, &other] {
        let _agent = pod.agent(offer([pod.mint()]));
        pod.init(&[TRUST_STORE]).succeeded();
    }
    pod.check(&[TRUST_STORE]).succeeded();
    let path = pod.volume().join("..data/trust.p12");
    std::fs::remove_file(&path).expect("a file");
    std::fs::copy(other.volume().join("trust.p12"), &path).expect("a file");
    pod.check(&[TRUST_STORE]).failed_with(&["trust.p12", "no CA that has issued"]);
}

#[test]
fn check_reads_the_keystores() {
    let (pod, agent) = Pod::with_agent();
    pod.init(&STORES).succeeded();
    let first = std::fs::read(pod.volume().join("svid.p12")).expect("a keystore");
    agent.reply(offer([pod.mint()]));
    pod.init(&STORES).succeeded();
    pod.check(&STORES).succeeded();
    let truncated = std::fs::read(pod.volume().join("trust.p12")).expect("a keystore")[1..].to_vec();
    for (name, bad, parts) in [
        ("svid.p12", first, ["different certificates", "svid.p12"]),
        ("trust.p12", truncated, ["trust.p12", "DER"]),
    ] {
        let path = pod.volume().join("..data").join(name);
        let good = std::fs::read(&path).expect("a keystore");
        std::fs::remove_file(&path).expect("a file");
        std::fs::write(&path, bad).expect("a file");
        pod.check(&STORES).failed_with(&parts);
        std::fs::write(&path, good).expect("a file");
    }
}

#[test]
fn a_password_that_changes_is_the_keystores_at_the_next_publication() {
    let (pod, agent) = Pod::with_agent();
    let path = pod.path().join("password");
    std::fs::write(&path, "the first").expect("a file");
    let option = format!("--keystore-password-file={}", path.display());
    let mut refresh = pod.helper(&["--mode=refresh"]).arguments(&STORES).arguments(&[&option]).start();
    refresh.wait_for_log(&["INFO", "published"]);
    std::fs::write(&path, "the second").expect("a file");
    pod.rotate(&agent);
    let check = || pod.check(&[&STORES[..], &[&option]].concat());
    check().succeeded();
    // A password that cannot be read holds up nothing: the last one stays.
    std::fs::remove_file(&path).expect("a file");
    pod.rotate(&agent);
    refresh.wait_for_log(&["WARN", "cannot use the password file", "keep the last password"]);
    std::fs::write(&path, "the second").expect("a file");
    check().succeeded();
    refresh.stop();
}
