//! The forms of extensions, as OpenSSL decodes them (RFC 5280, section 4.2.1): the types of their parts, and not what
//! these hold. Certificates of real CAs have serial numbers, names and object identifiers that typed parsers refuse.

use der::asn1::{Any, IntRef};
use der::{Decode, Reader, SliceReader, Tag, Tagged};
use x509_cert::name::Name;

/// Whether the parts of a SEQUENCE are GeneralNames (section 4.2.1.6).
pub(super) fn are_names(parts: &[Any]) -> bool {
    let is_name = |part: &Any| match context_specific(part) {
        Some((0 | 3 | 5, true)) => values(part.value()).is_some(),
        Some((4, true)) => Name::from_der(part.value()).is_ok(),
        Some((8, false)) => is_identifier(part.value()),
        Some((1 | 2 | 6 | 7, false)) => true,
        _ => false,
    };
    parts.iter().all(is_name)
}

/// Whether they are those of an AuthorityKeyIdentifier (section 4.2.1.1): a key's identifier, the issuer's names and
/// serial number, each of them or not.
pub(super) fn is_key_identifier(parts: &[Any]) -> bool {
    let is_part = |part: &Any| match context_specific(part) {
        Some((0, false)) => true,
        Some((1, true)) => values(part.value()).is_some_and(|names| are_names(&names)),
        Some((2, false)) => Any::new(Tag::Integer, part.value())
            .is_ok_and(|integer| integer.decode_as::<IntRef<'_>>().is_ok()),
        _ => false,
    };
    parts.iter().all(is_part) && parts.is_sorted_by(|one, next| one.tag().number() < next.tag().number())
}

/// Whether they are object identifiers (section 4.2.1.12), of any size.
pub(super) fn are_purposes(parts: &[Any]) -> bool {
    parts.iter().all(|part| part.tag() == Tag::ObjectIdentifier && is_identifier(part.value()))
}

/// The last byte of a number is the one without its highest bit.
fn is_identifier(value: &[u8]) -> bool {
    value.last().is_some_and(|last| *last < 0x80)
}

/// The number of a part, and whether it is made of others.
fn context_specific(part: &Any) -> Option<(u32, bool)> {
    match part.tag() {
        Tag::ContextSpecific { constructed, number } => Some((number.value(), constructed)),
        _ => None,
    }
}

/// The values one after the other, to the end.
fn values(bytes: &[u8]) -> Option<Vec<Any>> {
    let mut reader = SliceReader::new(bytes).ok()?;
    let mut values = Vec::new();
    while !reader.is_finished() {
        values.push(Any::decode(&mut reader).ok()?);
    }
    Some(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(bytes: &[&[u8]]) -> Vec<Any> {
        values(&bytes.concat()).unwrap()
    }

    #[test]
    fn a_name_may_hold_any_bytes_and_any_object_identifier() {
        // 2.25 and a number of 128 bits, which stands for a UUID.
        let identifier = [&[0x88, 20, 0x69, 0x83][..], &[0xff; 17], &[0x7f]].concat();
        let mail = [0x81, 2, 0xc3, 0xbc];
        assert!(are_names(&parts(&[&identifier, &mail, &[0x86, 1, b'u'], &[0xa3, 0]])));
        for other in
            [&[0x88, 1, 0x80][..], &[0x89, 0], &[0xa6, 0], &[0x04, 0], &[0xa0, 1, 1], &[0xa4, 2, 0x05, 0]]
        {
            assert!(values(other).is_none_or(|parts| !are_names(&parts)), "{other:x?}");
        }
    }

    #[test]
    fn the_serial_number_of_a_key_identifier_may_have_any_length() {
        let serial = [&[0x82, 24][..], &[0x5a; 24]].concat();
        let names = [0xa1, 3, 0x82, 1, b'a'];
        assert!(is_key_identifier(&parts(&[&[0x80, 1, 7], &names, &serial])));
        assert!(!is_key_identifier(&parts(&[&serial, &[0x80, 1, 7]])), "in another order");
        for other in [&[0x82, 0][..], &[0x82, 2, 0, 1], &[0x83, 1, 1], &[0xa0, 0], &[0xa1, 2, 0x05, 0]] {
            assert!(!is_key_identifier(&parts(&[other])), "{other:x?}");
        }
    }

    #[test]
    fn a_purpose_is_an_object_identifier_of_any_size() {
        let identifier = [&[0x06, 20, 0x69, 0x83][..], &[0xff; 17], &[0x7f]].concat();
        assert!(are_purposes(&parts(&[&identifier])));
        for purpose in [[0x06, 1, 0x80], [0x04, 1, 0x55]] {
            assert!(!are_purposes(&parts(&[&purpose])), "{purpose:x?}");
        }
    }
}
