//! The JWT bundles and the WIT bundles, which differ in little: their files, and the stream that brings them. JWT
//! bundles are wanted as files, or else as the keys that tell whether a token is still good.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Instant, SystemTime};

use log::Level;

use super::call::RetriedCall;
use super::changes::{ChangeKind, ChangeKinds};
use super::facts::Facts;
use super::file_flaw::in_file;
use super::part::{Call, Learned, Part, Source, Update, Wish};
use super::rejection::Rejection;
use super::x509_files::LAST_ONE_STAYS;
use crate::identity::digest;
use crate::identity::jwks::check_jwks;
use crate::identity::jwt_bundle::{Document, JwtBundles};
use crate::identity::raw::RawJwtBundles;
use crate::identity::spiffe_id::TrustDomain;
use crate::identity::token::Profile;
use crate::layout::{GivenName, of_trust_domain};
use crate::logging::Repetition;
use crate::store::StoreError;
use crate::store::file::{Contents, File, FileMode, FileName};
use crate::store::read::PublishedSet;
use crate::time::clock::Now;
use crate::time::timing::{SILENT_BUNDLES, SILENT_STREAM};
use crate::words::{Flaw, first_few};
use crate::workload_api::rpc::{FetchJwtBundles, FetchWitBundles, Rpc};

/// The files of the JWT bundles, or of the WIT bundles.
#[derive(Debug, Clone)]
pub(crate) struct JwksPart {
    pub(crate) profile: Profile,
    /// The file of our own trust domain's keys.
    pub(crate) name: FileName,
    /// Each federated trust domain has a file too, `TRUST-DOMAIN.NAME`.
    pub(crate) federated_files: bool,
    pub(crate) mode: FileMode,
}

impl JwksPart {
    /// What the keys are for.
    fn label(&self) -> &'static str {
        match self.profile {
            Profile::Jwt => "JWT",
            Profile::Wit => "WIT",
        }
    }

    /// How the names of federated trust domains' files end.
    fn suffix(&self) -> String {
        format!(".{}", self.name)
    }

    /// The JWKS documents as they came, what is known of them, and what is left out. Fails without a good document of
    /// our own.
    fn files(
        &self,
        bundles: &JwtBundles,
        own: &TrustDomain,
    ) -> Result<(Vec<File>, Facts, Vec<String>), Flaw> {
        let (mut files, mut digests, mut flaws) = (Vec::new(), BTreeMap::new(), Vec::new());
        let mut add = |name: FileName, document: &Document| {
            digests.insert(name.to_string(), digest::of_json(document));
            let document = document.clone();
            let contents = Contents::new(move |out| out.write_all(&document));
            files.push(File { name, mode: self.mode, contents });
        };
        add(self.name.clone(), bundles.of(own)?);
        if self.federated_files {
            let left_out = |(flaw, is_kept)| {
                let next = if is_kept { LAST_ONE_STAYS } else { "" };
                format!("left out a federated {} bundle: {flaw}{next}", self.label())
            };
            flaws.extend(first_few(bundles.bad().map(left_out)));
            let federated = bundles.good().filter(|(trust_domain, _)| *trust_domain != own);
            for (trust_domain, document) in federated {
                match of_trust_domain(trust_domain, &self.suffix()) {
                    Ok(name) => add(name, document),
                    Err(error) => flaws.push(format!("{error}; its {} bundle is left out", self.label())),
                }
            }
        }
        Ok((files, facts(&digests), flaws))
    }
}

/// What is known of files of keys, by a digest of each: the order of a document's keys does not count.
fn facts(digests: &BTreeMap<String, u64>) -> Facts {
    Facts { keys: Some(digest::of(digests)), ..Facts::default() }
}

impl Part for JwksPart {
    fn name(&self) -> String {
        format!("the {} bundles as {}", self.label(), self.name)
    }

    fn file(&self) -> &str {
        self.name.as_str()
    }

    fn given_names(&self) -> Vec<GivenName> {
        let option = match self.profile {
            Profile::Jwt => "jwt-bundle-file-name",
            Profile::Wit => "wit-bundle-file-name",
        };
        let mut given = vec![GivenName::exact(option, &self.name)];
        if self.federated_files {
            given.push(GivenName::suffix(option, &self.suffix()));
        }
        given
    }

    fn mode_of(&self, name: &str) -> Option<FileMode> {
        let is_own = name == self.name.as_str() || self.federated_files && name.ends_with(&self.suffix());
        is_own.then_some(self.mode)
    }

    fn kinds(&self) -> ChangeKinds {
        [ChangeKind::Keys].into_iter().collect()
    }

    fn read(&self, set: &PublishedSet<'_>, _now: SystemTime) -> Result<Facts, StoreError> {
        let mut names = vec![self.name.to_string()];
        if self.federated_files {
            names.extend(set.names_ending_with(&self.suffix())?);
        }
        let read_digest = |name: String| {
            let document = set.read(&name)?;
            check_jwks(&document, self.profile).map_err(in_file(&name))?;
            Ok((name, digest::of_json(&document)))
        };
        Ok(facts(&names.into_iter().map(read_digest).collect::<Result<_, StoreError>>()?))
    }

    fn brings_keys(&self) -> bool {
        self.profile == Profile::Jwt
    }

    fn source<'a>(&'a self, wish: &Wish<'a>) -> Box<dyn Source + 'a> {
        match self.profile {
            Profile::Jwt => Box::new(JwksSource::new(Some(self), Profile::Jwt, FetchJwtBundles, wish)),
            Profile::Wit => Box::new(JwksSource::new(Some(self), Profile::Wit, FetchWitBundles, wish)),
        }
    }
}

/// Brings the JWT bundles as keys alone.
pub(super) fn key_watch<'a>(wish: &Wish<'a>) -> Box<dyn Source + 'a> {
    Box::new(JwksSource::new(None, Profile::Jwt, FetchJwtBundles, wish))
}

struct JwksSource<'a, R: Rpc> {
    /// `None` if no files are wanted: then a failure is nobody's trouble.
    part: Option<&'a JwksPart>,
    profile: Profile,
    call: RetriedCall<'a, R>,
    /// Our own trust domain, from --pod-spiffe-id or the newest SVID.
    own: Option<TrustDomain>,
    /// The newest bundles.
    bundles: Option<Rc<JwtBundles>>,
    /// Whether the files of `bundles`, and of `own`, have been returned.
    is_laid_out: bool,
    /// What is left out, for the log.
    flaws: Repetition,
}

impl<'a, R: Rpc<Raw = RawJwtBundles>> JwksSource<'a, R> {
    fn new(part: Option<&'a JwksPart>, profile: Profile, rpc: R, wish: &Wish<'a>) -> Self {
        let max_level = if part.is_some() { Level::Error } else { Level::Debug };
        // As the part's name, which the first verdict on it leaves out.
        let label = match part {
            Some(part) => format!("{} bundles as {}: ", part.label(), part.name),
            None => "JWT bundles: ".to_owned(),
        };
        Self {
            part,
            profile,
            call: RetriedCall::new(label, max_level, rpc, &wish.agent, wish.now),
            own: wish.selection.id.as_ref().map(|id| id.trust_domain()),
            bundles: None,
            is_laid_out: false,
            flaws: Repetition::sharing(wish.agent.share.clone()),
        }
    }

    /// The files of new bundles, if our own trust domain is known.
    fn lay_out(&mut self, now: Now) -> Option<Update> {
        if self.is_laid_out {
            return None;
        }
        let (part, own, bundles) = (self.part?, self.own.as_ref()?, self.bundles.as_ref()?);
        self.is_laid_out = true;
        Some(match part.files(bundles, own) {
            Ok((files, facts, flaws)) => {
                self.call.served(now);
                self.flaws.log_all(Level::Warn, &flaws, now.instant);
                Update::Files(files, Box::new(facts))
            }
            Err(flaw) => self.call.unusable(&flaw.into(), now),
        })
    }

    fn replace_at(&self) -> Option<Instant> {
        let stream = self.call.stream()?;
        Some(stream.since + if stream.delivered { SILENT_BUNDLES } else { SILENT_STREAM })
    }

    /// Replaces a stream that never delivered, which is a failure; and one that is old, as a precaution.
    fn watch(&mut self, now: Now) -> Option<Update> {
        let stream = self.call.stream()?;
        if self.replace_at()? > now.instant {
            return None;
        }
        if stream.delivered {
            self.call.call_now(now);
            return None;
        }
        let message = self.call.describe_wait();
        Some(self.call.replace(&message, now))
    }
}

impl<R: Rpc<Raw = RawJwtBundles>> Source for JwksSource<'_, R> {
    fn poll(&mut self, is_offered: bool, now: Now, context: &mut Context<'_>) -> Poll<Update> {
        if self.bundles.is_some() {
            self.flaws.remind(now.instant);
        }
        if let Some(update) = self.watch(now).or_else(|| self.lay_out(now)) {
            return Poll::Ready(update);
        }
        let raw = match ready!(self.call.poll(is_offered, now, context)) {
            Ok(raw) => raw,
            Err(update) => return Poll::Ready(update),
        };
        let taken = JwtBundles::parse(raw, self.profile).map_err(Rejection::from);
        let mut bundles = match self.call.settle(taken, is_offered, now) {
            Ok(bundles) => bundles,
            Err(update) => return Poll::Ready(update),
        };
        self.bundles.iter().for_each(|last| bundles.keep_good_of(last));
        let bundles = Rc::new(bundles);
        if self.part.is_none() || self.own.is_none() {
            self.call.served(now);
        }
        self.bundles = Some(bundles.clone());
        self.is_laid_out = false;
        if self.profile == Profile::Jwt {
            return Poll::Ready(Update::JwtKeys(bundles));
        }
        // An agent that sends without end must not hold up the others: there may be more at the next turn.
        context.waker().wake_by_ref();
        self.lay_out(now).map_or(Poll::Pending, Poll::Ready)
    }

    fn next_deadline(&self, _now: Now) -> Option<Instant> {
        [self.call.next_deadline(), self.replace_at()].into_iter().flatten().min()
    }

    fn call(&self) -> &dyn Call {
        &self.call
    }

    fn call_mut(&mut self) -> &mut dyn Call {
        &mut self.call
    }

    fn describe_wait(&self) -> String {
        match (&self.bundles, &self.own) {
            (Some(_), None) => {
                "the agent has sent them, but the trust domain is unknown until an SVID arrives".to_owned()
            }
            _ => self.call.describe_wait(),
        }
    }

    fn forget(&mut self) {
        self.bundles = None;
    }

    /// Asks again for what was forgotten.
    fn retry_now(&mut self, now: Instant) {
        match self.bundles {
            Some(_) => self.call.retry_now(now),
            None => self.call.fetch_again(now),
        }
    }

    /// Learns the workload's own trust domain from an SVID.
    fn learn(&mut self, learned: Learned<'_>, _now: Now) {
        if let Learned::Identity(own) = learned {
            let own = own.trust_domain();
            if self.own.as_ref() != Some(&own) {
                self.own = Some(own);
                self.is_laid_out = false;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::os::unix::net::UnixListener;
    use std::time::Duration;

    use futures_util::stream::repeat_with;
    use protobuf::Message;

    use super::*;
    use crate::for_tests::workload::WITBundlesResponse;
    use crate::identity::selection::Selection;
    use crate::material::{Agent, Until};
    use crate::store::Store;
    use crate::wait::{Waiter, Woken};
    use crate::workload_api::client::{Client, SimulatedAgent, start_grpc};
    use crate::workload_api::endpoint::Endpoint;
    use crate::workload_api::rpc::Messages;

    #[test]
    fn keys_that_are_read_back_are_those_that_were_sent_in_whatever_order() {
        let (volume, now) = (tempfile::tempdir().unwrap(), Now::look());
        let store = Store::new(volume.path().to_owned());
        let (name, mode) = ("jwks.json".parse().unwrap(), "0644".parse().unwrap());
        let part = JwksPart { profile: Profile::Jwt, name, federated_files: true, mode };
        let sent = |own: &str| {
            let others = br#"{"keys":[{"kid":"c"}]}"#.to_vec();
            let raw = [("spiffe://example.org", own.as_bytes().to_vec()), ("spiffe://other.org", others)];
            let raw = raw.into_iter().map(|(id, document)| (id.to_owned(), document)).collect();
            JwtBundles::parse(raw, Profile::Jwt).ok().unwrap()
        };
        let own = TrustDomain::from_id("spiffe://example.org").unwrap();
        let facts = |bundles: &JwtBundles| part.files(bundles, &own).ok().unwrap().1;
        let bundles = sent(r#"{"keys":[{"kid":"a"},{"kid":"b"}]}"#);
        let files = part.files(&bundles, &own).ok().unwrap().0;
        store.publish(&files.iter().collect::<Vec<_>>(), |_| None, None, now).unwrap();
        let read = part.read(&store.published().unwrap(), now.time).unwrap();
        assert_eq!(read, facts(&sent(r#"{"keys":[{"kid":"b"},{"kid":"a"}]}"#)));
        assert_ne!(read, facts(&sent(r#"{"keys":[{"kid":"a"}]}"#)));
    }

    /// It sends keys without end.
    struct Flood(Rc<Cell<usize>>);

    impl SimulatedAgent for Flood {
        fn call(&self, _rpc: &'static str, _request: &[u8]) -> Messages<Vec<u8>> {
            let sent = self.0.clone();
            let mut response = WITBundlesResponse::new();
            response.bundles.insert("spiffe://example.org".to_owned(), r#"{"keys":[]}"#.to_owned());
            Box::new(repeat_with(move || {
                sent.set(sent.get() + 1);
                assert!(sent.get() < 1000, "it takes them without end");
                Ok(response.write_to_bytes()?)
            }))
        }
    }

    #[test]
    fn of_wit_bundles_that_come_without_end_each_turn_takes_some_though_the_trust_domain_is_unknown() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("agent.sock");
        let _listener = UnixListener::bind(&socket).unwrap();
        let (waiter, sent, now) = (Waiter::new().unwrap(), Rc::default(), Now::look());
        let client =
            Client::new(Endpoint::Unix(socket), start_grpc()).simulated(Rc::new(Flood(Rc::clone(&sent))));
        let agent =
            Agent { client: &client, waiter: &waiter, until: Until::Stopped, share: Default::default() };
        let (name, mode) = ("wit.json".parse().unwrap(), "0644".parse().unwrap());
        let part = JwksPart { profile: Profile::Wit, name, federated_files: false, mode };
        let selection = Selection::default();
        let mut source = part.source(&Wish { agent, selection: &selection, follows_identity: false, now });
        for _ in 0..10 {
            assert!(source.poll(false, now, &mut waiter.context()).is_pending());
        }
        assert!(sent.get() >= 10, "it takes none");
        assert_eq!(waiter.wait(now.instant + Duration::from_secs(60)), Woken::Ready);
    }
}
