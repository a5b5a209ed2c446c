//! X.509 certificates as the Workload API sends them: concatenated DER.

use std::collections::BTreeSet;
use std::ops::Range;

use der::asn1::{Any, BitStringRef, Ia5String, OctetStringRef};
use der::oid::AssociatedOid;
use der::{Decode, ErrorKind, Reader, SliceReader};
use x509_cert::certificate::{CertificateInner, Raw, TbsCertificateInner};
use x509_cert::ext::Extensions;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{
    AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAltName,
    SubjectKeyIdentifier,
};

use super::dates::Dates;
use super::distinguished_name;
use super::early_dates;
use super::extension_form;
use super::limits::MAX_CERTIFICATE;
use crate::words::{Flaw, flaw};

/// The ranges of the certificates in concatenated DER: at least one, at most `limit`, and nothing
/// before, between or after them. Does not read the certificates.
pub(super) fn split(der: &[u8], limit: usize) -> Result<Vec<Range<usize>>, Flaw> {
    let mut ranges = Vec::new();
    let mut start = 0;
    while start < der.len() {
        let index = ranges.len();
        if index == limit {
            return Err(flaw!("holds more than {limit} certificates"));
        }
        let length = SliceReader::new(&der[start..]).and_then(|mut reader| reader.tlv_bytes());
        let length = length.map_err(not_der(index))?.len();
        if length > MAX_CERTIFICATE {
            return Err(flaw!("certificate {index} is larger than {MAX_CERTIFICATE} bytes"));
        }
        ranges.push(start..start + length);
        start += length;
    }
    if ranges.is_empty() { Err(flaw!("holds no certificate")) } else { Ok(ranges) }
}

/// The fields of one certificate.
pub(super) struct Certificate(
    // `Raw` accepts serial numbers that RFC 5280 does not allow: some CAs have one.
    CertificateInner<Raw>,
);

impl Certificate {
    /// Parses one certificate; errors name it by its index.
    pub(super) fn parse(der: &[u8], index: usize) -> Result<Self, Flaw> {
        let parsed = CertificateInner::from_der(der).or_else(|cause| {
            early_dates::since_1970(der).map_or(Err(cause), |copy| CertificateInner::from_der(&copy))
        });
        let certificate = Self(parsed.map_err(not_der(index))?);
        let names = [certificate.fields().issuer(), certificate.fields().subject()];
        if names.into_iter().all(distinguished_name::is_readable) {
            return Ok(certificate);
        }
        Err(flaw!("certificate {index} has a name with an unreadable value"))
    }

    /// The parsed fields.
    pub(super) fn fields(&self) -> &TbsCertificateInner<Raw> {
        self.0.tbs_certificate()
    }

    /// When it is valid.
    pub(super) fn dates(&self) -> Dates {
        let validity = self.fields().validity();
        let [not_before, not_after] = [validity.not_before, validity.not_after].map(|at| at.to_system_time());
        Dates { not_before, not_after }
    }

    /// Checks that the signature algorithm is the one that is signed (RFC 5280, section 4.1.1.2).
    pub(super) fn check_algorithm(&self) -> Result<(), Flaw> {
        let is_signed = self.fields().signature() == self.0.signature_algorithm();
        if is_signed { Ok(()) } else { Err(flaw!("the two signature algorithms of a certificate differ")) }
    }

    /// Checks that no extension is there twice (RFC 5280, section 4.2), and that those that OpenSSL reads have a form
    /// that it can read: it loads no other leaf, and trusts no chain with another CA. What is within a form may be of
    /// any size and alphabet, as for OpenSSL.
    pub(super) fn check_extensions(&self) -> Result<(), Flaw> {
        let mut known = BTreeSet::new();
        for extension in self.fields().extensions().into_iter().flatten() {
            let (id, value) = (extension.extn_id, extension.extn_value.as_bytes());
            if !known.insert(id) {
                return Err(flaw!("the extension {id} is there twice"));
            }
            let has =
                |form: fn(&[Any]) -> bool| Vec::from_der(value).is_ok_and(|parts: Vec<Any>| form(&parts));
            let (name, is_readable) = match id {
                SubjectAltName::OID => ("subjectAltName", has(extension_form::are_names)),
                AuthorityKeyIdentifier::OID => {
                    ("authorityKeyIdentifier", has(extension_form::is_key_identifier))
                }
                ExtendedKeyUsage::OID => ("extKeyUsage", has(extension_form::are_purposes)),
                SubjectKeyIdentifier::OID => {
                    ("subjectKeyIdentifier", <&OctetStringRef>::from_der(value).is_ok())
                }
                KeyUsage::OID => ("keyUsage", BitStringRef::from_der(value).is_ok()),
                _ => continue,
            };
            if !is_readable {
                return Err(unreadable(name)(()));
            }
        }
        self.is_ca().map(|_| ())
    }

    /// Whether basicConstraints has cA set (X.509-SVID standard, section 4.1).
    pub(super) fn is_ca(&self) -> Result<bool, Flaw> {
        let constraints = self.extension::<BasicConstraints>().map_err(unreadable("basicConstraints"))?;
        Ok(constraints.is_some_and(|constraints| constraints.ca))
    }

    /// The identifier of its key, if it has one that can be read.
    pub(super) fn key_id(&self) -> Option<SubjectKeyIdentifier> {
        self.extension().ok().flatten()
    }

    /// The keyUsage extension, if there is one (X.509-SVID standard, section 4.3).
    pub(super) fn key_usage(&self) -> Result<Option<KeyUsage>, Flaw> {
        self.extension().map_err(unreadable("keyUsage"))
    }

    /// All URIs among the subject alternative names (X.509-SVID standard, section 2).
    pub(super) fn uri_sans(&self) -> Result<Vec<String>, Flaw> {
        self.alternative_names(|name| match name {
            GeneralName::UniformResourceIdentifier(uri) => Some(uri),
            _ => None,
        })
    }

    /// All DNS names among the subject alternative names.
    pub(super) fn dns_names(&self) -> Result<Vec<String>, Flaw> {
        self.alternative_names(|name| match name {
            GeneralName::DnsName(name) => Some(name),
            _ => None,
        })
    }

    /// The subject alternative names of one kind.
    fn alternative_names(&self, pick: fn(&GeneralName) -> Option<&Ia5String>) -> Result<Vec<String>, Flaw> {
        let names = self.extension::<SubjectAltName>().map_err(unreadable("subjectAltName"))?;
        let picked = names.iter().flat_map(|names| &names.0).filter_map(pick);
        Ok(picked.map(|name| name.as_str().to_owned()).collect())
    }

    /// An extension, if it is there.
    pub(super) fn extension<'a, T: Decode<'a> + AssociatedOid>(&'a self) -> Result<Option<T>, T::Error> {
        extension(self.fields().extensions())
    }

    /// The keyUsage extension in words; none without the extension.
    pub(super) fn key_usage_in_words(&self) -> Result<Vec<&'static str>, Flaw> {
        let Some(usage) = self.key_usage()? else { return Ok(Vec::new()) };
        let words = [
            (usage.digital_signature(), "digital signature"),
            (usage.non_repudiation(), "content commitment"),
            (usage.key_encipherment(), "key encipherment"),
            (usage.data_encipherment(), "data encipherment"),
            (usage.key_agreement(), "key agreement"),
            (usage.key_cert_sign(), "certificate signing"),
            (usage.crl_sign(), "CRL signing"),
            (usage.encipher_only(), "encipher only"),
            (usage.decipher_only(), "decipher only"),
        ];
        Ok(words.into_iter().filter(|(is_set, _)| *is_set).map(|(_, word)| word).collect())
    }

    /// The extKeyUsage extension in words; an identifier that has none here stays a number.
    pub(super) fn extended_key_usage_in_words(&self) -> Result<Vec<String>, Flaw> {
        let usage = self.extension::<ExtendedKeyUsage>().map_err(unreadable("extKeyUsage"))?;
        let word = |number: String| match number.as_str() {
            "1.3.6.1.5.5.7.3.1" => "server auth".to_owned(),
            "1.3.6.1.5.5.7.3.2" => "client auth".to_owned(),
            "2.5.29.37.0" => "any".to_owned(),
            _ => number,
        };
        Ok(usage.iter().flat_map(|usage| &usage.0).map(|purpose| word(purpose.to_string())).collect())
    }
}

/// An extension of a certificate or of a revocation list, if it is there. One that is there twice is refused (RFC
/// 5280, sections 4.2 and 5.2).
pub(super) fn extension<'a, T: Decode<'a> + AssociatedOid>(
    all: Option<&'a Extensions>,
) -> Result<Option<T>, T::Error> {
    let mut found = all.into_iter().flatten().filter(|extension| extension.extn_id == T::OID);
    match (found.next(), found.next()) {
        (_, Some(_)) => Err(der::Error::from(ErrorKind::Failed).into()),
        (first, None) => first.map(|extension| T::from_der(extension.extn_value.as_bytes())).transpose(),
    }
}

fn not_der(index: usize) -> impl Fn(der::Error) -> Flaw {
    move |cause| flaw!("certificate {index} is not a DER certificate: {cause}")
}

/// An extension, by its name.
pub(super) fn unreadable<E>(extension: &str) -> impl Fn(E) -> Flaw {
    move |_| flaw!("the {extension} extension is duplicated or unreadable")
}

#[cfg(test)]
mod tests {
    use der::Encode;
    use der::asn1::OctetString;
    use x509_cert::ext::Extension;

    use super::*;

    /// An empty SEQUENCE: the outside of a certificate.
    const OUTSIDE: [u8; 2] = [0x30, 0];

    #[test]
    fn too_many_certificates_are_refused_before_any_is_read() {
        assert_eq!(split(&OUTSIDE.repeat(3), 3), Ok(vec![0..2, 2..4, 4..6]));
        assert_eq!(split(&OUTSIDE.repeat(4), 3), Err(flaw!("holds more than 3 certificates")));
        assert_eq!(split(&[], 3), Err(flaw!("holds no certificate")));
    }

    #[test]
    fn an_extension_that_is_there_twice_is_refused() {
        let constraints = BasicConstraints { ca: true, path_len_constraint: None };
        let extn_value = OctetString::new(constraints.to_der().unwrap()).unwrap();
        let one = Extension { extn_id: BasicConstraints::OID, critical: false, extn_value };
        assert_eq!(extension::<BasicConstraints>(None), Ok(None));
        assert_eq!(extension(Some(&vec![one.clone()])), Ok(Some(constraints)));
        assert!(extension::<BasicConstraints>(Some(&vec![one.clone(), one])).is_err());
    }

    fn with_extension(oid: &[u64], value: &[u8]) -> Certificate {
        let mut params = rcgen::CertificateParams::default();
        params.custom_extensions = vec![rcgen::CustomExtension::from_oid_content(oid, value.to_vec())];
        let certificate = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        Certificate::parse(certificate.der(), 0).unwrap()
    }

    #[test]
    fn an_extension_that_openssl_reads_must_be_readable() {
        for (oid, name) in [
            (14, "subjectKeyIdentifier"),
            (15, "keyUsage"),
            (17, "subjectAltName"),
            (19, "basicConstraints"),
            (35, "authorityKeyIdentifier"),
            (37, "extKeyUsage"),
        ] {
            let certificate = with_extension(&[2, 5, 29, oid], &[5, 0]);
            assert_eq!(certificate.check_extensions(), Err(unreadable(name)(())));
        }
        let unknown = with_extension(&[2, 5, 29, 1], &[5, 0]);
        assert_eq!(unknown.check_extensions(), Ok(()));
    }

    #[test]
    fn a_name_that_holds_no_string_is_refused() {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, "a name");
        let mut der = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().to_vec();
        assert!(Certificate::parse(&der, 0).is_ok());
        let value = der.windows(6).rposition(|bytes| bytes == b"a name").unwrap();
        der[value - 2] = 0x04;
        let error = Certificate::parse(&der, 7).err();
        assert_eq!(error, Some(flaw!("certificate 7 has a name with an unreadable value")));
    }

    #[test]
    fn a_signature_algorithm_that_is_not_the_signed_one_is_refused() {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        let mut der = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().to_vec();
        assert_eq!(Certificate::parse(&der, 0).unwrap().check_algorithm(), Ok(()));
        // ecdsa-with-SHA256 becomes ecdsa-with-SHA384.
        let algorithm = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
        let outer = der.windows(8).rposition(|bytes| bytes == algorithm).unwrap();
        der[outer + 7] = 0x03;
        assert!(Certificate::parse(&der, 0).unwrap().check_algorithm().is_err());
    }

    #[test]
    fn a_certificate_over_the_limit_is_refused_unread() {
        let length = (MAX_CERTIFICATE as u32).to_be_bytes();
        let large = [&[0x30, 0x83][..], &length[1..], &vec![0; MAX_CERTIFICATE]].concat();
        assert_eq!(split(&large, 3), Err(flaw!("certificate 0 is larger than {MAX_CERTIFICATE} bytes")));
    }
}
