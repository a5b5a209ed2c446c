//! The X.509-SVID with its bundles: its files, and the stream that brings it.

use std::task::{Context, Poll};
use std::time::{Instant, SystemTime};

use log::Level;

use super::call::RetriedCall;
use super::changes::{ChangeKind, ChangeKinds};
use super::crl_file;
use super::facts::Facts;
use super::part::{Call, Part, Source, Update, Wish};
use super::rejection::Rejection;
use super::svid_stream::SvidStream;
use super::verdict::fault;
use super::x509_files::{self, Federated, Written};
use super::x509_part::X509Part;
use super::x509_read;
use crate::identity::context::X509Context;
use crate::identity::crl::RevocationLists;
use crate::identity::raw::{Field, RawX509Context};
use crate::identity::selection::Selection;
use crate::identity::svid_info::SvidInfo;
use crate::layout::{CREDENTIAL_BUNDLE, FEDERATED_SUFFIX, GivenName, TRUST_BUNDLE_SUFFIX};
use crate::logging::Repetition;
use crate::store::StoreError;
use crate::store::file::FileMode;
use crate::store::read::PublishedSet;
use crate::time::clock::Now;
use crate::time::timestamp::rfc3339;
use crate::time::timing::LOOK_AT_FILES;
use crate::workload_api::rpc::FetchX509Svid;

impl Part for X509Part {
    fn name(&self) -> String {
        "the X.509-SVID".to_owned()
    }

    fn describe(&self, svid: &SvidInfo) -> String {
        let (serial, end) = (svid.serial().unwrap_or_default(), rfc3339(svid.not_after, 0));
        format!("{} (serial {serial}, valid until {end})", svid.id)
    }

    fn file(&self) -> &str {
        self.pem.as_ref().map_or(CREDENTIAL_BUNDLE, |pem| pem.certificate.as_str())
    }

    fn file_of(&self, field: Field) -> &str {
        match (&self.pem, field) {
            (Some(pem), Field::Bundle) => pem.bundle.as_str(),
            (Some(pem), Field::Key) => pem.key.as_str(),
            _ => self.file(),
        }
    }

    fn given_names(&self) -> Vec<GivenName> {
        let mut given = Vec::new();
        if let Some(pem) = &self.pem {
            given.push(GivenName::exact("svid-file-name", &pem.certificate));
            given.push(GivenName::exact("svid-key-file-name", &pem.key));
            given.push(GivenName::exact("bundle-file-name", &pem.bundle));
            if pem.federated_files {
                given.push(GivenName::suffix("include-federated-bundles", FEDERATED_SUFFIX));
            }
        }
        if self.spiffe {
            given.extend(CREDENTIAL_BUNDLE.parse().iter().map(|name| GivenName::exact("layout", name)));
            given.push(GivenName::suffix("layout", TRUST_BUNDLE_SUFFIX));
        }
        for (option, name) in [
            ("combined-file-name", &self.combined),
            ("keystore-file-name", &self.keystore),
            ("truststore-file-name", &self.truststore),
            ("bundle-map-file-name", &self.bundle_map),
        ] {
            given.extend(name.iter().map(|name| GivenName::exact(option, name)));
        }
        given.extend(self.crls.iter().map(|crls| GivenName::exact("crl-file-name", &crls.name)));
        given
    }

    /// It owns the files that no other part claims: an earlier run with other names may have left them. One of
    /// those may hold a key.
    fn mode_of(&self, name: &str) -> Option<FileMode> {
        let pem = self.pem.iter().flat_map(|pem| [&pem.certificate, &pem.bundle]);
        let crls = self.crls.iter().map(|crls| &crls.name);
        let mut public = pem.chain(&self.truststore).chain(&self.bundle_map).chain(crls);
        // Without files of federated trust domains, a key may have a name that ends as theirs do.
        let has_federated = self.pem.as_ref().is_some_and(|pem| pem.federated_files);
        let is_bundle = has_federated && name.ends_with(FEDERATED_SUFFIX)
            || self.spiffe && name.ends_with(TRUST_BUNDLE_SUFFIX);
        let is_public = is_bundle || public.any(|file| file.as_str() == name);
        Some(if is_public { self.certificate_mode } else { self.key_mode })
    }

    fn kinds(&self) -> ChangeKinds {
        let crl = self.crls.as_ref().map(|_| ChangeKind::Crl);
        [ChangeKind::Svid, ChangeKind::Bundle].into_iter().chain(crl).collect()
    }

    fn changes(&self, before: &Facts, after: &Facts) -> ChangeKinds {
        let svid = (before.svid != after.svid).then_some(ChangeKind::Svid);
        let bundle = (!before.has_same_bundles(after)).then_some(ChangeKind::Bundle);
        let crl = (before.crls != after.crls).then_some(ChangeKind::Crl);
        svid.into_iter().chain(bundle).chain(crl).collect()
    }

    fn decides_identity(&self) -> bool {
        true
    }

    fn read(&self, set: &PublishedSet<'_>, _now: SystemTime) -> Result<Facts, StoreError> {
        x509_read::read(self, set)
    }

    fn source<'a>(&'a self, wish: &Wish<'a>) -> Box<dyn Source + 'a> {
        let call = RetriedCall::new(String::new(), Level::Error, FetchX509Svid, &wish.agent, wish.now);
        Box::new(X509Source {
            part: self,
            selection: wish.selection,
            stream: SvidStream::new(call),
            crls: None,
            federated: Federated::new(),
            flaws: Repetition::sharing(wish.agent.share.clone()),
            password_look_at: self.password.is_in_file().then_some(wish.now.instant + LOOK_AT_FILES),
            password_flaw: Repetition::sharing(wish.agent.share.clone()),
        })
    }
}

struct X509Source<'a> {
    part: &'a X509Part,
    selection: &'a Selection,
    stream: SvidStream<'a, FetchX509Svid>,
    /// The newest revocation list of each issuer, once the first response has come.
    crls: Option<RevocationLists>,
    /// The last good bundle of each federated trust domain.
    federated: Federated,
    /// What is wrong beside the SVID, for the log.
    flaws: Repetition,
    /// When the password of the keystores is looked at again.
    password_look_at: Option<Instant>,
    /// That it cannot be read, for the log.
    password_flaw: Repetition,
}

impl X509Source<'_> {
    fn take(&mut self, raw: RawX509Context, now: Now) -> Result<Update, Rejection> {
        let mut context = X509Context::parse(raw, self.selection).map_err(Rejection::of(self.selection))?;
        let info = context.svid.info.clone();
        let trust = if self.part.has_intermediates_in_bundle() && !self.part.spiffe {
            context.svid.trust_in_one_bundle().map_err(|(field, flaw)| flaw.within(field))?
        } else {
            context.svid.trust.clone()
        };
        let unchecked_key = context.svid.unchecked_key();
        let mut facts =
            Facts { svid: Some(info.clone()), trust: Some(trust.clone()), unchecked_key, ..Facts::default() };
        let earlier = self.stream.call_again_at.take().filter(|at| *at > now.time);
        if let Some(fault) = fault(self.part, &facts, now.time) {
            // What has expired does not become good again by waiting.
            let good_from = trust.good_from(now.time.max(info.dates().not_before));
            let good_from = good_from.filter(|at| *at > now.time && *at <= info.not_after);
            self.stream.call_again_at = good_from.into_iter().chain(earlier).min();
            return Err(Rejection::of_fault(fault, &info, now));
        }
        self.look_at_password(now);
        let (crls, crl_flaws) = self.revocation_lists(&mut context, now);
        facts.crl_next_update = crls.earliest_next_update();
        facts.crls = crls.digest();
        let Written { files, bundles, bundle_map_omitted, mut flaws, expires_at } =
            x509_files::write(self.part, context, crls, &mut self.federated, now.time)
                .map_err(Rejection::Unwritable)?;
        flaws.extend(crl_flaws);
        flaws.extend(facts.doubts());
        self.stream.call_again_at = expires_at;
        self.flaws.log_all(Level::Warn, &flaws, now.instant);
        self.stream.brought(info, now);
        (facts.bundles, facts.bundle_map_omitted) = (bundles, bundle_map_omitted);
        Ok(Update::Files(files, Box::new(facts)))
    }

    /// The lists of a response, with those that are kept; and what is wrong with others.
    fn revocation_lists(&mut self, context: &mut X509Context, now: Now) -> (RevocationLists, Vec<String>) {
        let Some(file) = &self.part.crls else { return (RevocationLists::default(), Vec::new()) };
        let (lists, mut flaws) = RevocationLists::parse(std::mem::take(&mut context.crls));
        let earlier = self.crls.take().unwrap_or_else(|| {
            crl_file::left_by_earlier_process(&file.path).unwrap_or_else(|cause| {
                let path = file.path.display();
                flaws.push(format!("cannot keep the revocation lists in {path}, only newer ones: {cause}"));
                RevocationLists::default()
            })
        });
        let (own, intermediates) = (context.svid.bundle.authorities(), context.svid.intermediates());
        let authorities: Vec<_> = own.chain(intermediates).map(|authority| authority.der).collect();
        let (lists, more_flaws) = lists.with(&earlier, &authorities, now.time);
        flaws.extend(more_flaws);
        self.crls = Some(lists.clone());
        (lists, flaws)
    }

    /// Reads the password of the keystores again. Says whether it is another one. While it cannot be read, the last
    /// one holds.
    fn look_at_password(&mut self, now: Now) -> bool {
        let looked = self.part.password.look();
        match &looked {
            Ok(_) => self.password_flaw.end(),
            Err(error) => {
                let message = format!("{error}; the keystores keep the last password");
                self.password_flaw.log_state(Level::Warn, &message, now.instant);
            }
        }
        looked.unwrap_or(false)
    }
}

impl Source for X509Source<'_> {
    fn poll(&mut self, is_offered: bool, now: Now, context: &mut Context<'_>) -> Poll<Update> {
        if self.stream.svid.is_some() {
            self.flaws.remind(now.instant);
        }
        if self.password_look_at.is_some_and(|at| at <= now.instant) {
            self.password_look_at = Some(now.instant + LOOK_AT_FILES);
            if self.look_at_password(now) {
                // The key is not kept in memory: the agent sends it again.
                log::info!(
                    "the password of the keystores has changed; asking the agent for the SVID again, to make new ones"
                );
                self.stream.call.call_now(now);
            }
        }
        if let Some(update) = self.stream.run_due(now) {
            return Poll::Ready(update);
        }
        self.stream.call.poll(is_offered, now, context).map(|heard| {
            let settled = heard.and_then(|raw| {
                let taken = self.take(raw, now);
                self.stream.call.settle(taken, is_offered, now)
            });
            settled.unwrap_or_else(|update| update)
        })
    }

    fn next_deadline(&self, now: Now) -> Option<Instant> {
        [self.stream.next_deadline(now), self.password_look_at].into_iter().flatten().min()
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
}
