//! JWT-SVIDs, checked by the JWT-SVID standard, sections 2 and 3.

use std::time::SystemTime;

use zeroize::Zeroizing;

use super::raw::RawJwtSvid;
use super::selection::Selection;
use super::svid_info::{Kind, SvidInfo};
use super::svids::{self, Unusable, parse_id};
use super::token::{Profile, Token};
use crate::words::{Flaw, flaw};

/// A JWT-SVID whose claims are readable and complete. Its dates are not checked, and neither is its
/// signature: it comes from the agent, not from the network.
pub(crate) struct JwtSvid {
    pub(crate) info: SvidInfo,
    /// The `kid` of the key that signed it, if its header names one.
    pub(crate) key_id: Option<String>,
    /// In JWS compact serialization.
    pub(crate) token: Zeroizing<String>,
}

impl JwtSvid {
    /// Checks that a response has the mandatory fields (SPIFFE Workload API standard, section 6.2.1),
    /// and the selected SVID in full: the token's subject must be its SPIFFE ID, and the audience
    /// must include all of `audience`. A token without `iat` counts as issued at `now`.
    pub(crate) fn select(
        raw: Vec<RawJwtSvid>,
        selection: &Selection,
        audience: &[String],
        now: SystemTime,
    ) -> Result<Self, Unusable> {
        svids::check_fields(&raw, |id, token| [("spiffe_id", id.is_empty()), ("svid", token.is_empty())])?;
        svids::select(raw, selection, |id, token| Self::parse(id, token, audience, now))
    }

    fn parse(id: &str, token: Zeroizing<String>, audience: &[String], now: SystemTime) -> Result<Self, Flaw> {
        let id = parse_id(id)?;
        let svid = Self::read(token, audience, now)?;
        if svid.info.id != id {
            return Err(flaw!("its subject is {}, not the SVID's SPIFFE ID", svid.info.id));
        }
        Ok(svid)
    }

    /// Checks a token of any subject; its audience must include all of `audience`.
    pub(crate) fn read(token: Zeroizing<String>, audience: &[String], now: SystemTime) -> Result<Self, Flaw> {
        let claims = Token::read(&token, Profile::Jwt)?;
        if let Some(missing) = audience.iter().find(|each| !claims.audience.contains(each)) {
            return Err(flaw!("its claim aud lacks the audience {missing:?}"));
        }
        Ok(Self { info: claims.info(Kind::Jwt, now), key_id: claims.key_id, token })
    }
}

#[cfg(test)]
mod tests {
    use base64ct::{Base64UrlUnpadded, Encoding};
    use std::time::{Duration, UNIX_EPOCH};

    use super::super::dates::Validity;
    use super::*;
    use crate::time::timestamp::rfc3339;

    const ID: &str = "spiffe://example.org/a";

    /// The token of these claims, for the audience one and two.
    fn token(id: &str, claims: &str) -> RawJwtSvid {
        let part = |text: &str| Base64UrlUnpadded::encode_string(text.as_bytes());
        let token = format!("{}.{}.c2ln", part(r#"{"alg":"ES256","kid":"k"}"#), part(claims));
        RawJwtSvid { spiffe_id: id.to_owned(), hint: String::new(), fields: Zeroizing::new(token) }
    }

    fn parse(claims: &str) -> Result<JwtSvid, Flaw> {
        JwtSvid::parse(ID, token(ID, claims).fields, &["one".to_owned(), "two".to_owned()], UNIX_EPOCH)
    }

    /// The info of a token with these dates, at 1970-01-01.
    fn info_of(dates: &str) -> SvidInfo {
        let claims = r#"{"sub":"spiffe://example.org/a","aud":["two","one","more"],"#;
        parse(&format!("{claims}{dates}}}")).ok().unwrap().info.clone()
    }

    fn at(seconds: f64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs_f64(seconds)
    }

    #[test]
    fn a_good_token_gives_identity_key_id_and_dates() {
        let claims = r#"{"sub":"spiffe://example.org/a","aud":["two","one","more"],"iat":100,"exp":400.5}"#;
        let svid = parse(claims).ok().unwrap();
        assert_eq!(svid.key_id.as_deref(), Some("k"));
        assert_eq!(svid.info.id.as_str(), ID);
        assert_eq!((svid.info.issued_at, svid.info.not_after), (at(100.0), at(400.5)));
    }

    #[test]
    fn a_token_without_iat_counts_as_issued_now() {
        assert_eq!(info_of(r#""exp":400"#).issued_at, UNIX_EPOCH);
    }

    #[test]
    fn a_token_is_not_valid_before_its_nbf() {
        let info = info_of(r#""iat":0,"nbf":60,"exp":400"#);
        assert_eq!(info.dates().validity(UNIX_EPOCH), Validity::NotYet);
        assert_eq!(info.dates().validity(at(60.0)), Validity::Valid);
    }

    #[test]
    fn a_token_that_was_issued_in_the_future_is_valid_now() {
        let info = info_of(r#""iat":60,"exp":400"#);
        assert_eq!(info.dates().validity(UNIX_EPOCH), Validity::Valid);
        assert_eq!(info.issued_at, at(60.0));
    }

    #[test]
    fn a_token_that_was_issued_after_its_end_is_renewed_at_its_end() {
        assert_eq!(info_of(r#""iat":1000,"exp":400"#).renew_at(), at(400.0));
    }

    #[test]
    fn dates_before_1970_and_after_9999_count_as_the_first_and_the_last_second_between() {
        let info = info_of(r#""iat":-1000.5,"exp":-1"#);
        assert_eq!((info.issued_at, info.not_after), (UNIX_EPOCH, UNIX_EPOCH));
        assert_eq!(info.dates().validity(at(1.0)), Validity::Expired);
        let info = info_of(r#""iat":-1e300,"exp":1e300"#);
        assert_eq!(info.issued_at, UNIX_EPOCH);
        assert_eq!(rfc3339(info.not_after, 0), "9999-12-31T23:59:59Z");
        assert!(info.renew_at() < info.overdue_at());
    }

    #[test]
    fn a_token_of_another_subject_or_audience_is_refused() {
        let error = |claims| parse(claims).err().unwrap().to_string();
        let claims = r#"{"sub":"spiffe://example.org/b","aud":["one","two"],"exp":4}"#;
        assert_eq!(error(claims), "its subject is spiffe://example.org/b, not the SVID's SPIFFE ID");
        let claims = r#"{"sub":"spiffe://example.org/a","aud":"one","exp":4}"#;
        assert_eq!(error(claims), "its claim aud lacks the audience \"two\"");
    }

    #[test]
    fn only_the_selected_token_is_checked_in_full() {
        let other = "spiffe://example.org/other";
        let claims = r#"{"sub":"spiffe://example.org/a","aud":"one","exp":4}"#;
        let select = |id: &str| {
            let selection = Selection { id: Some(id.parse().unwrap()), hint: None };
            let raw = vec![token(other, "broken"), token(ID, claims)];
            JwtSvid::select(raw, &selection, &["one".to_owned()], UNIX_EPOCH)
        };
        assert!(select(ID).is_ok());
        let error = select(other).err().unwrap().to_string();
        assert!(error.starts_with(&format!("svids[0] ({other:?}) its claims cannot be read")), "{error}");
    }
}
