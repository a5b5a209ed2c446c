//! Tokens: header and claims of a JWT in JWS compact serialization, by the JWT-SVID standard,
//! sections 2 and 3, and by the WIT-SVID standard, sections 2 and 3.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64ct::{Base64UrlUnpadded, Encoding};
use der::DateTime;
use serde_json::{Map, Value};

use super::limits::MAX_TOKEN;
use super::raw::shortened;
use super::spiffe_id::SpiffeId;
use super::svid_info::{Kind, SvidInfo};
use crate::logging::Printable;
use crate::words::{Flaw, flaw};

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
    pub(crate) fn read(token: &str, profile: Profile) -> Result<Self, Flaw> {
        if token.len() > MAX_TOKEN {
            return Err(flaw!("longer than {MAX_TOKEN} bytes"));
        }
        let parts: Vec<_> = token.splitn(4, '.').collect();
        let [header, claims, signature] = parts.as_slice() else {
            return Err(Flaw::new(NOT_COMPACT));
        };
        if decode(signature).is_none_or(|bytes| bytes.is_empty()) {
            return Err(Flaw::new(NOT_COMPACT));
        }
        let header = json_object("header", header)?;
        let (algorithm, key_id) = read_header(&header, profile)?;
        let mut claims = json_object("claims", claims)?;
        let subject = claims.get("sub").and_then(Value::as_str).ok_or_else(|| bad_claim("sub"))?;
        let subject =
            subject.parse().map_err(|flaw: Flaw| flaw.within("its claim sub is not a SPIFFE ID"))?;
        let audience = match (profile, claims.get("aud")) {
            (Profile::Jwt, audience) => audience.and_then(strings).ok_or_else(|| bad_claim("aud"))?,
            (Profile::Wit, None) => Vec::new(),
            (Profile::Wit, Some(_)) => return Err(flaw!("it has a claim aud, which no WIT-SVID has")),
        };
        let bound_key = match profile {
            Profile::Jwt => None,
            Profile::Wit => Some(bound_key(&mut claims)?),
        };
        let optional_date =
            |name| claims.get(name).map(|value| date(value).ok_or_else(|| bad_claim(name))).transpose();
        let issuer =
            claims.get("iss").map(|issuer| issuer.as_str().map_or_else(|| issuer.to_string(), str::to_owned));
        Ok(Self {
            algorithm,
            key_id,
            subject,
            issuer,
            audience,
            bound_key,
            expires_at: claims.get("exp").and_then(date).ok_or_else(|| bad_claim("exp"))?,
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
            not_before: self.not_before,
            not_after,
        }
    }
}

/// Checks `alg` and `typ` (JWT-SVID standard, sections 2.1 and 2.3; WIT-SVID standard, sections 2.3 and 2.2).
/// Gives `alg` and `kid`, which a WIT-SVID must have (WIT-SVID standard, section 2.1).
fn read_header(
    header: &Map<String, Value>,
    profile: Profile,
) -> Result<(&'static str, Option<String>), Flaw> {
    let algorithm =
        header.get("alg").and_then(Value::as_str).ok_or_else(|| flaw!("its header has no alg"))?;
    let allowed = ALGORITHMS.into_iter().find(|allowed| *allowed == algorithm);
    let algorithm = allowed.ok_or_else(|| not_allowed(algorithm, ""))?;
    let typ = header.get("typ");
    let (is_right, rule) = match profile {
        Profile::Jwt => (typ.is_none_or(|typ| typ == "JWT" || typ == "JOSE"), "JWT or JOSE, or absent"),
        Profile::Wit => (typ.is_some_and(|typ| typ == "wit+jwt"), "wit+jwt"),
    };
    if !is_right {
        let found = typ.map_or("absent".to_owned(), |typ| Printable(shortened(&typ.to_string())).to_string());
        return Err(flaw!("its header's typ is {found} (it must be {rule})"));
    }
    let key_id = header.get("kid").and_then(Value::as_str).map(str::to_owned);
    if profile == Profile::Wit && key_id.as_ref().is_none_or(String::is_empty) {
        return Err(flaw!("its header has no kid"));
    }
    Ok((algorithm, key_id))
}

/// Takes `cnf.jwk` out of the claims of a WIT-SVID, and checks its `alg` (WIT-SVID standard, section 3.2).
fn bound_key(claims: &mut Map<String, Value>) -> Result<Map<String, Value>, Flaw> {
    let key = claims.get_mut("cnf").and_then(|cnf| cnf.get_mut("jwk")).map(Value::take);
    let Some(Value::Object(key)) = key else { return Err(bad_claim("cnf.jwk")) };
    let algorithm =
        key.get("alg").and_then(Value::as_str).ok_or_else(|| flaw!("its claim cnf.jwk has no alg"))?;
    if !ALGORITHMS.contains(&algorithm) {
        return Err(not_allowed(algorithm, " of its claim cnf.jwk"));
    }
    Ok(key)
}

/// Base64url without padding, and nothing else: no line break, no stray bits.
fn decode(part: &str) -> Option<Vec<u8>> {
    Base64UrlUnpadded::decode_vec(part).ok()
}

/// The header or the claims.
fn json_object(name: &str, part: &str) -> Result<Map<String, Value>, Flaw> {
    let object = decode(part).and_then(|json| serde_json::from_slice(&json).ok());
    object.ok_or_else(|| flaw!("its {name} cannot be read: not a JSON object in base64url"))
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

const NOT_COMPACT: &str =
    "not a signed token in compact serialization (header.claims.signature, each in base64url)";

pub(super) fn bad_claim(name: &str) -> Flaw {
    flaw!("its claim {name} is missing or has the wrong type")
}

/// `place` says whose algorithm it is.
fn not_allowed(algorithm: &str, place: &str) -> Flaw {
    let algorithm = shortened(algorithm);
    flaw!("algorithm {algorithm:?}{place} is not allowed (only RS, ES and PS with 256, 384 or 512 are)")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = r#"{"alg":"ES256","kid":"k","typ":"JWT"}"#;
    const CLAIMS: &str = r#"{"sub":"spiffe://example.org/a","aud":["one","two"],"exp":400}"#;

    fn read(header: &str, claims: &str) -> Result<Token, Flaw> {
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
            let wanted = format!("its header's typ is {typ} (it must be JWT or JOSE, or absent)");
            assert_eq!(error, Some(Flaw::new(wanted)), "{typ}");
        }
    }

    #[test]
    fn what_breaks_the_standard_is_refused_with_the_rule_it_breaks() {
        for (header, claims, rule) in [
            (r#"{"alg":"none"}"#, CLAIMS, "algorithm \"none\" is not allowed"),
            (r#"{"alg":"HS256"}"#, CLAIMS, "algorithm \"HS256\" is not allowed"),
            (r#"{"alg":"EdDSA"}"#, CLAIMS, "algorithm \"EdDSA\" is not allowed"),
            (r#"{"alg":""}"#, CLAIMS, "algorithm \"\" is not allowed"),
            ("{}", CLAIMS, "its header has no alg"),
            (r#"{"alg":1}"#, CLAIMS, "its header has no alg"),
            ("[]", CLAIMS, "its header cannot be read: not a JSON object in base64url"),
            (HEADER, "what", "its claims cannot be read: not a JSON object in base64url"),
            (HEADER, r#"{"aud":"one","exp":400}"#, "its claim sub is missing or has the wrong type"),
            (
                HEADER,
                r#"{"sub":"spiffe://example.org/a","exp":400}"#,
                "its claim aud is missing or has the wrong type",
            ),
            (
                HEADER,
                r#"{"sub":"spiffe://example.org/a","aud":[],"exp":400}"#,
                "its claim aud is missing or has the wrong type",
            ),
            (
                HEADER,
                r#"{"sub":"spiffe://example.org/a","aud":["one","two"]}"#,
                "its claim exp is missing or has the wrong type",
            ),
            (
                HEADER,
                r#"{"sub":"spiffe://example.org/a","aud":["one","two"],"exp":"soon"}"#,
                "its claim exp is missing or has the wrong type",
            ),
            (
                HEADER,
                r#"{"sub":"spiffe://example.org/a","aud":"one","exp":4,"nbf":"soon"}"#,
                "its claim nbf is missing or has the wrong type",
            ),
            (
                HEADER,
                r#"{"sub":"spiffe://example.org/a","aud":"one","exp":4,"iat":"now"}"#,
                "its claim iat is missing or has the wrong type",
            ),
            (
                HEADER,
                r#"{"sub":"a","aud":"one","exp":4}"#,
                "its claim sub is not a SPIFFE ID: a SPIFFE ID starts with",
            ),
        ] {
            let error = read(header, claims).err().unwrap().to_string();
            assert!(error.starts_with(rule), "{header} {claims}: {error}");
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
            assert_eq!(error, Some(Flaw::new(NOT_COMPACT)), "{signature:?}");
        }
        let json = r#"{"payload":"e30","protected":"e30","signature":"c2ln"}"#;
        for token in ["", "a.b", "a.b.", json] {
            assert_eq!(Token::read(token, Profile::Jwt).err(), Some(Flaw::new(NOT_COMPACT)), "{token}");
        }
        let error = Token::read(&format!("{header}\n.{claims}.c2ln"), Profile::Jwt).err();
        let error = error.unwrap().to_string();
        assert!(error.starts_with("its header cannot be read"), "{error}");
    }

    #[test]
    fn a_token_over_the_limit_is_refused_unread() {
        assert_eq!(
            Token::read(&"a".repeat(MAX_TOKEN + 1), Profile::Jwt).err(),
            Some(flaw!("longer than {MAX_TOKEN} bytes"))
        );
    }
}
