//! The public key of a CA certificate as a JSON Web Key (RFC 7517; RFC 7518, section 6).

use base64ct::{Base64UrlUnpadded, Encoding};
use der::asn1::UintRef;
use der::{Decode, Encode};
use p256::elliptic_curve::sec1::{ModulusSize, ToSec1Point};
use p256::elliptic_curve::{CurveArithmetic, FieldBytesSize, PublicKey};
use pkcs1::RsaPublicKey;
use pkcs8::spki::SubjectPublicKeyInfoRef;

use super::certificate::Certificate;
use super::private_key::{EC, P256, P384, P521, RSA};

/// A member of a JSON Web Key: name and value. Neither needs an escape in JSON.
pub(crate) type Member = (&'static str, String);

/// The members of a certificate's public key: RSA, P-256, P-384 or P-521. `None`: it is of another kind, or no
/// point of its curve.
pub(crate) fn members(certificate: &[u8]) -> Option<Vec<Member>> {
    let certificate = Certificate::parse(certificate, 0).ok()?;
    let public = certificate.fields().subject_public_key_info().to_der().ok()?;
    let public = SubjectPublicKeyInfoRef::from_der(&public).ok()?;
    match (public.algorithm.oid, public.algorithm.parameters_oid().ok()) {
        (RSA, _) => rsa(public.subject_public_key.raw_bytes()),
        (EC, Some(P256)) => ec::<p256::NistP256>("P-256", public),
        (EC, Some(P384)) => ec::<p384::NistP384>("P-384", public),
        (EC, Some(P521)) => ec::<p521::NistP521>("P-521", public),
        _ => None,
    }
}

/// The numbers have no leading zeros.
fn rsa(public: &[u8]) -> Option<Vec<Member>> {
    let public = RsaPublicKey::<UintRef<'_>>::from_der(public).ok()?;
    let [n, e] = [public.modulus, public.public_exponent].map(|number| encode(number.as_bytes()));
    Some(vec![("kty", "RSA".to_owned()), ("n", n), ("e", e)])
}

/// Both coordinates have their full length.
fn ec<'a, Curve: CurveArithmetic>(name: &str, public: SubjectPublicKeyInfoRef<'a>) -> Option<Vec<Member>>
where
    PublicKey<Curve>: TryFrom<SubjectPublicKeyInfoRef<'a>> + ToSec1Point<Curve>,
    FieldBytesSize<Curve>: ModulusSize,
{
    let point = PublicKey::<Curve>::try_from(public).ok()?.to_sec1_point(false);
    let (x, y) = (point.x()?, point.y()?);
    Some(vec![("kty", "EC".to_owned()), ("crv", name.to_owned()), ("x", encode(x)), ("y", encode(y))])
}

fn encode(bytes: &[u8]) -> String {
    Base64UrlUnpadded::encode_string(bytes)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    #[test]
    fn coordinates_have_their_full_length_when_they_begin_with_zero() {
        let begins_with_zero = |key: &KeyPair| key.public_key_raw()[1] == 0;
        let mut keys = std::iter::repeat_with(|| KeyPair::generate().unwrap());
        let key = keys.find(begins_with_zero).unwrap();
        let certificate = CertificateParams::default().self_signed(&key).unwrap();
        let members = members(certificate.der()).unwrap();
        let x = members.iter().find(|(name, _)| *name == "x").unwrap();
        assert_eq!(Base64UrlUnpadded::decode_vec(&x.1).unwrap(), key.public_key_raw()[1..33]);
    }
}
