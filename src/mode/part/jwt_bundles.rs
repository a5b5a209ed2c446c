//! The JWT bundles: follows the stream of updates.

use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use log::Level;
use zeroize::Zeroizing;

use super::status::Unusable;
use super::{AWAITING, Part, Pursuit, SILENT_CALL, Source, Status, follow};
use crate::identity::jwt_bundle::JwtBundles;
use crate::identity::offered::OfferedJwtBundles;
use crate::identity::spiffe_id::TrustDomain;
use crate::options::Options;
use crate::store::layout::{File, FileName, trust_domain_file};
use crate::wait::Waiter;
use crate::workload_api::client::Client;
use crate::workload_api::procedure::FetchJwtBundles;
use crate::workload_api::watch::Watch;

/// A call that has delivered is made anew after so long a silence. Keys change once in days, and
/// nothing else tells an agent that hangs from one that has no news.
const RENEWED_CALL: Duration = Duration::from_secs(60 * 60);

/// The JWKS documents, and where they go.
pub struct JwtBundlesPart<'a> {
    options: &'a Options,
    name: &'a FileName,
    /// Whose document is the one without a trust domain in its name; an SVID tells it, if the
    /// options do not.
    own: Option<TrustDomain>,
    /// Those that wait for `own`.
    waiting: Option<JwtBundles>,
    watch: Watch<'a, FetchJwtBundles>,
    status: Status,
}

impl<'a> JwtBundlesPart<'a> {
    pub(super) fn new(
        options: &'a Options,
        name: &'a FileName,
        waiter: &'a Waiter,
        client: Client,
        pursuit: Pursuit,
    ) -> Self {
        Self {
            options,
            name,
            own: options.pod_spiffe_id.as_ref().map(|id| id.trust_domain()),
            waiting: None,
            watch: Watch::new(waiter, client, FetchJwtBundles),
            status: Status::new("JWT bundles: ".to_owned(), pursuit, options.on_revoked),
        }
    }

    /// Learns which trust domain is the workload's own.
    pub(super) fn belongs_to(&mut self, trust_domain: TrustDomain) {
        if self.own.is_some() {
            return;
        }
        self.own = Some(trust_domain);
        if let Some(bundles) = self.waiting.take()
            && let Err(unusable) = self.lay_out(bundles)
        {
            self.status.complain(Level::Error, &unusable.to_string(), AWAITING);
        }
    }

    fn lay_out(&mut self, bundles: JwtBundles) -> Result<(), Unusable> {
        let Some(own) = &self.own else {
            self.waiting = Some(bundles);
            return Ok(());
        };
        let document = bundles.of(own).ok_or_else(|| {
            Unusable::Rejected(format!("bundles: there is none of {own}, the workload's own trust domain"))
        })?;
        let mut files = vec![self.file(self.name.clone(), document)];
        if self.options.include_federated_bundles {
            for (trust_domain, document) in bundles.all().filter(|(trust_domain, _)| *trust_domain != own) {
                match trust_domain_file(trust_domain.as_str(), &self.suffix()) {
                    Ok(name) => files.push(self.file(name, document)),
                    Err(error) => log::warn!("{error}; its JWT bundle is left out"),
                }
            }
        }
        self.status.offer(files, None);
        Ok(())
    }

    fn file(&self, name: FileName, document: &[u8]) -> File {
        let contents = Zeroizing::new(document.to_vec());
        File { name, mode: self.options.cert_file_mode, contents }
    }

    /// How the names of other trust domains' files end.
    fn suffix(&self) -> String {
        format!(".{}", self.name)
    }

    fn hang_up_at(&self) -> Option<Instant> {
        let (since, delivered) = self.watch.open_call()?;
        Some(since + if delivered { RENEWED_CALL } else { SILENT_CALL })
    }
}

impl<'a> Source<'a> for JwtBundlesPart<'a> {
    type Procedure = FetchJwtBundles;

    fn watch(&mut self) -> &mut Watch<'a, FetchJwtBundles> {
        &mut self.watch
    }

    fn take(&mut self, offered: OfferedJwtBundles) -> Result<(), Unusable> {
        let bundles = JwtBundles::parse(offered).map_err(|error| Unusable::Rejected(error.to_string()))?;
        self.status.recovered(&self.options.workload_api_socket);
        self.lay_out(bundles)
    }

    fn discard(&mut self, unusable: &Unusable) {
        self.status.complain(Level::Error, &unusable.to_string(), AWAITING);
    }
}

impl Part for JwtBundlesPart<'_> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        follow(self, context)
    }

    fn wake_at(&self) -> Option<Instant> {
        [self.watch.wake_at(), self.hang_up_at()].into_iter().flatten().min()
    }

    fn on_time(&mut self) {
        if self.hang_up_at().is_some_and(|at| at <= Instant::now()) {
            if self.watch.open_call().is_some_and(|(_, delivered)| !delivered) {
                self.status.complain(Level::Warn, &self.watch.silence(), "; calling the agent again");
            }
            self.watch.call_at(Instant::now());
        }
    }

    fn owns(&self, name: &str) -> bool {
        name == self.name.as_str() || self.options.include_federated_bundles && name.ends_with(&self.suffix())
    }

    fn describe(&self) -> String {
        format!("the JWT bundles as {}", self.name)
    }

    fn silence(&self) -> String {
        match self.waiting {
            Some(_) => "they are here, but no SVID tells which is the workload's own trust domain".to_owned(),
            None => self.watch.silence(),
        }
    }

    fn status(&self) -> &Status {
        &self.status
    }

    fn status_mut(&mut self) -> &mut Status {
        &mut self.status
    }
}
