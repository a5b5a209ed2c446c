//! Decodes responses straight into their plain form, in one pass. What the plain form has no place for is counted
//! and skipped: an unknown field takes two bytes of a message, and would take dozens of memory.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::mem;

use grpcio::{Error, Result};
use protobuf::CodedInputStream;
use protobuf::rt::WireType;
use zeroize::{Zeroize, Zeroizing};

use super::limits::{MAX_PARTS, MAX_UNKNOWN_FIELDS};

/// The plain form of a message: each known field, by its number. All are strings, bytes, messages, or maps.
pub(crate) trait Message {
    /// Where the value of this field belongs; `None` if the field is not known.
    fn field(&mut self, number: u32) -> Option<&mut dyn Field>;
}

/// The plain form of a field. A string or bytes: the last value wins; a list has all of them, and a map the last
/// one of each key.
pub(crate) trait Field {
    /// Reads one value.
    fn read(&mut self, input: &mut Input<'_>) -> Result<()>;
}

/// The field of this number, of those that a message has: from 1 on, without gaps.
pub(super) fn nth<const COUNT: usize>(
    number: u32,
    fields: [&mut dyn Field; COUNT],
) -> Option<&mut dyn Field> {
    fields.into_iter().nth(usize::try_from(number).ok()?.checked_sub(1)?)
}

/// Decodes a response.
pub(crate) fn decode<M: Message + Default>(mut bytes: impl BufRead) -> Result<M> {
    let mut input = Input { stream: CodedInputStream::from_buf_read(&mut bytes), unknown: 0 };
    let (mut response, mut parts) = (M::default(), 0);
    while input.read_field(&mut response)? {
        parts += 1;
        if parts > MAX_PARTS {
            return Err(refused(&format!("it has more than {MAX_PARTS} parts")));
        }
    }
    Ok(response)
}

fn refused(cause: &str) -> Error {
    Error::Codec(cause.into())
}

/// The bytes that are still to be read.
pub(crate) struct Input<'a> {
    stream: CodedInputStream<'a>,
    /// How many fields were skipped.
    unknown: usize,
}

impl Input<'_> {
    /// Reads the message's next field; `false` at its end.
    fn read_field(&mut self, message: &mut dyn Message) -> Result<bool> {
        let Some(tag) = self.stream.read_raw_tag_or_eof()? else { return Ok(false) };
        let (number, wire_type) = (tag >> 3, WireType::new(tag & 7).filter(|_| tag >> 3 > 0));
        let wire_type = wire_type.ok_or_else(|| refused(&format!("{tag} is not the tag of a field")))?;
        // A known number with another type of value is another field.
        let is_readable = wire_type == WireType::LengthDelimited;
        match message.field(number).filter(|_| is_readable) {
            Some(field) => field.read(self)?,
            None => self.skip(wire_type)?,
        }
        Ok(true)
    }

    fn skip(&mut self, wire_type: WireType) -> Result<()> {
        self.unknown += 1;
        if self.unknown > MAX_UNKNOWN_FIELDS {
            return Err(refused(&format!("it has more than {MAX_UNKNOWN_FIELDS} unknown fields")));
        }
        Ok(self.stream.skip_field(wire_type)?)
    }

    /// Reads a message inside a message.
    fn read_message(&mut self, message: &mut dyn Message) -> Result<()> {
        let length = self.stream.read_raw_varint32()?;
        let outer = self.stream.push_limit(length.into())?;
        while self.read_field(message)? {}
        if self.stream.bytes_until_limit() > 0 {
            return Err(refused("it is cut off"));
        }
        self.stream.pop_limit(outer);
        Ok(())
    }
}

impl Field for Vec<u8> {
    fn read(&mut self, input: &mut Input<'_>) -> Result<()> {
        Ok(input.stream.read_bytes_into(self)?)
    }
}

impl Field for String {
    fn read(&mut self, input: &mut Input<'_>) -> Result<()> {
        // It may be a token: where it is refused, it is wiped.
        let mut bytes = Zeroizing::new(Vec::new());
        bytes.read(input)?;
        *self = String::from_utf8(mem::take(&mut *bytes)).map_err(|error| {
            let refused = refused(&format!("a string is not UTF-8: {error}"));
            drop(Zeroizing::new(error.into_bytes()));
            refused
        })?;
        Ok(())
    }
}

impl<T: Field + Zeroize> Field for Zeroizing<T> {
    fn read(&mut self, input: &mut Input<'_>) -> Result<()> {
        self.zeroize();
        (**self).read(input)
    }
}

impl Field for Vec<Vec<u8>> {
    fn read(&mut self, input: &mut Input<'_>) -> Result<()> {
        let mut bytes = Vec::new();
        bytes.read(input)?;
        self.push(bytes);
        Ok(())
    }
}

impl<M: Message + Default> Field for Vec<M> {
    fn read(&mut self, input: &mut Input<'_>) -> Result<()> {
        let mut message = M::default();
        input.read_message(&mut message)?;
        self.push(message);
        Ok(())
    }
}

impl<V: Field + Default> Field for BTreeMap<String, V> {
    fn read(&mut self, input: &mut Input<'_>) -> Result<()> {
        let mut entry = <(String, V)>::default();
        input.read_message(&mut entry)?;
        self.insert(entry.0, entry.1);
        Ok(())
    }
}

/// An entry of a map.
impl<V: Field> Message for (String, V) {
    fn field(&mut self, number: u32) -> Option<&mut dyn Field> {
        nth(number, [&mut self.0, &mut self.1])
    }
}

/// A response with a list alone.
impl<M: Message + Default> Message for Vec<M> {
    fn field(&mut self, number: u32) -> Option<&mut dyn Field> {
        (number == 1).then_some(self)
    }
}

#[cfg(test)]
mod tests;
