//! The WIT-SVID: the files of its token and its key, and the stream that brings both.

use std::task::{Context, Poll};
use std::time::{Instant, SystemTime};

use log::Level;

use super::call::RetriedCall;
use super::changes::{ChangeKind, ChangeKinds};
use super::facts::Facts;
use super::file_flaw::{NOT_ONE_KEY, in_file, text};
use super::followed_selection::FollowedSelection;
use super::part::{Call, Learned, Part, Source, Update, Wish};
use super::rejection::Rejection;
use super::svid_stream::SvidStream;
use super::verdict::fault;
use crate::identity::raw::RawWitSvid;
use crate::identity::svid_info::SvidInfo;
use crate::identity::wit_svid::{WitSvid, WitToken};
use crate::layout::GivenName;
use crate::layout::pem::{self, Label};
use crate::store::StoreError;
use crate::store::file::{Contents, File, FileMode, FileName};
use crate::store::read::PublishedSet;
use crate::time::clock::Now;
use crate::time::timestamp::rfc3339;
use crate::words::words;
use crate::words::{Flaw, flaw};
use crate::workload_api::rpc::FetchWitSvid;

words! {
    /// How the private key is written.
    KeyFormat {
        Jwk = "jwk",
        Pem = "pem",
    }
}

/// The files of the WIT-SVID: one pair of one set.
#[derive(Debug, Clone)]
pub(crate) struct WitSvidPart {
    pub(crate) token: FileName,
    pub(crate) key: FileName,
    pub(crate) key_format: KeyFormat,
    /// The token's permissions: it proves nothing without the key.
    pub(crate) token_mode: FileMode,
    pub(crate) key_mode: FileMode,
}

impl WitSvidPart {
    fn files(&self, svid: WitSvid) -> Result<Vec<File>, Rejection> {
        let WitSvid { token, jwk, key, .. } = svid;
        let key = match (self.key_format, key) {
            (KeyFormat::Jwk, _) => Contents::new(move |out| out.write_all(jwk.as_bytes())),
            (KeyFormat::Pem, Some(key)) => {
                Contents::new(move |out| pem::write([(Label::PrivateKey, key.der())], out))
            }
            (KeyFormat::Pem, None) => {
                return Err(flaw!(
                    "wit_svid_key: the RSA key lacks its primes, and PKCS#8 needs them (--wit-key-format=jwk writes it as it is)"
                )
                .into());
            }
        };
        let token = Contents::new(move |out| out.write_all(token.as_bytes()));
        Ok(vec![
            File { name: self.token.clone(), mode: self.token_mode, contents: token },
            File { name: self.key.clone(), mode: self.key_mode, contents: key },
        ])
    }
}

impl Part for WitSvidPart {
    fn name(&self) -> String {
        format!("the WIT-SVID {}", self.token)
    }

    fn describe(&self, svid: &SvidInfo) -> String {
        let (id, end) = (&svid.id, rfc3339(svid.not_after, 0));
        format!("the WIT-SVID of {id} (valid until {end}) as {}", self.token)
    }

    fn file(&self) -> &str {
        self.token.as_str()
    }

    fn given_names(&self) -> Vec<GivenName> {
        vec![
            GivenName::exact("wit-svid-file-name", &self.token),
            GivenName::exact("wit-key-file-name", &self.key),
        ]
    }

    fn mode_of(&self, name: &str) -> Option<FileMode> {
        let of = |file: &FileName, mode| (name == file.as_str()).then_some(mode);
        of(&self.token, self.token_mode).or(of(&self.key, self.key_mode))
    }

    fn kinds(&self) -> ChangeKinds {
        [ChangeKind::Wit].into_iter().collect()
    }

    fn read(&self, set: &PublishedSet<'_>, now: SystemTime) -> Result<Facts, StoreError> {
        let (name, key_name) = (self.token.as_str(), self.key.as_str());
        let (token, key) = (set.read(name)?, set.read(key_name)?);
        let token = WitToken::read(text(name, &token)?.trim_end(), now).map_err(in_file(name))?;
        match self.key_format {
            KeyFormat::Jwk => {
                token.check_jwk(text(key_name, &key)?).map_err(in_file(key_name))?;
            }
            KeyFormat::Pem => {
                let mut blocks = pem::decode(&key).map_err(in_file(key_name))?;
                let (Some((Label::PrivateKey, der)), true) = (blocks.pop(), blocks.is_empty()) else {
                    return Err(in_file(key_name)(Flaw::new(NOT_ONE_KEY)));
                };
                token.check_pkcs8(der).map_err(in_file(key_name))?;
            }
        }
        Ok(Facts { svid: Some(token.info.clone()), ..Facts::default() })
    }

    fn source<'a>(&'a self, wish: &Wish<'a>) -> Box<dyn Source + 'a> {
        let (followed, now) = (FollowedSelection::of(wish), wish.now);
        let label = format!("WIT-SVID {}: ", self.token);
        let mut call = RetriedCall::new(label, Level::Error, FetchWitSvid, &wish.agent, now);
        call.call_at(followed.first_call_at(now.instant));
        Box::new(WitSvidSource { part: self, followed, stream: SvidStream::new(call) })
    }
}

struct WitSvidSource<'a> {
    part: &'a WitSvidPart,
    followed: FollowedSelection,
    stream: SvidStream<'a, FetchWitSvid>,
}

impl WitSvidSource<'_> {
    fn take(&mut self, raw: Vec<RawWitSvid>, now: Now) -> Result<Update, Rejection> {
        let selection = &self.followed.selection;
        let svid = WitSvid::select(raw, selection, now.time).map_err(Rejection::of(selection))?;
        let info = svid.info.clone();
        let facts = Facts { svid: Some(info.clone()), ..Facts::default() };
        self.stream.call_again_at = None;
        if let Some(fault) = fault(self.part, &facts, now.time) {
            self.stream.call_again_at = info.not_before.filter(|at| *at > now.time);
            return Err(Rejection::of_fault(fault, &info, now));
        }
        let files = self.part.files(svid)?;
        self.stream.brought(info, now);
        Ok(Update::Files(files, Box::new(facts)))
    }
}

impl Source for WitSvidSource<'_> {
    fn poll(&mut self, is_offered: bool, now: Now, context: &mut Context<'_>) -> Poll<Update> {
        if let Some(update) = self.stream.run_due(now) {
            return Poll::Ready(update);
        }
        self.stream.call.poll(is_offered, now, context).map(|heard| {
            let settled = heard.and_then(|raw| {
                let taken = self.take(raw, now);
                self.stream.call.settle(taken, is_offered || self.followed.is_followed, now)
            });
            settled.unwrap_or_else(|update| update)
        })
    }

    fn next_deadline(&self, now: Now) -> Option<Instant> {
        self.stream.next_deadline(now)
    }

    fn call(&self) -> &dyn Call {
        &self.stream.call
    }

    fn call_mut(&mut self) -> &mut dyn Call {
        &mut self.stream.call
    }

    fn offers_identity(&self) -> bool {
        self.stream.call.offers()
    }

    fn forget(&mut self) {
        self.stream.svid = None;
    }

    fn learn(&mut self, learned: Learned<'_>, now: Now) {
        if let Learned::Identity(own) = learned {
            self.followed.learn(own, &mut self.stream.svid, &mut self.stream.call, now);
        }
    }
}
