//! Encodes keystores.

use der::asn1::{Any, AnyRef, BmpString, OctetStringRef, SetOfVec};
use der::oid::ObjectIdentifier;
use der::{Decode, Encode, Tag};
use sha2::{Digest, Sha256};
use x509_cert::attr::{Attribute, Attributes};
use zeroize::Zeroizing;

use super::asn1::{self, CertificateBag, SafeBag};
use super::error::Pkcs12Error;
use super::nested::{EXPLICIT, IMPLICIT_OCTETS, Nested};
use super::password::Password;
use super::protection::{self, Salts};

/// The alias of key and chain.
const ALIAS: &str = "svid";
/// More bytes than are put around one certificate or key, or around all of them.
const OVERHEAD: usize = 256;

/// Encodes a private key (PKCS#8 version 1) and its certificate chain (DER, leaf first), under the
/// alias `svid`.
///
/// Java puts the chain together by the names of subject and issuer: it drops what comes after a
/// certificate whose two names are the same, even if that is not the chain's last.
pub(crate) fn key_store(
    key: &[u8],
    chain: &[&[u8]],
    password: &Password,
) -> Result<Zeroizing<Vec<u8>>, Pkcs12Error> {
    let (leaf, intermediates) = chain.split_first().ok_or(Pkcs12Error::NoCertificate)?;
    let salts = Salts::new(key, chain.iter().copied());
    // By the identifier, a reader finds the certificate that belongs to the key.
    let key_id = Any::new(Tag::OctetString, Sha256::digest(leaf).as_slice())?;
    let of_the_key = attributes([friendly_name(ALIAS)?, (asn1::LOCAL_KEY_ID, key_id)])?;
    let key = key_safe(key, &of_the_key, password, &salts)?;

    let mut file = Nested::with_room_for(room_for(chain.iter().copied()) + key.len());
    file.append(&certificate_bag(leaf, Some(of_the_key))?);
    for intermediate in intermediates {
        file.append(&certificate_bag(intermediate, None)?);
    }
    wrap_in_encrypted_safe(&mut file, password, &salts)?;
    file.append(&key);
    finish(file, password, &salts)
}

/// Encodes CAs (DER) as trusted certificates, under the aliases `ca-1`, `ca-2` and so on.
pub(crate) fn trust_store<'a>(
    authorities: impl Iterator<Item = &'a [u8]> + Clone,
    password: &Password,
) -> Result<Zeroizing<Vec<u8>>, Pkcs12Error> {
    let mut file = Nested::with_room_for(room_for(authorities.clone()));
    for (number, authority) in (1..).zip(authorities.clone()) {
        // Each needs an alias of its own: of two with the same, Java sees one. And Java takes a
        // certificate without a key for trusted only with this attribute of Oracle's.
        let usage = Any::encode_from(&asn1::ANY_EXTENDED_KEY_USAGE)?;
        let attributes =
            attributes([friendly_name(&format!("ca-{number}"))?, (asn1::TRUSTED_KEY_USAGE, usage)])?;
        file.append(&certificate_bag(authority, Some(attributes))?);
    }
    if file.value().is_empty() {
        return Err(Pkcs12Error::NoCertificate);
    }
    let salts = Salts::new(&[], authorities);
    wrap_in_encrypted_safe(&mut file, password, &salts)?;
    finish(file, password, &salts)
}

pub(super) fn room_for<'a>(certificates: impl Iterator<Item = &'a [u8]>) -> usize {
    certificates.map(|certificate| certificate.len() + OVERHEAD).sum::<usize>() + OVERHEAD
}

fn attributes<const N: usize>(attributes: [(ObjectIdentifier, Any); N]) -> der::Result<Attributes> {
    let mut set = SetOfVec::new();
    for (oid, value) in attributes {
        set.insert(Attribute { oid, values: SetOfVec::try_from([value])? })?;
    }
    Ok(set)
}

fn friendly_name(name: &str) -> der::Result<(ObjectIdentifier, Any)> {
    Ok((asn1::FRIENDLY_NAME, Any::encode_from(&BmpString::from_utf8(name)?)?))
}

fn certificate_bag(der: &[u8], attributes: Option<Attributes>) -> der::Result<Vec<u8>> {
    let certificate = CertificateBag { id: asn1::X509_CERTIFICATE, certificate: OctetStringRef::new(der)? };
    let value = certificate.to_der()?;
    SafeBag { id: asn1::CERTIFICATE_BAG, value: AnyRef::from_der(&value)?, attributes }.to_der()
}

/// A safe that is not encrypted, with the key, which is: a `ContentInfo`.
fn key_safe(
    key: &[u8],
    attributes: &Attributes,
    password: &Password,
    salts: &Salts,
) -> der::Result<Zeroizing<Vec<u8>>> {
    let mut safe = Nested::with_room_for(key.len() + OVERHEAD);
    safe.append(key);
    let [salt, iv] = ["key: salt", "key: iv"].map(|purpose| salts.salt(purpose));
    protection::encrypt(&mut safe, password, &salt, &iv);
    // EncryptedPrivateKey
    safe.wrap(Tag::OctetString)?;
    safe.prepend(&protection::pbes2(&salt, &iv)?)?;
    safe.wrap(Tag::Sequence)?;
    // SafeBag
    safe.wrap(EXPLICIT)?;
    safe.prepend(&asn1::SHROUDED_KEY_BAG)?;
    safe.append(&attributes.to_der()?);
    safe.wrap(Tag::Sequence)?;
    // SafeContents
    safe.wrap(Tag::Sequence)?;
    safe.wrap(Tag::OctetString)?;
    wrap_in_content_info(&mut safe, asn1::DATA)?;
    Ok(safe.finish())
}

/// From bags to an encrypted safe: a `ContentInfo`.
fn wrap_in_encrypted_safe(bags: &mut Nested, password: &Password, salts: &Salts) -> der::Result<()> {
    // SafeContents
    bags.wrap(Tag::Sequence)?;
    let [salt, iv] = ["certificates: salt", "certificates: iv"].map(|purpose| salts.salt(purpose));
    protection::encrypt(bags, password, &salt, &iv);
    // EncryptedContentInfo
    bags.wrap(IMPLICIT_OCTETS)?;
    bags.prepend(&protection::pbes2(&salt, &iv)?)?;
    bags.prepend(&asn1::DATA)?;
    bags.wrap(Tag::Sequence)?;
    // EncryptedData
    bags.prepend(&0u8)?;
    bags.wrap(Tag::Sequence)?;
    wrap_in_content_info(bags, asn1::ENCRYPTED_DATA)
}

fn wrap_in_content_info(content: &mut Nested, content_type: ObjectIdentifier) -> der::Result<()> {
    content.wrap(EXPLICIT)?;
    content.prepend(&content_type)?;
    content.wrap(Tag::Sequence)
}

/// From safes to a file, with a MAC.
fn finish(mut safes: Nested, password: &Password, salts: &Salts) -> Result<Zeroizing<Vec<u8>>, Pkcs12Error> {
    // AuthenticatedSafe
    safes.wrap(Tag::Sequence)?;
    let salt = salts.salt("mac: salt");
    let mac = protection::mac(safes.value(), password, &salt);
    safes.wrap(Tag::OctetString)?;
    wrap_in_content_info(&mut safes, asn1::DATA)?;
    // PFX
    safes.prepend(&3u8)?;
    safes.append(&protection::mac_data(&mac, &salt)?.to_der()?);
    safes.wrap(Tag::Sequence)?;
    Ok(safes.finish())
}
