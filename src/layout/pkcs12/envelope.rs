//! What stands around a value in DER, written from the inside out; the value itself is elsewhere.

use der::{Encode, Header, Length, Tag, TagNumber};

/// The tag `[0]` around a value that has a tag of its own.
pub(super) const EXPLICIT: Tag = Tag::ContextSpecific { constructed: true, number: TagNumber(0) };
/// The tag `[0]` in place of an octet string's own.
pub(super) const IMPLICIT_OCTETS: Tag = Tag::ContextSpecific { constructed: false, number: TagNumber(0) };

/// PKCS#12 wraps a value in a dozen others, each of which begins with its length. A trust store may have
/// megabytes, so they are not in memory for it: their length is enough.
pub(super) struct Envelope {
    /// What comes before the value.
    pub(super) front: Vec<u8>,
    value: usize,
    /// What comes behind the value.
    pub(super) back: Vec<u8>,
}

impl Envelope {
    /// Nothing yet, around a value of this length.
    pub(super) fn around(value: usize) -> Self {
        Self { front: Vec::new(), value, back: Vec::new() }
    }

    /// The length, with that of the value.
    pub(super) fn len(&self) -> usize {
        self.front.len() + self.value + self.back.len()
    }

    /// Puts another value in front.
    pub(super) fn prepend(&mut self, value: &impl Encode) -> der::Result<()> {
        self.front.splice(..0, value.to_der()?);
        Ok(())
    }

    /// Puts DER behind.
    pub(super) fn append(&mut self, der: &[u8]) {
        self.back.extend_from_slice(der);
    }

    /// Puts the tag and the length of the whole in front of it.
    pub(super) fn wrap(&mut self, tag: Tag) -> der::Result<()> {
        self.prepend(&Header::new(tag, Length::try_from(self.len())?))
    }
}
