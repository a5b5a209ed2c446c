//! The structures of PKCS#12 (RFC 7292), of the CMS content types in it (RFC 5652) and of its
//! encryption (RFC 8018), as far as the helper writes them.

use der::asn1::{AnyRef, OctetStringRef};
use der::oid::ObjectIdentifier;
use der::{Sequence, ValueOrd};
use pkcs8::spki::{AlgorithmIdentifier, AlgorithmIdentifierRef};
use x509_cert::attr::Attributes;

macro_rules! object_identifiers {
    ($($name:ident = $value:literal;)*) => {
        $(pub(super) const $name: ObjectIdentifier = ObjectIdentifier::new_unwrap($value);)*
    };
}

object_identifiers! {
    DATA = "1.2.840.113549.1.7.1";
    ENCRYPTED_DATA = "1.2.840.113549.1.7.6";
    SHROUDED_KEY_BAG = "1.2.840.113549.1.12.10.1.2";
    CERTIFICATE_BAG = "1.2.840.113549.1.12.10.1.3";
    X509_CERTIFICATE = "1.2.840.113549.1.9.22.1";
    FRIENDLY_NAME = "1.2.840.113549.1.9.20";
    LOCAL_KEY_ID = "1.2.840.113549.1.9.21";
    TRUSTED_KEY_USAGE = "2.16.840.1.113894.746875.1.1";
    ANY_EXTENDED_KEY_USAGE = "2.5.29.37.0";
    PBES2 = "1.2.840.113549.1.5.13";
    PBKDF2 = "1.2.840.113549.1.5.12";
    HMAC_WITH_SHA256 = "1.2.840.113549.2.9";
    AES_256_CBC = "2.16.840.1.101.3.4.1.42";
    SHA256 = "2.16.840.1.101.3.4.2.1";
}

/// A whole file (RFC 7292, section 4). The standard makes the MAC optional; the helper does not.
#[derive(Sequence)]
pub(super) struct Pfx<'a> {
    /// 3.
    pub version: u8,
    /// [`DATA`] that holds an `AuthenticatedSafe`: a sequence of [`ContentInfo`].
    pub auth_safe: ContentInfo<'a>,
    pub mac_data: MacData<'a>,
}

/// RFC 5652, section 3.
#[derive(Sequence)]
pub(super) struct ContentInfo<'a> {
    /// Says what `content` is: [`DATA`], an octet string; [`ENCRYPTED_DATA`], an [`EncryptedData`].
    pub content_type: ObjectIdentifier,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    pub content: AnyRef<'a>,
}

/// RFC 5652, section 8.
#[derive(Sequence)]
pub(super) struct EncryptedData<'a> {
    /// 0.
    pub version: u8,
    pub content: EncryptedContentInfo<'a>,
}

/// RFC 5652, section 6.1.
#[derive(Sequence)]
pub(super) struct EncryptedContentInfo<'a> {
    /// [`DATA`].
    pub content_type: ObjectIdentifier,
    pub algorithm: Pbes2<'a>,
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT")]
    pub encrypted: &'a OctetStringRef,
}

/// The content of a [`SHROUDED_KEY_BAG`] (RFC 5208, section 6).
#[derive(Sequence)]
pub(super) struct EncryptedPrivateKey<'a> {
    pub algorithm: Pbes2<'a>,
    pub encrypted: &'a OctetStringRef,
}

/// RFC 7292, section 4.2. The contents of a safe are a sequence of them.
#[derive(Sequence)]
pub(super) struct SafeBag<'a> {
    /// Says what `value` is.
    pub id: ObjectIdentifier,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    pub value: AnyRef<'a>,
    pub attributes: Option<Attributes>,
}

/// RFC 7292, section 4.2.3.
#[derive(Sequence)]
pub(super) struct CertificateBag<'a> {
    /// [`X509_CERTIFICATE`].
    pub id: ObjectIdentifier,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    pub certificate: &'a OctetStringRef,
}

/// RFC 7292, section 4.
#[derive(Sequence)]
pub(super) struct MacData<'a> {
    pub mac: DigestInfo<'a>,
    pub salt: &'a OctetStringRef,
    #[asn1(default = "one")]
    pub iterations: u32,
}

fn one() -> u32 {
    1
}

/// RFC 8017, appendix A.2.4.
#[derive(Sequence)]
pub(super) struct DigestInfo<'a> {
    pub algorithm: AlgorithmIdentifierRef<'a>,
    pub digest: &'a OctetStringRef,
}

/// RFC 8018, appendix A.4: [`PBES2`] and its parameters.
pub(super) type Pbes2<'a> = AlgorithmIdentifier<Pbes2Parameters<'a>>;

/// RFC 8018, appendix A.4.
#[derive(Sequence, ValueOrd)]
pub(super) struct Pbes2Parameters<'a> {
    /// [`PBKDF2`].
    pub key_derivation: AlgorithmIdentifier<Pbkdf2Parameters<'a>>,
    /// [`AES_256_CBC`]; the octets are the initialization vector.
    pub encryption: AlgorithmIdentifier<&'a OctetStringRef>,
}

/// RFC 8018, appendix A.2.
#[derive(Sequence, ValueOrd)]
pub(super) struct Pbkdf2Parameters<'a> {
    pub salt: &'a OctetStringRef,
    pub iterations: u32,
    /// In bytes. Java writes it.
    pub key_length: Option<u16>,
    /// [`HMAC_WITH_SHA256`].
    pub prf: AlgorithmIdentifierRef<'a>,
}
