//! The simulated agent: what it offers, and how it answers.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::rc::{Rc, Weak};
use std::task::Poll;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64ct::{Base64UrlUnpadded, Encoding};
use futures_util::stream::poll_fn;
use grpcio::{Error, RpcStatus, RpcStatusCode};
use protobuf::Message;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair};
use rcgen::{KeyUsagePurpose, PKCS_ED25519, SanType};

use super::wit::{OTHER_ID, Pair, response};
use crate::time::backoff::chance;
use crate::time::clock::Now;
use crate::time::timestamp::rfc3339;
use crate::workload_api::client::SimulatedAgent;
use crate::workload_api::proto::workload::{
    JWTBundlesResponse, JWTSVID, JWTSVIDRequest, JWTSVIDResponse, WITBundlesResponse, X509SVID,
    X509SVIDResponse,
};
use crate::workload_api::rpc::Messages;

const TRUST_DOMAIN: &str = "spiffe://example.org";
const FEDERATED: &str = "spiffe://other.org";
pub(super) const ID: &str = "spiffe://example.org/app";
pub(super) const AUDIENCES: [&str; 2] = ["one", "two"];
/// The serial number of the first SVID.
const FIRST_SERIAL: u64 = 0x4000_0000;
/// How far an SVID's notBefore is in the past when it is minted.
const BACKDATED: Duration = Duration::from_secs(10);

/// The RPCs that the helper calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rpc {
    X509,
    Token,
    Keys,
    Wit,
    WitKeys,
}

pub(super) const RPCS: [Rpc; 5] = [Rpc::X509, Rpc::Token, Rpc::Keys, Rpc::Wit, Rpc::WitKeys];

/// How an RPC is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mood {
    Good,
    Refuses(RpcStatusCode),
    /// It accepts calls and says nothing.
    Silent,
    Bad(Flaw),
    /// It answers a token's call once after each good X.509-SVID, and refuses the others.
    Scarce,
    /// It offers other identities alone: it does not know all of its entries, or one is gone.
    Partial,
}

/// What is wrong with a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flaw {
    KeyOfAnother,
    Expired,
    CaExpired,
    Garbage,
}

/// An X.509-SVID, as it was minted.
#[derive(Clone, Copy)]
pub(super) struct Leaf {
    pub(super) serial: u64,
    pub(super) not_before: SystemTime,
    pub(super) not_after: SystemTime,
    pub(super) ca_end: SystemTime,
    pub(super) is_bad: bool,
}

impl fmt::Debug for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [from, to, ca_end] = [self.not_before, self.not_after, self.ca_end].map(|time| rfc3339(time, 0));
        let what = if self.is_bad { "bad" } else { "good" };
        write!(f, "{:x} ({what}, from {from} to {to}, its CA to {ca_end})", self.serial)
    }
}

impl Leaf {
    /// Whether it and its CA are valid.
    pub(super) fn is_good(&self, time: SystemTime) -> bool {
        !self.is_bad && self.not_before <= time && time <= self.not_after.min(self.ca_end)
    }

    fn half(&self) -> SystemTime {
        self.not_before + self.not_after.duration_since(self.not_before).unwrap_or_default() / 2
    }
}

struct Token {
    text: String,
    issued: SystemTime,
    half: SystemTime,
}

/// An open call, at the agent's end.
type Pipe = RefCell<VecDeque<Option<grpcio::Result<Vec<u8>>>>>;

struct Call {
    rpc: Rpc,
    pipe: Weak<Pipe>,
    /// The agent has forgotten it, and keeps it open.
    is_deaf: bool,
}

pub(super) struct State {
    pub(super) now: Now,
    moods: [Mood; 5],
    /// Whether its server is there: it renews what it has.
    pub(super) renews: bool,
    pub(super) svid_life: Duration,
    pub(super) token_life: Duration,
    /// All X.509-SVIDs, by their serial numbers.
    leaves: Vec<Leaf>,
    newest: Leaf,
    response: Vec<u8>,
    keys: [KeyPair; 2],
    ca_key: Vec<u8>,
    /// The bundle; the last one signs.
    cas: Vec<(CertifiedIssuer<'static, KeyPair>, SystemTime)>,
    minted_cas: u32,
    /// The key IDs of the trust domain; the first one's key signs.
    key_ids: Vec<u32>,
    minted_keys: u32,
    /// All WIT-SVIDs that it has offered.
    pub(super) pairs: Vec<Pair>,
    tokens: BTreeMap<String, Token>,
    calls: Vec<Call>,
    /// How many calls were made, of each RPC.
    pub(super) counts: [u64; 5],
    /// A token's call may be answered, while that is scarce.
    pub(super) has_grant: bool,
    /// How often another token was served while that of an audience was waited for.
    pub(super) passed_over: [Option<u32>; 2],
}

/// The agent; the helper's calls reach it through [`SimulatedAgent`].
pub(super) struct Agent(pub(super) RefCell<State>);

impl Agent {
    pub(super) fn new(now: Now, svid_life: Duration, token_life: Duration) -> Self {
        let leaf =
            Leaf { serial: 0, not_before: now.time, not_after: now.time, ca_end: now.time, is_bad: true };
        let mut state = State {
            now,
            moods: [Mood::Good; 5],
            renews: true,
            svid_life,
            token_life,
            leaves: Vec::new(),
            newest: leaf,
            response: Vec::new(),
            // The quickest to check.
            keys: [(); 2].map(|()| KeyPair::generate_for(&PKCS_ED25519).unwrap()),
            ca_key: KeyPair::generate().unwrap().serialize_der(),
            cas: Vec::new(),
            minted_cas: 0,
            key_ids: vec![0],
            minted_keys: 0,
            pairs: Vec::new(),
            tokens: BTreeMap::new(),
            calls: Vec::new(),
            counts: [0; 5],
            has_grant: false,
            passed_over: [None; 2],
        };
        state.rotate_ca(Duration::from_secs(10 * 86_400));
        state.rotate();
        state.rotate_wit();
        Self(RefCell::new(state))
    }
}

impl SimulatedAgent for Agent {
    fn call(&self, rpc: &'static str, request: &[u8]) -> Messages<Vec<u8>> {
        let rpc = match rpc {
            "FetchX509SVID" => Rpc::X509,
            "FetchJWTSVID" => Rpc::Token,
            "FetchWITSVID" => Rpc::Wit,
            "FetchWITBundles" => Rpc::WitKeys,
            _ => Rpc::Keys,
        };
        let pipe = Rc::<Pipe>::default();
        let mut state = self.0.borrow_mut();
        state.counts[rpc as usize] += 1;
        let is_deaf = state.moods[rpc as usize] == Mood::Silent;
        state.calls.push(Call { rpc, pipe: Rc::downgrade(&pipe), is_deaf });
        let audience = match rpc {
            Rpc::Token => JWTSVIDRequest::parse_from_bytes(request).unwrap().audience.remove(0),
            _ => String::new(),
        };
        let answer = state.answer(rpc, &audience);
        pipe.borrow_mut().extend(answer.into_iter().flat_map(|answer| {
            let is_end = answer.is_err() || rpc == Rpc::Token;
            [Some(Some(answer)), is_end.then_some(None)].into_iter().flatten()
        }));
        Box::new(poll_fn(move |_| pipe.borrow_mut().pop_front().map_or(Poll::Pending, Poll::Ready)))
    }
}

fn failure(code: RpcStatusCode) -> Error {
    Error::RpcFailure(RpcStatus::with_message(code, "simulated".to_owned()))
}

impl State {
    fn answer(&mut self, rpc: Rpc, audience: &str) -> Option<grpcio::Result<Vec<u8>>> {
        let mood = match self.moods[rpc as usize] {
            Mood::Scarce if rpc == Rpc::Token => self.grant(audience),
            Mood::Partial if !matches!(rpc, Rpc::X509 | Rpc::Wit) => {
                Mood::Refuses(RpcStatusCode::PERMISSION_DENIED)
            }
            mood => mood,
        };
        match mood {
            Mood::Silent => None,
            Mood::Refuses(code) => Some(Err(failure(code))),
            Mood::Good | Mood::Scarce | Mood::Partial => Some(Ok(match rpc {
                Rpc::X509 if mood == Mood::Partial => self.response_of_another(),
                Rpc::X509 => self.response.clone(),
                Rpc::Token => self.token(audience, false),
                Rpc::Wit => response(self.newest_pair(), mood == Mood::Partial),
                Rpc::Keys | Rpc::WitKeys => self.jwks(rpc),
            })),
            Mood::Bad(flaw) => Some(Ok(match rpc {
                _ if flaw == Flaw::Garbage => vec![0],
                Rpc::X509 => self.mint(Some(flaw)).1,
                Rpc::Token => self.token(audience, true),
                Rpc::Wit => {
                    response(&self.newest_pair().spoilt(flaw == Flaw::KeyOfAnother, self.now.time), false)
                }
                Rpc::Keys | Rpc::WitKeys => vec![0],
            })),
        }
    }

    /// The newest X.509-SVID as another identity's.
    fn response_of_another(&self) -> Vec<u8> {
        let mut response = X509SVIDResponse::parse_from_bytes(&self.response).unwrap();
        response.svids[0].spiffe_id = OTHER_ID.to_owned();
        response.write_to_bytes().unwrap()
    }

    fn grant(&mut self, audience: &str) -> Mood {
        let index = AUDIENCES.iter().position(|one| *one == audience).unwrap();
        if !std::mem::take(&mut self.has_grant) {
            self.passed_over[index].get_or_insert(0);
            return Mood::Refuses(RpcStatusCode::RESOURCE_EXHAUSTED);
        }
        self.passed_over[index] = None;
        self.passed_over.iter_mut().flatten().for_each(|times| *times += 1);
        Mood::Good
    }

    pub(super) fn mood(&self, rpc: Rpc) -> Mood {
        self.moods[rpc as usize]
    }

    /// Answers from now on as the mood is; tells open calls of it.
    pub(super) fn set_mood(&mut self, rpc: Rpc, mood: Mood) {
        self.moods[rpc as usize] = mood;
        match mood {
            Mood::Silent => {
                self.calls.iter_mut().filter(|call| call.rpc == rpc).for_each(|call| call.is_deaf = true);
            }
            Mood::Refuses(code) => self.end(&[rpc], code),
            // Another process serves the next calls.
            _ => self.push(rpc),
        }
    }

    /// Hears again the calls that it has forgotten, and tells them what they have missed.
    pub(super) fn wake(&mut self) {
        self.calls.iter_mut().for_each(|call| call.is_deaf = false);
        RPCS.into_iter().for_each(|rpc| self.push(rpc));
    }

    /// Whether an open call of the RPC will never bring anything.
    pub(super) fn is_deaf(&self, rpc: Rpc) -> bool {
        self.calls.iter().any(|call| call.rpc == rpc && call.is_deaf && call.pipe.strong_count() > 0)
    }

    /// Sends to all open streams of an RPC what a new one would get.
    pub(super) fn push(&mut self, rpc: Rpc) {
        self.calls.retain(|call| call.pipe.strong_count() > 0);
        let is_open = self.calls.iter().any(|call| call.rpc == rpc && !call.is_deaf);
        if rpc == Rpc::Token || !is_open {
            return;
        }
        if let Some(Ok(bytes)) = self.answer(rpc, "") {
            let heard = self.calls.iter().filter(|call| call.rpc == rpc && !call.is_deaf);
            heard.filter_map(|call| call.pipe.upgrade()).for_each(|pipe| {
                pipe.borrow_mut().push_back(Some(Ok(bytes.clone())));
            });
        }
    }

    /// Ends all calls of some RPCs.
    pub(super) fn end(&mut self, rpcs: &[Rpc], code: RpcStatusCode) {
        self.calls.retain(|call| {
            let is_ended = rpcs.contains(&call.rpc);
            if let Some(pipe) = call.pipe.upgrade().filter(|_| is_ended) {
                pipe.borrow_mut().extend([Some(Err(failure(code))), None]);
            }
            !is_ended
        });
    }

    /// The newest X.509-SVID, and each by the number in the files.
    pub(super) fn newest(&self) -> Leaf {
        self.newest
    }

    pub(super) fn leaf(&self, serial: &str) -> Leaf {
        let index = u64::from_str_radix(serial, 16).unwrap() - FIRST_SERIAL;
        self.leaves[usize::try_from(index).unwrap()]
    }

    /// How many CAs the bundle has.
    pub(super) fn authorities(&self) -> usize {
        self.cas.len()
    }

    /// When it mints the next X.509-SVID.
    pub(super) fn rotates_at(&self) -> SystemTime {
        self.newest.half()
    }

    /// Mints a new X.509-SVID, and sends it.
    pub(super) fn rotate(&mut self) {
        self.cas.retain(|(_, end)| *end > self.now.time);
        if self.cas.last().is_none_or(|(_, end)| *end < self.now.time + self.svid_life * 2) {
            self.rotate_ca(Duration::from_secs(10 * 86_400));
        }
        (self.newest, self.response) = self.mint(None);
        self.push(Rpc::X509);
    }

    /// Adds a CA that signs from now on, and sends the bundle with the old SVID.
    pub(super) fn rotate_ca(&mut self, life: Duration) {
        self.minted_cas += 1;
        let key = KeyPair::try_from(self.ca_key.as_slice()).unwrap();
        let (ca, end) = self.ca(key, &format!("CA {}", self.minted_cas), self.now.time + life);
        self.cas.push((ca, end));
        if let Ok(mut response) = X509SVIDResponse::parse_from_bytes(&self.response)
            && let Some(svid) = response.svids.first_mut()
        {
            svid.bundle = self.bundle();
            self.response = response.write_to_bytes().unwrap();
            self.push(Rpc::X509);
        }
    }

    /// Signs tokens with another key from now on; the old tokens are void.
    pub(super) fn rotate_jwt_key(&mut self) {
        self.key_ids.remove(0);
        self.minted_keys += 1;
        self.key_ids.insert(0, self.minted_keys);
        self.tokens.clear();
        self.push_keys();
    }

    /// Adds a key that does not sign, or takes such ones away.
    pub(super) fn change_keys(&mut self) {
        self.minted_keys += 1;
        self.key_ids.push(self.minted_keys);
        self.key_ids.truncate(1 + self.key_ids.len() % 4);
        self.push_keys();
    }

    /// Sends the keys again, in any order.
    pub(super) fn push_keys(&mut self) {
        self.push(Rpc::Keys);
        self.push(Rpc::WitKeys);
    }

    /// The key IDs that its bundles have, in order.
    pub(super) fn key_ids(&self) -> Vec<String> {
        let mut ids: Vec<_> = self.key_ids.iter().map(u32::to_string).collect();
        ids.sort();
        ids
    }

    /// Mints a new WIT-SVID with a new key, and sends it.
    pub(super) fn rotate_wit(&mut self) {
        let now = self.now.time;
        self.pairs.push(Pair::mint(whole(now), whole(now + self.svid_life)));
        self.push(Rpc::Wit);
    }

    pub(super) fn newest_pair(&self) -> &Pair {
        self.pairs.last().unwrap()
    }

    fn ca(
        &self,
        key: KeyPair,
        name: &str,
        end: SystemTime,
    ) -> (CertifiedIssuer<'static, KeyPair>, SystemTime) {
        let end = whole(end);
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.subject_alt_names = vec![SanType::URI(TRUST_DOMAIN.try_into().unwrap())];
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.not_before = (end - Duration::from_secs(1000 * 86_400)).into();
        params.not_after = end.into();
        (CertifiedIssuer::self_signed(params, key).unwrap(), end)
    }

    fn bundle(&self) -> Vec<u8> {
        self.cas.iter().flat_map(|(ca, _)| ca.der().to_vec()).collect()
    }

    fn mint(&mut self, flaw: Option<Flaw>) -> (Leaf, Vec<u8>) {
        let (now, serial) = (self.now.time, self.leaves.len() as u64 + FIRST_SERIAL);
        let dead = flaw.filter(|flaw| *flaw == Flaw::CaExpired).map(|_| {
            let key = KeyPair::try_from(self.ca_key.as_slice()).unwrap();
            self.ca(key, "CA of old", now - Duration::from_secs(60))
        });
        let (ca, ca_end) = dead.as_ref().or(self.cas.last()).unwrap();
        let end = match flaw {
            Some(Flaw::Expired) => now - Duration::from_secs(2),
            _ => now + self.svid_life,
        };
        let leaf = Leaf {
            serial,
            not_before: whole(now - BACKDATED),
            not_after: whole(end),
            ca_end: *ca_end,
            is_bad: flaw.is_some(),
        };
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.serial_number = Some(serial.into());
        params.subject_alt_names = vec![SanType::URI(ID.try_into().unwrap())];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        (params.not_before, params.not_after) = (leaf.not_before.into(), leaf.not_after.into());
        let [own, other] = &self.keys;
        let certificate = params.signed_by(own, ca).unwrap();
        let key = if flaw == Some(Flaw::KeyOfAnother) { other } else { own };
        let svid = X509SVID {
            spiffe_id: ID.to_owned(),
            x509_svid: certificate.der().to_vec(),
            x509_svid_key: key.serialize_der(),
            bundle: if dead.is_some() { ca.der().to_vec() } else { self.bundle() },
            ..Default::default()
        };
        self.leaves.push(leaf);
        let response = X509SVIDResponse { svids: vec![svid], ..Default::default() };
        (leaf, response.write_to_bytes().unwrap())
    }

    /// From the cache for half of a token's life, and longer without the server; a bad one has expired.
    fn token(&mut self, audience: &str, is_bad: bool) -> Vec<u8> {
        let (now, renews) = (self.now.time, self.renews);
        let is_fresh = |token: &Token| !renews || (token.issued <= now && now < token.half);
        let text = match self.tokens.get(audience).filter(|token| is_fresh(token)) {
            Some(token) if !is_bad => token.text.clone(),
            _ => {
                let issued = if is_bad { now - self.token_life * 2 } else { now };
                let text = self.sign(audience, whole(issued), whole(issued + self.token_life));
                if !is_bad {
                    let half = issued + self.token_life / 2;
                    let token = Token { text: text.clone(), issued: whole(issued), half };
                    self.tokens.insert(audience.to_owned(), token);
                }
                text
            }
        };
        let svid = JWTSVID { spiffe_id: ID.to_owned(), svid: text, ..Default::default() };
        JWTSVIDResponse { svids: vec![svid], ..Default::default() }.write_to_bytes().unwrap()
    }

    /// A token whose signature is nothing: the helper verifies none. With `nbf`: without it, a token that the clock
    /// was set back behind is good for `check`, which reads it anew, and too early for the loop.
    fn sign(&self, audience: &str, issued: SystemTime, end: SystemTime) -> String {
        let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap().as_secs();
        let kid = self.key_ids[0].to_string();
        let header = serde_json::json!({ "alg": "ES256", "kid": kid, "typ": "JWT" });
        let (from, to) = (seconds(issued), seconds(end));
        let claims = serde_json::json!({ "sub": ID, "aud": audience, "iat": from, "nbf": from, "exp": to });
        let part = |json: serde_json::Value| Base64UrlUnpadded::encode_string(json.to_string().as_bytes());
        format!("{}.{}.{}", part(header), part(claims), "A".repeat(86))
    }

    /// The keys in an order of chance, and those of another trust domain.
    fn jwks(&self, rpc: Rpc) -> Vec<u8> {
        let (ca, _) = self.cas.last().unwrap();
        let point = ca.key().public_key_raw();
        let coordinate = |bytes| Base64UrlUnpadded::encode_string(bytes);
        let (x, y) = (coordinate(&point[1..33]), coordinate(&point[33..]));
        let key = |id: &u32| serde_json::json!({ "kty": "EC", "kid": id.to_string(), "crv": "P-256", "x": x, "y": y });
        let mut keys: Vec<_> = self.key_ids.iter().map(key).collect();
        let length = keys.len();
        keys.rotate_left(chance() as usize % length);
        let documents = [(TRUST_DOMAIN, keys), (FEDERATED, vec![key(&0)])];
        let documents =
            documents.map(|(id, keys)| (id.to_owned(), serde_json::json!({ "keys": keys }).to_string()));
        match rpc {
            Rpc::WitKeys => {
                let bundles = documents.into_iter().collect();
                WITBundlesResponse { bundles, ..Default::default() }.write_to_bytes()
            }
            _ => {
                let bundles =
                    documents.map(|(id, document)| (id, document.into_bytes())).into_iter().collect();
                JWTBundlesResponse { bundles, ..Default::default() }.write_to_bytes()
            }
        }
        .unwrap()
    }
}

/// Certificates and tokens count in whole seconds.
fn whole(time: SystemTime) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(time.duration_since(UNIX_EPOCH).unwrap().as_secs())
}
