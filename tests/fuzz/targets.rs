//! The targets: each takes bytes, panics where a promise is broken, and says whether it has understood them.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pod_svid_helper::for_tests::{TABLE, parsers};

type Target = (&'static str, fn(&[u8]) -> bool);

pub const TARGETS: [Target; 19] = [
    ("x509-response", x509_response),
    ("x509-bundle", x509_bundle),
    ("crl", crl),
    ("bundle-map", bundle_map),
    ("private-key", private_key),
    ("jwt-svid", jwt_svid),
    ("jwt-bundles", jwt_bundles),
    ("wit-response", wit_response),
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
    ("command-line", command_line),
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

fn x509_response(bytes: &[u8]) -> bool {
    let Some(files) = understood(parsers::x509_response(bytes)) else { return false };
    for (name, contents) in files {
        assert_eq!(parsers::pem(&contents).as_ref(), Ok(&contents), "{name}");
    }
    true
}

fn x509_bundle(bytes: &[u8]) -> bool {
    let Some(certificates) = understood(parsers::x509_bundle(bytes)) else { return false };
    assert_eq!(certificates, bytes);
    true
}

fn crl(bytes: &[u8]) -> bool {
    let Some(written) = understood(parsers::crl(bytes)) else { return false };
    assert_eq!(written, bytes);
    true
}

fn bundle_map(bytes: &[u8]) -> bool {
    let Some(written) = understood(parsers::bundle_map(bytes)) else { return false };
    assert_eq!(parsers::bundle_map(&written), Ok(written));
    true
}

/// The length of the public half (two bytes), it, and the key.
fn private_key(bytes: &[u8]) -> bool {
    let Some((length, rest)) = bytes.split_first_chunk() else { return false };
    let (public, key) = rest.split_at(usize::from(u16::from_be_bytes(*length)).min(rest.len()));
    let Some(written) = understood(parsers::private_key(key, public)) else { return false };
    assert_eq!(parsers::private_key(&written, public), Ok(written));
    true
}

fn jwt_svid(bytes: &[u8]) -> bool {
    let Ok(token) = std::str::from_utf8(bytes) else { return false };
    let Some(id) = understood(parsers::jwt_svid(token)) else { return false };
    assert_eq!(parsers::spiffe_id(&id), Ok(id));
    assert!(token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)), "{token}");
    true
}

fn wit_response(bytes: &[u8]) -> bool {
    let Some(wit) = understood(parsers::wit_response(bytes)) else { return false };
    assert_eq!(parsers::wit_files(&wit), Ok(()));
    true
}

fn jwt_bundles(bytes: &[u8]) -> bool {
    let wit_bundles = understood(parsers::wit_bundles(bytes));
    let Some(documents) = understood(parsers::jwt_bundles(bytes)) else { return false };
    // Those of WIT-SVIDs have one rule more.
    wit_bundles.iter().flatten().for_each(|document| assert!(documents.contains(document)));
    documents.iter().for_each(|document| assert_eq!(parsers::jwks(document), Ok(())));
    true
}

fn jwks(bytes: &[u8]) -> bool {
    let is_good = understood(parsers::jwks(bytes)).is_some();
    if is_good {
        let document = std::str::from_utf8(bytes).expect("UTF-8");
        assert!(document.contains('[') && document.trim().starts_with('{') && document.trim().ends_with('}'));
    }
    is_good
}

fn pem(bytes: &[u8]) -> bool {
    let Some(written) = understood(parsers::pem(bytes)) else { return false };
    assert_eq!(parsers::pem(&written), Ok(written));
    true
}

fn pkcs12(bytes: &[u8]) -> bool {
    let Some(contents) = understood(parsers::pkcs12(bytes)) else { return false };
    // A keystore without a certificate is not written.
    if !contents.certificates.is_empty() {
        let written = parsers::pkcs12_file(&contents).expect("a keystore");
        assert_eq!(parsers::pkcs12(&written), Ok(contents));
    }
    true
}

/// The rules once more, in other words (SPIFFE-ID standard, section 2).
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

fn spiffe_id(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let parsed = understood(parsers::spiffe_id(text));
    assert_eq!(parsed.is_some(), is_spiffe_id(text), "{text:?}");
    parsed.is_some_and(|id| {
        assert_eq!(id, text);
        true
    })
}

fn endpoint(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let Some(address) = understood(parsers::endpoint(text)) else { return false };
    assert_eq!(parsers::endpoint(&address), Ok(address));
    true
}

/// A line for each argument; what follows an empty line is the value of every variable.
fn options(bytes: &[u8]) -> bool {
    // It is a file that is read.
    if bytes.windows(8).any(|window| window.eq_ignore_ascii_case(b"password")) {
        return false;
    }
    let mut lines = bytes.split(|byte| *byte == b'\n').map(|line| OsString::from_vec(line.to_vec()));
    let arguments = lines.by_ref().take_while(|line| !line.is_empty()).collect();
    let names = TABLE.iter().map(|row| row.variable()).chain(["SPIFFE_ENDPOINT_SOCKET".to_owned()]);
    let names = names.filter(|name| !name.contains("PASSWORD")).map(OsString::from);
    let value = lines.next();
    let variables = names.filter_map(|name| Some((name, value.clone()?))).collect();
    understood(parsers::options(arguments, variables)).is_some()
}

fn http_head(bytes: &[u8]) -> bool {
    let Some(answer) = parsers::http_head(bytes) else {
        assert!(bytes.len() < 8192, "more than a head, and no answer");
        return false;
    };
    assert!(answer.starts_with(b"HTTP/1.1 "));
    assert!(answer.windows(4).any(|window| window == b"\r\n\r\n"));
    assert!(answer.len() < 1024);
    true
}

/// The last bytes are the times of the file and of its process, too.
fn pid_file(bytes: &[u8]) -> bool {
    let mut times =
        bytes.rchunks_exact(8).filter_map(|chunk| time(i64::from_le_bytes(chunk.try_into().ok()?)));
    if let (Some(written), Some(started)) = (times.next(), times.next()) {
        let told = parsers::pid_file_is_older(written, started);
        assert!(told.is_none_or(|told| written < started && told.iter().all(|time| time.len() == 20)));
    }
    let Ok(pid) = parsers::pid_file(bytes) else { return false };
    assert!(pid > 0);
    assert_eq!(parsers::pid_file(pid.to_string().as_bytes()), Ok(pid));
    true
}

/// So many seconds after 1970, or before.
fn time(seconds: i64) -> Option<SystemTime> {
    let span = Duration::from_secs(seconds.unsigned_abs());
    if seconds < 0 { UNIX_EPOCH.checked_sub(span) } else { UNIX_EPOCH.checked_add(span) }
}

/// `/proc/PID/stat`, and lines of `/proc/stat`.
fn process_stat(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let Some((name, started)) = parsers::process_stat(&text) else { return false };
    assert!(text.contains(&format!("({name})")));
    assert!(started.is_none_or(|started| text.contains("btime ") && started >= UNIX_EPOCH));
    true
}

fn process_status(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let overrides_owners = parsers::overrides_owners(&text);
    assert!(overrides_owners.is_none() || text.contains("CapEff:"));
    let expects_hangup = parsers::expects_hangup(&text);
    assert!(!expects_hangup || ["SigCgt:", "SigIgn:", "SigBlk:"].iter().any(|mask| text.contains(mask)));
    overrides_owners.is_some() || expects_hangup
}

/// `/proc/PID/cmdline`.
fn command_line(bytes: &[u8]) -> bool {
    let Some(program) = parsers::program(bytes) else { return false };
    assert!(!program.is_empty() && !program.contains(['/', '\0']), "{program:?}");
    assert!(String::from_utf8_lossy(bytes).contains(&program));
    true
}
