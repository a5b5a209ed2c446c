//! Digests, to find out what has changed. In that of a JSON document, the order of an object's members does not
//! count, nor that of the keys in a JWKS: some agents send the same keys in another order each time. Nothing of the
//! document is stored.

use std::collections::BTreeSet;
use std::fmt;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash};

use serde_core::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::limits::MAX_MEMBERS;

/// The digest of a JWKS document. In one that cannot be read so, all counts.
pub(crate) fn of_json(document: &[u8]) -> u64 {
    try_of_json(document).unwrap_or_else(|_| of(document))
}

/// The same, of a document that every reader takes: no object has a name twice (RFC 8259, section 4), each text and
/// number has a value, and it is nested less than 128 deep.
pub(super) fn try_of_json(document: &[u8]) -> serde_json::Result<u64> {
    Value { is_ordered: true }.deserialize(&mut serde_json::Deserializer::from_slice(document))
}

/// The digest of anything that can be hashed.
pub(crate) fn of(value: impl Hash) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(value)
}

#[derive(Clone, Copy)]
struct Value {
    /// Whether the order of a list's elements counts.
    is_ordered: bool,
}

impl<'de> DeserializeSeed<'de> for Value {
    type Value = u64;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<u64, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<u64, E> {
        Ok(0)
    }

    fn visit_bool<E>(self, value: bool) -> Result<u64, E> {
        Ok(of(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<u64, E> {
        Ok(of(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<u64, E> {
        Ok(of(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<u64, E> {
        Ok(of(value.to_bits()))
    }

    fn visit_str<E>(self, value: &str) -> Result<u64, E> {
        Ok(of(value))
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut list: S) -> Result<u64, S::Error> {
        let mut digest = 1u64;
        while let Some(element) = list.next_element_seed(Value { is_ordered: true })? {
            digest = match self.is_ordered {
                true => of((digest, element)),
                false => digest.wrapping_add(of(element)),
            };
        }
        Ok(digest)
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<u64, M::Error> {
        let (mut digest, mut names) = (2u64, BTreeSet::new());
        while let Some(name) = map.next_key::<String>()? {
            if !names.insert(of(&name)) {
                return Err(Error::custom("an object has a name twice"));
            }
            if names.len() > MAX_MEMBERS {
                return Err(Error::custom(format_args!("an object has more than {MAX_MEMBERS} members")));
            }
            let value = map.next_value_seed(Value { is_ordered: name != "keys" })?;
            digest = digest.wrapping_add(of((name, value)));
        }
        Ok(digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_keys_and_of_their_members_does_not_count_and_all_else_does() {
        let one = of_json(br#"{"keys":[{"kid":"a","n":1},{"kid":"b"}],"x":[1,2]}"#);
        assert_eq!(one, of_json(br#"{"x":[1,2],"keys":[ {"kid":"b"}, {"n":1,"kid":"a"} ]}"#));
        for other in [
            &br#"{"keys":[{"kid":"a","n":1},{"kid":"c"}],"x":[1,2]}"#[..],
            br#"{"keys":[{"kid":"a","n":1}],"x":[1,2]}"#,
            br#"{"keys":[{"kid":"a"},{"kid":"b","n":1}],"x":[1,2]}"#,
            br#"{"keys":[{"kid":"a","n":1},{"kid":"b"}],"x":[2,1]}"#,
        ] {
            assert_ne!(one, of_json(other), "{}", String::from_utf8_lossy(other));
        }
    }

    #[test]
    fn a_change_of_a_document_that_is_nested_deep_is_seen() {
        let nested =
            |kid| format!(r#"{{"keys":[{{"kid":"{kid}","x":{}{}}}]}}"#, "[".repeat(1000), "]".repeat(1000));
        assert_ne!(of_json(nested("a").as_bytes()), of_json(nested("b").as_bytes()));
    }
}
