//! Dates before 1970, which the certificate's parser refuses: a device whose clock begins in 1970 makes a
//! CA that is valid since ten seconds before.

use std::ops::Range;

use der::{Decode, Header, Reader, SliceReader, Tag};

/// A copy of a certificate in which dates before 1970 are the first moment of 1970; `None` if there are
/// none. For its fields alone: the signature is not that of the copy.
pub(super) fn since_1970(certificate: &[u8]) -> Option<Vec<u8>> {
    let mut copy = certificate.to_vec();
    for date in validity(certificate).ok()? {
        let Some((b'Z', digits)) = copy[date.clone()].split_last() else { continue };
        if !digits.iter().all(u8::is_ascii_digit) {
            continue;
        }
        let first: &[u8] = match &copy[date.clone()] {
            // Two digits are those of a year from 1950 to 2049 (RFC 5280, section 4.1.2.5).
            [b'5' | b'6', _, ..] if date.len() == 13 => b"700101000000Z",
            [b'0', ..] | [b'1', b'0'..=b'8', ..] | [b'1', b'9', b'0'..=b'6', ..] if date.len() == 15 => {
                b"19700101000000Z"
            }
            _ => continue,
        };
        copy[date].copy_from_slice(first);
    }
    (copy != certificate).then_some(copy)
}

/// Where both dates are.
fn validity(certificate: &[u8]) -> der::Result<[Range<usize>; 2]> {
    let mut reader = SliceReader::new(certificate)?;
    for _certificate_and_its_signed_part in 0..2 {
        Header::decode(&mut reader)?.tag().assert_eq(Tag::Sequence)?;
    }
    let has_version = Tag::peek(&reader)?.is_context_specific();
    for _version_serial_algorithm_issuer in 0..3 + usize::from(has_version) {
        reader.tlv_bytes()?;
    }
    Header::decode(&mut reader)?.tag().assert_eq(Tag::Sequence)?;
    Ok([date(&mut reader)?, date(&mut reader)?])
}

fn date(reader: &mut SliceReader<'_>) -> der::Result<Range<usize>> {
    let length = Header::decode(reader)?.length();
    let start = usize::try_from(reader.position())?;
    Ok(start..start + reader.read_slice(length)?.len())
}
