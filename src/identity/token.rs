//! Tokens: header and claims of a JWT in JWS compact serialization, by the JWT-SVID standard,
//! sections 2 and 3.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64ct::{Base64UrlUnpadded, Encoding};
use der::DateTime;
use serde_json::{Map, Value};
use thiserror::Error;

use super::limits::MAX_TOKEN;
use super::raw::shortened;
use super::spiffe_id::{SpiffeId, SpiffeIdError};
use crate::logging::Printable;

/// The algorithms allowed for JWT-SVIDs (section 2.1).
const ALGORITHMS: [&str; 9] =
    ["RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512"];

/// The header and the claims of a token.
pub(super) struct Token {
    /// The header's `kid`.
    pub(super) key_id: Option<String>,
    /// `sub`
    pub(super) subject: SpiffeId,
    /// `aud`, one or more.
    pub(super) audience: Vec<String>,
    /// `exp`
    pub(super) expires_at: SystemTime,
    /// `nbf`
    pub(super) not_before: Option<SystemTime>,
    /// `iat`
    pub(super) issued_at: Option<SystemTime>,
}

impl Token {
    /// Reads a token. Its signature must be there and be base64url; it is not verified.
    pub(super) fn read(token: &str) -> Result<Self, TokenError> {
        if token.len() > MAX_TOKEN {
            return Err(TokenError::TooLong);
        }
        let parts: Vec<_> = token.splitn(4, '.').collect();
        let [header, claims, signature] = parts.as_slice() else {
            return Err(TokenError::NotCompact);
        };
        if decode(signature).is_none_or(|bytes| bytes.is_empty()) {
            return Err(TokenError::NotCompact);
        }
        let key_id = read_header(&json_object(header).ok_or(TokenError::Unreadable("header"))?)?;
        let claims = json_object(claims).ok_or(TokenError::Unreadable("claims"))?;
        let subject = claims.get("sub").and_then(Value::as_str).ok_or(TokenError::Claim("sub"))?;
        let optional_date =
            |name| claims.get(name).map(|value| date(value).ok_or(TokenError::Claim(name))).transpose();
        Ok(Self {
            key_id,
            subject: subject.parse()?,
            audience: claims.get("aud").and_then(strings).ok_or(TokenError::Claim("aud"))?,
            expires_at: claims.get("exp").and_then(date).ok_or(TokenError::Claim("exp"))?,
            not_before: optional_date("nbf")?,
            issued_at: optional_date("iat")?,
        })
    }
}

/// Checks `alg` (section 2.1) and `typ` (section 2.3). Gives `kid`.
fn read_header(header: &Map<String, Value>) -> Result<Option<String>, TokenError> {
    let algorithm = header.get("alg").and_then(Value::as_str).ok_or(TokenError::NoAlgorithm)?;
    if !ALGORITHMS.contains(&algorithm) {
        return Err(TokenError::Algorithm(algorithm.to_owned()));
    }
    let typ = header.get("typ").filter(|typ| !["JWT", "JOSE"].map(Some).contains(&typ.as_str()));
    if let Some(typ) = typ {
        return Err(TokenError::Type(Printable(shortened(&typ.to_string())).to_string()));
    }
    Ok(header.get("kid").and_then(Value::as_str).map(str::to_owned))
}

/// Base64url without padding, and nothing else: no line break, no stray bits.
fn decode(part: &str) -> Option<Vec<u8>> {
    Base64UrlUnpadded::decode_vec(part).ok()
}

fn json_object(part: &str) -> Option<Map<String, Value>> {
    serde_json::from_slice(&decode(part)?).ok()
}

/// One string, or a list of them that is not empty.
fn strings(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(one) => Some(vec![one.clone()]),
        Value::Array(all) if !all.is_empty() => {
            all.iter().map(|each| each.as_str().map(str::to_owned)).collect()
        }
        _ => None,
    }
}

/// Seconds since 1970 (RFC 7519, section 2: NumericDate). A date before 1970 or after 9999 counts as the first
/// or the last second between: no clock and no deadline overflows.
fn date(value: &Value) -> Option<SystemTime> {
    let last = DateTime::INFINITY.unix_duration();
    let seconds = value.as_f64()?.clamp(0.0, last.as_secs_f64());
    UNIX_EPOCH.checked_add(Duration::from_secs_f64(seconds))
}

/// Why a token is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum TokenError {
    #[error("longer than {MAX_TOKEN} bytes")]
    TooLong,
    #[error("not a signed token in compact serialization (header.claims.signature, each in base64url)")]
    NotCompact,
    #[error("its {0} cannot be read: not a JSON object in base64url")]
    Unreadable(&'static str),
    #[error("its header has no alg")]
    NoAlgorithm,
    #[error("algorithm {0:?} is not allowed for JWT-SVIDs")]
    Algorithm(String),
    #[error("its header's typ is {0} (it must be JWT or JOSE, or absent)")]
    Type(String),
    #[error("its claim {0} is missing or has the wrong type")]
    Claim(&'static str),
    #[error("its claim sub is not a SPIFFE ID: {0}")]
    Subject(#[from] SpiffeIdError),
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = r#"{"alg":"ES256","kid":"k","typ":"JWT"}"#;
    const CLAIMS: &str = r#"{"sub":"spiffe://example.org/a","aud":["one","two"],"exp":400}"#;

    fn read(header: &str, claims: &str) -> Result<Token, TokenError> {
        let part = |text: &str| Base64UrlUnpadded::encode_string(text.as_bytes());
        Token::read(&format!("{}.{}.c2ln", part(header), part(claims)))
    }

    #[test]
    fn the_key_id_is_the_headers() {
        assert_eq!(read(HEADER, CLAIMS).ok().unwrap().key_id.as_deref(), Some("k"));
        assert_eq!(read(r#"{"alg":"RS256"}"#, CLAIMS).ok().unwrap().key_id, None);
    }

    #[test]
    fn the_type_is_absent_or_jwt_or_jose_in_capitals() {
        for typ in [r#""JWT""#, r#""JOSE""#] {
            assert!(read(&format!(r#"{{"alg":"ES256","typ":{typ}}}"#), CLAIMS).is_ok(), "{typ}");
        }
        for typ in [r#""at+jwt""#, r#""jwt""#, r#""Jose""#, r#""""#, "1", "null"] {
            let error = read(&format!(r#"{{"alg":"ES256","typ":{typ}}}"#), CLAIMS).err();
            assert_eq!(error, Some(TokenError::Type(typ.to_owned())), "{typ}");
        }
    }

    #[test]
    fn what_breaks_the_standard_is_refused_with_the_rule_it_breaks() {
        use TokenError::*;
        for (header, claims, error) in [
            (r#"{"alg":"none"}"#, CLAIMS, Algorithm("none".to_owned())),
            (r#"{"alg":"HS256"}"#, CLAIMS, Algorithm("HS256".to_owned())),
            (r#"{"alg":""}"#, CLAIMS, Algorithm(String::new())),
            ("{}", CLAIMS, NoAlgorithm),
            (r#"{"alg":1}"#, CLAIMS, NoAlgorithm),
            ("[]", CLAIMS, Unreadable("header")),
            (HEADER, "what", Unreadable("claims")),
            (HEADER, r#"{"aud":"one","exp":400}"#, Claim("sub")),
            (HEADER, r#"{"sub":"spiffe://example.org/a","exp":400}"#, Claim("aud")),
            (HEADER, r#"{"sub":"spiffe://example.org/a","aud":[],"exp":400}"#, Claim("aud")),
            (HEADER, r#"{"sub":"spiffe://example.org/a","aud":["one","two"]}"#, Claim("exp")),
            (HEADER, r#"{"sub":"spiffe://example.org/a","aud":["one","two"],"exp":"soon"}"#, Claim("exp")),
            (HEADER, r#"{"sub":"spiffe://example.org/a","aud":"one","exp":4,"nbf":"soon"}"#, Claim("nbf")),
            (HEADER, r#"{"sub":"spiffe://example.org/a","aud":"one","exp":4,"iat":"now"}"#, Claim("iat")),
            (HEADER, r#"{"sub":"a","aud":"one","exp":4}"#, Subject(SpiffeIdError::Scheme)),
        ] {
            assert_eq!(read(header, claims).err(), Some(error), "{header} {claims}");
        }
    }

    #[test]
    fn each_of_the_three_parts_is_base64url_and_nothing_else() {
        let part = |text: &str| Base64UrlUnpadded::encode_string(text.as_bytes());
        let (header, claims) = (part(HEADER), part(CLAIMS));
        assert!(Token::read(&format!("{header}.{claims}.c2ln")).is_ok());
        for signature in
            ["", "c2ln.c2ln", "c2ln\r\nX-Admin: 1", "c2ln\n", "c2=", "c2k=", "a+b/", "c2lnc", "\u{e4}"]
        {
            let error = Token::read(&format!("{header}.{claims}.{signature}")).err();
            assert_eq!(error, Some(TokenError::NotCompact), "{signature:?}");
        }
        for token in ["", "a.b", "a.b."] {
            assert_eq!(Token::read(token).err(), Some(TokenError::NotCompact), "{token}");
        }
        let error = Token::read(&format!("{header}\n.{claims}.c2ln")).err();
        assert_eq!(error, Some(TokenError::Unreadable("header")));
    }

    #[test]
    fn a_token_over_the_limit_is_refused_unread() {
        assert_eq!(Token::read(&"a".repeat(MAX_TOKEN + 1)).err(), Some(TokenError::TooLong));
    }
}
