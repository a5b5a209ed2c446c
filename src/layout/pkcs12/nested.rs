//! DER that is encoded from the inside out, in one buffer.

use der::{Encode, ErrorKind, Header, Length, Tag, TagNumber};
use zeroize::Zeroizing;

/// Room for everything in front of the innermost value.
const HEADROOM: usize = 512;

/// The tag `[0]` around a value that has a tag of its own.
pub(super) const EXPLICIT: Tag = Tag::ContextSpecific { constructed: true, number: TagNumber(0) };
/// The tag `[0]` in place of an octet string's own.
pub(super) const IMPLICIT_OCTETS: Tag = Tag::ContextSpecific { constructed: false, number: TagNumber(0) };

/// PKCS#12 wraps a value in a dozen others. To encode each by itself takes two copies of a trust
/// store's megabytes at any time; here there is one. Wiped from memory when dropped.
pub(super) struct Nested {
    bytes: Zeroizing<Vec<u8>>,
    /// Where the value begins; in front of it is room.
    start: usize,
}

impl Nested {
    /// With room for `length` bytes: a buffer that grows leaves copies behind.
    pub(super) fn with_room_for(length: usize) -> Self {
        let mut bytes = Zeroizing::new(Vec::with_capacity(HEADROOM + length));
        bytes.resize(HEADROOM, 0);
        Self { bytes, start: HEADROOM }
    }

    /// The value up to now.
    pub(super) fn value(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// The same, to be changed in place.
    pub(super) fn value_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..]
    }

    /// Puts another value behind.
    pub(super) fn append(&mut self, value: &[u8]) {
        self.bytes.extend_from_slice(value);
    }

    /// Puts another value in front.
    pub(super) fn prepend(&mut self, value: &impl Encode) -> der::Result<()> {
        let length = usize::try_from(value.encoded_len()?)?;
        let start = self.start.checked_sub(length).ok_or(ErrorKind::Overlength)?;
        value.encode_to_slice(&mut self.bytes[start..self.start])?;
        self.start = start;
        Ok(())
    }

    /// Puts the tag and the length of the value in front of it.
    pub(super) fn wrap(&mut self, tag: Tag) -> der::Result<()> {
        self.prepend(&Header::new(tag, Length::try_from(self.value().len())?))
    }

    /// The whole.
    pub(super) fn finish(mut self) -> Zeroizing<Vec<u8>> {
        self.bytes.drain(..self.start);
        self.bytes
    }
}
