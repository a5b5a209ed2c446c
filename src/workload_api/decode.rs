//! Decodes messages, once their parts are counted: an empty part takes two bytes of a message, and hundreds of
//! bytes when it is decoded.

use std::io::Read;

use grpcio::{Error, MessageReader, Result};
use protobuf::rt::WireType;
use protobuf::{CodedInputStream, Message};
use zeroize::Zeroizing;

use super::limits::MAX_FIELDS;

/// The fields that are messages of their own, in all responses of the Workload API: SVIDs, and entries of maps.
const PARTS: [u32; 2] = [1, 3];

/// Decodes a message of the Workload API. Its bytes, which may be a key's, are wiped from memory.
pub(super) fn decode<M: Message>(mut reader: MessageReader) -> Result<M> {
    let mut bytes = Zeroizing::new(Vec::new());
    reader.read_to_end(&mut bytes).map_err(|error| Error::Codec(error.into()))?;
    drop(reader);
    if count(&mut CodedInputStream::from_bytes(&bytes), &PARTS)? > MAX_FIELDS {
        return Err(Error::Codec(format!("it has more than {MAX_FIELDS} fields").into()));
    }
    Ok(M::parse_from_bytes(&bytes)?)
}

/// The number of fields, those of `parts` included. Counts no further than a little beyond the most.
fn count(message: &mut CodedInputStream<'_>, parts: &[u32]) -> protobuf::Result<usize> {
    let mut fields = 0;
    while fields <= MAX_FIELDS
        && let Some(tag) = message.read_raw_tag_or_eof()?
    {
        fields += 1;
        match WireType::new(tag & 7) {
            Some(WireType::LengthDelimited) if parts.contains(&(tag >> 3)) => {
                let length = message.read_raw_varint32()?;
                let end = message.push_limit(length.into())?;
                fields += count(message, &[])?;
                message.pop_limit(end);
            }
            Some(wire_type) => message.skip_field(wire_type)?,
            // The decoder says what is wrong.
            None => break,
        }
    }
    Ok(fields)
}
