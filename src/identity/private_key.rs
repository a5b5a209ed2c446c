//! Private keys: PKCS#8, unencrypted, and wiped from memory when dropped.

use std::fmt;

use curve25519_dalek::EdwardsPoint;
use der::asn1::{AnyRef, OctetStringRef, UintRef};
use der::oid::ObjectIdentifier;
use der::{Decode, Encode};
use p256::elliptic_curve::{CurveArithmetic, PublicKey, SecretKey};
use pkcs1::{RsaPrivateKey, RsaPublicKey};
use pkcs8::PrivateKeyInfoRef;
use pkcs8::spki::{AlgorithmIdentifierRef, SubjectPublicKeyInfoRef};
use sec1::EcPrivateKey;
use sha2::{Digest, Sha512};
use zeroize::Zeroizing;

use super::limits::MAX_KEY;
use super::rsa_key;
use crate::words::{Flaw, flaw};

pub(super) const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
pub(super) const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
pub(super) const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
pub(super) const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
pub(super) const P521: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.35");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// A private key that belongs to a known public key, as far as that can be checked.
pub(crate) struct PrivateKey {
    der: Zeroizing<Vec<u8>>,
    key_type: KeyType,
}

/// The types of keys that an SVID may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyType {
    /// RSA, with this many bits.
    Rsa(usize),
    /// On one of NIST's curves, or Ed25519 (RFC 8032).
    Elliptic(&'static str),
    /// The algorithm, or the curve, of a type that we cannot check.
    Unknown(ObjectIdentifier),
}

impl fmt::Display for KeyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rsa(bits) => write!(f, "RSA {bits}"),
            Self::Elliptic(curve) => f.write_str(curve),
            Self::Unknown(oid) => write!(f, "{oid} (not known to this helper)"),
        }
    }
}

impl PrivateKey {
    /// Checks that `der` is a PKCS#8 key and the private half of `public` (a DER
    /// `SubjectPublicKeyInfo`): RSA, P-256, P-384, P-521 or Ed25519. Of another type, it must have the same
    /// algorithm with the same parameters. To refuse that would be an outage on the day an agent is updated.
    pub(crate) fn parse(der: Zeroizing<Vec<u8>>, public: &[u8]) -> Result<Self, Flaw> {
        if der.len() > MAX_KEY {
            return Err(flaw!("larger than {MAX_KEY} bytes"));
        }
        let private = PrivateKeyInfoRef::from_der(&der).map_err(not_pkcs8)?;
        let public = SubjectPublicKeyInfoRef::from_der(public).map_err(unreadable_public)?;
        let algorithm = public.algorithm;
        if private.algorithm.oid != algorithm.oid {
            return Err(Flaw::new(OTHER_KEY));
        }
        let version_1 = encode_version_1(&private)?;
        let (key_type, belongs) = match (algorithm.oid, algorithm.parameters_oid().ok()) {
            (RSA, _) => rsa_belongs(private, public)?,
            // RFC 8410, section 3: it has none, and TLS stacks load no such leaf.
            (ED25519, _) if algorithm.parameters.is_some() => return Err(unreadable_public(())),
            (ED25519, _) => (KeyType::Elliptic("Ed25519"), ed25519_belongs(private, public)?),
            (EC, Some(P256)) => (KeyType::Elliptic("P-256"), ec_belongs::<p256::NistP256>(private, public)?),
            (EC, Some(P384)) => (KeyType::Elliptic("P-384"), ec_belongs::<p384::NistP384>(private, public)?),
            (EC, Some(P521)) => (KeyType::Elliptic("P-521"), ec_belongs::<p521::NistP521>(private, public)?),
            (EC, None) => return Err(unreadable_public(())),
            _ if private.algorithm != algorithm => return Err(Flaw::new(OTHER_KEY)),
            (oid, parameters) => {
                let oid = parameters.filter(|_| oid == EC).unwrap_or(oid);
                return Ok(Self { der, key_type: KeyType::Unknown(oid) });
            }
        };
        if belongs { Ok(Self { der: version_1, key_type }) } else { Err(Flaw::new(OTHER_KEY)) }
    }

    /// Which kind of key it is.
    pub(crate) fn key_type(&self) -> KeyType {
        self.key_type
    }

    /// PKCS#8 DER, version 1: every TLS stack loads it. Of an unknown type, as it came: what its readers need of
    /// it is unknown, too.
    pub(crate) fn der(&self) -> &[u8] {
        &self.der
    }
}

/// Encodes a key without its attributes and without a public half beside the private one (RFC 5958
/// allows both; OpenSSL up to 3.0 loads no key that has the latter), and with the parameters that its algorithm
/// has, whatever came: Ed25519 has none (RFC 8410, section 3), RSA has NULL (RFC 3279, section 2.3.1). OpenSSL
/// loads no key with others.
fn encode_version_1(private: &PrivateKeyInfoRef<'_>) -> Result<Zeroizing<Vec<u8>>, Flaw> {
    let algorithm = match private.algorithm.oid {
        ED25519 => AlgorithmIdentifierRef { oid: ED25519, parameters: None },
        RSA => AlgorithmIdentifierRef { oid: RSA, parameters: Some(AnyRef::NULL) },
        _ => private.algorithm,
    };
    let private = PrivateKeyInfoRef::new(algorithm, private.private_key);
    private.to_der().map(Zeroizing::new).map_err(not_pkcs8)
}

fn rsa_belongs(
    private: PrivateKeyInfoRef<'_>,
    public: SubjectPublicKeyInfoRef<'_>,
) -> Result<(KeyType, bool), Flaw> {
    let private = RsaPrivateKey::<UintRef<'_>>::from_der(private.private_key.as_bytes());
    let private = private.map_err(not_pkcs8)?;
    let public = RsaPublicKey::<UintRef<'_>>::from_der(public.subject_public_key.raw_bytes());
    let public = public.map_err(unreadable_public)?;
    if private.other_prime_infos.is_some() {
        return Err(Flaw::new(MULTI_PRIME));
    }
    let belongs = private.modulus == public.modulus && private.public_exponent == public.public_exponent;
    if belongs && !rsa_key::is_consistent(&private) {
        return Err(flaw!("an RSA key whose numbers do not belong together (n = pq, d, dp, dq, qinv)"));
    }
    let modulus = public.modulus.as_bytes();
    let leading_zeros = modulus.first().map_or(0, |byte| byte.leading_zeros() as usize);
    Ok((KeyType::Rsa(modulus.len() * 8 - leading_zeros), belongs))
}

fn ed25519_belongs(
    private: PrivateKeyInfoRef<'_>,
    public: SubjectPublicKeyInfoRef<'_>,
) -> Result<bool, Flaw> {
    // RFC 8410, section 7: an OCTET STRING within the OCTET STRING.
    let seed = <&OctetStringRef>::from_der(private.private_key.as_bytes()).map_err(not_pkcs8)?;
    let seed: &[u8; 32] = seed.as_bytes().try_into().map_err(not_pkcs8)?;
    // RFC 8032, section 5.1.5.
    let hash = Zeroizing::new(<[u8; 64]>::from(Sha512::digest(seed)));
    let (scalar, _) = hash.split_first_chunk().ok_or_else(|| not_pkcs8(()))?;
    let derived = EdwardsPoint::mul_base_clamped(*scalar).compress();
    // TLS stacks refuse a key whose embedded public half belongs to another key.
    let embedded = private.public_key.as_ref().map(|embedded| embedded.raw_bytes());
    let consistent = embedded.is_none_or(|embedded| embedded == derived.as_bytes());
    Ok(consistent && derived.as_bytes() == public.subject_public_key.raw_bytes())
}

fn ec_belongs<'a, Curve: CurveArithmetic>(
    private: PrivateKeyInfoRef<'a>,
    public: SubjectPublicKeyInfoRef<'a>,
) -> Result<bool, Flaw>
where
    SecretKey<Curve>: TryFrom<PrivateKeyInfoRef<'a>>,
    PublicKey<Curve>: TryFrom<SubjectPublicKeyInfoRef<'a>>,
{
    // A key of another curve does not parse as one of this curve.
    let same_curve = private.algorithm.parameters_oid().ok() == public.algorithm.parameters_oid().ok();
    if !same_curve {
        return Ok(false);
    }
    let embedded = EcPrivateKey::from_der(private.private_key.as_bytes()).ok().and_then(|key| key.public_key);
    // This also proves that an embedded public half is the private one's.
    let private = SecretKey::<Curve>::try_from(private).map_err(not_pkcs8)?;
    if embedded == Some(public.subject_public_key.raw_bytes()) {
        return Ok(true);
    }
    let public = PublicKey::try_from(public).map_err(unreadable_public)?;
    Ok(private.public_key() == public)
}

/// What is wrong with the private half of another key.
const OTHER_KEY: &str = "not the key of the leaf certificate";

/// What is wrong with an RSA key of more than two primes.
pub(super) const MULTI_PRIME: &str = "an RSA key with more than two primes, which most TLS stacks cannot use";

fn not_pkcs8<E>(_: E) -> Flaw {
    flaw!("not an unencrypted PKCS#8 key")
}

/// What is wrong with the other half of a key.
pub(super) fn unreadable_public<E>(_: E) -> Flaw {
    flaw!("the leaf's public key cannot be read")
}

#[cfg(test)]
mod tests {
    use super::*;
    use der::asn1::BitStringRef;

    /// A `SubjectPublicKeyInfo`.
    fn public(oid: ObjectIdentifier, curve: Option<ObjectIdentifier>, key: &[u8]) -> Vec<u8> {
        let algorithm = AlgorithmIdentifierRef { oid, parameters: curve.as_ref().map(Into::into) };
        let subject_public_key = BitStringRef::from_bytes(key).unwrap();
        SubjectPublicKeyInfoRef { algorithm, subject_public_key }.to_der().unwrap()
    }

    /// A PKCS#8 key without its public half.
    fn private(oid: ObjectIdentifier, curve: Option<ObjectIdentifier>, key: &[u8]) -> Zeroizing<Vec<u8>> {
        let algorithm = AlgorithmIdentifierRef { oid, parameters: curve.as_ref().map(Into::into) };
        let info = PrivateKeyInfoRef::new(algorithm, OctetStringRef::new(key).unwrap());
        Zeroizing::new(info.to_der().unwrap())
    }

    /// An RFC 5915 `ECPrivateKey` of version and scalar alone.
    fn scalar_alone(length: usize, last: u8) -> Vec<u8> {
        let mut scalar = vec![0; length];
        scalar[length - 1] = last;
        let sec1 = [&[2, 1, 1, 4, length as u8][..], &scalar].concat();
        [&[0x30, sec1.len() as u8][..], &sec1].concat()
    }

    macro_rules! a_curve {
        ($name:ident: $curve:ident, $oid:ident, $length:literal) => {
            #[test]
            fn $name() {
                use p256::elliptic_curve::sec1::ToSec1Point;
                let mut scalar = [0; $length];
                scalar[$length - 1] = 7;
                let point = $curve::SecretKey::from_slice(&scalar).unwrap().public_key().to_sec1_point(false);
                let public = public(EC, Some($oid), point.as_bytes());
                let of = |last| private(EC, Some($oid), &scalar_alone($length, last));
                assert!(PrivateKey::parse(of(7), &public).is_ok());
                assert_eq!(PrivateKey::parse(of(8), &public).err(), Some(Flaw::new(OTHER_KEY)));
            }
        };
    }

    a_curve!(a_p256_key_without_its_public_half_is_matched: p256, P256, 32);
    a_curve!(a_p384_key_without_its_public_half_is_matched: p384, P384, 48);
    a_curve!(a_p521_key_without_its_public_half_is_matched: p521, P521, 66);

    #[test]
    fn an_ed25519_key_without_its_public_half_is_matched() {
        let key = |byte| ed25519_dalek::SigningKey::from_bytes(&[byte; 32]);
        let public = public(ED25519, None, key(7).verifying_key().as_bytes());
        let of = |byte| private(ED25519, None, &[&[4, 32][..], &[byte; 32]].concat());
        assert!(PrivateKey::parse(of(7), &public).is_ok());
        assert_eq!(PrivateKey::parse(of(8), &public).err(), Some(Flaw::new(OTHER_KEY)));
    }

    #[test]
    fn an_ed25519_leaf_with_parameters_is_refused() {
        let key = ed25519_dalek::SigningKey::from_bytes(&[7; 32]).verifying_key();
        let private = private(ED25519, None, &[&[4, 32][..], &[7; 32]].concat());
        let of = |parameters| {
            PrivateKey::parse(private.clone(), &public(ED25519, parameters, key.as_bytes())).err()
        };
        assert_eq!((of(None), of(Some(P256))), (None, Some(unreadable_public(()))));
    }

    /// A PKCS#8 version 2 key, with its public half and an empty set of attributes.
    #[test]
    fn a_version_2_key_is_handed_on_as_version_1() {
        let key = ed25519_dalek::SigningKey::from_bytes(&[7; 32]).verifying_key();
        let public = public(ED25519, None, key.as_bytes());
        let version_1 = private(ED25519, None, &[&[4, 32][..], &[7; 32]].concat());
        let with_half = |half: &[u8]| {
            let mut version_2 = version_1.to_vec();
            version_2[4] = 1;
            version_2.extend([&[0xa0, 0, 0x81, 33, 0][..], half].concat());
            version_2[1] = version_2.len() as u8 - 2;
            Zeroizing::new(version_2)
        };
        let parsed = PrivateKey::parse(with_half(key.as_bytes()), &public).ok().unwrap();
        assert_eq!(parsed.der(), version_1.as_slice());
        let error = PrivateKey::parse(with_half(&[1; 32]), &public).err();
        assert_eq!(error, Some(Flaw::new(OTHER_KEY)));
    }

    #[test]
    fn an_rsa_key_is_handed_on_with_the_parameters_of_its_algorithm_whatever_came() {
        for parameters in [None, Some(P256)] {
            let der = private(RSA, parameters, b"whatever");
            let written = encode_version_1(&PrivateKeyInfoRef::from_der(&der).unwrap()).unwrap();
            let algorithm = PrivateKeyInfoRef::from_der(&written).unwrap().algorithm;
            assert_eq!(algorithm, AlgorithmIdentifierRef { oid: RSA, parameters: Some(AnyRef::NULL) });
        }
    }

    #[test]
    fn a_key_over_the_limit_is_refused_unread() {
        let key = Zeroizing::new(vec![0; MAX_KEY + 1]);
        assert_eq!(PrivateKey::parse(key, &[]).err(), Some(flaw!("larger than {MAX_KEY} bytes")));
    }

    const ML_DSA_44: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.3.17");

    #[test]
    fn a_key_of_an_unknown_type_is_handed_on_as_it_is_and_named_by_its_oid() {
        let public = public(ML_DSA_44, None, &[7; 1312]);
        let version_1 = private(ML_DSA_44, None, b"whatever");
        let mut version_2 = version_1.to_vec();
        version_2[4] = 1;
        // The public half.
        version_2.extend([0x81, 3, 0, 7, 7]);
        version_2[1] += 5;
        for key in [version_1.to_vec(), version_2] {
            let parsed = PrivateKey::parse(Zeroizing::new(key.clone()), &public).ok().unwrap();
            assert_eq!(parsed.der(), key);
            assert_eq!(parsed.key_type().to_string(), "2.16.840.1.101.3.4.3.17 (not known to this helper)");
        }
    }

    #[test]
    fn a_key_on_an_unknown_curve_is_named_by_its_curve() {
        let secp256k1 = ObjectIdentifier::new_unwrap("1.3.132.0.10");
        let public = public(EC, Some(secp256k1), &[4; 65]);
        let parsed = PrivateKey::parse(private(EC, Some(secp256k1), &scalar_alone(32, 7)), &public);
        assert_eq!(parsed.ok().unwrap().key_type(), KeyType::Unknown(secp256k1));
    }

    #[test]
    fn a_key_of_an_unknown_type_with_another_algorithm_or_other_parameters_is_refused() {
        let ml_dsa_65 = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.3.18");
        let secp256k1 = ObjectIdentifier::new_unwrap("1.3.132.0.10");
        let ml_dsa = public(ML_DSA_44, None, &[7; 1312]);
        for other in [
            private(ml_dsa_65, None, b"whatever"),
            private(ML_DSA_44, Some(P256), b"whatever"),
            private(ED25519, None, &[&[4, 32][..], &[7; 32]].concat()),
        ] {
            assert_eq!(PrivateKey::parse(other, &ml_dsa).err(), Some(Flaw::new(OTHER_KEY)));
        }
        let public = public(EC, Some(secp256k1), &[4; 65]);
        let on_p256 = private(EC, Some(P256), &scalar_alone(32, 7));
        assert_eq!(PrivateKey::parse(on_p256, &public).err(), Some(Flaw::new(OTHER_KEY)));
    }

    #[test]
    fn an_elliptic_key_without_a_curve_is_refused() {
        let public = public(EC, None, &[4; 65]);
        let private = private(EC, None, &scalar_alone(32, 7));
        assert_eq!(PrivateKey::parse(private, &public).err(), Some(unreadable_public(())));
    }

    #[test]
    fn an_unknown_key_that_is_not_pkcs8_is_refused() {
        let public = public(ML_DSA_44, None, &[7; 1312]);
        let mut key = private(ML_DSA_44, None, b"whatever");
        key.push(0);
        assert_eq!(PrivateKey::parse(key, &public).err(), Some(not_pkcs8(())));
    }
}
