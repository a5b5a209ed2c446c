//! Mints WIT-SVIDs: good ones and, when asked to, bad ones.

use std::time::{Duration, SystemTime};

use base64ct::{Base64UrlUnpadded, Encoding};
use der::Decode;
use pod_svid_helper::for_tests::workload::{WITBundlesResponse, WITSVID, WITSVIDResponse};
use serde_json::{Value, json};

use super::authority::{Authority, KeyType};
use super::server::Reply;

/// What a WIT-SVID is to look like. [`WitRecipe::for_id`] makes a good one; its fields are there to spoil.
#[derive(Clone)]
pub struct WitRecipe {
    pub spiffe_id: String,
    pub hint: String,
    pub header: Value,
    pub claims: Value,
    /// The private JWK.
    pub key: Value,
}

impl WitRecipe {
    /// Valid for an hour from now on, and bound to a new P-256 key, as SPIRE has it.
    pub fn for_id(id: &str) -> Self {
        Self::with_key(id, KeyType::P256)
    }

    pub fn with_key(id: &str, key_type: KeyType) -> Self {
        let (mut public, key) = jwk(key_type);
        public["alg"] = json!(if key_type == KeyType::Rsa2048 { "RS256" } else { "ES256" });
        let now = seconds(SystemTime::now());
        Self {
            spiffe_id: id.to_owned(),
            hint: String::new(),
            header: json!({ "alg": "ES256", "kid": "1", "typ": "wit+jwt" }),
            claims: json!({ "sub": id, "iat": now, "exp": now + 3600.0, "cnf": { "jwk": public } }),
            key,
        }
    }

    /// Valid from now on for so long.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.claims["exp"] = json!(seconds(SystemTime::now() + ttl));
        self
    }

    pub fn mint(&self, authority: &Authority) -> WITSVID {
        WITSVID {
            spiffe_id: self.spiffe_id.clone(),
            wit_svid: authority.sign(&self.header, &self.claims),
            wit_svid_key: self.key.to_string(),
            hint: self.hint.clone(),
            ..Default::default()
        }
    }
}

/// Seconds since 1970.
pub fn seconds(time: SystemTime) -> f64 {
    time.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs_f64()
}

/// WIT-SVIDs as a response.
pub fn wit_response(svids: impl IntoIterator<Item = WITSVID>) -> Reply {
    Reply::offer(&WITSVIDResponse { svids: svids.into_iter().collect(), ..Default::default() })
}

/// JWKS documents as a response.
pub fn wit_bundles<'a>(documents: impl IntoIterator<Item = (&'a str, &'a str)>) -> Reply {
    let mut response = WITBundlesResponse::new();
    response.bundles =
        documents.into_iter().map(|(id, document)| (id.to_owned(), document.to_owned())).collect();
    Reply::offer(&response)
}

/// A new key: its public JWK, and its private one without `alg` and `kid`.
fn jwk(key_type: KeyType) -> (Value, Value) {
    let key = key_type.generate();
    let pkcs8 = key.serialize_der();
    let pkcs8 = pkcs8::PrivateKeyInfoRef::try_from(pkcs8.as_slice()).expect("PKCS#8");
    let der = pkcs8.private_key.as_bytes();
    let text = |bytes: &[u8]| json!(Base64UrlUnpadded::encode_string(bytes));
    if key_type == KeyType::Rsa2048 {
        let key = pkcs1::RsaPrivateKeyRef::try_from(der).expect("RSA");
        let number = |number: der::asn1::UintRef<'_>| text(number.as_bytes());
        let public = json!({ "kty": "RSA", "n": number(key.modulus), "e": number(key.public_exponent) });
        let mut private = public.clone();
        for (name, value) in [
            ("d", key.private_exponent),
            ("p", key.prime1),
            ("q", key.prime2),
            ("dp", key.exponent1),
            ("dq", key.exponent2),
            ("qi", key.coefficient),
        ] {
            private[name] = number(value);
        }
        return (public, private);
    }
    let crv = if key_type == KeyType::P384 { "P-384" } else { "P-256" };
    // An uncompressed point: 4, x, y.
    let (x, y) = key.public_key_raw()[1..].split_at(key.public_key_raw().len() / 2);
    let public = json!({ "kty": "EC", "crv": crv, "x": text(x), "y": text(y) });
    let mut private = public.clone();
    private["d"] = text(sec1::EcPrivateKey::from_der(der).expect("SEC1").private_key);
    (public, private)
}
