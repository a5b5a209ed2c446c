//! All that comes from outside, parsed: bytes in, what was understood out, or the error's text. These are what
//! `tests/fuzz` calls.

use std::ffi::OsString;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use zeroize::Zeroizing;

use crate::http::{self, Readiness};
use crate::identity::bundle::X509Bundle;
use crate::identity::context::X509Context;
use crate::identity::crl::RevocationList;
use crate::identity::jwks::check_jwks;
use crate::identity::jwt_bundle::JwtBundles;
use crate::identity::jwt_svid::JwtSvid;
use crate::identity::private_key::PrivateKey;
use crate::identity::selection::Selection;
use crate::identity::spiffe_id::SpiffeId;
use crate::identity::token::Profile;
use crate::identity::wit_svid::{WitSvid, WitToken};
use crate::layout::{bundle_map, pem, pkcs12};
use crate::material::{PemFiles, X509Part, x509_files};
use crate::notify::{is_older, parse_pid};
use crate::options;
use crate::process::facts::{self, Reaction, Stat, has_fowner};
use crate::time::timestamp::rfc3339;
use crate::workload_api::decode::decode;
use crate::workload_api::endpoint::Endpoint;

/// What was understood, or why not.
pub type Parsed<T> = Result<T, String>;

/// What the files hold that a response comes to: name and bytes of each.
pub fn x509_response(bytes: &[u8]) -> Parsed<Vec<(String, Vec<u8>)>> {
    let raw = decode(bytes).map_err(text)?;
    let context = X509Context::parse(raw, &Selection::default()).map_err(text)?;
    let name = |name: &str| name.parse().map_err(text);
    let part = X509Part {
        pem: Some(PemFiles {
            certificate: name("svid.pem")?,
            key: name("svid-key.pem")?,
            bundle: name("bundle.pem")?,
            intermediates_in_bundle: false,
            federated_in_bundle: false,
            federated_files: true,
        }),
        spiffe: true,
        combined: Some(name("combined.pem")?),
        keystore: None,
        alias: "svid".parse().map_err(text)?,
        truststore: None,
        bundle_map: None,
        crls: None,
        password: Default::default(),
        omit_expired: false,
        certificate_mode: "0644".parse().map_err(text)?,
        key_mode: "0400".parse().map_err(text)?,
    };
    let files = x509_files::write(&part, context, Default::default(), &mut Default::default(), now())
        .map_err(text)?
        .files;
    let bytes_of = |file: &crate::store::file::File| {
        let mut bytes = Vec::new();
        file.contents.write_to(&mut bytes).map(|()| (file.name.as_str().to_owned(), bytes))
    };
    files.iter().map(|file| bytes_of(file).map_err(text)).collect()
}

/// The certificates of a bundle, one behind the other.
pub fn x509_bundle(bytes: &[u8]) -> Parsed<Vec<u8>> {
    let bundle = X509Bundle::parse(bytes.to_vec()).map_err(text)?;
    Ok(bundle.authorities().flat_map(|authority| authority.der.to_vec()).collect())
}

/// A certificate revocation list, as it is written.
pub fn crl(der: &[u8]) -> Parsed<Vec<u8>> {
    RevocationList::parse(der.to_vec()).map(|list| list.der).map_err(text)
}

/// A SPIFFE bundle map, written again.
pub fn bundle_map(file: &[u8]) -> Parsed<Vec<u8>> {
    let map = bundle_map::read(file).map_err(text)?;
    let certificates =
        |bundle: &X509Bundle| bundle.authorities().map(|ca| ca.der.to_vec()).collect::<Vec<_>>();
    let map: Vec<_> = map.iter().map(|(name, bundle)| (name, certificates(bundle))).collect();
    let trust_domains = map.iter().map(|(name, ders)| (*name, ders.iter().map(Vec::as_slice)));
    let mut written = Vec::new();
    bundle_map::write(trust_domains, &mut written).map(|()| written).map_err(text)
}

/// A private key that belongs to a SubjectPublicKeyInfo, as it is written.
pub fn private_key(der: &[u8], public: &[u8]) -> Parsed<Vec<u8>> {
    PrivateKey::parse(Zeroizing::new(der.to_vec()), public).map(|key| key.der().to_vec()).map_err(text)
}

/// The SPIFFE ID of a token.
pub fn jwt_svid(token: &str) -> Parsed<String> {
    let svid = JwtSvid::read(Zeroizing::new(token.to_owned()), &[], now()).map_err(text)?;
    Ok(svid.info.id.to_string())
}

/// A WIT-SVID: token and JWK as they came, and the key as PKCS#8, where that can be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wit {
    pub token: String,
    pub jwk: String,
    pub pkcs8: Option<Vec<u8>>,
}

/// The first WIT-SVID of a response.
pub fn wit_response(bytes: &[u8]) -> Parsed<Wit> {
    let svid = WitSvid::select(decode(bytes).map_err(text)?, &Selection::default(), now()).map_err(text)?;
    let pkcs8 = svid.key.as_ref().map(|key| key.der().to_vec());
    Ok(Wit { token: svid.token.to_string(), jwk: svid.jwk.to_string(), pkcs8 })
}

/// Whether the key of a WIT-SVID is the one that its token is bound to, in either format.
pub fn wit_files(wit: &Wit) -> Parsed<()> {
    let token = WitToken::read(&wit.token, now()).map_err(text)?;
    token.check_jwk(&wit.jwk).map_err(text)?;
    let pkcs8 = wit.pkcs8.clone().map(Zeroizing::new);
    pkcs8.map_or(Ok(()), |der| token.check_pkcs8(der).map_err(text))
}

/// The documents of a response with WIT bundles.
pub fn wit_bundles(bytes: &[u8]) -> Parsed<Vec<Vec<u8>>> {
    let bundles = JwtBundles::parse(decode(bytes).map_err(text)?, Profile::Wit).map_err(text)?;
    Ok(bundles.good().map(|(_, document)| document.to_vec()).collect())
}

/// The documents of a response.
pub fn jwt_bundles(bytes: &[u8]) -> Parsed<Vec<Vec<u8>>> {
    let bundles = JwtBundles::parse(decode(bytes).map_err(text)?, Profile::Jwt).map_err(text)?;
    Ok(bundles.good().map(|(_, document)| document.to_vec()).collect())
}

/// A JWKS document.
pub fn jwks(document: &[u8]) -> Parsed<()> {
    check_jwks(document, Profile::Jwt).map_err(text)
}

/// The blocks of a PEM file, written again.
pub fn pem(bytes: &[u8]) -> Parsed<Vec<u8>> {
    let blocks = pem::decode(bytes).map_err(text)?;
    let mut written = Vec::new();
    pem::write(blocks.iter().map(|(label, der)| (*label, &der[..])), &mut written).map_err(text)?;
    Ok(written)
}

/// Key (PKCS#8) and certificates of a keystore.
#[derive(Debug, PartialEq, Eq)]
pub struct Keystore {
    pub key: Option<Vec<u8>>,
    pub certificates: Vec<Vec<u8>>,
}

/// A keystore with the default password.
pub fn pkcs12(bytes: &[u8]) -> Parsed<Keystore> {
    let found = pkcs12::read(bytes, &pkcs12::Password::default()).map_err(text)?;
    Ok(Keystore { key: found.key.map(|key| key.to_vec()), certificates: found.certificates })
}

/// The keystore as it is written.
pub fn pkcs12_file(keystore: &Keystore) -> Parsed<Vec<u8>> {
    let (password, certificates) = (pkcs12::Password::default(), &keystore.certificates);
    let alias = "svid".parse().map_err(text)?;
    let certificates: Vec<_> = certificates.iter().map(Vec::as_slice).collect();
    let mut file = Vec::new();
    let written = match &keystore.key {
        Some(key) => pkcs12::key_store(key, &certificates, &alias, &password, &mut file),
        None => pkcs12::trust_store(certificates.iter().copied(), &password, &mut file),
    };
    written.map(|()| file).map_err(text)
}

/// A SPIFFE ID.
pub fn spiffe_id(id: &str) -> Parsed<String> {
    id.parse::<SpiffeId>().map(|id| id.to_string()).map_err(text)
}

/// The address of a Workload API.
pub fn endpoint(address: &str) -> Parsed<String> {
    address.parse::<Endpoint>().map(|endpoint| endpoint.to_string()).map_err(text)
}

/// A command line.
pub fn options(arguments: Vec<OsString>, variables: Vec<(OsString, OsString)>) -> Parsed<()> {
    options::read(arguments, variables).map(drop).map_err(text)
}

/// The answer to a request, once its head is complete.
pub fn http_head(bytes: &[u8]) -> Option<Vec<u8>> {
    http::answer(bytes, &mut Readiness::default(), &mut |_| Ok(String::new()))
}

/// The number in a PID file.
pub fn pid_file(bytes: &[u8]) -> Parsed<i32> {
    parse_pid(bytes).map(|pid| pid.as_raw())
}

/// Both times of a PID file as they are told, if it is older than its process.
pub fn pid_file_is_older(written: SystemTime, started: SystemTime) -> Option<[String; 2]> {
    is_older(written, started).then(|| [written, started].map(|time| rfc3339(time, 0)))
}

/// Name and start of a process, from `/proc/PID/stat` and, for the start, lines of `/proc/stat`.
pub fn process_stat(text: &str) -> Option<(String, Option<SystemTime>)> {
    Stat::parse(text).map(|stat| (stat.name.clone(), stat.started_by(text)))
}

/// The file name of a process's program, from `/proc/PID/cmdline`.
pub fn program(command_line: &[u8]) -> Option<String> {
    facts::program(command_line)
}

/// Whether a process may replace other users' files in a sticky directory, from `/proc/PID/status`.
pub fn overrides_owners(status: &str) -> Option<bool> {
    has_fowner(status)
}

/// Whether a process expects SIGHUP, from `/proc/PID/status`.
pub fn expects_hangup(status: &str) -> bool {
    Reaction::parse(status, nix::sys::signal::Signal::SIGHUP.into()) != Reaction::Ends
}

/// A day in 2027.
fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
