//! WIT-SVIDs, checked by the WIT-SVID standard: a token, and the private key that it is bound to.

use std::time::SystemTime;

use serde_json::{Map, Value};
use thiserror::Error;
use zeroize::Zeroizing;

use super::jwk;
pub(crate) use super::jwk::JwkError;
use super::private_key::{KeyError, PrivateKey};
use super::raw::RawWitSvid;
use super::selection::Selection;
use super::spiffe_id::{SpiffeId, SpiffeIdError};
use super::svid_info::{Kind, SvidInfo};
use super::svids::{self, SvidsError};
use super::token::{Profile, Token, TokenError};

/// A token whose claims are readable and complete. Its dates are not checked, and neither is its signature: it
/// comes from the agent, not from the network.
pub(crate) struct WitToken {
    info: SvidInfo,
    /// `cnf.jwk`
    bound_key: Map<String, Value>,
}

impl WitToken {
    /// Reads a token of any subject. One without `iat` counts as issued at `now`.
    pub(crate) fn read(token: &str, now: SystemTime) -> Result<Self, TokenError> {
        let token = Token::read(token, Profile::Wit)?;
        let info = token.info(Kind::Wit, now);
        let bound_key = token.bound_key.ok_or(TokenError::Claim("cnf.jwk"))?;
        Ok(Self { info, bound_key })
    }

    /// Identity and dates.
    pub(crate) fn info(&self) -> &SvidInfo {
        &self.info
    }

    /// Checks that a private JWK is the key that the token is bound to. Gives it for PKCS#8, if it has all that
    /// PKCS#8 needs.
    pub(crate) fn check_jwk(&self, jwk: &str) -> Result<Option<PrivateKey>, JwkError> {
        jwk::check_private(jwk, &self.bound_key)
    }

    /// The same of a key in PKCS#8, DER.
    pub(crate) fn check_pkcs8(&self, der: Zeroizing<Vec<u8>>) -> Result<(), JwkError> {
        match PrivateKey::parse(der, &jwk::public_key_info(&self.bound_key)?) {
            Ok(_) => Ok(()),
            Err(KeyError::OtherCertificate) => Err(JwkError::OtherKey),
            Err(error) => Err(JwkError::Key(error)),
        }
    }
}

/// A WIT-SVID whose token and key belong together.
pub(crate) struct WitSvid {
    pub(crate) info: SvidInfo,
    /// In JWS compact serialization.
    pub(crate) token: Zeroizing<String>,
    /// The private key, as it came.
    pub(crate) jwk: Zeroizing<String>,
    /// The same key for PKCS#8; `None` for an RSA key without its primes.
    pub(crate) key: Option<PrivateKey>,
}

/// A WIT-SVID of a response, good or not.
pub(crate) struct InspectedWitSvid {
    /// The SPIFFE ID, as it came.
    pub(crate) id: String,
    /// The hint, as it came.
    pub(crate) hint: String,
    /// The SVID, checked in full.
    pub(crate) svid: Result<WitSvid, WitSvidError>,
}

impl WitSvid {
    /// Checks that a response has the mandatory fields (SPIFFE Workload API standard, section 7), and the selected
    /// SVID in full.
    pub(crate) fn select(
        raw: Vec<RawWitSvid>,
        selection: &Selection,
        now: SystemTime,
    ) -> Result<Self, WitSvidsError> {
        check_conformance(&raw)?;
        svids::select(raw, selection, |svid| Self::parse(svid, now))
    }

    /// Checks that a response has the mandatory fields, and each of its SVIDs on its own.
    pub(crate) fn inspect(
        raw: Vec<RawWitSvid>,
        now: SystemTime,
    ) -> Result<Vec<InspectedWitSvid>, WitSvidsError> {
        check_conformance(&raw)?;
        let inspect = |svid: RawWitSvid| InspectedWitSvid {
            id: svid.spiffe_id.clone(),
            hint: svid.hint.clone(),
            svid: Self::parse(svid, now),
        };
        Ok(raw.into_iter().map(inspect).collect())
    }

    /// Which kind of key it has.
    pub(crate) fn key_type(&self) -> String {
        self.key.as_ref().map_or("RSA".to_owned(), |key| key.key_type().to_string())
    }

    fn parse(offered: RawWitSvid, now: SystemTime) -> Result<Self, WitSvidError> {
        let id: SpiffeId = offered.spiffe_id.parse().map_err(WitSvidError::Id)?;
        if id.path().is_empty() {
            return Err(WitSvidError::NoPath);
        }
        let token = WitToken::read(&offered.token, now)?;
        if token.info.id != id {
            return Err(WitSvidError::OtherSubject(token.info.id.to_string()));
        }
        let key = token.check_jwk(&offered.key)?;
        Ok(Self { info: token.info, token: offered.token, jwk: offered.key, key })
    }
}

fn check_conformance(raw: &[RawWitSvid]) -> Result<(), WitSvidsError> {
    svids::check_fields(raw, |svid| {
        [
            ("spiffe_id", svid.spiffe_id.is_empty()),
            ("wit_svid", svid.token.is_empty()),
            ("wit_svid_key", svid.key.is_empty()),
        ]
    })
}

/// Why a response with WIT-SVIDs is refused.
pub(crate) type WitSvidsError = SvidsError<WitSvidError>;

/// Why a WIT-SVID is refused: the field of the message, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum WitSvidError {
    #[error("spiffe_id: not a SPIFFE ID: {0}")]
    Id(SpiffeIdError),
    #[error("spiffe_id: it has no path: it names a trust domain, not a workload")]
    NoPath,
    #[error("wit_svid: {0}")]
    Token(#[from] TokenError),
    #[error("wit_svid: its claim sub is {0}, not the SVID's SPIFFE ID")]
    OtherSubject(String),
    #[error("wit_svid_key: {0}")]
    Key(#[from] JwkError),
}
