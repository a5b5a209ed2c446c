//! Decodes messages part by part, and counts the parts: an empty one takes two bytes of a message, and hundreds
//! when it is decoded.

use std::io::Read;

use grpcio::{Error, MessageReader, Result};
use protobuf::rt::WireType;
use protobuf::{CodedInputStream, CodedOutputStream, Message};
use zeroize::Zeroizing;

use super::limits::{MAX_PARTS, MAX_UNKNOWN_FIELDS};

/// The parts that are messages of their own, in all responses of the Workload API: SVIDs, and entries of maps.
const MESSAGES: [u32; 2] = [1, 3];

/// Decodes a message of the Workload API, in which no field has a number above `LAST`. What is copied of it,
/// which may be a key, is wiped from memory.
pub(super) fn decode<M: Message, const LAST: u32>(mut reader: MessageReader) -> Result<M> {
    let mut input = CodedInputStream::from_buf_read(&mut reader);
    let mut message = M::new();
    let (mut parts, mut unknown) = (0, 0);
    while let Some((tag, wire_type)) = next_field(&mut input)? {
        parts += 1;
        if number(tag) > LAST || wire_type != WireType::LengthDelimited {
            unknown += 1;
            input.skip_field(wire_type)?;
        } else {
            let length = input.read_raw_varint32()?;
            let part = Zeroizing::new(input.read_raw_bytes(length)?);
            if MESSAGES.contains(&number(tag)) {
                unknown += unknown_fields(&part, LAST)?;
            }
            if unknown <= MAX_UNKNOWN_FIELDS {
                merge(&mut message, tag, &part)?;
            }
        }
        if parts > MAX_PARTS {
            return Err(refused(format!("it has more than {MAX_PARTS} parts")));
        }
        if unknown > MAX_UNKNOWN_FIELDS {
            return Err(refused(format!("it has more than {MAX_UNKNOWN_FIELDS} unknown fields")));
        }
    }
    Ok(message)
}

fn refused(cause: String) -> Error {
    Error::Codec(cause.into())
}

fn number(tag: u32) -> u32 {
    tag >> 3
}

/// The tag of the next field, and how its value is encoded; `None` at the end.
fn next_field(input: &mut CodedInputStream<'_>) -> Result<Option<(u32, WireType)>> {
    let Some(tag) = input.read_raw_tag_or_eof()? else { return Ok(None) };
    let wire_type =
        WireType::new(tag & 7).ok_or_else(|| refused(format!("{tag} is not the tag of a field")))?;
    Ok(Some((tag, wire_type)))
}

fn unknown_fields(part: &[u8], last: u32) -> Result<usize> {
    let mut input = CodedInputStream::from_bytes(part);
    let mut unknown = 0;
    while let Some((tag, wire_type)) = next_field(&mut input)? {
        unknown += usize::from(number(tag) > last);
        input.skip_field(wire_type)?;
    }
    Ok(unknown)
}

/// Adds a part to the message. `part` is without its head.
fn merge(message: &mut impl Message, tag: u32, part: &[u8]) -> protobuf::Result<()> {
    let mut head = Vec::new();
    let mut output = CodedOutputStream::vec(&mut head);
    output.write_raw_varint32(tag)?;
    output.write_raw_varint32(part.len() as u32)?;
    output.flush()?;
    drop(output);
    message.merge_from(&mut CodedInputStream::from_buf_read(&mut head.chain(part)))
}
