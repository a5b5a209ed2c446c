use std::io::{self, Write};

use der::asn1::AnyRef;
use der::oid::ObjectIdentifier;
use der::{Decode, Encode, Tag};

use super::asn1::{self, ContentInfo, Pfx};
use super::protection::{self, Authenticated, OTHER_MAC, Salts, WRONG_PASSWORD};
use super::read::{MAX_SIZE, OTHER_CONTENT, data};
use super::write::NO_CERTIFICATE;
use super::*;
use crate::words::{Flaw, flaw};

const KEY: &[u8] = b"a private key, in PKCS#8";

fn password(text: &str) -> Password {
    Password::from_file(text.as_bytes()).unwrap()
}

fn alias() -> Alias {
    "svid".parse().unwrap()
}

fn default() -> Password {
    Password::default()
}

fn key_store_of(key: &[u8], chain: &[&[u8]]) -> Vec<u8> {
    key_store_with(&default(), key, chain)
}

fn key_store_with(password: &Password, key: &[u8], chain: &[&[u8]]) -> Vec<u8> {
    let mut file = Vec::new();
    key_store(key, chain, &alias(), password, &mut file).unwrap();
    file
}

fn trust_store_of(authorities: &[&[u8]]) -> Vec<u8> {
    let mut file = Vec::new();
    trust_store(authorities.iter().copied(), &default(), &mut file).unwrap();
    file
}

/// The file, with something changed in its outer structure.
fn changed(file: &[u8], change: impl FnOnce(&mut Pfx<'_>)) -> Vec<u8> {
    let mut pfx = Pfx::from_der(file).unwrap();
    change(&mut pfx);
    pfx.to_der().unwrap()
}

#[test]
fn a_key_store_holds_the_key_and_the_chain_in_order() {
    for chain in [&[&b"leaf"[..]][..], &[b"leaf", b"intermediate", b"another"]] {
        // All lengths of the padding, and keys that are encrypted piece by piece.
        for length in (0..40).chain(16_350..16_400) {
            let key = vec![7; length];
            let contents = read(&key_store_of(&key, chain), &default()).unwrap();
            assert_eq!(contents.key.as_deref(), Some(&key));
            assert_eq!(contents.certificates, chain);
        }
    }
}

#[test]
fn a_trust_store_holds_the_authorities_in_order() {
    for count in [1, 100, 4096] {
        let authorities: Vec<_> =
            (0..count).map(|number| format!("authority {number}").into_bytes()).collect();
        let file = trust_store_of(&authorities.iter().map(Vec::as_slice).collect::<Vec<_>>());
        let contents = read(&file, &default()).unwrap();
        assert!(contents.key.is_none());
        assert!(contents.certificates == authorities, "{count}");
    }
}

#[test]
fn a_store_without_a_certificate_is_refused() {
    let reason = |written: io::Result<()>| written.unwrap_err().to_string();
    let expected = NO_CERTIFICATE.to_owned();
    assert_eq!(reason(key_store(KEY, &[], &alias(), &default(), &mut io::sink())), expected);
    assert_eq!(reason(trust_store([].into_iter(), &default(), &mut io::sink())), expected);
}

#[test]
fn a_file_that_cannot_be_written_is_told_with_the_cause() {
    /// Is full after some bytes.
    struct Disk(usize);
    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::StorageFull)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let authorities: Vec<_> = (0..4096).map(|number: u32| number.to_be_bytes()).collect();
    let size = trust_store_of(&authorities.iter().map(|bytes| &bytes[..]).collect::<Vec<_>>()).len();
    for room in (0..size).step_by(997) {
        let written = trust_store(authorities.iter().map(|bytes| &bytes[..]), &default(), &mut Disk(room));
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::StorageFull, "{room}");
    }
}

#[test]
fn the_same_contents_are_the_same_bytes() {
    assert_eq!(key_store_of(KEY, &[b"leaf", b"ca"]), key_store_of(KEY, &[b"leaf", b"ca"]));
    assert_eq!(trust_store_of(&[b"ca"]), trust_store_of(&[b"ca"]));
}

#[test]
fn salts_and_initialization_vectors_are_never_used_twice() {
    let purposes = ["key: salt", "key: iv", "certificates: salt", "certificates: iv", "mac: salt"];
    let contents: [(&[u8], &[&[u8]]); 5] = [
        (KEY, &[b"leaf"]),
        (b"another key", &[b"leaf"]),
        (KEY, &[b"leaf", b"ca"]),
        (b"", &[b"leaf"]),
        (b"", &[b"ca"]),
    ];
    let salts = contents.map(|(key, chain)| Salts::new(key, chain.iter().copied()));
    let all: std::collections::HashSet<_> =
        salts.iter().flat_map(|salts| purposes.map(|purpose| salts.salt(purpose))).collect();
    assert_eq!(all.len(), contents.len() * purposes.len());
}

#[test]
fn the_key_is_not_in_the_file() {
    let key = [0x5a; 256];
    let file = key_store_of(&key, &[b"leaf"]);
    assert!(!file.windows(16).any(|window| window == &key[..16]));
}

#[test]
fn another_password_is_refused() {
    let file = key_store_with(&password("correct"), KEY, &[b"leaf"]);
    assert!(read(&file, &password("correct")).is_ok());
    assert_eq!(read(&file, &password("Correct")).err(), Some(Flaw::new(WRONG_PASSWORD)));
}

#[test]
fn a_truncated_file_is_refused() {
    for file in [key_store_of(KEY, &[b"leaf"]), trust_store_of(&[b"ca"])] {
        for length in 0..file.len() {
            assert!(read(&file[..length], &default()).is_err(), "{length}");
        }
        assert!(read(&[&file[..], b"\0"].concat(), &default()).is_err());
    }
}

#[test]
fn a_file_with_any_bit_flipped_is_refused() {
    for file in [key_store_of(KEY, &[b"leaf"]), trust_store_of(&[b"ca"])] {
        for bit in 0..8 * file.len() {
            let mut damaged = file.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&damaged, &default()).is_err(), "bit {bit}");
        }
    }
}

/// With the password, anything can have a good MAC.
#[test]
fn a_file_that_is_damaged_under_a_good_mac_does_not_panic() {
    for file in [key_store_of(KEY, &[b"leaf"]), trust_store_of(&[b"ca"])] {
        let auth_safe = data(&Pfx::from_der(&file).unwrap().auth_safe).unwrap();
        for index in 0..auth_safe.len() {
            let mut damaged = auth_safe.to_vec();
            damaged[index] ^= 1 << (index % 8);
            match read(&with_good_mac(&damaged), &default()) {
                // Attributes, versions: a reader does not need them.
                Ok(contents) => assert!(contents.certificates.len() <= 1),
                Err(error) => assert_ne!(error.to_string(), ""),
            }
        }
    }
}

fn with_good_mac(auth_safe: &[u8]) -> Vec<u8> {
    let salt = [1; 16];
    let mut out = io::sink();
    let mut authenticated = Authenticated::new(&default(), &salt, &mut out);
    authenticated.write_all(auth_safe).unwrap();
    let mac = authenticated.finish();
    let mac_data = protection::mac_data(&mac, &salt).unwrap();
    let content = AnyRef::new(Tag::OctetString, auth_safe).unwrap();
    Pfx { version: 3, auth_safe: ContentInfo { content_type: asn1::DATA, content }, mac_data }
        .to_der()
        .unwrap()
}

#[test]
fn more_iterations_than_the_limit_are_refused_before_they_are_done() {
    let file = changed(&trust_store_of(&[b"ca"]), |pfx| pfx.mac_data.iterations = u32::MAX);
    let refused = flaw!("its key derivation has {} iterations (1 to 100000 are accepted)", u32::MAX);
    assert_eq!(read(&file, &default()).err(), Some(refused));
    let file = changed(&trust_store_of(&[b"ca"]), |pfx| pfx.mac_data.iterations = 0);
    assert_eq!(
        read(&file, &default()).err(),
        Some(flaw!("its key derivation has {} iterations (1 to 100000 are accepted)", 0))
    );
}

#[test]
fn a_file_of_another_kind_is_refused() {
    let file = trust_store_of(&[b"ca"]);
    let version = changed(&file, |pfx| pfx.version = 4);
    assert_eq!(read(&version, &default()).err(), Some(Flaw::new(OTHER_CONTENT)));
    let signed = changed(&file, |pfx| pfx.auth_safe.content_type = asn1::ENCRYPTED_DATA);
    assert_eq!(read(&signed, &default()).err(), Some(Flaw::new(OTHER_CONTENT)));
    let sha512 = changed(&file, |pfx| {
        pfx.mac_data.mac.algorithm.oid = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.3");
    });
    assert_eq!(read(&sha512, &default()).err(), Some(Flaw::new(OTHER_MAC)));
    let huge = vec![0; MAX_SIZE + 1];
    assert_eq!(read(&huge, &default()).err(), Some(flaw!("it is longer than {MAX_SIZE} bytes")));
    for text in [&b""[..], b"\0", b"-----BEGIN CERTIFICATE-----", &[0x30; 64], &[0xff; 64]] {
        assert!(
            read(text, &default())
                .is_err_and(|flaw| flaw.to_string().starts_with("it is not the DER of PKCS#12"))
        );
    }
}

#[test]
fn a_password_is_printable_ascii_and_may_end_with_a_newline() {
    for text in ["changeit", "changeit\n", "changeit\r\n"] {
        let file = key_store_with(&password(text), KEY, &[b"leaf"]);
        assert!(read(&file, &default()).is_ok(), "{text:?}");
    }
    for (text, error) in [
        ("", "is empty"),
        ("\n", "is empty"),
        ("two\nlines", "byte 3 of"),
        ("tab\t", "byte 3 of"),
        ("Schlüssel", "byte 4 of"),
    ] {
        let refused = Password::from_file(text.as_bytes()).err().unwrap().to_string();
        assert!(refused.contains(error), "{text:?}: {refused}");
    }
}

#[test]
fn a_password_is_never_shown() {
    assert!(!format!("{:?}", password("secret")).contains("secret"));
}

#[test]
fn a_password_file_is_read_again_and_what_it_says_last_holds() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("password");
    std::fs::write(&file, "one").unwrap();
    let password = KeystorePassword::in_file(&file).unwrap();
    assert!(!password.look().unwrap());
    std::fs::write(&file, "two").unwrap();
    assert!(password.look().unwrap() && !password.look().unwrap());
    std::fs::write(&file, "").unwrap();
    assert!(password.look().is_err());
    assert_eq!(password.newest().as_bytes(), b"two");
}
