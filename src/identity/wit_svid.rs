//! WIT-SVIDs, checked by the WIT-SVID standard: a token, and the private key that it is bound to.

use std::time::SystemTime;

use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::jwk;
use super::private_key::PrivateKey;
use super::raw::{RawWitSvid, WitFields};
use super::selection::Selection;
use super::svid_info::{Kind, SvidInfo};
use super::svids::{self, Inspected, Unusable, parse_id};
use super::token::{Profile, Token, bad_claim};
use crate::words::{Flaw, flaw};

/// A token whose claims are readable and complete. Its dates are not checked, and neither is its signature: it
/// comes from the agent, not from the network.
pub(crate) struct WitToken {
    pub(crate) info: SvidInfo,
    /// `cnf.jwk`
    bound_key: Map<String, Value>,
}

impl WitToken {
    /// Reads a token of any subject. One without `iat` counts as issued at `now`.
    pub(crate) fn read(token: &str, now: SystemTime) -> Result<Self, Flaw> {
        let token = Token::read(token, Profile::Wit)?;
        let info = token.info(Kind::Wit, now);
        let bound_key = token.bound_key.ok_or_else(|| bad_claim("cnf.jwk"))?;
        Ok(Self { info, bound_key })
    }

    /// Checks that a private JWK is the key that the token is bound to. Gives it for PKCS#8, if it has all that
    /// PKCS#8 needs.
    pub(crate) fn check_jwk(&self, jwk: &str) -> Result<Option<PrivateKey>, Flaw> {
        jwk::check_private(jwk, &self.bound_key)
    }

    /// The same of a key in PKCS#8, DER.
    pub(crate) fn check_pkcs8(&self, der: Zeroizing<Vec<u8>>) -> Result<(), Flaw> {
        let public = jwk::public_key_info(&self.bound_key)?;
        PrivateKey::parse(der, &public).map(drop).map_err(|_| Flaw::new(jwk::OTHER_KEY))
    }
}

/// A WIT-SVID whose token and key belong together.
pub(crate) struct WitSvid {
    pub(crate) info: SvidInfo,
    /// In JWS compact serialization.
    pub(crate) token: Zeroizing<String>,
    /// The private key, as it came.
    pub(crate) jwk: Zeroizing<String>,
    /// The same key for PKCS#8; `None` for an RSA key without its primes.
    pub(crate) key: Option<PrivateKey>,
}

impl WitSvid {
    /// Checks that a response has the mandatory fields (SPIFFE Workload API standard, section 7.2.1), and the
    /// selected SVID in full.
    pub(crate) fn select(
        raw: Vec<RawWitSvid>,
        selection: &Selection,
        now: SystemTime,
    ) -> Result<Self, Unusable> {
        check_conformance(&raw)?;
        svids::select(raw, selection, |id, raw| Self::parse(id, raw, now))
    }

    /// Checks that a response has the mandatory fields, and each of its SVIDs on its own.
    pub(crate) fn inspect(raw: Vec<RawWitSvid>, now: SystemTime) -> Result<Vec<Inspected<Self>>, Flaw> {
        check_conformance(&raw)?;
        Ok(svids::inspect(raw, |id, raw| Self::parse(id, raw, now)))
    }

    /// Which kind of key it has.
    pub(crate) fn key_type(&self) -> String {
        self.key.as_ref().map_or("RSA".to_owned(), |key| key.key_type().to_string())
    }

    fn parse(id: &str, raw: WitFields, now: SystemTime) -> Result<Self, Flaw> {
        let id = parse_id(id).map_err(|flaw| flaw.within("spiffe_id"))?;
        let token = WitToken::read(&raw.token, now).map_err(|flaw| flaw.within("wit_svid"))?;
        if token.info.id != id {
            return Err(flaw!("wit_svid: its claim sub is {}, not the SVID's SPIFFE ID", token.info.id));
        }
        let key = token.check_jwk(&raw.key).map_err(|flaw| flaw.within("wit_svid_key"))?;
        Ok(Self { info: token.info, token: raw.token, jwk: raw.key, key })
    }
}

fn check_conformance(raw: &[RawWitSvid]) -> Result<(), Flaw> {
    svids::check_fields(raw, |id, raw| {
        [
            ("spiffe_id", id.is_empty()),
            ("wit_svid", raw.token.is_empty()),
            ("wit_svid_key", raw.key.is_empty()),
        ]
    })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use base64ct::{Base64UrlUnpadded, Encoding};
    use p521::elliptic_curve::sec1::ToSec1Point;
    use serde_json::json;

    use super::super::dates::Validity;
    use super::*;

    const ID: &str = "spiffe://example.org/a";

    fn text(bytes: &[u8]) -> Value {
        json!(Base64UrlUnpadded::encode_string(bytes))
    }

    /// A private JWK of the curve P-521.
    fn jwk(number: u8) -> Value {
        let mut d = [0; 66];
        d[65] = number;
        let point = p521::SecretKey::from_slice(&d).unwrap().public_key().to_sec1_point(false);
        let (x, y) = point.as_bytes()[1..].split_at(66);
        json!({ "kty": "EC", "crv": "P-521", "x": text(x), "y": text(y), "d": text(&d) })
    }

    /// A token that is bound to the key 7, with these claims beside.
    fn token(claims: Value) -> String {
        let mut all = json!({ "sub": ID, "exp": 400, "cnf": { "jwk": jwk(7) } });
        all["cnf"]["jwk"]["alg"] = json!("ES512");
        claims.as_object().unwrap().iter().for_each(|(name, value)| all[name] = value.clone());
        let part = |text: &str| Base64UrlUnpadded::encode_string(text.as_bytes());
        let header = r#"{"alg":"ES256","kid":"k","typ":"wit+jwt"}"#;
        format!("{}.{}.c2ln", part(header), part(&all.to_string()))
    }

    fn read(claims: Value) -> WitToken {
        WitToken::read(&token(claims), UNIX_EPOCH).ok().unwrap()
    }

    fn error_of(jwk: &str) -> Option<String> {
        read(json!({})).check_jwk(jwk).err().map(|flaw| flaw.to_string())
    }

    #[test]
    fn a_key_of_p521_belongs_to_its_token_as_jwk_and_as_pkcs8() {
        let token = read(json!({}));
        let key = token.check_jwk(&jwk(7).to_string()).ok().unwrap().unwrap();
        assert_eq!(key.key_type().to_string(), "P-521");
        assert_eq!(token.check_pkcs8(Zeroizing::new(key.der().to_vec())), Ok(()));
        assert_eq!(error_of(&jwk(8).to_string()), Some(jwk::OTHER_KEY.to_owned()));
    }

    #[test]
    fn the_private_number_has_the_length_of_its_curve_and_belongs_to_the_point() {
        let mut key = jwk(7);
        key["d"] = jwk(8)["d"].clone();
        let error = error_of(&key.to_string()).unwrap();
        assert!(error.contains("d does not belong to its point"), "{error}");
        for d in ["Bw", "", "=", "a+b/"] {
            key["d"] = json!(d);
            let error = error_of(&key.to_string()).unwrap();
            assert!(error.starts_with("a JWK whose member d is not base64url"), "{d}: {error}");
        }
    }

    #[test]
    fn alg_kid_and_unknown_members_of_a_private_key_do_not_matter() {
        let mut key = jwk(7);
        for (name, value) in [("alg", json!("ES512")), ("kid", json!("\n")), ("ext", json!([{}, null]))] {
            key[name] = value;
        }
        assert_eq!(error_of(&key.to_string()), None);
    }

    #[test]
    fn a_document_that_is_not_one_jwk_is_refused_without_a_word_of_it() {
        let good = jwk(7).to_string();
        let twice = good.replacen('{', r#"{"d":"AA","#, 1);
        let escaped = good.replacen("EC", r"\u0045C", 1);
        let number = good.replacen(r#""EC""#, "1", 1);
        for document in [&twice, &escaped, &number, "", "[]", "{", &format!("{good}{good}")] {
            let error = error_of(document).unwrap();
            assert!(error.starts_with("not a JWK: "), "{document}: {error}");
        }
        assert_eq!(error_of(&" ".repeat(16 * 1024 + 1)), Some("larger than 16384 bytes".to_owned()));
    }

    #[test]
    fn exp_and_nbf_bound_the_validity_and_iat_never_does() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let info = read(json!({ "iat": 300, "nbf": 60 })).info;
        assert_eq!((info.kind.to_string().as_str(), info.not_after), ("WIT-SVID", at(400)));
        let validity = [59, 60, 400, 401].map(|seconds| info.dates().validity(at(seconds)));
        assert_eq!(validity, [Validity::NotYet, Validity::Valid, Validity::Valid, Validity::Expired]);
        assert_eq!(read(json!({ "iat": 300 })).info.dates().validity(UNIX_EPOCH), Validity::Valid);
    }
}
