//! JSON Web Keys (RFC 7517, RFC 7518 section 6): the public one that a WIT-SVID is bound to, and the private one
//! beside it. The private one is read in place: no part of it is copied but to make PKCS#8, and that is wiped.

use std::collections::BTreeMap;
use std::fmt;

use base64ct::{Base64UrlUnpadded, Encoding};
use der::Encode;
use der::asn1::{AnyRef, BitStringRef, OctetStringRef, UintRef};
use der::oid::ObjectIdentifier;
use pkcs1::{RsaPrivateKey, RsaPublicKey};
use pkcs8::PrivateKeyInfoRef;
use pkcs8::spki::{AlgorithmIdentifierRef, SubjectPublicKeyInfoRef};
use sec1::EcPrivateKey;
use serde_core::de::{Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::limits::MAX_KEY;
use super::private_key::{EC, MULTI_PRIME, P256, P384, P521, PrivateKey, RSA};
use crate::words::{Flaw, flaw};

type Bytes = Zeroizing<Vec<u8>>;

/// The public half of a key, encoded as `SubjectPublicKeyInfo`.
pub(super) fn public_key_info(jwk: &Map<String, Value>) -> Result<Vec<u8>, Flaw> {
    Members::of(jwk).public()?.encode()
}

/// Checks that a private JWK is the private half of a public one, and that its numbers belong together. Gives the
/// same key for PKCS#8; `None` for an RSA key without its primes, which PKCS#8 needs.
pub(super) fn check_private(jwk: &str, public: &Map<String, Value>) -> Result<Option<PrivateKey>, Flaw> {
    if jwk.len() > MAX_KEY {
        return Err(too_large(()));
    }
    let mut reader = serde_json::Deserializer::from_str(jwk);
    // The reader's own words might quote the key.
    let private = reader.deserialize_map(MembersVisitor).map_err(not_jwk)?;
    reader.end().map_err(not_jwk)?;
    let public = Members::of(public).public()?;
    if private.public()? != public {
        return Err(Flaw::new(OTHER_KEY));
    }
    // Comes first: it checks the public numbers, also of an RSA key without its primes.
    let public_key = public.encode()?;
    let Some(pkcs8) = private.pkcs8(&public)? else { return Ok(None) };
    PrivateKey::parse(pkcs8, &public_key).map(Some).map_err(|flaw| match public {
        // Both halves are of one curve, so nothing else can be wrong with it.
        Public::Ec { .. } => flaw!("a JWK whose private number d does not belong to its point (x, y)"),
        Public::Rsa { .. } => flaw,
    })
}

/// The members of a JWK that are texts. Of a private JWK, only those that are understood: [`TEXTS`].
#[derive(Default)]
struct Members<'a> {
    texts: BTreeMap<&'a str, &'a str>,
    /// Primes beyond two.
    has_oth: bool,
}

/// The names of the members that are understood.
const TEXTS: [&str; 12] = ["kty", "crv", "x", "y", "n", "e", "d", "p", "q", "dp", "dq", "qi"];

impl<'a> Members<'a> {
    fn of(jwk: &'a Map<String, Value>) -> Self {
        let texts = jwk.iter().filter_map(|(name, value)| Some((name.as_str(), value.as_str()?)));
        let mut members = Self::default();
        // `collect` would sort them, with 8 KiB of code of its own.
        members.texts.extend(texts);
        members
    }

    fn text(&self, name: &str) -> Result<&'a str, Flaw> {
        self.texts.get(name).copied().ok_or_else(|| flaw!("a JWK without the member {name}"))
    }

    fn bytes(&self, name: &str) -> Result<Bytes, Flaw> {
        decode(self.text(name)?, name)
    }

    fn public(&self) -> Result<Public<'a>, Flaw> {
        match self.text("kty")? {
            "EC" => {
                let crv = self.text("crv")?;
                let curve = CURVES.iter().find(|curve| curve.name == crv);
                let curve = curve.ok_or_else(|| flaw!("a JWK whose crv is not P-256, P-384 or P-521"))?;
                Ok(Public::Ec { curve, x: self.text("x")?, y: self.text("y")? })
            }
            "RSA" => Ok(Public::Rsa { n: self.text("n")?, e: self.text("e")? }),
            _ => Err(flaw!("a JWK whose kty is neither EC nor RSA")),
        }
    }

    /// PKCS#8; `None` without an RSA key's primes.
    fn pkcs8(&self, public: &Public<'_>) -> Result<Option<Bytes>, Flaw> {
        let d = self.bytes("d")?;
        let (oid, parameters, key) = match public {
            Public::Ec { curve, x, y } => {
                if d.len() != curve.length {
                    return Err(bad_member("d"));
                }
                let point = curve.point(x, y)?;
                let key = EcPrivateKey { private_key: &d, parameters: None, public_key: Some(&point) };
                (EC, AnyRef::from(&curve.oid), key.to_der())
            }
            Public::Rsa { n, e } => {
                if self.has_oth {
                    return Err(Flaw::new(MULTI_PRIME));
                }
                if !["p", "q", "dp", "dq", "qi"].iter().any(|name| self.texts.contains_key(name)) {
                    return Ok(None);
                }
                let (n, e) = (decode(n, "n")?, decode(e, "e")?);
                let (p, q) = (self.bytes("p")?, self.bytes("q")?);
                let (dp, dq, qi) = (self.bytes("dp")?, self.bytes("dq")?, self.bytes("qi")?);
                let key = RsaPrivateKey {
                    modulus: number(&n, "n")?,
                    public_exponent: number(&e, "e")?,
                    private_exponent: number(&d, "d")?,
                    prime1: number(&p, "p")?,
                    prime2: number(&q, "q")?,
                    exponent1: number(&dp, "dp")?,
                    exponent2: number(&dq, "dq")?,
                    coefficient: number(&qi, "qi")?,
                    other_prime_infos: None,
                };
                (RSA, AnyRef::NULL, key.to_der())
            }
        };
        let key = Zeroizing::new(key.map_err(too_large)?);
        let key = OctetStringRef::new(&key).map_err(too_large)?;
        let algorithm = AlgorithmIdentifierRef { oid, parameters: Some(parameters) };
        let pkcs8 = PrivateKeyInfoRef::new(algorithm, key).to_der().map_err(too_large)?;
        Ok(Some(Zeroizing::new(pkcs8)))
    }
}

/// Reads the members of a JWK without a copy: what is escaped is refused, and so is what stands there twice.
struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Members<'de>, M::Error> {
        let mut members = Members::default();
        while let Some(name) = map.next_key::<&str>()? {
            members.has_oth |= name == "oth";
            if !TEXTS.contains(&name) {
                map.next_value::<IgnoredAny>()?;
            } else if members.texts.insert(name, map.next_value()?).is_some() {
                return Err(Error::custom("twice"));
            }
        }
        Ok(members)
    }
}

/// A curve of RFC 7518, section 6.2.1.1.
#[derive(Debug, PartialEq, Eq)]
struct Curve {
    name: &'static str,
    oid: ObjectIdentifier,
    /// Bytes of a number.
    length: usize,
}

const CURVES: [Curve; 3] = [
    Curve { name: "P-256", oid: P256, length: 32 },
    Curve { name: "P-384", oid: P384, length: 48 },
    Curve { name: "P-521", oid: P521, length: 66 },
];

impl Curve {
    /// An uncompressed point: 4, x, y.
    fn point(&self, x: &str, y: &str) -> Result<Vec<u8>, Flaw> {
        let coordinate = |text, name| {
            let bytes = decode(text, name)?;
            if bytes.len() == self.length { Ok(bytes) } else { Err(bad_member(name)) }
        };
        Ok([&[4][..], &coordinate(x, "x")?, &coordinate(y, "y")?].concat())
    }
}

/// The members of a public key. Each number has one form in base64url, so that equal keys have equal texts.
#[derive(Debug, PartialEq, Eq)]
enum Public<'a> {
    Ec { curve: &'static Curve, x: &'a str, y: &'a str },
    Rsa { n: &'a str, e: &'a str },
}

impl Public<'_> {
    /// A `SubjectPublicKeyInfo`.
    fn encode(&self) -> Result<Vec<u8>, Flaw> {
        let (algorithm, key) = match self {
            Self::Ec { curve, x, y } => {
                let parameters = Some(AnyRef::from(&curve.oid));
                (AlgorithmIdentifierRef { oid: EC, parameters }, curve.point(x, y)?)
            }
            Self::Rsa { n, e } => {
                let (n, e) = (decode(n, "n")?, decode(e, "e")?);
                let key = RsaPublicKey { modulus: number(&n, "n")?, public_exponent: number(&e, "e")? };
                let key = key.to_der().map_err(too_large)?;
                (AlgorithmIdentifierRef { oid: RSA, parameters: Some(AnyRef::NULL) }, key)
            }
        };
        let subject_public_key = BitStringRef::from_bytes(&key).map_err(too_large)?;
        SubjectPublicKeyInfoRef { algorithm, subject_public_key }.to_der().map_err(too_large)
    }
}

fn decode(text: &str, name: &str) -> Result<Bytes, Flaw> {
    Base64UrlUnpadded::decode_vec(text).map(Zeroizing::new).map_err(|_| bad_member(name))
}

fn number<'a>(bytes: &'a [u8], name: &str) -> Result<UintRef<'a>, Flaw> {
    UintRef::new(bytes).map_err(|_| bad_member(name))
}

/// What is wrong with another key than that of the token. (No flaw quotes a key.)
pub(super) const OTHER_KEY: &str = "not the key that the token is bound to (cnf.jwk)";

fn not_jwk<E>(_: E) -> Flaw {
    flaw!("not a JWK: a JSON object whose members are strings without escapes, each there once")
}

fn too_large<E>(_: E) -> Flaw {
    flaw!("larger than {MAX_KEY} bytes")
}

fn bad_member(member: &str) -> Flaw {
    flaw!("a JWK whose member {member} is not base64url of the length that its type demands")
}
