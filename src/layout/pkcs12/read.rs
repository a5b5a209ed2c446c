//! Decodes keystores.

use der::Decode;
use der::asn1::OctetStringRef;
use zeroize::Zeroizing;

use super::asn1::{
    self, CertificateBag, ContentInfo, EncryptedContentInfo, EncryptedData, EncryptedPrivateKey, Pfx, SafeBag,
};
use super::password::Password;
use super::protection;
use crate::words::{Flaw, flaw};

pub(super) const OTHER_CONTENT: &str =
    "it holds something other than X.509 certificates and one encrypted key";

/// The longest file that is read: twice the longest response of an agent.
pub(super) const MAX_SIZE: usize = 16 << 20;

/// The contents of a file.
#[derive(PartialEq, Eq)]
pub(crate) struct Contents {
    /// PKCS#8; a trust store has none.
    pub key: Option<Zeroizing<Vec<u8>>>,
    /// DER, in the order of the file.
    pub certificates: Vec<Vec<u8>>,
}

/// Decodes a file of [`key_store`](super::key_store) or [`trust_store`](super::trust_store).
pub(crate) fn read(file: &[u8], password: &Password) -> Result<Contents, Flaw> {
    if file.len() > MAX_SIZE {
        return Err(flaw!("it is longer than {MAX_SIZE} bytes"));
    }
    let Pfx { version, auth_safe, mac_data } = Pfx::from_der(file).map_err(not_der)?;
    if version != 3 {
        return Err(Flaw::new(OTHER_CONTENT));
    }
    let auth_safe = data(&auth_safe)?;
    protection::verify(&mac_data, auth_safe, password)?;

    let mut contents = Contents { key: None, certificates: Vec::new() };
    // Each encrypted part costs a key derivation: no file has more than one of each kind.
    let safes = Vec::<ContentInfo<'_>>::from_der(auth_safe).map_err(not_der)?;
    if safes.len() > 2 {
        return Err(Flaw::new(OTHER_CONTENT));
    }
    for safe in safes {
        let decrypted;
        let bags = match safe.content_type {
            asn1::ENCRYPTED_DATA => {
                let EncryptedContentInfo { algorithm, encrypted, .. } =
                    safe.content.decode_as::<EncryptedData<'_>>().map_err(not_der)?.content;
                decrypted = protection::decrypt(&algorithm, encrypted.as_bytes(), password)?;
                decrypted.as_slice()
            }
            _ => data(&safe)?,
        };
        for bag in Vec::<SafeBag<'_>>::from_der(bags).map_err(not_der)? {
            match bag.id {
                asn1::CERTIFICATE_BAG => {
                    let CertificateBag { id, certificate } = bag.value.decode_as().map_err(not_der)?;
                    if id != asn1::X509_CERTIFICATE {
                        return Err(Flaw::new(OTHER_CONTENT));
                    }
                    contents.certificates.push(certificate.as_bytes().to_vec());
                }
                asn1::SHROUDED_KEY_BAG if contents.key.is_none() => {
                    let EncryptedPrivateKey { algorithm, encrypted } =
                        bag.value.decode_as().map_err(not_der)?;
                    contents.key = Some(protection::decrypt(&algorithm, encrypted.as_bytes(), password)?);
                }
                _ => return Err(Flaw::new(OTHER_CONTENT)),
            }
        }
    }
    Ok(contents)
}

/// The octets of a [`ContentInfo`] that is not encrypted.
pub(super) fn data<'a>(content: &ContentInfo<'a>) -> Result<&'a [u8], Flaw> {
    match content.content_type {
        asn1::DATA => Ok(content.content.decode_as::<&OctetStringRef>().map_err(not_der)?.as_bytes()),
        _ => Err(Flaw::new(OTHER_CONTENT)),
    }
}

fn not_der(cause: der::Error) -> Flaw {
    flaw!("it is not the DER of PKCS#12: {cause}")
}
