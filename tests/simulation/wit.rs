//! The WIT-SVIDs of the simulated agent, each with a key of its own.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64ct::{Base64UrlUnpadded, Encoding};
use der::Decode;
use protobuf::Message;
use rcgen::KeyPair;
use serde_json::{Value, json};

use super::agent::ID;
use crate::workload_api::proto::workload::{WITSVID, WITSVIDResponse};

pub(super) const OTHER_ID: &str = "spiffe://example.org/other";

/// A token and its key.
#[derive(Clone)]
pub(super) struct Pair {
    pub(super) token: String,
    pub(super) key: String,
    pub(super) issued: SystemTime,
    pub(super) end: SystemTime,
}

impl Pair {
    /// Its signature is nothing: the helper verifies none.
    pub(super) fn mint(issued: SystemTime, end: SystemTime) -> Self {
        let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap().as_secs();
        let (mut public, key) = jwk();
        public["alg"] = json!("ES256");
        let header = json!({ "alg": "ES256", "kid": "1", "typ": "wit+jwt" });
        let (from, to) = (seconds(issued), seconds(end));
        let claims = json!({ "sub": ID, "iat": from, "nbf": from, "exp": to, "cnf": { "jwk": public } });
        let [header, claims] =
            [header, claims].map(|part| Base64UrlUnpadded::encode_string(part.to_string().as_bytes()));
        Self { token: format!("{header}.{claims}.{}", "A".repeat(86)), key: key.to_string(), issued, end }
    }

    /// One that must not be published: with the key of another one, or past its end.
    pub(super) fn spoilt(&self, has_other_key: bool, now: SystemTime) -> Self {
        match has_other_key {
            true => Self { key: jwk().1.to_string(), ..self.clone() },
            false => Self::mint(now - Duration::from_secs(60), now - Duration::from_secs(2)),
        }
    }

    pub(super) fn is_good(&self, now: SystemTime) -> bool {
        self.issued <= now && now <= self.end
    }

    pub(super) fn half(&self) -> SystemTime {
        self.issued + self.end.duration_since(self.issued).unwrap_or_default() / 2
    }
}

/// A pair as a response, beside another identity's; or the other one's alone.
pub(super) fn response(pair: &Pair, lacks_identity: bool) -> Vec<u8> {
    let svid = |id: &str| WITSVID {
        spiffe_id: id.to_owned(),
        wit_svid: pair.token.clone(),
        wit_svid_key: pair.key.clone(),
        ..Default::default()
    };
    let own = (!lacks_identity).then(|| svid(ID));
    let svids = own.into_iter().chain([svid(OTHER_ID)]).collect();
    WITSVIDResponse { svids, ..Default::default() }.write_to_bytes().unwrap()
}

/// A new key: its public JWK, and its private one.
fn jwk() -> (Value, Value) {
    let key = KeyPair::generate().unwrap();
    let pkcs8 = key.serialize_der();
    let pkcs8 = pkcs8::PrivateKeyInfoRef::try_from(pkcs8.as_slice()).unwrap();
    let text = |bytes: &[u8]| json!(Base64UrlUnpadded::encode_string(bytes));
    // An uncompressed point: 4, x, y.
    let point = key.public_key_raw();
    let public = json!({ "kty": "EC", "crv": "P-256", "x": text(&point[1..33]), "y": text(&point[33..]) });
    let mut private = public.clone();
    private["d"] = text(sec1::EcPrivateKey::from_der(pkcs8.private_key.as_bytes()).unwrap().private_key);
    (public, private)
}
