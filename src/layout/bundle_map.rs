//! The SPIFFE bundle map (SPIFFE Trust Domain and Bundle standard, section 5): the CAs of several trust domains as
//! JSON. gRPC and Envoy read it.

use std::io::{self, Write};

use base64ct::{Base64, Encoding};
use serde_json::{Value, json};

use crate::identity::bundle::X509Bundle;
use crate::identity::ca_jwk;
use crate::identity::spiffe_id::TrustDomain;
use crate::words::{Flaw, flaw};

/// Writes trust domains with their CAs (DER): a key for each. What gRPC and Envoy do not know would make them
/// refuse the whole file: CAs whose key [`ca_jwk::members`] does not know are left out, and so are trust domains
/// without any other.
pub(crate) fn write<'a, Authorities: Iterator<Item = &'a [u8]>>(
    trust_domains: impl Iterator<Item = (&'a TrustDomain, Authorities)>,
    out: &mut dyn Write,
) -> io::Result<()> {
    out.write_all(b"{\"trust_domains\":{")?;
    let mut comma = "";
    for (name, authorities) in trust_domains {
        let mut keys = authorities.filter_map(|der| Some((ca_jwk::members(der)?, der))).peekable();
        if keys.peek().is_none() {
            continue;
        }
        // Neither a name nor a member of a key has anything to escape.
        write!(out, "{comma}\"{name}\":{{\"keys\":[")?;
        comma = "";
        for (members, der) in keys {
            write!(out, "{comma}{{\"use\":\"x509-svid\"")?;
            for (name, value) in members {
                write!(out, ",\"{name}\":\"{value}\"")?;
            }
            write!(out, ",\"x5c\":[\"{}\"]}}", Base64::encode_string(der))?;
            comma = ",";
        }
        out.write_all(b"]}")?;
    }
    out.write_all(b"}}\n")
}

/// Reads what [`write`] writes: each key must be the one of its certificate, and have no other members.
pub(crate) fn read(file: &[u8]) -> Result<Vec<(TrustDomain, X509Bundle)>, Flaw> {
    trust_domains(file).map_err(|flaw| flaw.within("not a SPIFFE bundle map"))
}

fn trust_domains(file: &[u8]) -> Result<Vec<(TrustDomain, X509Bundle)>, Flaw> {
    let map: Value = serde_json::from_slice(file).map_err(|cause| flaw!("{cause}"))?;
    let trust_domains = map.get("trust_domains").and_then(Value::as_object);
    let trust_domains = trust_domains.ok_or_else(|| flaw!("it has no object \"trust_domains\""))?;
    let read = |(name, jwks): (&String, &Value)| {
        trust_domain(name, jwks).map_err(|flaw| flaw.within(format_args!("trust domain {name:?}")))
    };
    trust_domains.iter().map(read).collect()
}

fn trust_domain(name: &str, jwks: &Value) -> Result<(TrustDomain, X509Bundle), Flaw> {
    let trust_domain = TrustDomain::from_id(&format!("spiffe://{name}"))?;
    let keys = jwks.get("keys").and_then(Value::as_array);
    let keys = keys.ok_or_else(|| flaw!("it has no list \"keys\""))?;
    let mut der = Vec::new();
    for (index, key) in keys.iter().enumerate() {
        der.extend(certificate(key).map_err(|cause| flaw!("key {index} {cause}"))?);
    }
    Ok((trust_domain, X509Bundle::parse(der)?))
}

/// The certificate of a key, which must be its.
fn certificate(key: &Value) -> Result<Vec<u8>, &'static str> {
    let [Value::String(text)] = key.get("x5c").and_then(Value::as_array).map_or(&[][..], Vec::as_slice)
    else {
        return Err("does not have exactly one certificate in \"x5c\"");
    };
    let der = Base64::decode_vec(text).map_err(|_| "has an \"x5c\" that is not base64")?;
    let members =
        ca_jwk::members(&der).ok_or("has an \"x5c\" that is no certificate with a key of RSA or EC")?;
    let mut expected = json!({ "use": "x509-svid", "x5c": [text] });
    for (name, value) in members {
        expected[name] = value.into();
    }
    if *key == expected { Ok(der) } else { Err("is not the key of its certificate and nothing else") }
}
