//! What OpenSSL and Java make of our files. Tests are skipped, and say so, where the program is missing.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, KeyPair,
};
use rsa::pkcs8::EncodePrivateKey;
use tempfile::TempDir;

use super::*;

/// A key in PKCS#8 version 1, and its chain.
struct Svid {
    key: Vec<u8>,
    chain: Vec<Vec<u8>>,
}

impl Svid {
    /// A chain of `length` certificates, below a root that is not part of it.
    fn new(key: &KeyPair, length: usize) -> Self {
        let mut issuer =
            CertifiedIssuer::self_signed(ca_params("root"), KeyPair::generate().unwrap()).unwrap();
        let mut chain = Vec::new();
        for number in 1..length {
            let params = ca_params(&format!("intermediate {number}"));
            issuer = CertifiedIssuer::signed_by(params, KeyPair::generate().unwrap(), &issuer).unwrap();
            chain.insert(0, issuer.der().to_vec());
        }
        let mut params = CertificateParams::default();
        params.distinguished_name = name("workload");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        chain.insert(0, params.signed_by(key, &issuer).unwrap().der().to_vec());
        Self { key: key.serialize_der(), chain }
    }

    fn key_store(&self) -> Vec<u8> {
        let chain: Vec<_> = self.chain.iter().map(Vec::as_slice).collect();
        let mut file = Vec::new();
        key_store(&self.key, &chain, &"svid".parse().unwrap(), &Password::default(), &mut file).unwrap();
        file
    }
}

fn name(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

fn ca_params(common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = name(common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

/// One of each type of key, with its name.
fn svids(length: usize) -> [(&'static str, Svid); 3] {
    let rsa = rsa::PrivateKey::new(&mut getrandom::SysRng, 2048).unwrap().to_pkcs8_der().unwrap();
    let rsa = rsa.as_bytes().to_vec().into();
    let rsa = KeyPair::from_pkcs8_der_and_sign_algo(&rsa, &rcgen::PKCS_RSA_SHA256).unwrap();
    let ed25519 = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let mut ed25519_svid = Svid::new(&ed25519, length);
    // rcgen writes version 2, which OpenSSL 3.0 does not read: of it, the seed alone.
    let version_1 = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20";
    ed25519_svid.key = [&version_1[..], &ed25519_svid.key[16..48]].concat();
    [
        ("P-256", Svid::new(&KeyPair::generate().unwrap(), length)),
        ("RSA", Svid::new(&rsa, length)),
        ("Ed25519", ed25519_svid),
    ]
}

fn authorities(count: usize) -> Vec<Vec<u8>> {
    let authority = |_| {
        let key = KeyPair::generate().unwrap();
        ca_params("all with one name").self_signed(&key).unwrap().der().to_vec()
    };
    (0..count).map(authority).collect()
}

fn trust_store_of(authorities: &[Vec<u8>]) -> Vec<u8> {
    let mut file = Vec::new();
    trust_store(authorities.iter().map(Vec::as_slice), &Password::default(), &mut file).unwrap();
    file
}

/// A file in a directory that is there for as long as the first value.
fn file(contents: &[u8]) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.p12");
    std::fs::write(&path, contents).unwrap();
    (directory, path)
}

fn is_missing(program: &str) -> bool {
    let missing =
        Command::new(program).arg("-help").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err();
    if missing {
        let _ = writeln!(std::io::stderr(), "SKIPPED: {program} is not installed, and this test asks it");
    }
    missing
}

/// What a program writes, to both streams; it must succeed.
fn run(program: &str, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}{text}",
        String::from_utf8_lossy(&output.stdout)
    );
    [output.stdout, output.stderr].concat()
}

fn openssl(path: &Path, arguments: &[&str]) -> Vec<u8> {
    let path = path.to_str().unwrap();
    run("openssl", &[&["pkcs12", "-in", path, "-passin", "pass:changeit"], arguments].concat())
}

fn keytool(path: &Path, arguments: &[&str]) -> String {
    let path = path.to_str().unwrap();
    let store = ["-J-Duser.language=en", "-keystore", path, "-storepass", "changeit"];
    String::from_utf8(run("keytool", &[arguments, &store].concat())).unwrap()
}

#[test]
fn openssl_reads_key_and_chain_of_a_key_store() {
    if is_missing("openssl") {
        return;
    }
    for (key_type, svid) in svids(3) {
        let (_directory, path) = file(&svid.key_store());
        let key = openssl(&path, &["-nocerts", "-noenc"]);
        let key = String::from_utf8(key).unwrap();
        let key = &key[key.find("-----BEGIN").unwrap()..];
        assert_eq!(der::pem::decode_vec(key.as_bytes()).unwrap().1, svid.key, "{key_type}");
        let certificates = String::from_utf8(openssl(&path, &["-nokeys"])).unwrap();
        assert_eq!(certificates.matches("BEGIN CERTIFICATE").count(), 3, "{key_type}");
    }
}

#[test]
fn openssl_sees_the_algorithms_and_attributes() {
    if is_missing("openssl") {
        return;
    }
    let [(_, svid), ..] = svids(1);
    let (_directory, path) = file(&svid.key_store());
    let text = String::from_utf8(openssl(&path, &["-info", "-noenc"])).unwrap();
    for expected in ["MAC: sha256, Iteration 1000", "MAC length: 32, salt length: 16"] {
        assert!(text.contains(expected), "{expected} is not in {text}");
    }
    let encryption = "PBES2, PBKDF2, AES-256-CBC, Iteration 1000, PRF hmacWithSHA256";
    for (expected, count) in [(encryption, 2), ("friendlyName: svid", 2), ("localKeyID: ", 2)] {
        assert_eq!(text.matches(expected).count(), count, "{expected} in {text}");
    }
}

#[test]
fn openssl_reads_all_of_a_trust_store() {
    if is_missing("openssl") {
        return;
    }
    for count in [1, 100] {
        let (_directory, path) = file(&trust_store_of(&authorities(count)));
        let text = String::from_utf8(openssl(&path, &["-nokeys"])).unwrap();
        assert_eq!(text.matches("BEGIN CERTIFICATE").count(), count);
    }
}

#[test]
fn a_key_store_of_openssl_is_read() {
    if is_missing("openssl") {
        return;
    }
    let [(_, svid), ..] = svids(1);
    let (directory, path) = file(&svid.key_store());
    let pem = directory.path().join("svid.pem");
    std::fs::write(&pem, openssl(&path, &["-noenc"])).unwrap();
    let theirs = directory.path().join("theirs.p12");
    let (pem, theirs) = (pem.to_str().unwrap(), theirs.to_str().unwrap());
    run("openssl", &["pkcs12", "-export", "-in", pem, "-out", theirs, "-passout", "pass:changeit"]);
    let contents = read(&std::fs::read(theirs).unwrap(), &Password::default()).unwrap();
    assert_eq!(contents.key.as_deref(), Some(&svid.key));
    assert_eq!(contents.certificates, svid.chain);
}

#[test]
fn java_lists_a_private_key_entry_with_its_chain() {
    if is_missing("keytool") {
        return;
    }
    for (key_type, svid) in svids(3) {
        let (_directory, path) = file(&svid.key_store());
        let text = keytool(&path, &["-list", "-v"]);
        for expected in [
            "Your keystore contains 1 entry",
            "Alias name: svid",
            "Entry type: PrivateKeyEntry",
            "Certificate chain length: 3",
        ] {
            assert!(text.contains(expected), "{key_type}: {expected} is not in {text}");
        }
    }
}

/// A certificate request is signed with the key.
#[test]
fn java_uses_the_key() {
    if is_missing("keytool") {
        return;
    }
    for (key_type, svid) in svids(1) {
        let (_directory, path) = file(&svid.key_store());
        let text = keytool(&path, &["-certreq", "-alias", "svid"]);
        assert!(text.contains("BEGIN NEW CERTIFICATE REQUEST"), "{key_type}: {text}");
    }
}

#[test]
fn java_lists_each_authority_as_trusted() {
    if is_missing("keytool") {
        return;
    }
    for count in [1, 100] {
        let (_directory, path) = file(&trust_store_of(&authorities(count)));
        let text = keytool(&path, &["-list", "-v"]);
        assert_eq!(text.matches("Entry type: trustedCertEntry").count(), count, "{text}");
        assert!(text.contains(&format!("Alias name: ca-{count}")), "{text}");
    }
}
