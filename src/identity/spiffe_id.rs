//! SPIFFE IDs and trust domains (SPIFFE-ID standard, section 2).

use std::fmt;
use std::str::FromStr;

use crate::words::{Flaw, flaw};

/// The longest SPIFFE ID, in bytes (section 2.3).
const MAX_ID: usize = 2048;
/// The longest trust domain name, in bytes (section 2.3).
const MAX_TRUST_DOMAIN: usize = 255;

/// A valid SPIFFE ID: `spiffe://trust-domain`, or `spiffe://trust-domain/path`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct SpiffeId {
    text: Box<str>,
    /// The end of the trust domain's name, where a path begins.
    path_start: usize,
}

const SCHEME: &str = "spiffe://";

impl SpiffeId {
    /// The ID as a URI.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// The trust domain.
    pub(crate) fn trust_domain(&self) -> TrustDomain {
        TrustDomain(self.text[SCHEME.len()..self.path_start].to_owned())
    }

    /// The path with its leading slash; empty for the ID of a trust domain.
    pub(crate) fn path(&self) -> &str {
        &self.text[self.path_start..]
    }

    /// Refuses the ID of a trust domain (section 3.1 of the X.509-SVID, JWT-SVID and WIT-SVID standards).
    pub(crate) fn must_name_workload(self) -> Result<Self, Flaw> {
        match self.path() {
            "" => Err(flaw!("a workload's SPIFFE ID has a path; this one names a trust domain")),
            _ => Ok(self),
        }
    }
}

impl FromStr for SpiffeId {
    type Err = Flaw;

    fn from_str(text: &str) -> Result<Self, Flaw> {
        if text.len() > MAX_ID {
            return Err(flaw!("a SPIFFE ID has at most {MAX_ID} bytes"));
        }
        let rest = text.strip_prefix(SCHEME).ok_or_else(|| flaw!("a SPIFFE ID starts with {SCHEME}"))?;
        let trust_domain = rest.split('/').next().unwrap_or_default();
        check_trust_domain(trust_domain)?;
        check_path(&rest[trust_domain.len()..])?;
        Ok(Self { text: text.into(), path_start: SCHEME.len() + trust_domain.len() })
    }
}

/// A valid name of a trust domain, as in `example.org`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TrustDomain(String);

impl TrustDomain {
    /// The SPIFFE ID of the trust domain.
    pub(crate) fn id(&self) -> String {
        format!("{SCHEME}{}", self.0)
    }

    /// Parses the SPIFFE ID of a trust domain, which has no path. The Workload API names trust
    /// domains like this.
    pub(crate) fn from_id(text: &str) -> Result<Self, Flaw> {
        let id: SpiffeId = text.parse().map_err(|flaw: Flaw| flaw.within("its key is not a trust domain"))?;
        match id.path() {
            "" => Ok(id.trust_domain()),
            _ => Err(flaw!("its key is a workload's SPIFFE ID, not a trust domain's")),
        }
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Section 2.1.
fn check_trust_domain(name: &str) -> Result<(), Flaw> {
    let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_');
    match name {
        "" => Err(flaw!("the trust domain is missing")),
        _ if name.len() > MAX_TRUST_DOMAIN => {
            Err(flaw!("a trust domain has at most {MAX_TRUST_DOMAIN} bytes"))
        }
        _ if !name.bytes().all(allowed) => {
            Err(flaw!("a trust domain has only lowercase letters, digits, dots, dashes and underscores"))
        }
        _ => Ok(()),
    }
}

/// Section 2.2. `path` is empty or starts with a slash.
fn check_path(path: &str) -> Result<(), Flaw> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    path.split('/').skip(1).try_for_each(|segment| match segment {
        "" => Err(flaw!("the path has an empty segment or a trailing slash")),
        "." | ".." => Err(flaw!("the path has a \".\" or \"..\" segment")),
        _ if !segment.bytes().all(allowed) => {
            Err(flaw!("the segments of a path have only letters, digits, dots, dashes and underscores"))
        }
        _ => Ok(()),
    })
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workload_id_gives_its_trust_domain_and_path() {
        let id: SpiffeId = "spiffe://example.org/ns/default/sa/My_App-1.2".parse().unwrap();
        assert_eq!(id.trust_domain().to_string(), "example.org");
        assert_eq!(id.path(), "/ns/default/sa/My_App-1.2");
    }

    #[test]
    fn a_trust_domain_may_have_underscores_and_digits_and_look_like_an_address() {
        for trust_domain in ["my_td-1", "10.0.0.1"] {
            let id: SpiffeId = format!("spiffe://{trust_domain}/a").parse().unwrap();
            assert_eq!(id.trust_domain().to_string(), trust_domain);
        }
    }

    #[test]
    fn a_trust_domain_id_has_an_empty_path() {
        let id: SpiffeId = "spiffe://example.org".parse().unwrap();
        assert_eq!((id.trust_domain().to_string().as_str(), id.path()), ("example.org", ""));
    }

    #[test]
    fn the_longest_id_is_accepted_and_one_byte_more_is_not() {
        let longest = format!("spiffe://td/{}", "a".repeat(MAX_ID - "spiffe://td/".len()));
        assert!(longest.parse::<SpiffeId>().is_ok());
        let error = format!("{longest}a").parse::<SpiffeId>().unwrap_err().to_string();
        assert_eq!(error, "a SPIFFE ID has at most 2048 bytes");
    }

    #[test]
    fn what_breaks_the_grammar_is_refused_with_the_rule_it_breaks() {
        let long_domain = format!("spiffe://{}/a", "d".repeat(MAX_TRUST_DOMAIN + 1));
        for (text, rule) in [
            ("", "starts with spiffe://"),
            ("https://example.org/a", "starts with spiffe://"),
            ("SPIFFE://example.org/a", "starts with spiffe://"),
            ("spiffe:/example.org/a", "starts with spiffe://"),
            ("spiffe://", "the trust domain is missing"),
            ("spiffe:///a", "the trust domain is missing"),
            (&long_domain, "a trust domain has at most 255 bytes"),
            ("spiffe://Example.org/a", "a trust domain has only lowercase letters"),
            ("spiffe://example.org:80/a", "a trust domain has only lowercase letters"),
            ("spiffe://user@example.org/a", "a trust domain has only lowercase letters"),
            ("spiffe://example%2eorg/a", "a trust domain has only lowercase letters"),
            ("spiffe://example.org?q", "a trust domain has only lowercase letters"),
            ("spiffe://t$d/a", "a trust domain has only lowercase letters"),
            ("spiffe://example.org/", "an empty segment"),
            ("spiffe://example.org/a/", "an empty segment"),
            ("spiffe://example.org//a", "an empty segment"),
            ("spiffe://example.org/a/../b", "a \".\" or \"..\" segment"),
            ("spiffe://example.org/./a", "a \".\" or \"..\" segment"),
            ("spiffe://example.org/a%20b", "the segments of a path have only"),
            ("spiffe://example.org/a?q=1", "the segments of a path have only"),
            ("spiffe://example.org/a#f", "the segments of a path have only"),
            ("spiffe://example.org/a!b", "the segments of a path have only"),
            ("spiffe://example.org/ä", "the segments of a path have only"),
        ] {
            let error = text.parse::<SpiffeId>().unwrap_err().to_string();
            assert!(error.contains(rule), "{text}: {error}");
        }
    }
}
