//! The targets: each takes bytes, and panics where a promise is broken.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use pod_svid_helper::for_tests::parsers;

type Target = (&'static str, fn(&[u8]));

pub const TARGETS: [Target; 15] = [
    ("x509-response", x509_response),
    ("x509-bundle", x509_bundle),
    ("private-key", private_key),
    ("jwt-svid", jwt_svid),
    ("jwt-bundles", jwt_bundles),
    ("jwks", jwks),
    ("pem", pem),
    ("pkcs12", pkcs12),
    ("spiffe-id", spiffe_id),
    ("endpoint", endpoint),
    ("options", options),
    ("http-head", http_head),
    ("pid-file", pid_file),
    ("process-stat", process_stat),
    ("process-status", process_status),
];

/// The longest message: a line of the log holds it.
const LONGEST_MESSAGE: usize = 4096;

/// Looks at the message of an error: it is one line of bounded length, without control characters.
fn understood<T>(parsed: parsers::Parsed<T>) -> Option<T> {
    let message = match parsed {
        Ok(understood) => return Some(understood),
        Err(message) => message,
    };
    assert!(!message.is_empty());
    assert!(message.len() <= LONGEST_MESSAGE, "{} bytes: {message}", message.len());
    assert!(!message.contains(char::is_control), "{message:?}");
    None
}

fn x509_response(bytes: &[u8]) {
    let Some(files) = understood(parsers::x509_response(bytes)) else { return };
    for (name, contents) in files {
        assert_eq!(parsers::pem(&contents).as_ref(), Ok(&contents), "{name}");
    }
}

fn x509_bundle(bytes: &[u8]) {
    if let Some(certificates) = understood(parsers::x509_bundle(bytes)) {
        assert_eq!(certificates, bytes);
    }
}

/// The length of the public half (two bytes), it, and the key.
fn private_key(bytes: &[u8]) {
    let Some((length, rest)) = bytes.split_first_chunk() else { return };
    let (public, key) = rest.split_at(usize::from(u16::from_be_bytes(*length)).min(rest.len()));
    if let Some(written) = understood(parsers::private_key(key, public)) {
        assert_eq!(parsers::private_key(&written, public), Ok(written));
    }
}

fn jwt_svid(bytes: &[u8]) {
    let Ok(token) = std::str::from_utf8(bytes) else { return };
    if let Some(id) = understood(parsers::jwt_svid(token)) {
        assert_eq!(parsers::spiffe_id(&id), Ok(id));
        assert!(token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)), "{token}");
    }
}

fn jwt_bundles(bytes: &[u8]) {
    for document in understood(parsers::jwt_bundles(bytes)).into_iter().flatten() {
        assert_eq!(parsers::jwks(&document), Ok(()));
    }
}

fn jwks(bytes: &[u8]) {
    if understood(parsers::jwks(bytes)).is_some() {
        let document = std::str::from_utf8(bytes).expect("UTF-8");
        assert!(document.contains('[') && document.trim().starts_with('{') && document.trim().ends_with('}'));
    }
}

fn pem(bytes: &[u8]) {
    if let Some(written) = understood(parsers::pem(bytes)) {
        assert_eq!(parsers::pem(&written), Ok(written));
    }
}

fn pkcs12(bytes: &[u8]) {
    understood(parsers::pkcs12(bytes));
}

/// The rules once more, in other words (SPIFFE ID standard, section 2).
fn is_spiffe_id(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("spiffe://") else { return false };
    let (trust_domain, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let good = |text: &str, is_good: fn(u8) -> bool| !text.is_empty() && text.bytes().all(is_good);
    let segments = path.split('/').skip(1);
    text.len() <= 2048
        && trust_domain.len() <= 255
        && good(trust_domain, |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_'))
        && segments.into_iter().all(|segment| {
            good(segment, |byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
                && ![".", ".."].contains(&segment)
        })
}

fn spiffe_id(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let parsed = understood(parsers::spiffe_id(text));
    assert_eq!(parsed.is_some(), is_spiffe_id(text), "{text:?}");
    assert!(parsed.is_none_or(|id| id == text));
}

fn endpoint(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some(address) = understood(parsers::endpoint(text)) {
        assert_eq!(parsers::endpoint(&address), Ok(address));
    }
}

/// A line for each argument; what follows an empty line is the value of every variable.
fn options(bytes: &[u8]) {
    // It is a file that is read.
    if bytes.windows(8).any(|window| window.eq_ignore_ascii_case(b"password")) {
        return;
    }
    let mut lines = bytes.split(|byte| *byte == b'\n').map(|line| OsString::from_vec(line.to_vec()));
    let arguments = lines.by_ref().take_while(|line| !line.is_empty()).collect();
    let value = lines.next();
    understood(parsers::options(arguments, |name| value.clone().filter(|_| !name.contains("PASSWORD"))));
}

fn http_head(bytes: &[u8]) {
    match parsers::http_head(bytes) {
        None => assert!(bytes.len() < 8192, "more than a head, and no answer"),
        Some(answer) => {
            assert!(answer.starts_with(b"HTTP/1.1 "));
            assert!(answer.windows(4).any(|window| window == b"\r\n\r\n"));
            assert!(answer.len() < 1024);
        }
    }
}

fn pid_file(bytes: &[u8]) {
    if let Ok(pid) = parsers::pid_file(bytes) {
        assert!(pid > 0);
        assert_eq!(parsers::pid_file(pid.to_string().as_bytes()), Ok(pid));
    }
}

fn process_stat(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Some((name, _)) = parsers::process_stat(&text) {
        assert!(text.contains(&format!("({name})")));
    }
}

fn process_status(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if parsers::expects_hangup(&text) {
        assert!(["SigCgt:", "SigIgn:", "SigBlk:"].iter().any(|mask| text.contains(mask)));
    }
}
