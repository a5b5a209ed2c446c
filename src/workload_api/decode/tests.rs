use std::io::BufReader;

use protobuf::Message as _;

use super::*;
use crate::identity::raw::{Offered, RawJwtBundles, RawJwtSvid, RawX509Context, X509Fields};
use crate::workload_api::proto::workload::{JWTBundlesResponse, JWTSVID, JWTSVIDResponse};
use crate::workload_api::proto::workload::{X509SVID, X509SVIDResponse};

/// A field whose value is a string, bytes, or a message.
fn field(number: u8, value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![number << 3 | 2];
    protobuf::CodedOutputStream::vec(&mut bytes).write_bytes_no_tag(value).unwrap();
    bytes
}

fn x509(bytes: &[u8]) -> RawX509Context {
    decode(bytes).unwrap_or_else(|error| panic!("{error}"))
}

fn refusal(bytes: &[u8]) -> String {
    decode::<RawX509Context>(bytes).err().expect("it is decoded").to_string()
}

/// A response with each field of `X509SVIDResponse`.
fn response() -> Vec<u8> {
    let svid = |id: &str| X509SVID {
        spiffe_id: id.to_owned(),
        x509_svid: b"chain".to_vec(),
        x509_svid_key: b"key".to_vec(),
        bundle: b"bundle".to_vec(),
        hint: "hint".to_owned(),
        ..Default::default()
    };
    let response = X509SVIDResponse {
        svids: vec![svid("one"), svid("two")],
        crl: vec![b"list".to_vec(), b"other".to_vec()],
        federated_bundles: [("domain".to_owned(), b"federated".to_vec())].into(),
        ..Default::default()
    };
    response.write_to_bytes().unwrap()
}

fn assert_is_the_response(raw: &RawX509Context) {
    assert_eq!(raw.svids.iter().map(|svid| svid.spiffe_id.as_str()).collect::<Vec<_>>(), ["one", "two"]);
    for Offered { hint, fields, .. } in &raw.svids {
        let X509Fields { chain, key, bundle } = fields;
        assert_eq!((&**chain, &***key, &**bundle), (&b"chain"[..], &b"key"[..], &b"bundle"[..]));
        assert_eq!(hint, "hint");
    }
    assert_eq!(raw.crls, [b"list".to_vec(), b"other".to_vec()]);
    assert_eq!(raw.federated_bundles, [("domain".to_owned(), b"federated".to_vec())].into());
}

#[test]
fn each_field_of_an_x509_response_is_read() {
    assert_is_the_response(&x509(&response()));
}

#[test]
fn each_field_of_a_response_with_tokens_is_read() {
    let (spiffe_id, svid, hint) = ("id".to_owned(), "token".to_owned(), "hint".to_owned());
    let svids = vec![JWTSVID { spiffe_id, svid, hint, ..Default::default() }; 2];
    let response = JWTSVIDResponse { svids, ..Default::default() };
    let raw: Vec<RawJwtSvid> = decode(&*response.write_to_bytes().unwrap()).unwrap();
    assert_eq!(raw.len(), 2);
    for svid in raw {
        assert_eq!((svid.spiffe_id.as_str(), svid.fields.as_str(), &*svid.hint), ("id", "token", "hint"));
    }
}

#[test]
fn each_field_of_a_response_with_jwt_bundles_is_read() {
    let bundles = [("one".to_owned(), b"keys".to_vec()), ("two".to_owned(), Vec::new())];
    let response = JWTBundlesResponse { bundles: bundles.clone().into(), ..Default::default() };
    let raw: RawJwtBundles = decode(&*response.write_to_bytes().unwrap()).unwrap();
    assert_eq!(raw, bundles.into());
}

#[test]
fn a_response_that_comes_in_small_pieces_is_the_same() {
    let response = response();
    for size in 1..8 {
        assert_is_the_response(&decode(BufReader::with_capacity(size, &*response)).unwrap());
    }
}

#[test]
fn of_a_field_that_occurs_twice_the_last_value_wins() {
    let svid = [field(1, b"a long id"), field(3, b"a long key"), field(3, b"key"), field(1, b"id")].concat();
    let raw = x509(&field(1, &svid));
    assert_eq!((raw.svids[0].spiffe_id.as_str(), &**raw.svids[0].fields.key), ("id", &b"key"[..]));
    let svid = [field(2, b"a long token"), field(2, b"token")].concat();
    let raw: Vec<RawJwtSvid> = decode(&*field(1, &svid)).unwrap();
    assert_eq!(raw[0].fields.as_str(), "token");
}

#[test]
fn a_map_entry_without_key_or_value_has_empty_ones() {
    for (entry, key, value) in [
        (Vec::new(), "", &b""[..]),
        (field(1, b"domain"), "domain", b""),
        (field(2, b"bundle"), "", b"bundle"),
        ([field(2, b"bundle"), field(1, b"domain")].concat(), "domain", b"bundle"),
    ] {
        let raw = x509(&field(3, &entry));
        assert_eq!(raw.federated_bundles, [(key.to_owned(), value.to_vec())].into());
    }
}

#[test]
fn of_a_map_key_that_occurs_twice_the_last_value_wins() {
    let entry = |value: &[u8]| field(3, &[field(1, b"domain"), field(2, value)].concat());
    let raw = x509(&[entry(b"one"), entry(b"two")].concat());
    assert_eq!(raw.federated_bundles, [("domain".to_owned(), b"two".to_vec())].into());
}

#[test]
fn a_string_that_is_not_utf8_is_refused_and_bytes_need_not_be() {
    let not_utf8 = [0xff, 0xfe];
    for bytes in [field(1, &field(1, &not_utf8)), field(3, &field(1, &not_utf8))] {
        assert!(refusal(&bytes).contains("a string is not UTF-8"), "{}", refusal(&bytes));
    }
    assert!(decode::<Vec<RawJwtSvid>>(&*field(1, &field(2, &not_utf8))).is_err());
    assert_eq!(x509(&field(2, &not_utf8)).crls, [not_utf8]);
}

/// Fields that no message has, and numbers that all have with other types of values.
fn unknown_fields() -> Vec<Vec<u8>> {
    let nested_group = vec![0x7b, 0x7b, 0x08, 0x01, 0x7c, 0x0a, 0x01, b'x', 0x7c];
    let a_number_of_three_bytes = vec![0x82, 0x80, 0x80, 0x01, 0x01, b'x'];
    let mut fields = vec![field(15, b"unknown"), nested_group, a_number_of_three_bytes];
    for number in [1u8, 2, 15] {
        let head = |wire_type: u8| vec![number << 3 | wire_type];
        fields.push([head(0), vec![0x80, 0x01]].concat());
        fields.push([head(1), vec![0; 8]].concat());
        fields.push([head(3), head(4)].concat());
        fields.push([head(5), vec![0; 4]].concat());
    }
    fields
}

#[test]
fn unknown_fields_and_known_ones_of_another_type_are_skipped() {
    for unknown in unknown_fields() {
        let svid = [unknown.clone(), field(1, b"one"), unknown.clone(), field(5, b"hint"), unknown.clone()];
        let entry = [unknown.clone(), field(1, b"domain"), unknown.clone(), field(2, b"bundle")];
        let parts = [field(1, &svid.concat()), unknown.clone(), field(3, &entry.concat()), unknown.clone()];
        let raw = x509(&parts.concat());
        assert_eq!((raw.svids.len(), raw.crls.len()), (1, 0), "{unknown:x?}");
        assert_eq!((&*raw.svids[0].spiffe_id, &*raw.svids[0].hint), ("one", "hint"), "{unknown:x?}");
        assert_eq!(raw.federated_bundles, [("domain".to_owned(), b"bundle".to_vec())].into(), "{unknown:x?}");
    }
}

#[test]
fn unknown_fields_are_counted_over_all_parts_and_limited() {
    for unknown in unknown_fields() {
        // As many in each: the response itself, an SVID, and an entry of a map.
        let third = unknown.repeat(MAX_UNKNOWN_FIELDS / 3);
        let rest = unknown.repeat(MAX_UNKNOWN_FIELDS % 3);
        let most = [field(1, &third), third.clone(), field(3, &third), rest].concat();
        assert_eq!(x509(&most).svids.len(), 1);
        for bytes in [[&most[..], &unknown].concat(), [most, field(1, &unknown)].concat()] {
            assert!(refusal(&bytes).contains("more than 8192 unknown fields"), "{unknown:x?}");
        }
    }
}

#[test]
fn parts_are_counted_with_those_that_are_skipped_and_limited() {
    for (known, unknown) in [(MAX_PARTS, 0), (MAX_PARTS - MAX_UNKNOWN_FIELDS, MAX_UNKNOWN_FIELDS)] {
        let most = [field(2, b"").repeat(known), [0x08, 0x01].repeat(unknown)].concat();
        assert_eq!(x509(&most).crls.len(), known);
        let more = [most, field(2, b"")].concat();
        assert!(refusal(&more).contains("more than 65536 parts"), "{known}, {unknown}");
    }
}

#[test]
fn a_part_that_is_cut_off_is_refused() {
    let svid = [field(1, b"one"), field(3, b"key"), field(15, b"unknown"), vec![0x78, 0x80, 0x01]].concat();
    let whole = field(1, &svid);
    assert_eq!(x509(&whole).svids.len(), 1);
    for length in 1..whole.len() {
        refusal(&whole[..length]);
        assert!(decode::<RawX509Context>(BufReader::with_capacity(1, &whole[..length])).is_err(), "{length}");
    }
}

#[test]
fn a_field_that_is_longer_than_its_message_is_refused() {
    // The SVID has three bytes, and its first field ten.
    let longer = [0x0a, 3, 0x0a, 10, b'x'];
    refusal(&[&longer[..], &[b'x'; 20]].concat());
    // An entry of a map in a response that ends sooner, and four GiB.
    refusal(&[0x1a, 10, 0x0a, 1, b'x']);
    refusal(&[0x12, 0xff, 0xff, 0xff, 0xff, 0x0f]);
}

#[test]
fn what_is_not_the_head_of_a_field_is_refused() {
    // The number 0 with a length and with a number, the types 6 and 7, and the end of a group that has not begun.
    for head in [&[0x02, 0][..], &[0x00, 1], &[0x0e], &[0x0f], &[0x0c]] {
        refusal(head);
        refusal(&field(1, head));
    }
    refusal(&[0xff; 11]);
}

#[test]
fn groups_in_groups_without_end_are_refused() {
    refusal(&[0x0b; 4 << 20]);
}
