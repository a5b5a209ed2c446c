//! Private keys: PKCS#8, unencrypted, and wiped from memory when dropped.

use der::Decode;
use der::asn1::{OctetStringRef, UintRef};
use der::oid::ObjectIdentifier;
use pkcs1::{RsaPrivateKey, RsaPublicKey};
use pkcs8::PrivateKeyInfoRef;
use pkcs8::spki::SubjectPublicKeyInfoRef;
use thiserror::Error;
use zeroize::Zeroizing;

const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const P521: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.35");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// A private key that belongs to a known public key.
pub struct PrivateKey {
    der: Zeroizing<Vec<u8>>,
}

impl PrivateKey {
    /// Checks that `der` is a PKCS#8 key and the private half of `public` (a DER
    /// `SubjectPublicKeyInfo`): RSA, P-256, P-384, P-521 or Ed25519.
    pub fn parse(der: Zeroizing<Vec<u8>>, public: &[u8]) -> Result<Self, KeyFlaw> {
        let private = PrivateKeyInfoRef::from_der(&der).map_err(|_| KeyFlaw::NotPkcs8)?;
        let public = SubjectPublicKeyInfoRef::from_der(public).map_err(|_| KeyFlaw::UnknownType)?;
        let algorithm = public.algorithm;
        if private.algorithm.oid != algorithm.oid {
            return Err(KeyFlaw::OtherCertificate);
        }
        let belongs = match (algorithm.oid, algorithm.parameters_oid().ok()) {
            (RSA, _) => rsa_belongs(private, public)?,
            (ED25519, _) => ed25519_belongs(private, public)?,
            (EC, Some(P256)) => {
                ec_belongs::<p256::SecretKey, p256::PublicKey>(private, public, |k| k.public_key())?
            }
            (EC, Some(P384)) => {
                ec_belongs::<p384::SecretKey, p384::PublicKey>(private, public, |k| k.public_key())?
            }
            (EC, Some(P521)) => {
                ec_belongs::<p521::SecretKey, p521::PublicKey>(private, public, |k| k.public_key())?
            }
            _ => return Err(KeyFlaw::UnknownType),
        };
        match belongs {
            true => Ok(Self { der }),
            false => Err(KeyFlaw::OtherCertificate),
        }
    }

    /// PKCS#8 DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }
}

fn rsa_belongs(private: PrivateKeyInfoRef<'_>, public: SubjectPublicKeyInfoRef<'_>) -> Result<bool, KeyFlaw> {
    let private = RsaPrivateKey::<UintRef<'_>>::from_der(private.private_key.as_bytes());
    let private = private.map_err(|_| KeyFlaw::NotPkcs8)?;
    let public = RsaPublicKey::<UintRef<'_>>::from_der(public.subject_public_key.raw_bytes());
    let public = public.map_err(|_| KeyFlaw::UnknownType)?;
    Ok(private.modulus == public.modulus && private.public_exponent == public.public_exponent)
}

fn ed25519_belongs(
    private: PrivateKeyInfoRef<'_>,
    public: SubjectPublicKeyInfoRef<'_>,
) -> Result<bool, KeyFlaw> {
    // RFC 8410, section 7: an OCTET STRING within the OCTET STRING.
    let seed = <&OctetStringRef>::from_der(private.private_key.as_bytes()).map_err(|_| KeyFlaw::NotPkcs8)?;
    let seed = seed.as_bytes().try_into().map_err(|_| KeyFlaw::NotPkcs8)?;
    let derived = ed25519_dalek::SigningKey::from_bytes(seed).verifying_key();
    Ok(derived.as_bytes() == public.subject_public_key.raw_bytes())
}

/// The curves' key types have no common trait for this, so the derivation comes along.
fn ec_belongs<'a, Private, Public>(
    private: PrivateKeyInfoRef<'a>,
    public: SubjectPublicKeyInfoRef<'a>,
    derive: fn(&Private) -> Public,
) -> Result<bool, KeyFlaw>
where
    Private: TryFrom<PrivateKeyInfoRef<'a>>,
    Public: TryFrom<SubjectPublicKeyInfoRef<'a>> + PartialEq,
{
    // A key of another curve does not parse as one of this curve.
    let same_curve = private.algorithm.parameters_oid().ok() == public.algorithm.parameters_oid().ok();
    if !same_curve {
        return Ok(false);
    }
    let private = Private::try_from(private).map_err(|_| KeyFlaw::NotPkcs8)?;
    let public = Public::try_from(public).map_err(|_| KeyFlaw::UnknownType)?;
    Ok(derive(&private) == public)
}

/// What is wrong with a key.
#[allow(missing_docs, reason = "the messages say what the variants mean")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum KeyFlaw {
    #[error("it is not an unencrypted PKCS#8 key")]
    NotPkcs8,
    #[error("the certificate's key is not RSA, P-256, P-384, P-521 or Ed25519")]
    UnknownType,
    #[error("it is not the key of the leaf certificate")]
    OtherCertificate,
}
