//! The X.509-SVID with its bundles: follows the stream of updates.

use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use log::Level;

use super::status::Unusable;
use super::{AWAITING, Part, Pursuit, SILENT_CALL, Source, Status, follow, selection};
use crate::backoff::Backoff;
use crate::identity::bundle::Authority;
use crate::identity::context::X509Context;
use crate::identity::offered::OfferedX509Context;
use crate::identity::selection::Selection;
use crate::identity::spiffe_id::TrustDomain;
use crate::identity::term::{Term, time_left};
use crate::identity::x509_svid::X509Svid;
use crate::options::Options;
use crate::store::layout::{File, Layout, Material, PemLayout};
use crate::timestamp::rfc3339;
use crate::wait::Waiter;
use crate::workload_api::client::Client;
use crate::workload_api::procedure::FetchX509Svid;
use crate::workload_api::watch::Watch;

/// How long a call may bring nothing new once the SVID is overdue.
const OVERDUE_CALL: Backoff = Backoff::new(Duration::from_secs(5), Duration::from_secs(60));

/// One X.509-SVID, and where it goes.
pub struct X509Part<'a> {
    options: &'a Options,
    selection: Selection,
    layout: Layout,
    watch: Watch<'a, FetchX509Svid>,
    overdue_backoff: Backoff,
    status: Status,
}

impl<'a> X509Part<'a> {
    pub(super) fn new(options: &'a Options, waiter: &'a Waiter, client: Client, pursuit: Pursuit) -> Self {
        Self {
            options,
            selection: selection(options),
            layout: layout(options),
            watch: Watch::new(waiter, client, FetchX509Svid),
            overdue_backoff: OVERDUE_CALL,
            status: Status::new(String::new(), pursuit, options.on_revoked),
        }
    }

    fn lay_out(
        &self,
        svid: &X509Svid,
        context: &X509Context,
        now: SystemTime,
    ) -> Result<Vec<File>, Unusable> {
        let valid = |authorities| ders(authorities, self.options.omit_expired.then_some(now));
        let trust_domain = svid.term().id.trust_domain();
        let bundle = valid(svid.bundle().authorities());
        if bundle.is_empty() {
            return Err(Unusable::ExpiredBundle(trust_domain));
        }
        // A trust domain is not federated with itself, whatever the agent says.
        let federated =
            context.federated.iter().filter(|(other, _)| *other != trust_domain).map(
                |(trust_domain, bundle)| (TrustDomain::as_str(trust_domain), valid(bundle.authorities())),
            );
        let material = Material {
            trust_domain: trust_domain.as_str(),
            leaf: svid.leaf(),
            intermediates: ders(svid.intermediates(), None),
            key: svid.key().der(),
            bundle,
            federated: federated.filter(|(_, authorities)| !authorities.is_empty()).collect(),
            crls: context.crls.iter().map(Vec::as_slice).collect(),
        };
        self.layout.files(&material).map_err(|error| Unusable::Rejected(error.to_string()))
    }

    /// When an open call has been silent for too long.
    ///
    /// An agent that hangs keeps its socket open, and one whose server is away keeps its streams
    /// silent past the SVID's end; only a new call tells.
    fn hang_up_at(&self) -> Option<Instant> {
        let (since, delivered) = self.watch.open_call()?;
        Some(match self.status.newest().map(|term| time_left(term.overdue_at())) {
            None => since + SILENT_CALL,
            Some(Duration::ZERO) => since + self.overdue_backoff.current(),
            Some(left) if delivered => Instant::now() + left,
            Some(left) => {
                let overdue = (Instant::now() + left).max(since + self.overdue_backoff.current());
                overdue.min(since + SILENT_CALL)
            }
        })
    }

    fn hang_up_when_silent(&mut self) {
        if self.hang_up_at().is_none_or(|at| at > Instant::now()) {
            return;
        }
        let message = match self.status.newest() {
            Some(term) if term.is_overdue(SystemTime::now()) => {
                // The first call that ends like this was made before, and waited for nothing.
                let overdue_for = SystemTime::now().duration_since(term.overdue_at()).unwrap_or_default();
                if self.watch.open_call().is_some_and(|(since, _)| since.elapsed() < overdue_for) {
                    self.overdue_backoff.advance();
                }
                let (id, end) = (&term.id, rfc3339(term.not_after, 0));
                format!("the SVID of {id} (valid until {end}) is due for renewal and no new one comes")
            }
            _ => {
                let (endpoint, seconds) = (&self.options.workload_api_socket, SILENT_CALL.as_secs());
                format!("{endpoint} has sent nothing usable for {seconds}s")
            }
        };
        self.watch.call_at(Instant::now());
        self.status.complain(Level::Warn, &message, "; calling the agent again");
    }
}

impl<'a> Source<'a> for X509Part<'a> {
    type Procedure = FetchX509Svid;

    fn watch(&mut self) -> &mut Watch<'a, FetchX509Svid> {
        &mut self.watch
    }

    fn take(&mut self, offered: OfferedX509Context) -> Result<(), Unusable> {
        let mut context =
            X509Context::parse(offered).map_err(|error| Unusable::Rejected(error.to_string()))?;
        let svid = self
            .selection
            .pick(std::mem::take(&mut context.svids))
            .map_err(|error| Unusable::not_offered(error, &self.selection))?;
        let now = SystemTime::now();
        if svid.term().is_expired(now) {
            return Err(Unusable::Expired(svid.term().clone()));
        }
        let files = self.lay_out(&svid, &context, now)?;
        let term = svid.term().clone();
        let is_new = self.status.newest() != Some(&term);
        if is_new {
            self.overdue_backoff.reset();
        }
        if is_new || !term.is_overdue(now) {
            self.status.recovered(&self.options.workload_api_socket);
        }
        self.status.offer(files, Some(term));
        Ok(())
    }

    fn discard(&mut self, unusable: &Unusable) {
        match (unusable, self.status.newest()) {
            (Unusable::NotOffered(..), Some(_)) => self.status.revoked(&unusable.to_string(), AWAITING),
            _ => self.status.complain(Level::Error, &unusable.to_string(), AWAITING),
        }
    }
}

impl Part for X509Part<'_> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        follow(self, context)
    }

    fn wake_at(&self) -> Option<Instant> {
        [self.watch.wake_at(), self.hang_up_at(), self.status.expires_at()].into_iter().flatten().min()
    }

    fn on_time(&mut self) {
        self.hang_up_when_silent();
        self.status.report_expiry();
    }

    fn owns(&self, _name: &str) -> bool {
        true
    }

    fn describe(&self) -> String {
        match self.status.newest() {
            Some(Term { id, serial, not_after, .. }) => {
                let (serial, end) = (serial.as_deref().unwrap_or_default(), rfc3339(*not_after, 0));
                format!("{id} (serial {serial}, valid until {end})")
            }
            None => "the X.509-SVID".to_owned(),
        }
    }

    fn silence(&self) -> String {
        self.watch.silence()
    }

    fn status(&self) -> &Status {
        &self.status
    }

    fn status_mut(&mut self) -> &mut Status {
        &mut self.status
    }
}

/// The certificates that are valid at a time, if one is given.
fn ders(authorities: &[Authority], valid_at: Option<SystemTime>) -> Vec<&[u8]> {
    let is_valid = |authority: &&Authority| valid_at.is_none_or(|time| authority.not_after >= time);
    authorities.iter().filter(is_valid).map(|authority| authority.der.as_slice()).collect()
}

/// What the options say of the X.509 files.
pub fn layout(options: &Options) -> Layout {
    Layout {
        pem: options.layout.pem.then(|| PemLayout {
            certificate: options.svid_file_name.clone(),
            key: options.svid_key_file_name.clone(),
            bundle: options.bundle_file_name.clone(),
            intermediates_in_bundle: options.add_intermediates_to_bundle,
            federated_in_bundle: options.merge_federated_bundles,
            federated_files: options.include_federated_bundles,
        }),
        spiffe: options.layout.spiffe,
        combined: options.combined_file_name.clone(),
        crl: options.crl_file_name.clone(),
        certificate_mode: options.cert_file_mode,
        key_mode: options.key_file_mode,
    }
}
