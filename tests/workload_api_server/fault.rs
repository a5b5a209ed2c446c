//! Everything that can be wrong with a response, by name.

use std::time::Duration;

use der::Encode;
use grpcio::RpcStatusCode;
use pod_svid_helper::for_tests::MAX_MESSAGE_MIB;
use pod_svid_helper::for_tests::workload::{X509SVID, X509SVIDResponse};
use pod_svid_helper::for_tests::{MAX_BUNDLE, MAX_CHAIN, MAX_SVIDS};
use rcgen::KeyUsagePurpose;

use super::authority::{Authority, KeyType, Recipe};
use super::server::Reply;

/// A way to misbehave.
#[derive(Clone, Copy)]
pub struct Fault {
    pub name: &'static str,
    reply: fn(&Authority, &Recipe) -> Reply,
}

impl Fault {
    pub fn named(name: &str) -> Option<Self> {
        FAULTS.iter().find(|fault| fault.name == name).copied()
    }

    /// The reply to a call for the recipe's SVID.
    pub fn reply(&self, authority: &Authority, recipe: &Recipe) -> Reply {
        (self.reply)(authority, recipe)
    }
}

/// A good response, spoilt afterwards.
fn spoilt(authority: &Authority, recipe: &Recipe, spoil: impl FnOnce(&mut X509SVIDResponse)) -> Reply {
    let mut response = authority.response([recipe]);
    spoil(&mut response);
    Reply::offer(&response)
}

/// A good response with a second SVID, which is spoilt.
fn beside(authority: &Authority, recipe: &Recipe, spoil: impl FnOnce(&mut X509SVID)) -> Reply {
    spoilt(authority, recipe, |response| {
        let mut second = authority.mint(&Recipe::for_id("spiffe://example.org/second"));
        spoil(&mut second);
        response.svids.push(second);
    })
}

/// A response of a spoilt recipe.
fn minted(authority: &Authority, recipe: &Recipe, spoil: impl FnOnce(&mut Recipe)) -> Reply {
    let mut recipe = recipe.clone();
    spoil(&mut recipe);
    Reply::offer(&authority.response([&recipe]))
}

const RANDOM: [u8; 64] = [0x5a; 64];

/// The key that `key` holds, without its PKCS#8 wrapping.
fn unwrapped(key: &[u8]) -> Vec<u8> {
    let info = pkcs8::PrivateKeyInfoRef::try_from(key).expect("PKCS#8");
    info.private_key.as_bytes().to_vec()
}

/// An RSA key with n and e of `key`, and all other numbers of `other`.
fn with_numbers_of(key: &[u8], other: &[u8]) -> Vec<u8> {
    let (key, other) = (unwrapped(key), unwrapped(other));
    let [key, other] =
        [&key, &other].map(|der| pkcs1::RsaPrivateKeyRef::try_from(der.as_slice()).expect("RSA"));
    let (modulus, public_exponent) = (key.modulus, key.public_exponent);
    let mixed = pkcs1::RsaPrivateKey { modulus, public_exponent, ..other }.to_der().expect("DER");
    let algorithm = pkcs8::AlgorithmIdentifierRef {
        oid: pkcs1::ALGORITHM_OID,
        parameters: Some(der::asn1::AnyRef::NULL),
    };
    let mixed =
        pkcs8::PrivateKeyInfoRef::new(algorithm, der::asn1::OctetStringRef::new(&mixed).expect("DER"));
    mixed.to_der().expect("DER")
}

macro_rules! faults {
    ($($name:literal => |$authority:pat_param, $recipe:ident| $reply:expr;)+) => {
        pub const FAULTS: &[Fault] = &[$(Fault { name: $name, reply: |$authority, $recipe| $reply }),+];
    };
}

faults! {
    // Statuses and silence.
    "unavailable" => |_, _recipe| Reply::refuse(RpcStatusCode::UNAVAILABLE);
    "permission-denied" => |_, _recipe| Reply::Refuse(RpcStatusCode::PERMISSION_DENIED, "no identity issued".to_owned());
    "invalid-argument" => |_, _recipe| Reply::refuse(RpcStatusCode::INVALID_ARGUMENT);
    "unimplemented" => |_, _recipe| Reply::refuse(RpcStatusCode::UNIMPLEMENTED);
    "close" => |_, _recipe| Reply::Close;
    "silence" => |_, _recipe| Reply::Silence;
    // The message.
    "undecodable" => |_, _recipe| Reply::Send(RANDOM.to_vec());
    "no-svids" => |a, r| spoilt(a, r, |m| m.svids.clear());
    "too-large" => |a, r| spoilt(a, r, |m| m.crl.push(vec![0; (MAX_MESSAGE_MIB as usize) << 20]));
    "other-id" => |a, r| minted(a, r, |r| { r.spiffe_id.push_str("-other"); r.uris = vec![r.spiffe_id.clone()] });
    // spiffe_id.
    "empty-id" => |a, r| spoilt(a, r, |m| m.svids[0].spiffe_id.clear());
    "malformed-id" => |a, r| minted(a, r, |r| { r.spiffe_id = "spiffe://Example.org/a b".to_owned(); r.uris = vec!["spiffe://example.org/a".to_owned()] });
    "trust-domain-id" => |a, r| minted(a, r, |r| { r.spiffe_id = "spiffe://example.org".to_owned(); r.uris = vec![r.spiffe_id.clone()] });
    // x509_svid.
    "empty-chain" => |a, r| spoilt(a, r, |m| m.svids[0].x509_svid.clear());
    "truncated-chain" => |a, r| spoilt(a, r, |m| { m.svids[0].x509_svid.pop(); });
    "trailing-bytes" => |a, r| spoilt(a, r, |m| m.svids[0].x509_svid.extend_from_slice(b"more"));
    "random-chain" => |a, r| spoilt(a, r, |m| m.svids[0].x509_svid = RANDOM.to_vec());
    "long-chain" => |a, r| spoilt(a, r, |m| { let ca = m.svids[0].bundle.repeat(MAX_CHAIN); m.svids[0].x509_svid.extend(ca) });
    "two-uris" => |a, r| minted(a, r, |r| r.uris.push(format!("{}-too", r.spiffe_id)));
    "no-uri" => |a, r| minted(a, r, |r| r.uris.clear());
    "foreign-uri" => |a, r| minted(a, r, |r| r.uris = vec!["https://example.org/workload".to_owned()]);
    "other-uri" => |a, r| minted(a, r, |r| r.uris = vec![format!("{}-other", r.spiffe_id)]);
    "leaf-is-ca" => |a, r| minted(a, r, |r| r.is_ca = true);
    "extension-twice" => |a, r| minted(a, r, |r| r.extensions = 2);
    "no-key-usage" => |a, r| minted(a, r, |r| r.key_usages.clear());
    "no-digital-signature" => |a, r| minted(a, r, |r| r.key_usages = vec![KeyUsagePurpose::KeyEncipherment]);
    "key-cert-sign" => |a, r| minted(a, r, |r| r.key_usages.push(KeyUsagePurpose::KeyCertSign));
    "crl-sign" => |a, r| minted(a, r, |r| r.key_usages.push(KeyUsagePurpose::CrlSign));
    "leaf-as-intermediate" => |a, r| spoilt(a, r, |m| { let leaf = a.mint(r).x509_svid; m.svids[0].x509_svid.extend(leaf) });
    "expired" => |a, r| Reply::offer(&a.response([&r.clone().expired_for(Duration::from_secs(60))]));
    // x509_svid_key.
    "empty-key" => |a, r| spoilt(a, r, |m| m.svids[0].x509_svid_key.clear());
    "other-key" => |a, r| spoilt(a, r, |m| m.svids[0].x509_svid_key = a.mint(r).x509_svid_key);
    "other-key-p384" => |a, r| { let r = r.clone().key_type(KeyType::P384); spoilt(a, &r, |m| m.svids[0].x509_svid_key = a.mint(&r).x509_svid_key) };
    "other-key-rsa" => |a, r| { let r = r.clone().key_type(KeyType::Rsa2048); spoilt(a, &r, |m| m.svids[0].x509_svid_key = a.mint(&r).x509_svid_key) };
    "other-key-ed25519" => |a, r| { let r = r.clone().key_type(KeyType::Ed25519); spoilt(a, &r, |m| m.svids[0].x509_svid_key = a.mint(&r).x509_svid_key) };
    "other-key-type" => |a, r| spoilt(a, r, |m| m.svids[0].x509_svid_key = a.mint(&r.clone().key_type(KeyType::P384)).x509_svid_key);
    "rsa-key-of-two-keys" => |a, r| { let r = r.clone().key_type(KeyType::Rsa2048); spoilt(a, &r, |m| m.svids[0].x509_svid_key = with_numbers_of(&m.svids[0].x509_svid_key, &a.mint(&r).x509_svid_key)) };
    "key-not-pkcs8" => |a, r| spoilt(a, r, |m| m.svids[0].x509_svid_key = unwrapped(&m.svids[0].x509_svid_key));
    "random-key" => |a, r| spoilt(a, r, |m| m.svids[0].x509_svid_key = RANDOM.to_vec());
    // bundle and federated_bundles.
    "empty-bundle" => |a, r| spoilt(a, r, |m| m.svids[0].bundle.clear());
    "truncated-bundle" => |a, r| spoilt(a, r, |m| { m.svids[0].bundle.pop(); });
    "random-bundle" => |a, r| spoilt(a, r, |m| m.svids[0].bundle = RANDOM.to_vec());
    "huge-bundle" => |a, r| spoilt(a, r, |m| m.svids[0].bundle = m.svids[0].bundle.repeat(MAX_BUNDLE + 1));
    "second-svid-bad" => |a, r| spoilt(a, r, |m| { let mut second = a.mint(r); second.bundle.clear(); m.svids.push(second) });
    "second-chain-broken" => |a, r| beside(a, r, |svid| svid.x509_svid = RANDOM.to_vec());
    "second-key-broken" => |a, r| beside(a, r, |svid| svid.x509_svid_key = RANDOM.to_vec());
    "second-bundle-broken" => |a, r| beside(a, r, |svid| { svid.bundle.pop(); });
    "second-id-malformed" => |a, r| beside(a, r, |svid| svid.spiffe_id = "spiffe://Example.org/a b".to_owned());
    "too-many-svids" => |a, r| spoilt(a, r, |m| m.svids = vec![m.svids[0].clone(); MAX_SVIDS + 1]);
    "federated-bundle-upper-case" => |a, r| spoilt(a, r, |m| { m.federated_bundles.insert("spiffe://Other.org".to_owned(), a.bundle()); });
    "federated-bundle-broken" => |a, r| spoilt(a, r, |m| { m.federated_bundles.insert("spiffe://other.org".to_owned(), RANDOM.to_vec()); });
    "broken-crl" => |a, r| spoilt(a, r, |m| m.crl.push(RANDOM.to_vec()));
    "federated-bundle-of-workload" => |a, r| spoilt(a, r, |m| { m.federated_bundles.insert("spiffe://other.org/workload".to_owned(), a.bundle()); });
}
