//! JWKS documents, read as a stream: a document has no second copy in memory, however it is made.

use std::fmt;

use serde_core::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::digest;
use super::limits::MAX_BUNDLE;
use super::token::Profile;
use crate::words::{Flaw, flaw};

/// Checks that a document is a JWK set: an object whose `keys` is a list of objects (RFC 7517,
/// section 5; SPIFFE Trust Domain and Bundle standard, section 4), or null: SPIRE writes an empty list so. Each key of
/// WIT-SVIDs has a `kid` (WIT-SVID standard, section 6.1).
pub(crate) fn check_jwks(document: &[u8], profile: Profile) -> Result<(), Flaw> {
    find(document, None, profile)?;
    // Other readers read what is skipped here.
    digest::try_of_json(document).map(|_| ()).map_err(not_jwks)
}

/// Whether a document has a key with this `kid`.
pub(super) fn has_key(document: &[u8], kid: &str) -> bool {
    find(document, Some(kid), Profile::Jwt).unwrap_or(false)
}

/// Reads a whole document; `Ok(true)` if one of its keys has the `kid`.
fn find(document: &[u8], kid: Option<&str>, profile: Profile) -> Result<bool, Flaw> {
    // JSON is UTF-8 (RFC 8259, section 8.1), also where the reader skips it.
    let document = std::str::from_utf8(document).map_err(|cause| flaw!("not JSON: {cause}"))?;
    let mut reader = serde_json::Deserializer::from_str(document);
    let found = Search { kid, profile, place: Place::Document }.deserialize(&mut reader);
    let found = found.and_then(|found| reader.end().map(|()| found));
    found.map_err(not_jwks)
}

fn not_jwks(cause: serde_json::Error) -> Flaw {
    let kind = if cause.is_data() { "a JWKS document" } else { "JSON" };
    flaw!("not {kind}: {cause}")
}

/// Reads what is at a place; `true` if it has, or is, the key with the `kid`.
#[derive(Clone, Copy)]
struct Search<'a> {
    kid: Option<&'a str>,
    profile: Profile,
    place: Place,
}

/// A place in a document.
#[derive(Clone, Copy)]
enum Place {
    Document,
    Keys,
    Key,
}

impl<'de> DeserializeSeed<'de> for Search<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<bool, D::Error> {
        match self.place {
            Place::Document | Place::Key => reader.deserialize_map(self),
            Place::Keys => reader.deserialize_option(self),
        }
    }
}

impl<'de> Visitor<'de> for Search<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.place {
            Place::Document => "a JSON object",
            Place::Keys => "a list \"keys\"",
            Place::Key => "a key, which is a JSON object",
        })
    }

    fn visit_none<E>(self) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_some<D: Deserializer<'de>>(self, reader: D) -> Result<bool, D::Error> {
        reader.deserialize_seq(self)
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<bool, M::Error> {
        let (mut found, mut has_keys, mut has_kid) = (false, false, false);
        while let Some(name) = map.next_key::<String>()? {
            match (self.place, name.as_str()) {
                (Place::Document, "keys") => {
                    found = map.next_value_seed(Search { place: Place::Keys, ..self })?;
                    has_keys = true;
                }
                (Place::Key, "kid") => {
                    found |= self.kid == Some(map.next_value::<String>()?.as_str());
                    has_kid = true;
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        match self.place {
            Place::Document if !has_keys => Err(Error::custom("there is no list \"keys\"")),
            Place::Key if !has_kid && self.profile == Profile::Wit => {
                Err(Error::custom("a key has no \"kid\""))
            }
            _ => Ok(found),
        }
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut list: S) -> Result<bool, S::Error> {
        let (mut found, mut number) = (false, 0);
        while let Some(is_it) = list.next_element_seed(Search { place: Place::Key, ..self })? {
            found |= is_it;
            number += 1;
            if number > MAX_BUNDLE {
                return Err(Error::custom(format_args!("holds more than {MAX_BUNDLE} keys")));
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_by_their_kid() {
        let document =
            br#"{"spiffe_sequence":1,"keys":[{"kty":"EC","kid":"a"},{},{"x":{"kid":"c"},"kid":"b"}]}"#;
        assert_eq!(check_jwks(document, Profile::Jwt), Ok(()));
        for (kid, is_there) in [("a", true), ("b", true), ("c", false), ("", false)] {
            assert_eq!(has_key(document, kid), is_there, "{kid}");
        }
    }

    #[test]
    fn a_document_without_keys_is_good_and_has_none() {
        for document in [r#"{"keys":[]}"#, r#"{"keys":null}"#] {
            assert_eq!(check_jwks(document.as_bytes(), Profile::Jwt), Ok(()));
            assert!(!has_key(document.as_bytes(), "a"));
        }
    }

    #[test]
    fn a_key_of_wit_svids_needs_a_kid_and_no_use() {
        assert_eq!(check_jwks(br#"{"keys":[{"kty":"EC","kid":"a"}]}"#, Profile::Wit), Ok(()));
        let document = br#"{"keys":[{"kid":"a"},{"kty":"EC","use":"wit-svid"}]}"#;
        assert_eq!(check_jwks(document, Profile::Jwt), Ok(()));
        let error = check_jwks(document, Profile::Wit).unwrap_err().to_string();
        assert!(error.contains("a key has no \"kid\""), "{error}");
    }

    #[test]
    fn a_document_that_is_not_utf8_is_refused_wherever_that_shows() {
        let error = check_jwks(b"{\"keys\":[{\"x\":\"\xee\"}]}", Profile::Jwt).unwrap_err().to_string();
        assert!(error.contains("not JSON: invalid utf-8"), "{error}");
    }

    #[test]
    fn what_another_reader_refuses_is_refused_also_where_it_is_skipped() {
        let members: Vec<_> = (0..1025).map(|number| format!(r#""{number}":0"#)).collect();
        for (value, reason) in [
            (r#"0,"x":1"#, "not a JWKS document: an object has a name twice"),
            (r#"[{"a":1,"a":1}]"#, "not a JWKS document: an object has a name twice"),
            (&format!("{{{}}}", members.join(",")), "an object has more than 1024 members"),
            (r#""\ud800""#, "not JSON: "),
            ("1e999", "not JSON: number out of range"),
            (&["[".repeat(126), "]".repeat(126)].concat(), "not JSON: recursion limit exceeded"),
        ] {
            let document = format!(r#"{{"keys":[{{"x":{value}}}]}}"#);
            let error = check_jwks(document.as_bytes(), Profile::Jwt).unwrap_err().to_string();
            assert!(error.contains(reason), "{document:.40}: {error}");
        }
    }

    #[test]
    fn what_is_no_jwks_document_is_refused_with_the_reason() {
        let many = format!(r#"{{"keys":[{}{{}}]}}"#, "{},".repeat(MAX_BUNDLE));
        for (document, reason) in [
            ("what", "not JSON: "),
            ("", "not JSON: "),
            (r#"{"keys":[]}x"#, "not JSON: trailing characters"),
            ("[]", "a JSON object"),
            ("{}", "there is no list \"keys\""),
            (r#"{"keys":{}}"#, "a list \"keys\""),
            (r#"{"keys":[1]}"#, "a key, which is a JSON object"),
            (r#"{"keys":[{"kid":1}]}"#, "expected a string"),
            (many.as_str(), "holds more than 4096 keys"),
        ] {
            let error = check_jwks(document.as_bytes(), Profile::Jwt).unwrap_err().to_string();
            assert!(error.contains(reason), "{document:.40}: {error}");
        }
    }
}
