//! A JWT-SVID: its file, and the calls that fetch it and renew it.

use std::rc::Rc;
use std::str::FromStr;
use std::task::{Context, Poll};
use std::time::{Instant, SystemTime};

use log::Level;
use zeroize::Zeroizing;

use super::call::RetriedCall;
use super::changes::{ChangeKind, ChangeKinds};
use super::facts::Facts;
use super::file_flaw::{in_file, text};
use super::followed_selection::FollowedSelection;
use super::jwks;
use super::part::{Call, Learned, Part, Source, Until, Update, Wish};
use super::rejection::Rejection;
use super::verdict::fault_of_dates;
use crate::identity::jwt_bundle::JwtBundles;
use crate::identity::jwt_svid::JwtSvid;
use crate::identity::raw::RawJwtSvid;
use crate::identity::selection::Selection;
use crate::identity::svid_info::SvidInfo;
use crate::layout::GivenName;
use crate::logging::retrying_in;
use crate::store::StoreError;
use crate::store::file::{Contents, File, FileMode, FileName};
use crate::store::read::PublishedSet;
use crate::time::backoff::{Backoff, random_fraction};
use crate::time::clock::Now;
use crate::time::timestamp::rfc3339;
use crate::time::timing::{BETWEEN_TOKENS, OVERDUE};
use crate::words::Flaw;
use crate::workload_api::rpc::FetchJwtSvid;

/// The file of a JWT-SVID.
#[derive(Debug, Clone)]
pub(crate) struct JwtSvidPart {
    pub(crate) file: JwtSvidFile,
    pub(crate) mode: FileMode,
}

/// A JWT-SVID to keep: the name of its file and its audience.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JwtSvidFile {
    pub(crate) name: FileName,
    /// One or more.
    pub(crate) audience: Vec<String>,
}

impl FromStr for JwtSvidFile {
    type Err = Flaw;

    /// Reads `FILE=AUDIENCE[,AUDIENCE...]`.
    fn from_str(text: &str) -> Result<Self, Flaw> {
        let (name, audience) = text.split_once('=').ok_or_else(|| Flaw::new(NO_AUDIENCE))?;
        Ok(Self { name: name.parse()?, audience: audience.parse::<Audience>()?.0 })
    }
}

const NO_AUDIENCE: &str = "an audience is missing";

/// For whom a token is: one or more.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Audience(pub(crate) Vec<String>);

impl FromStr for Audience {
    type Err = Flaw;

    /// Reads `AUDIENCE[,AUDIENCE...]`.
    fn from_str(text: &str) -> Result<Self, Flaw> {
        let audience: Vec<_> = text.split(',').map(|each| each.trim().to_owned()).collect();
        if audience.iter().any(String::is_empty) {
            return Err(Flaw::new(NO_AUDIENCE));
        }
        Ok(Self(audience))
    }
}

impl Part for JwtSvidPart {
    fn name(&self) -> String {
        format!("the JWT-SVID {}", self.file.name)
    }

    fn describe(&self, svid: &SvidInfo) -> String {
        let (id, end) = (&svid.id, rfc3339(svid.not_after, 0));
        let (audience, name) = (self.file.audience.join(", "), &self.file.name);
        format!("the JWT-SVID of {id} for {audience} (valid until {end}) as {name}")
    }

    fn file(&self) -> &str {
        self.file.name.as_str()
    }

    fn given_names(&self) -> Vec<GivenName> {
        vec![GivenName::exact("jwt-svid", &self.file.name)]
    }

    fn mode_of(&self, name: &str) -> Option<FileMode> {
        (name == self.file.name.as_str()).then_some(self.mode)
    }

    fn kinds(&self) -> ChangeKinds {
        [ChangeKind::Token].into_iter().collect()
    }

    fn read(&self, set: &PublishedSet<'_>, now: SystemTime) -> Result<Facts, StoreError> {
        let name = self.file.name.as_str();
        let contents = set.read(name)?;
        let token = Zeroizing::new(text(name, &contents)?.trim_end().to_owned());
        let svid = JwtSvid::read(token, &self.file.audience, now).map_err(in_file(name))?;
        Ok(Facts { svid: Some(svid.info.clone()), ..Facts::default() })
    }

    fn source<'a>(&'a self, wish: &Wish<'a>) -> Box<dyn Source + 'a> {
        let (followed, now) = (FollowedSelection::of(wish), wish.now);
        let rpc = FetchJwtSvid { audience: self.file.audience.clone(), id: followed.selection.id.clone() };
        let label = format!("JWT-SVID {}: ", self.file.name);
        let mut call = RetriedCall::new(label, Level::Error, rpc, &wish.agent, now);
        call.call_at(followed.first_call_at(now.instant));
        let renewal = Renewal::new(now.instant);
        Box::new(JwtSvidSource {
            part: self,
            followed,
            call,
            renewal,
            svid: None,
            key_id: None,
            keys: None,
            is_revoked: false,
        })
    }

    fn key_watch<'a>(&self, wish: &Wish<'a>) -> Option<Box<dyn Source + 'a>> {
        let renews = wish.agent.until == Until::Stopped;
        renews.then(|| jwks::key_watch(wish))
    }
}

/// The selected token of a response, which is for all of `audience` and valid now. `name` is for the reason why
/// there is none.
pub(crate) fn good_token(
    name: &str,
    raw: Vec<RawJwtSvid>,
    selection: &Selection,
    audience: &[String],
    now: Now,
) -> Result<JwtSvid, Rejection> {
    let svid = JwtSvid::select(raw, selection, audience, now.time).map_err(Rejection::of(selection))?;
    let info = &svid.info;
    match fault_of_dates(name, info, now.time) {
        None => Ok(svid),
        Some(fault) => Err(Rejection::of_fault(fault, info, now)),
    }
}

struct JwtSvidSource<'a> {
    part: &'a JwtSvidPart,
    followed: FollowedSelection,
    call: RetriedCall<'a, FetchJwtSvid>,
    renewal: Renewal,
    /// The newest good token.
    svid: Option<SvidInfo>,
    /// The `kid` of the key that signed it, if its header names one.
    key_id: Option<String>,
    /// The newest keys that verify tokens.
    keys: Option<Rc<JwtBundles>>,
    /// Whether they lack that key: verifiers refuse the token.
    is_revoked: bool,
}

impl JwtSvidSource<'_> {
    fn take(&mut self, raw: Vec<RawJwtSvid>, now: Now) -> Result<Update, Rejection> {
        let svid =
            good_token(&self.part.name(), raw, &self.followed.selection, &self.part.file.audience, now)?;
        let info = svid.info.clone();
        let facts = Facts { svid: Some(info.clone()), ..Facts::default() };
        self.key_id = svid.key_id.clone();
        self.svid = Some(info.clone());
        let is_revoked = self.lacks_key();
        self.is_revoked = is_revoked;
        if self.renewal.received(&info, is_revoked, now) {
            self.call.served(now);
        } else {
            let (id, end) = (&info.id, rfc3339(info.not_after, 0));
            let cause = match is_revoked {
                true => "signed with a key that is none of the trust domain's",
                // Without its server, the agent answers from its cache.
                false => "already due for renewal",
            };
            let message = format!("the agent sent a token of {id} (valid until {end}) that is {cause}");
            let next = retrying_in(self.next_call(&info, now).duration_since(now.instant));
            self.call.failures.log(Level::Warn, message, &next, now.instant);
            self.call.succeeded();
        }
        let token = svid.token;
        let contents = Contents::new(move |out| out.write_all(token.as_bytes()));
        let file = File { name: self.part.file.name.clone(), mode: self.part.mode, contents };
        Ok(Update::Files(vec![file], Box::new(facts)))
    }

    /// Whether the newest keys lack the one that signed the newest token.
    fn lacks_key(&self) -> bool {
        let (Some(svid), Some(key_id), Some(keys)) = (&self.svid, &self.key_id, &self.keys) else {
            return false;
        };
        let trust_domain = svid.id.trust_domain();
        keys.of(&trust_domain).is_ok() && !keys.has_key(&trust_domain, key_id)
    }

    /// When to call for the next token, if no call is open.
    fn renew_at(&self, now: Now) -> Option<Instant> {
        if !self.call.is_idle() {
            return None;
        }
        Some(self.svid.as_ref().map_or(now.instant, |svid| self.next_call(svid, now)))
    }

    /// When to call for the token after this one.
    fn next_call(&self, svid: &SvidInfo, now: Now) -> Instant {
        if self.is_revoked { self.renewal.earliest_call } else { self.renewal.renew_at(svid, now) }
    }
}

impl Source for JwtSvidSource<'_> {
    fn poll(&mut self, is_offered: bool, now: Now, context: &mut Context<'_>) -> Poll<Update> {
        if self.renew_at(now).is_some_and(|at| at <= now.instant) {
            self.call.call_now(now);
        }
        self.call.poll(is_offered, now, context).map(|heard| {
            let settled = heard.and_then(|raw| {
                let taken = self.take(raw, now);
                self.call.settle(taken, is_offered || self.followed.is_followed, now)
            });
            settled.unwrap_or_else(|update| update)
        })
    }

    fn next_deadline(&self, now: Now) -> Option<Instant> {
        [self.call.next_deadline(), self.renew_at(now)].into_iter().flatten().min()
    }

    fn call(&self) -> &dyn Call {
        &self.call
    }

    fn call_mut(&mut self) -> &mut dyn Call {
        &mut self.call
    }

    fn forget(&mut self) {
        self.svid = None;
    }

    fn learn(&mut self, learned: Learned<'_>, now: Now) {
        match learned {
            Learned::JwtKeys(keys) => {
                self.keys = Some(keys.clone());
                self.is_revoked = self.lacks_key();
            }
            Learned::Identity(own) => {
                self.followed.learn(own, &mut self.svid, &mut self.call, now);
                self.call.rpc.id = self.followed.selection.id.clone();
            }
        }
    }
}

/// When a token is renewed.
struct Renewal {
    /// No call before this, even if it is time to renew.
    earliest_call: Instant,
    overdue: Backoff,
    /// When in the time for the renewal of the newest token: 0 to 1.
    moment: f64,
}

impl Renewal {
    fn new(now: Instant) -> Self {
        Self { earliest_call: now, overdue: OVERDUE, moment: 0.0 }
    }

    /// When to call for the token after `svid`.
    fn renew_at(&self, svid: &SvidInfo, now: Now) -> Instant {
        let from = svid.renew_at();
        let span = svid.renew_by().duration_since(from).unwrap_or_default();
        now.instant_of(from + span.mul_f64(self.moment)).max(self.earliest_call)
    }

    /// Takes a good token, or one whose key is revoked; returns whether it is fresh.
    fn received(&mut self, svid: &SvidInfo, is_revoked: bool, now: Now) -> bool {
        let is_fresh = svid.renew_at() > now.time && !is_revoked;
        let wait = if is_fresh {
            self.overdue.reset();
            BETWEEN_TOKENS
        } else {
            // The nearer its end, the less late may the next one be.
            self.overdue.advance().min((now.until(svid.not_after) / 4).max(OVERDUE.current()))
        };
        self.earliest_call = now.instant + wait;
        self.moment = random_fraction();
        is_fresh
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::identity::svid_info::Kind;
    use crate::time::backoff::CHANCE;

    fn token(now: Now, seconds: u64) -> SvidInfo {
        SvidInfo {
            id: "spiffe://example.org/a".parse().unwrap(),
            kind: Kind::Jwt,
            issued_at: now.time,
            not_before: Some(now.time),
            not_after: now.time + Duration::from_secs(seconds),
        }
    }

    #[test]
    fn tokens_of_one_second_are_renewed_one_after_the_other_at_55_to_60_percent_of_their_life() {
        CHANCE.set(Some(1));
        let now = Now::look();
        let token = token(now, 300);
        let renewed = [(); 100].map(|()| {
            let mut renewal = Renewal::new(now.instant);
            assert!(renewal.received(&token, false, now));
            let at = renewal.renew_at(&token, now);
            assert_eq!(at, renewal.renew_at(&token, now), "it stays");
            (at - now.instant).as_secs()
        });
        assert!(renewed.iter().all(|second| (165..=180).contains(second)), "{renewed:?}");
        let most = (165..=180).map(|at| renewed.iter().filter(|second| **second == at).count()).max();
        assert!(most < Some(20), "{renewed:?}");
    }

    #[test]
    fn however_short_a_tokens_life_there_is_a_second_between_two_calls() {
        let now = Now::look();
        let (token, mut renewal) = (token(now, 1), Renewal::new(now.instant));
        assert!(renewal.received(&token, false, now));
        assert_eq!(renewal.renew_at(&token, now), now.instant + Duration::from_secs(1));
    }

    #[test]
    fn a_token_that_is_due_when_it_arrives_is_asked_for_again_with_a_backoff() {
        let start = Now::look();
        let (token, mut renewal) = (token(start, 3600), Renewal::new(start.instant));
        let now = start + Duration::from_secs(2400);
        let waits = [(); 6].map(|()| {
            assert!(!renewal.received(&token, false, now));
            (renewal.renew_at(&token, now) - now.instant).as_secs()
        });
        assert_eq!(waits, [5, 10, 20, 40, 60, 60]);
    }

    #[test]
    fn the_nearer_a_tokens_end_the_sooner_it_is_asked_for_again() {
        let start = Now::look();
        for life in [60, 120, 300, 3600] {
            let (token, mut renewal) = (token(start, life), Renewal::new(start.instant));
            let mut now = start + Duration::from_secs(life * 3 / 5);
            while now.time < token.not_after {
                assert!(!renewal.received(&token, false, now));
                let wait = renewal.renew_at(&token, now) - now.instant;
                let left = now.until(token.not_after);
                assert!(
                    wait <= (left / 4).max(Duration::from_secs(5)),
                    "{life}: {wait:?}, {left:?} before the end"
                );
                now = now + wait;
            }
        }
    }
}
