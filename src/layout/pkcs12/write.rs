//! Encodes keystores. The certificates go to the file one by one: a trust store may have megabytes of them.

use std::io::{self, Write};
use std::str::FromStr;

use der::asn1::{Any, AnyRef, BmpString, OctetStringRef, SetOfVec};
use der::oid::ObjectIdentifier;
use der::{Decode, Encode, Tag};
use sha2::{Digest, Sha256};
use x509_cert::attr::{Attribute, Attributes};

use super::asn1::{self, CertificateBag, ContentInfo, EncryptedPrivateKey, SafeBag};
use super::envelope::{EXPLICIT, Envelope, IMPLICIT_OCTETS};
use super::password::Password;
use super::protection::{self, Authenticated, Encrypted, Salt, Salts};
use crate::words::Flaw;

pub(super) const NO_CERTIFICATE: &str = "there is no certificate to put into the keystore";

/// The alias of key and chain: printable ASCII.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Alias(String);

impl FromStr for Alias {
    type Err = Flaw;

    fn from_str(text: &str) -> Result<Self, Flaw> {
        let is_printable = !text.is_empty() && text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        is_printable.then(|| Self(text.to_owned())).ok_or(Flaw::obvious())
    }
}

/// Writes a private key (PKCS#8) and its certificate chain (DER, leaf first), under an alias.
///
/// Java puts the chain together by the names of subject and issuer: it drops what comes after a
/// certificate whose two names are the same, even if that is not the chain's last.
pub(crate) fn key_store(
    key: &[u8],
    chain: &[&[u8]],
    alias: &Alias,
    password: &Password,
    out: &mut dyn Write,
) -> io::Result<()> {
    let salts = Salts::new(key, chain.iter().copied());
    let of_the_key = attributes_of_key(chain, alias).map_err(io::Error::other)?;
    let key_safe = key_safe(key, &of_the_key, password, &salts).map_err(io::Error::other)?;
    let bags = chain.iter().enumerate().map(|(index, certificate)| {
        let attributes = (index == 0).then(|| of_the_key.clone());
        certificate_bag(certificate, attributes)
    });
    write(bags, &key_safe, password, &salts, out)
}

/// Writes CAs (DER) as trusted certificates, under the aliases `ca-1`, `ca-2` and so on.
pub(crate) fn trust_store<'a>(
    authorities: impl Iterator<Item = &'a [u8]> + Clone,
    password: &Password,
    out: &mut dyn Write,
) -> io::Result<()> {
    let salts = Salts::new(&[], authorities.clone());
    let bags = (1..).zip(authorities).map(|(number, authority)| authority_bag(number, authority));
    write(bags, &[], password, &salts, out)
}

/// By the identifier among them, a reader finds the certificate that belongs to the key.
fn attributes_of_key(chain: &[&[u8]], alias: &Alias) -> der::Result<Attributes> {
    let leaf = chain.first().copied().unwrap_or_default();
    let key_id = Any::new(Tag::OctetString, Sha256::digest(leaf).as_slice())?;
    attributes([friendly_name(&alias.0)?, (asn1::LOCAL_KEY_ID, key_id)])
}

/// Each needs an alias of its own: of two with the same, Java sees one. And Java takes a certificate
/// without a key for trusted only with Oracle's attribute.
fn authority_bag(number: usize, authority: &[u8]) -> der::Result<Vec<u8>> {
    let usage = Any::encode_from(&asn1::ANY_EXTENDED_KEY_USAGE)?;
    let alias = friendly_name(&format!("ca-{number}"))?;
    certificate_bag(authority, Some(attributes([alias, (asn1::TRUSTED_KEY_USAGE, usage)])?))
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
fn key_safe(key: &[u8], attributes: &Attributes, password: &Password, salts: &Salts) -> der::Result<Vec<u8>> {
    let [salt, iv] = ["key: salt", "key: iv"].map(|purpose| salts.salt(purpose));
    let mut encrypted = Vec::new();
    let mut encryption = Encrypted::new(password, &salt, &iv, &mut encrypted);
    encryption.write_all(key)?;
    encryption.finish()?;
    let encrypted = OctetStringRef::new(&encrypted)?;
    let shrouded = EncryptedPrivateKey { algorithm: protection::pbes2(&salt, &iv)?, encrypted }.to_der()?;
    let attributes = Some(attributes.clone());
    let bag = SafeBag { id: asn1::SHROUDED_KEY_BAG, value: AnyRef::from_der(&shrouded)?, attributes };
    let bags = vec![bag].to_der()?;
    ContentInfo { content_type: asn1::DATA, content: AnyRef::new(Tag::OctetString, &bags)? }.to_der()
}

/// Writes a file: a safe of certificates, which is encrypted, and perhaps another one.
fn write(
    certificates: impl Iterator<Item = der::Result<Vec<u8>>> + Clone,
    key_safe: &[u8],
    password: &Password,
    salts: &Salts,
    out: &mut dyn Write,
) -> io::Result<()> {
    let [salt, iv, mac_salt] =
        ["certificates: salt", "certificates: iv", "mac: salt"].map(|purpose| salts.salt(purpose));
    let lengths = certificates.clone().map(|bag| Ok(bag?.len()));
    let length = lengths.sum::<der::Result<usize>>().map_err(io::Error::other)?;
    if length == 0 {
        return Err(io::Error::other(NO_CERTIFICATE));
    }
    let layers = wrap(length, key_safe, [&salt, &iv, &mac_salt]).map_err(io::Error::other)?;
    out.write_all(&layers.plain.front)?;
    let mut authenticated = Authenticated::new(password, &mac_salt, out);
    authenticated.write_all(&layers.authenticated.front)?;
    let mut encrypted = Encrypted::new(password, &salt, &iv, &mut authenticated);
    encrypted.write_all(&layers.encrypted.front)?;
    for bag in certificates {
        encrypted.write_all(&bag.map_err(io::Error::other)?)?;
    }
    encrypted.finish()?;
    authenticated.write_all(&layers.authenticated.back)?;
    let mac = authenticated.finish();
    let mac_data = protection::mac_data(&mac, &mac_salt).and_then(|data| data.to_der());
    out.write_all(&mac_data.map_err(io::Error::other)?)
}

/// What stands around the certificates of a file.
struct Layers {
    /// Around the certificates.
    encrypted: Envelope,
    /// Around the encrypted certificates; the key's safe is behind them.
    authenticated: Envelope,
    /// Around what the MAC authenticates, with the MAC behind that.
    plain: Envelope,
}

/// The layers around certificates of this length.
fn wrap(length: usize, key_safe: &[u8], [salt, iv, mac_salt]: [&Salt; 3]) -> der::Result<Layers> {
    // SafeContents
    let mut encrypted = Envelope::around(length);
    encrypted.wrap(Tag::Sequence)?;
    // EncryptedContentInfo
    let mut authenticated = Envelope::around(protection::encrypted_length(encrypted.len()));
    authenticated.wrap(IMPLICIT_OCTETS)?;
    authenticated.prepend(&protection::pbes2(salt, iv)?)?;
    authenticated.prepend(&asn1::DATA)?;
    authenticated.wrap(Tag::Sequence)?;
    // EncryptedData
    authenticated.prepend(&0u8)?;
    authenticated.wrap(Tag::Sequence)?;
    wrap_in_content_info(&mut authenticated, asn1::ENCRYPTED_DATA)?;
    authenticated.append(key_safe);
    // AuthenticatedSafe
    authenticated.wrap(Tag::Sequence)?;
    let mut plain = Envelope::around(authenticated.len());
    plain.wrap(Tag::OctetString)?;
    wrap_in_content_info(&mut plain, asn1::DATA)?;
    // PFX
    plain.prepend(&3u8)?;
    // All MACs have the same length.
    plain.append(&protection::mac_data(&[0; 32], mac_salt)?.to_der()?);
    plain.wrap(Tag::Sequence)?;
    Ok(Layers { encrypted, authenticated, plain })
}

fn wrap_in_content_info(content: &mut Envelope, content_type: ObjectIdentifier) -> der::Result<()> {
    content.wrap(EXPLICIT)?;
    content.prepend(&content_type)?;
    content.wrap(Tag::Sequence)
}
