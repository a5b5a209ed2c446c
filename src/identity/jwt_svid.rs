//! JWT-SVIDs, checked by the JWT-SVID standard, sections 2 and 3.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64ct::{Base64UrlUnpadded, Encoding};
use serde_json::{Map, Value};
use thiserror::Error;
use zeroize::Zeroizing;

use super::offered::OfferedJwtSvid;
use super::selection::Candidate;
use super::spiffe_id::{InvalidSpiffeId, SpiffeId};
use super::term::Term;

/// What may sign a JWT-SVID (section 2.1).
const ALGORITHMS: [&str; 9] =
    ["RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512"];

/// A JWT-SVID whose claims can be read and say what they must: valid but for its dates.
///
/// Its signature is not verified: the agent, not the network, is where it comes from.
pub struct JwtSvid {
    term: Term,
    hint: String,
    token: Zeroizing<String>,
}

impl JwtSvid {
    /// Checks one offered SVID: its token must be its SPIFFE ID's, and made for all of `audience`.
    ///
    /// A token that does not say when it was issued counts as issued at `now`.
    pub fn parse(offered: OfferedJwtSvid, audience: &[String], now: SystemTime) -> Result<Self, JwtFlaw> {
        let id: SpiffeId = offered.spiffe_id.parse().map_err(JwtFlaw::Id)?;
        let svid = Self { hint: offered.hint, ..Self::read(offered.token, audience, now)? };
        match svid.term.id == id {
            true => Ok(svid),
            false => Err(JwtFlaw::OtherSubject(svid.term.id.to_string())),
        }
    }

    /// Checks a token by itself: whoever it is for, it must be made for all of `audience`.
    pub fn read(token: Zeroizing<String>, audience: &[String], now: SystemTime) -> Result<Self, JwtFlaw> {
        let claims = Claims::read(&token)?;
        if let Some(missing) = audience.iter().find(|wanted| !claims.audience.contains(wanted)) {
            return Err(JwtFlaw::NotForAudience(missing.clone()));
        }
        let not_before = claims.issued_at.unwrap_or(now);
        let term = Term { id: claims.subject, serial: None, not_before, not_after: claims.expires_at };
        Ok(Self { term, hint: String::new(), token })
    }

    /// Identity and dates.
    pub fn term(&self) -> &Term {
        &self.term
    }

    /// The token, in JWS compact serialization.
    pub fn token(&self) -> &str {
        &self.token
    }
}

impl Candidate for JwtSvid {
    fn id(&self) -> &SpiffeId {
        &self.term.id
    }

    fn hint(&self) -> &str {
        &self.hint
    }
}

/// What a token says of itself.
struct Claims {
    subject: SpiffeId,
    audience: Vec<String>,
    expires_at: SystemTime,
    issued_at: Option<SystemTime>,
}

impl Claims {
    fn read(token: &str) -> Result<Self, JwtFlaw> {
        let mut parts = token.split('.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(JwtFlaw::NotCompact);
        };
        if signature.is_empty() {
            return Err(JwtFlaw::NotCompact);
        }
        let header = json_object(header).ok_or(JwtFlaw::Unreadable("header"))?;
        let algorithm = header.get("alg").and_then(Value::as_str).unwrap_or_default();
        if !ALGORITHMS.contains(&algorithm) {
            return Err(JwtFlaw::Algorithm(algorithm.to_owned()));
        }
        let claims = json_object(payload).ok_or(JwtFlaw::Unreadable("claims"))?;
        let subject = claims.get("sub").and_then(Value::as_str).ok_or(JwtFlaw::Claim("sub"))?;
        let audience = claims.get("aud").and_then(strings).ok_or(JwtFlaw::Claim("aud"))?;
        Ok(Self {
            subject: subject.parse().map_err(JwtFlaw::Id)?,
            audience,
            expires_at: claims.get("exp").and_then(date).ok_or(JwtFlaw::Claim("exp"))?,
            issued_at: claims.get("iat").and_then(date),
        })
    }
}

fn json_object(base64: &str) -> Option<Map<String, Value>> {
    serde_json::from_slice(&Base64UrlUnpadded::decode_vec(base64).ok()?).ok()
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

/// Seconds since 1970 (RFC 7519, section 2: NumericDate).
fn date(value: &Value) -> Option<SystemTime> {
    let since_epoch = Duration::try_from_secs_f64(value.as_f64()?).ok()?;
    UNIX_EPOCH.checked_add(since_epoch)
}

/// What is wrong with a JWT-SVID.
#[allow(missing_docs, reason = "the messages say what the variants mean")]
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum JwtFlaw {
    #[error("not a SPIFFE ID: {0}")]
    Id(InvalidSpiffeId),
    #[error("it is not a signed token in compact serialization (header.claims.signature)")]
    NotCompact,
    #[error("its {0} cannot be read: not a JSON object in base64url")]
    Unreadable(&'static str),
    #[error("its algorithm {0:?} is none that a JWT-SVID may have")]
    Algorithm(String),
    #[error("its claim {0} is missing or of the wrong type")]
    Claim(&'static str),
    #[error("its subject is {0}, not the SVID's SPIFFE ID")]
    OtherSubject(String),
    #[error("it is not made for the audience {0:?}")]
    NotForAudience(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(header: &str, claims: &str) -> Result<JwtSvid, JwtFlaw> {
        let part = |text: &str| Base64UrlUnpadded::encode_string(text.as_bytes());
        let token = format!("{}.{}.c2ln", part(header), part(claims));
        parse_token(&token)
    }

    fn parse_token(token: &str) -> Result<JwtSvid, JwtFlaw> {
        let offered = OfferedJwtSvid {
            spiffe_id: "spiffe://example.org/a".to_owned(),
            hint: String::new(),
            token: Zeroizing::new(token.to_owned()),
        };
        JwtSvid::parse(offered, &["one".to_owned(), "two".to_owned()], UNIX_EPOCH)
    }

    const HEADER: &str = r#"{"alg":"ES256","kid":"k","typ":"JWT"}"#;

    #[test]
    fn a_good_token_gives_identity_and_dates() {
        let claims = r#"{"sub":"spiffe://example.org/a","aud":["two","one","more"],"iat":100,"exp":400.5}"#;
        let svid = parse(HEADER, claims).ok().unwrap();
        assert_eq!(svid.term().id.as_str(), "spiffe://example.org/a");
        assert_eq!(svid.term().half_life_at(), UNIX_EPOCH + Duration::from_secs_f64(250.25));
    }

    #[test]
    fn a_token_that_does_not_say_when_it_was_issued_was_issued_now() {
        let claims = r#"{"sub":"spiffe://example.org/a","aud":["one","two"],"exp":400}"#;
        let svid = parse(HEADER, claims).ok().unwrap();
        assert_eq!(svid.term().half_life_at(), UNIX_EPOCH + Duration::from_secs(200));
    }

    #[test]
    fn what_breaks_the_standard_is_refused_with_the_rule_it_breaks() {
        use JwtFlaw::*;
        let id = "spiffe://example.org/a";
        let good = format!(r#"{{"sub":"{id}","aud":["one","two"],"exp":400}}"#);
        for (header, claims, flaw) in [
            (r#"{"alg":"none"}"#, good.as_str(), Algorithm("none".to_owned())),
            (r#"{"alg":"HS256"}"#, &good, Algorithm("HS256".to_owned())),
            ("{}", &good, Algorithm(String::new())),
            ("[]", &good, Unreadable("header")),
            (HEADER, "what", Unreadable("claims")),
            (HEADER, r#"{"aud":"one","exp":400}"#, Claim("sub")),
            (HEADER, r#"{"sub":"spiffe://example.org/a","exp":400}"#, Claim("aud")),
            (HEADER, r#"{"sub":"spiffe://example.org/a","aud":[],"exp":400}"#, Claim("aud")),
            (HEADER, r#"{"sub":"spiffe://example.org/a","aud":["one","two"]}"#, Claim("exp")),
            (HEADER, r#"{"sub":"spiffe://example.org/a","aud":["one","two"],"exp":"soon"}"#, Claim("exp")),
            (HEADER, r#"{"sub":"spiffe://example.org/a","aud":["one","two"],"exp":-1}"#, Claim("exp")),
            (HEADER, r#"{"sub":"spiffe://example.org/a","aud":["one","two"],"exp":1e300}"#, Claim("exp")),
            (
                HEADER,
                r#"{"sub":"spiffe://example.org/a","aud":"one","exp":4}"#,
                NotForAudience("two".to_owned()),
            ),
            (
                HEADER,
                r#"{"sub":"spiffe://example.org/b","aud":["one","two"],"exp":4}"#,
                OtherSubject("spiffe://example.org/b".to_owned()),
            ),
        ] {
            assert_eq!(parse(header, claims).err(), Some(flaw), "{header} {claims}");
        }
        for token in ["", "a.b", "a.b.", "a.b.c.d"] {
            assert_eq!(parse_token(token).err(), Some(NotCompact), "{token}");
        }
    }
}
