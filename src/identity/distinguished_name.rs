//! Distinguished names: whether two are the same (RFC 5280, section 7.1), and as text for a person (RFC 4514).

use std::fmt::Write;

use der::asn1::Any;
use der::oid::ObjectIdentifier;
use der::{Encode, Tag, Tagged};
use x509_cert::attr::AttributeTypeAndValue;
use x509_cert::name::{Name, RelativeDistinguishedName};

use super::raw::hexadecimal;

/// The result of a comparison. From the least sameness to the most: `min`, `max` and `>=` go by this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Sameness {
    Different,
    /// A part has an encoding, or letters, that we cannot compare.
    Unknown,
    Same,
}

/// A name as it is compared, made once for comparisons with many. Case, spaces around and between words, and the string
/// types do not matter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Comparable {
    Few(Vec<Rdn>),
    /// More attributes than [`MAX_ATTRIBUTES`]: their number, and the encoding.
    Many(usize, Vec<u8>),
}

/// The most attributes of a name that are compared one by one. Real names have ten at most.
const MAX_ATTRIBUTES: usize = 16;

/// A relative name: a set, in the order of its values as they are compared. DER sorts it by its encoding, which the
/// string types change.
type Rdn = Vec<(ObjectIdentifier, Value)>;

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Value {
    /// A text that Unicode writes in one way alone.
    Plain(String),
    Text(String),
    /// A value without a text, and its sameness with any other one.
    Other(Any, Sameness),
}

impl Comparable {
    pub(super) fn of(name: &Name) -> Self {
        let attributes = name.iter_rdn().map(|rdn| rdn.len()).sum();
        if attributes > MAX_ATTRIBUTES {
            // What was decoded can be encoded.
            return Self::Many(attributes, name.to_der().unwrap_or_default());
        }
        let rdn = |rdn: &RelativeDistinguishedName| {
            let values = rdn.iter().map(|attribute| (attribute.oid, Value::of(&attribute.value)));
            let mut values: Vec<_> = values.collect();
            values.sort_unstable();
            values
        };
        Self::Few(name.iter_rdn().map(rdn).collect())
    }

    pub(super) fn compare(&self, other: &Self) -> Sameness {
        match (self, other) {
            _ if self == other => Sameness::Same,
            (Self::Few(one), Self::Few(other)) if one.len() == other.len() => {
                one.iter().zip(other).map(|(one, other)| compare(one, other)).min().unwrap_or(Sameness::Same)
            }
            (Self::Many(one, _), Self::Many(other, _)) if one == other => Sameness::Unknown,
            _ => Sameness::Different,
        }
    }
}

fn compare(one: &Rdn, other: &Rdn) -> Sameness {
    if one.len() != other.len() {
        return Sameness::Different;
    }
    let nearest = |(oid, value): &(ObjectIdentifier, Value)| {
        let candidates = other.iter().filter(|(other, _)| other == oid);
        candidates.map(|(_, candidate)| value.compare(candidate)).max().unwrap_or(Sameness::Different)
    };
    one.iter().map(nearest).min().unwrap_or(Sameness::Same)
}

impl Value {
    fn of(value: &Any) -> Self {
        match text(value).map(prepared) {
            Ok(text) if has_one_form(&text) => Self::Plain(text),
            Ok(text) => Self::Text(text),
            Err(sameness) => Self::Other(value.clone(), sameness),
        }
    }

    fn compare(&self, other: &Self) -> Sameness {
        match (self, other) {
            _ if self == other => Sameness::Same,
            (Self::Plain(_), Self::Plain(_)) => Sameness::Different,
            // Only Different and Unknown occur here. Unknown wins.
            (Self::Other(_, one), Self::Other(_, other)) => *one.max(other),
            (Self::Other(_, sameness), _) | (_, Self::Other(_, sameness)) => *sameness,
            _ => Sameness::Unknown,
        }
    }
}

/// The attributes that have a word (RFC 4514, section 3; and those that CAs put into names besides).
const WORDS: [(&str, &str); 11] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.5", "SERIALNUMBER"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "STREET"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("1.2.840.113549.1.9.1", "E"),
];

/// The name as RFC 4514 writes it, the last part first. (The library's own way brings a table of all object
/// identifiers, whose 40 KiB would be private memory of each process.)
pub(super) fn text_of(name: &Name) -> String {
    let rdn = |rdn: &RelativeDistinguishedName| rdn.iter().map(attribute_text).collect::<Vec<_>>().join("+");
    let mut rdns: Vec<_> = name.iter_rdn().map(rdn).collect();
    rdns.reverse();
    rdns.join(",")
}

/// `CN=text`; or `number=#DER in hexadecimal`, where the type has no word or the value is no text (section 2.4).
fn attribute_text(attribute: &AttributeTypeAndValue) -> String {
    let number = attribute.oid.to_string();
    let word = WORDS.iter().find(|(known, _)| *known == number).map(|(_, word)| word);
    let (Some(word), Ok(value)) = (word, text(&attribute.value)) else {
        return format!("{number}=#{}", hexadecimal(&attribute.value.to_der().unwrap_or_default()));
    };
    let mut shown = format!("{word}=");
    let last = value.chars().count().saturating_sub(1);
    for (index, letter) in value.chars().enumerate() {
        let is_special = matches!(letter, '"' | '+' | ',' | ';' | '<' | '>' | '\\')
            || letter == ' ' && (index == 0 || index == last)
            || letter == '#' && index == 0;
        // Writing to a string does not fail.
        let _ = match letter {
            '\0'..='\x1f' | '\x7f' => write!(shown, "\\{:02x}", u32::from(letter)),
            _ if is_special => write!(shown, "\\{letter}"),
            _ => write!(shown, "{letter}"),
        };
    }
    shown
}

/// The text of a value. A value without one gives its sameness with any text: bits, a number and the like are
/// [`Sameness::Different`]. If we do not know the encoding, or the bytes break its rules, that is
/// [`Sameness::Unknown`].
fn text(value: &Any) -> Result<String, Sameness> {
    let bytes = value.value();
    let text = match value.tag() {
        Tag::Boolean
        | Tag::Integer
        | Tag::BitString
        | Tag::OctetString
        | Tag::Null
        | Tag::ObjectIdentifier => {
            return Err(Sameness::Different);
        }
        Tag::Utf8String | Tag::PrintableString | Tag::Ia5String | Tag::NumericString | Tag::VisibleString => {
            std::str::from_utf8(bytes).ok().map(str::to_owned)
        }
        // T.61 has ASCII letters at their places. Of the others, each CA had its own idea.
        Tag::TeletexString => bytes.is_ascii().then(|| String::from_utf8_lossy(bytes).into_owned()),
        Tag::BmpString => {
            let (units, rest) = bytes.as_chunks();
            let units = units.iter().map(|unit| u16::from_be_bytes(*unit));
            char::decode_utf16(units).collect::<Result<String, _>>().ok().filter(|_| rest.is_empty())
        }
        _ => None,
    };
    text.ok_or(Sameness::Unknown)
}

/// Whether every value is a string, or bits: OpenSSL loads no certificate with another one in a name.
pub(super) fn is_readable(name: &Name) -> bool {
    let is_string = |value: &Any| match value.tag() {
        Tag::Utf8String | Tag::BmpString => text(value).is_ok(),
        Tag::BitString => value.value().first().is_some_and(|unused| *unused < 8),
        tag => matches!(tag, Tag::PrintableString | Tag::Ia5String | Tag::NumericString | Tag::TeletexString),
    };
    name.iter().all(|attribute| is_string(&attribute.value))
}

/// Lower case, and one space between words (RFC 4518).
fn prepared(text: String) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase()
}

/// Whether Unicode writes it in one way alone, so that two such texts that differ are different. A letter with
/// a mark of its own, for example, can be written in two ways, and both are the same name.
fn has_one_form(text: &str) -> bool {
    let is_plain = |letter: char| {
        letter.is_ascii()
            // Latin, Greek and Cyrillic letters, as everybody types them. No marks and no ligatures.
            || letter.is_alphabetic() && matches!(letter, '\u{c0}'..='\u{24f}' | '\u{370}'..='\u{52f}')
    };
    text.chars().all(is_plain)
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use x509_cert::name::RdnSequence;

    use super::*;
    use crate::time::clock::thread_time;

    fn compare(one: &Name, other: &Name) -> Sameness {
        Comparable::of(one).compare(&Comparable::of(other))
    }

    fn name(attributes: &[(Tag, &[u8])]) -> Name {
        let rdn = |(tag, value): &(Tag, &[u8])| {
            let oid = ObjectIdentifier::new_unwrap("2.5.4.3");
            let value = Any::new(*tag, *value).unwrap();
            RelativeDistinguishedName::try_from(vec![AttributeTypeAndValue { oid, value }]).unwrap()
        };
        let mut name = RdnSequence::default();
        attributes.iter().for_each(|attribute| name.push(rdn(attribute)));
        Name::hazmat_from_rdn_sequence(name)
    }

    #[test]
    fn a_name_is_written_with_its_last_part_first_and_what_has_a_meaning_there_is_escaped() {
        let written = name(&[
            (Tag::Utf8String, b"Example, Inc. "),
            (Tag::PrintableString, b" a=b"),
            (Tag::Utf8String, b"#\x07"),
            (Tag::Utf8String, "Z\u{fc}rich".as_bytes()),
        ]);
        assert_eq!(text_of(&written), "CN=Z\u{fc}rich,CN=\\#\\07,CN=\\ a=b,CN=Example\\, Inc.\\ ");
        let bits = name(&[(Tag::BitString, b"\0a")]);
        assert_eq!(text_of(&bits), "2.5.4.3=#03020061");
        for text in ["CN=a+OU=b,O=c", "UID=a,DC=example,DC=org", "1.2.3=#0c0161"] {
            assert_eq!(text_of(&Name::from_str(text).unwrap()), text);
        }
    }

    #[test]
    fn case_spaces_and_the_type_of_a_text_do_not_matter() {
        let plain = name(&[(Tag::PrintableString, b"Example CA")]);
        for (tag, text) in [
            (Tag::Utf8String, &b"example  ca "[..]),
            (Tag::TeletexString, b"EXAMPLE CA"),
            (Tag::Ia5String, b" Example CA"),
            (Tag::BmpString, b"\0E\0x\0a\0m\0p\0l\0e\0 \0C\0A"),
        ] {
            assert_eq!(compare(&plain, &name(&[(tag, text)])), Sameness::Same, "{tag} {text:?}");
        }
        for text in [&b"ExampleCA"[..], b"Example CB", b""] {
            assert_eq!(compare(&plain, &name(&[(Tag::Utf8String, text)])), Sameness::Different, "{text:?}");
        }
        assert_eq!(compare(&plain, &name(&[])), Sameness::Different);
    }

    #[test]
    fn letters_beyond_ascii_have_a_case_too() {
        let name = |text: &str| name(&[(Tag::Utf8String, text.as_bytes())]);
        assert_eq!(compare(&name("Z\u{fc}rich"), &name("Z\u{dc}RICH")), Sameness::Same);
        assert_eq!(compare(&name("Z\u{fc}rich"), &name("Bern")), Sameness::Different);
        // The same letter, and a ligature.
        assert_eq!(compare(&name("Z\u{fc}rich"), &name("Zu\u{308}rich")), Sameness::Unknown);
        assert_eq!(compare(&name("\u{fb01}x"), &name("fix")), Sameness::Unknown);
    }

    #[test]
    fn an_encoding_that_we_do_not_know_is_the_same_only_as_itself() {
        let videotex = name(&[(Tag::VideotexString, b"Example CA")]);
        assert_eq!(compare(&videotex, &videotex), Sameness::Same);
        assert_eq!(compare(&videotex, &name(&[(Tag::Utf8String, b"Example CA")])), Sameness::Unknown);
        let bits = name(&[(Tag::BitString, b"\0a")]);
        assert_eq!(compare(&bits, &name(&[(Tag::BitString, b"\0b")])), Sameness::Different);
    }

    #[test]
    fn the_order_of_a_set_does_not_matter_and_that_of_the_name_does() {
        let name = |text| Name::from_str(text).unwrap();
        assert_eq!(compare(&name("CN=a+OU=b,O=c"), &name("OU=B+CN=A,O=C")), Sameness::Same);
        assert_eq!(compare(&name("CN=a,O=c"), &name("O=c,CN=a")), Sameness::Different);
    }

    /// A name of one RDN with this many attributes, of which one has another text, and another case.
    fn wide(attributes: usize, text: &str) -> Name {
        let oid = ObjectIdentifier::new_unwrap("2.5.4.3");
        let texts = (1..attributes).map(|number| format!("{number:05}")).chain([text.to_owned()]);
        let attribute = |text: String| {
            let value = Any::new(Tag::Utf8String, text.as_bytes()).unwrap();
            AttributeTypeAndValue { oid, value }
        };
        let rdn = texts.map(attribute).collect::<Vec<_>>().try_into().unwrap();
        let mut name = RdnSequence::default();
        name.push(rdn);
        Name::hazmat_from_rdn_sequence(name)
    }

    #[test]
    fn a_name_of_more_than_16_attributes_is_the_same_only_as_itself_and_that_is_found_at_once() {
        let start = thread_time();
        assert_eq!(compare(&wide(8_000, "a"), &wide(8_000, "a")), Sameness::Same);
        assert_eq!(compare(&wide(8_000, "a"), &wide(8_000, "A")), Sameness::Unknown);
        assert_eq!(compare(&wide(8_000, "a"), &wide(8_001, "a")), Sameness::Different);
        assert!(thread_time() - start < std::time::Duration::from_secs(5));
        assert_eq!(compare(&wide(16, "a"), &wide(16, "A")), Sameness::Same);
        assert_eq!(compare(&wide(16, "a"), &wide(16, "b")), Sameness::Different);
        assert_eq!(compare(&wide(17, "a"), &wide(17, "A")), Sameness::Unknown);
        let long = |parts, last| {
            name(&[vec![(Tag::Utf8String, &b"a"[..]); parts], vec![(Tag::Utf8String, last)]].concat())
        };
        assert_eq!(compare(&long(15, b"a"), &long(15, b"A")), Sameness::Same);
        assert_eq!(compare(&long(16, b"a"), &long(16, b"A")), Sameness::Unknown);
    }
}
