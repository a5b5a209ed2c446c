//! Tokens: header and claims of a JWT in JWS compact serialization, by the JWT-SVID standard,
//! sections 2 and 3, and by the WIT-SVID standard, sections 2 and 3.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64ct::{Base64UrlUnpadded, Encoding};
use der::DateTime;
use serde_json::{Map, Value};
use thiserror::Error;

use super::limits::MAX_TOKEN;
use super::raw::shortened;
use super::spiffe_id::{SpiffeId, SpiffeIdError};
use super::svid_info::{Kind, SvidInfo};
use crate::logging::Printable;

/// The standard that a token or a JWKS document follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    Jwt,
    Wit,
}

/// The algorithms allowed (JWT-SVID standard, section 2.1; WIT-SVID standard, sections 2.3 and 3.2).
const ALGORITHMS: [&str; 9] =
    ["RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512"];

/// The header and the claims of a token.
pub(crate) struct Token {
    /// The header's `alg`: one of those allowed.
    pub(crate) algorithm: &'static str,
    /// The header's `kid`.
    pub(crate) key_id: Option<String>,
    /// `sub`
    pub(super) subject: SpiffeId,
    /// `iss`, which no standard checks: text, or JSON of another type.
    pub(crate) issuer: Option<String>,
    /// `aud`: one or more of a JWT-SVID, none of a WIT-SVID.
    pub(crate) audience: Vec<String>,
    /// `exp`
    pub(super) expires_at: SystemTime,
    /// `nbf`
    pub(super) not_before: Option<SystemTime>,
    /// `iat`
    pub(crate) issued_at: Option<SystemTime>,
    /// `cnf.jwk`, the key that a WIT-SVID is bound to.
    pub(super) bound_key: Option<Map<String, Value>>,
}

impl Token {
    /// Reads a token. Its signature must be there and be base64url; it is not verified.
    pub(crate) fn read(token: &str, profile: Profile) -> Result<Self, TokenError> {
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
        let header = json_object(header).ok_or(TokenError::Unreadable("header"))?;
        let (algorithm, key_id) = read_header(&header, profile)?;
        let mut claims = json_object(claims).ok_or(TokenError::Unreadable("claims"))?;
        let subject = claims.get("sub").and_then(Value::as_str).ok_or(TokenError::Claim("sub"))?;
        let subject = subject.parse()?;
        let audience = match (profile, claims.get("aud")) {
            (Profile::Jwt, audience) => audience.and_then(strings).ok_or(TokenError::Claim("aud"))?,
            (Profile::Wit, None) => Vec::new(),
            (Profile::Wit, Some(_)) => return Err(TokenError::Audience),
        };
        let bound_key = match profile {
            Profile::Jwt => None,
            Profile::Wit => Some(bound_key(&mut claims)?),
        };
        let optional_date =
            |name| claims.get(name).map(|value| date(value).ok_or(TokenError::Claim(name))).transpose();
        let issuer =
            claims.get("iss").map(|issuer| issuer.as_str().map_or_else(|| issuer.to_string(), str::to_owned));
        Ok(Self {
            algorithm,
            key_id,
            subject,
            issuer,
            audience,
            bound_key,
            expires_at: claims.get("exp").and_then(date).ok_or(TokenError::Claim("exp"))?,
            not_before: optional_date("nbf")?,
            issued_at: optional_date("iat")?,
        })
    }

    /// Identity and dates. A token without `iat` counts as issued at `now`.
    pub(super) fn info(&self, kind: Kind, now: SystemTime) -> SvidInfo {
        let (issued_at, not_after) = (self.issued_at.unwrap_or(now), self.expires_at);
        SvidInfo {
            id: self.subject.clone(),
            kind,
            issued_at: issued_at.min(not_after),
            // The time of issue does not bound the validity (RFC 7519, section 4.1.6): it may be ahead of this
            // clock.
            not_before: self.not_before.unwrap_or(UNIX_EPOCH),
            not_after,
        }
    }
}

/// Checks `alg` and `typ` (JWT-SVID standard, sections 2.1 and 2.3; WIT-SVID standard, sections 2.3 and 2.2).
/// Gives `alg` and `kid`, which a WIT-SVID must have (WIT-SVID standard, section 2.1).
fn read_header(
    header: &Map<String, Value>,
    profile: Profile,
) -> Result<(&'static str, Option<String>), TokenError> {
    let algorithm = header.get("alg").and_then(Value::as_str).ok_or(TokenError::NoAlgorithm)?;
    let allowed = ALGORITHMS.into_iter().find(|allowed| *allowed == algorithm);
    let algorithm = allowed.ok_or_else(|| TokenError::Algorithm(shortened(algorithm)))?;
    let typ = header.get("typ");
    let shown = |typ: &Value| Printable(shortened(&typ.to_string())).to_string();
    let key_id = header.get("kid").and_then(Value::as_str).map(str::to_owned);
    match (profile, typ, typ.and_then(Value::as_str)) {
        (Profile::Jwt, None, _) | (Profile::Jwt, _, Some("JWT" | "JOSE")) => Ok((algorithm, key_id)),
        (Profile::Jwt, Some(typ), _) => Err(TokenError::Type(shown(typ))),
        (Profile::Wit, _, Some("wit+jwt")) if key_id.as_ref().is_none_or(String::is_empty) => {
            Err(TokenError::NoKeyId)
        }
        (Profile::Wit, _, Some("wit+jwt")) => Ok((algorithm, key_id)),
        (Profile::Wit, typ, _) => Err(TokenError::WitType(typ.map_or("absent".to_owned(), shown))),
    }
}

/// Takes `cnf.jwk` out of the claims of a WIT-SVID, and checks its `alg` (WIT-SVID standard, section 3.2).
fn bound_key(claims: &mut Map<String, Value>) -> Result<Map<String, Value>, TokenError> {
    let key = claims.get_mut("cnf").and_then(|cnf| cnf.get_mut("jwk")).map(Value::take);
    let Some(Value::Object(key)) = key else { return Err(TokenError::Claim("cnf.jwk")) };
    let algorithm = key.get("alg").and_then(Value::as_str).ok_or(TokenError::NoKeyAlgorithm)?;
    if !ALGORITHMS.contains(&algorithm) {
        return Err(TokenError::KeyAlgorithm(shortened(algorithm)));
    }
    Ok(key)
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
    #[error("algorithm {0:?} is not allowed (only RS, ES and PS with 256, 384 or 512 are)")]
    Algorithm(String),
    #[error("its header has no kid")]
    NoKeyId,
    #[error("its header's typ is {0} (it must be wit+jwt)")]
    WitType(String),
    #[error("it has a claim aud, which no WIT-SVID has")]
    Audience,
    #[error("its claim cnf.jwk has no alg")]
    NoKeyAlgorithm,
    #[error(
        "algorithm {0:?} of its claim cnf.jwk is not allowed (only RS, ES and PS with 256, 384 or 512 are)"
    )]
    KeyAlgorithm(String),
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
        Token::read(&format!("{}.{}.c2ln", part(header), part(claims)), Profile::Jwt)
    }

    #[test]
    fn the_key_id_is_the_headers() {
        assert_eq!(read(HEADER, CLAIMS).ok().unwrap().key_id.as_deref(), Some("k"));
        assert_eq!(read(r#"{"alg":"RS256"}"#, CLAIMS).ok().unwrap().key_id, None);
    }

    #[test]
    fn every_algorithm_of_the_standard_is_good() {
        for family in ["RS", "ES", "PS"] {
            for bits in ["256", "384", "512"] {
                assert!(read(&format!(r#"{{"alg":"{family}{bits}"}}"#), CLAIMS).is_ok(), "{family}{bits}");
            }
        }
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
            (r#"{"alg":"EdDSA"}"#, CLAIMS, Algorithm("EdDSA".to_owned())),
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
        assert!(Token::read(&format!("{header}.{claims}.c2ln"), Profile::Jwt).is_ok());
        for signature in
            ["", "c2ln.c2ln", "c2ln\r\nX-Admin: 1", "c2ln\n", "c2=", "c2k=", "a+b/", "c2lnc", "\u{e4}"]
        {
            let error = Token::read(&format!("{header}.{claims}.{signature}"), Profile::Jwt).err();
            assert_eq!(error, Some(TokenError::NotCompact), "{signature:?}");
        }
        let json = r#"{"payload":"e30","protected":"e30","signature":"c2ln"}"#;
        for token in ["", "a.b", "a.b.", json] {
            assert_eq!(Token::read(token, Profile::Jwt).err(), Some(TokenError::NotCompact), "{token}");
        }
        let error = Token::read(&format!("{header}\n.{claims}.c2ln"), Profile::Jwt).err();
        assert_eq!(error, Some(TokenError::Unreadable("header")));
    }

    #[test]
    fn a_token_over_the_limit_is_refused_unread() {
        assert_eq!(Token::read(&"a".repeat(MAX_TOKEN + 1), Profile::Jwt).err(), Some(TokenError::TooLong));
    }
}
