//! Private keys: PKCS#8, unencrypted, and wiped from memory when dropped.

use std::fmt;

use curve25519_dalek::EdwardsPoint;
use der::asn1::{OctetStringRef, UintRef};
use der::oid::ObjectIdentifier;
use der::{Decode, Encode};
use pkcs1::{RsaPrivateKey, RsaPublicKey};
use pkcs8::PrivateKeyInfoRef;
use pkcs8::spki::{AlgorithmIdentifierRef, SubjectPublicKeyInfoRef};
use sec1::EcPrivateKey;
use sha2::{Digest, Sha512};
use thiserror::Error;
use zeroize::Zeroizing;

use super::limits::MAX_KEY;
use super::rsa_key;

pub(super) const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
pub(super) const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
pub(super) const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
pub(super) const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
pub(super) const P521: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.35");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// A private key that belongs to a known public key.
pub(crate) struct PrivateKey {
    der: Zeroizing<Vec<u8>>,
    key_type: KeyType,
}

/// The types of keys that an SVID may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyType {
    /// RSA, with this many bits.
    Rsa(usize),
    /// On NIST's curve P-256.
    P256,
    /// On NIST's curve P-384.
    P384,
    /// On NIST's curve P-521.
    P521,
    /// RFC 8032.
    Ed25519,
}

impl fmt::Display for KeyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rsa(bits) => write!(f, "RSA {bits}"),
            Self::P256 => f.write_str("P-256"),
            Self::P384 => f.write_str("P-384"),
            Self::P521 => f.write_str("P-521"),
            Self::Ed25519 => f.write_str("Ed25519"),
        }
    }
}

impl PrivateKey {
    /// Checks that `der` is a PKCS#8 key and the private half of `public` (a DER
    /// `SubjectPublicKeyInfo`): RSA, P-256, P-384, P-521 or Ed25519.
    pub(crate) fn parse(der: Zeroizing<Vec<u8>>, public: &[u8]) -> Result<Self, KeyError> {
        if der.len() > MAX_KEY {
            return Err(KeyError::TooLarge);
        }
        let private = PrivateKeyInfoRef::from_der(&der).map_err(|_| KeyError::NotPkcs8)?;
        let public = SubjectPublicKeyInfoRef::from_der(public).map_err(|_| KeyError::UnknownType)?;
        let algorithm = public.algorithm;
        if private.algorithm.oid != algorithm.oid {
            return Err(KeyError::OtherCertificate);
        }
        let version_1 = encode_version_1(&private)?;
        let (key_type, belongs) = match (algorithm.oid, algorithm.parameters_oid().ok()) {
            (RSA, _) => rsa_belongs(private, public)?,
            (ED25519, _) => (KeyType::Ed25519, ed25519_belongs(private, public)?),
            (EC, Some(P256)) => (
                KeyType::P256,
                ec_belongs::<p256::SecretKey, p256::PublicKey>(private, public, |k| k.public_key())?,
            ),
            (EC, Some(P384)) => (
                KeyType::P384,
                ec_belongs::<p384::SecretKey, p384::PublicKey>(private, public, |k| k.public_key())?,
            ),
            (EC, Some(P521)) => (
                KeyType::P521,
                ec_belongs::<p521::SecretKey, p521::PublicKey>(private, public, |k| k.public_key())?,
            ),
            _ => return Err(KeyError::UnknownType),
        };
        if belongs { Ok(Self { der: version_1, key_type }) } else { Err(KeyError::OtherCertificate) }
    }

    /// Which kind of key it is.
    pub(crate) fn key_type(&self) -> KeyType {
        self.key_type
    }

    /// PKCS#8 DER, version 1: every TLS stack loads it.
    pub(crate) fn der(&self) -> &[u8] {
        &self.der
    }
}

/// Encodes a key without its attributes and without a public half beside the private one (RFC 5958
/// allows both; OpenSSL up to 3.0 loads no key that has the latter), and without the parameters that some
/// writers give Ed25519, which has none (RFC 8410, section 3).
fn encode_version_1(private: &PrivateKeyInfoRef<'_>) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let algorithm = match private.algorithm.oid {
        ED25519 => AlgorithmIdentifierRef { oid: ED25519, parameters: None },
        _ => private.algorithm,
    };
    let private = PrivateKeyInfoRef::new(algorithm, private.private_key);
    private.to_der().map(Zeroizing::new).map_err(|_| KeyError::NotPkcs8)
}

fn rsa_belongs(
    private: PrivateKeyInfoRef<'_>,
    public: SubjectPublicKeyInfoRef<'_>,
) -> Result<(KeyType, bool), KeyError> {
    let private = RsaPrivateKey::<UintRef<'_>>::from_der(private.private_key.as_bytes());
    let private = private.map_err(|_| KeyError::NotPkcs8)?;
    let public = RsaPublicKey::<UintRef<'_>>::from_der(public.subject_public_key.raw_bytes());
    let public = public.map_err(|_| KeyError::UnknownType)?;
    if private.other_prime_infos.is_some() {
        return Err(KeyError::MultiPrime);
    }
    let belongs = private.modulus == public.modulus && private.public_exponent == public.public_exponent;
    if belongs && !rsa_key::is_consistent(&private) {
        return Err(KeyError::Inconsistent);
    }
    let modulus = public.modulus.as_bytes();
    let leading_zeros = modulus.first().map_or(0, |byte| byte.leading_zeros() as usize);
    Ok((KeyType::Rsa(modulus.len() * 8 - leading_zeros), belongs))
}

fn ed25519_belongs(
    private: PrivateKeyInfoRef<'_>,
    public: SubjectPublicKeyInfoRef<'_>,
) -> Result<bool, KeyError> {
    // RFC 8410, section 7: an OCTET STRING within the OCTET STRING.
    let seed = <&OctetStringRef>::from_der(private.private_key.as_bytes()).map_err(|_| KeyError::NotPkcs8)?;
    let seed: &[u8; 32] = seed.as_bytes().try_into().map_err(|_| KeyError::NotPkcs8)?;
    // RFC 8032, section 5.1.5.
    let hash = Zeroizing::new(<[u8; 64]>::from(Sha512::digest(seed)));
    let (scalar, _) = hash.split_first_chunk().ok_or(KeyError::NotPkcs8)?;
    let derived = EdwardsPoint::mul_base_clamped(*scalar).compress();
    // TLS stacks refuse a key whose embedded public half belongs to another key.
    let embedded = private.public_key.as_ref().map(|embedded| embedded.raw_bytes());
    let consistent = embedded.is_none_or(|embedded| embedded == derived.as_bytes());
    Ok(consistent && derived.as_bytes() == public.subject_public_key.raw_bytes())
}

/// `derive` gives the public half of a private key: the curves' types have no common trait for it.
fn ec_belongs<'a, Private, Public>(
    private: PrivateKeyInfoRef<'a>,
    public: SubjectPublicKeyInfoRef<'a>,
    derive: fn(&Private) -> Public,
) -> Result<bool, KeyError>
where
    Private: TryFrom<PrivateKeyInfoRef<'a>>,
    Public: TryFrom<SubjectPublicKeyInfoRef<'a>> + PartialEq,
{
    // A key of another curve does not parse as one of this curve.
    let same_curve = private.algorithm.parameters_oid().ok() == public.algorithm.parameters_oid().ok();
    if !same_curve {
        return Ok(false);
    }
    let embedded = EcPrivateKey::from_der(private.private_key.as_bytes()).ok().and_then(|key| key.public_key);
    // This also proves that an embedded public half is the private one's.
    let private = Private::try_from(private).map_err(|_| KeyError::NotPkcs8)?;
    if embedded == Some(public.subject_public_key.raw_bytes()) {
        return Ok(true);
    }
    let public = Public::try_from(public).map_err(|_| KeyError::UnknownType)?;
    Ok(derive(&private) == public)
}

/// Why a key is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum KeyError {
    #[error("not an unencrypted PKCS#8 key")]
    NotPkcs8,
    #[error("larger than {MAX_KEY} bytes")]
    TooLarge,
    #[error("an RSA key with more than two primes, which most TLS stacks cannot use")]
    MultiPrime,
    #[error("an RSA key whose numbers do not belong together (n = pq, d, dp, dq, qinv)")]
    Inconsistent,
    #[error("the leaf's key is not RSA, P-256, P-384, P-521 or Ed25519")]
    UnknownType,
    #[error("not the key of the leaf certificate")]
    OtherCertificate,
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
                assert_eq!(PrivateKey::parse(of(8), &public).err(), Some(KeyError::OtherCertificate));
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
        assert_eq!(PrivateKey::parse(of(8), &public).err(), Some(KeyError::OtherCertificate));
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
        assert_eq!(error, Some(KeyError::OtherCertificate));
    }

    #[test]
    fn a_key_over_the_limit_is_refused_unread() {
        let key = Zeroizing::new(vec![0; MAX_KEY + 1]);
        assert_eq!(PrivateKey::parse(key, &[]).err(), Some(KeyError::TooLarge));
    }

    #[test]
    fn a_key_of_a_type_that_no_svid_has_is_refused() {
        let x25519 = ObjectIdentifier::new_unwrap("1.3.101.110");
        let public = public(x25519, None, &[7; 32]);
        let private = private(x25519, None, &[&[4, 32][..], &[7; 32]].concat());
        assert_eq!(PrivateKey::parse(private, &public).err(), Some(KeyError::UnknownType));
    }
}
