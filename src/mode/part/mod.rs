//! The parts of the published set: each has a source of its own, and none holds up another.
//!
//! A part follows its source, checks what it brings, and has files to publish when they are good.
//! What is written, and when, is for the mode to say.

mod jwt_bundles;
mod jwt_svid;
mod status;
mod x509;

use std::path::Path;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

pub use jwt_bundles::JwtBundlesPart;
pub use jwt_svid::JwtSvidPart;
pub use status::{Change, Pursuit, Standing, Status};
pub use x509::{X509Part, layout};

use crate::identity::selection::Selection;
use crate::identity::term::Term;
use crate::options::Options;
use crate::store::layout::File;
use crate::store::publish::{Keep, Publication};
use crate::timestamp::rfc3339;
use crate::wait::Waiter;
use crate::workload_api::client::Client;
use crate::workload_api::procedure::Procedure;
use crate::workload_api::watch::{Event, Watch};
use status::Unusable;

/// How long a call may stay silent before it is made anew.
const SILENT_CALL: Duration = Duration::from_secs(60);

/// What happens after a response of a stream that gives nothing to publish.
const AWAITING: &str = "; waiting for the agent's next response";

/// A part of the published set.
pub trait Part {
    /// Handles what its source brings next.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()>;
    /// When there is something to do even if the source stays silent.
    fn wake_at(&self) -> Option<Instant>;
    /// Does what is due by now.
    fn on_time(&mut self);
    /// Whether a file of the published set is this part's. What no part claims is X.509's.
    fn owns(&self, name: &str) -> bool;
    /// For the log: what is published.
    fn describe(&self) -> String;
    /// For the log: what it is that nothing has been heard of.
    fn silence(&self) -> String;
    /// What all parts have.
    fn status(&self) -> &Status;
    /// The same, to change it.
    fn status_mut(&mut self) -> &mut Status;
}

/// A part whose source is a procedure of the Workload API.
trait Source<'a>: Part {
    /// The procedure.
    type Procedure: Procedure;
    /// Its calls.
    fn watch(&mut self) -> &mut Watch<'a, Self::Procedure>;
    /// Checks a response, and has files to publish if it is good.
    fn take(&mut self, offered: <Self::Procedure as Procedure>::Offered) -> Result<(), Unusable>;
    /// A response has arrived that gives nothing to publish.
    fn discard(&mut self, unusable: &Unusable);
}

/// Which SVID is wanted, X.509 or JWT.
fn selection(options: &Options) -> Selection {
    Selection { id: options.pod_spiffe_id.clone(), hint: options.hint.clone() }
}

/// How every part polls its source.
fn follow<'a, S: Source<'a>>(part: &mut S, context: &mut Context<'_>) -> Poll<()> {
    let taken = match ready!(part.watch().poll(context)) {
        Event::Offered(offered) => part.take(offered),
        Event::Undecodable(cause) => Err(Unusable::Undecodable(S::Procedure::RESPONSE, cause)),
        Event::Failed { failure, retry_in, delivered } => {
            part.status_mut().failed(&failure, retry_in, delivered);
            Ok(())
        }
    };
    if let Err(unusable) = taken {
        part.discard(&unusable);
    }
    Poll::Ready(())
}

/// All parts that the options ask for.
pub struct Parts<'a> {
    x509: Option<X509Part<'a>>,
    jwt_svids: Vec<JwtSvidPart<'a>>,
    jwt_bundles: Option<JwtBundlesPart<'a>>,
}

impl<'a> Parts<'a> {
    /// Calls nobody yet.
    pub fn new(options: &'a Options, waiter: &'a Waiter, client: &Client, pursuit: Pursuit) -> Self {
        let jwt_svid = |file| JwtSvidPart::new(options, file, waiter, client.clone(), pursuit);
        Self {
            x509: options.x509.then(|| X509Part::new(options, waiter, client.clone(), pursuit)),
            jwt_svids: options.jwt_svid.iter().map(jwt_svid).collect(),
            jwt_bundles: options
                .jwt_bundle_file_name
                .as_ref()
                .map(|name| JwtBundlesPart::new(options, name, waiter, client.clone(), pursuit)),
        }
    }

    /// Each of them; X.509 is the first, if it is there.
    pub fn all(&self) -> impl Iterator<Item = &(dyn Part + 'a)> {
        let x509 = self.x509.iter().map(|part| part as &dyn Part);
        let jwt_svids = self.jwt_svids.iter().map(|part| part as &dyn Part);
        x509.chain(jwt_svids).chain(self.jwt_bundles.iter().map(|part| part as &dyn Part))
    }

    /// The same, to change them.
    pub fn all_mut(&mut self) -> impl Iterator<Item = &mut (dyn Part + 'a)> {
        let x509 = self.x509.iter_mut().map(|part| part as &mut dyn Part);
        let jwt_svids = self.jwt_svids.iter_mut().map(|part| part as &mut dyn Part);
        x509.chain(jwt_svids).chain(self.jwt_bundles.iter_mut().map(|part| part as &mut dyn Part))
    }

    /// Handles what the sources bring: one event of each, so that none starves another.
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let ready = self.all_mut().fold(false, |ready, part| part.poll(context).is_ready() | ready);
        if ready { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Does what is due by now.
    pub fn on_time(&mut self) {
        let own_trust_domain = self.newest().map(|term| term.id.trust_domain());
        if let (Some(bundles), Some(trust_domain)) = (&mut self.jwt_bundles, own_trust_domain) {
            bundles.belongs_to(trust_domain);
        }
        // An identity that is withdrawn in one form is so in every form.
        if self.all_mut().fold(false, |revoked, part| part.status_mut().take_revocation() | revoked) {
            self.jwt_svids.iter_mut().for_each(JwtSvidPart::withdraw);
        }
        self.all_mut().for_each(|part| part.on_time());
    }

    /// When there is something to do even if all sources stay silent.
    pub fn wake_at(&self) -> Option<Instant> {
        self.all().filter_map(Part::wake_at).min()
    }

    /// The SVID that a publication is about: X.509, or else the first JWT-SVID.
    pub fn newest(&self) -> Option<&Term> {
        self.all().find_map(|part| part.status().newest())
    }

    /// Whether anything has changed since this was asked last.
    pub fn take_news(&mut self) -> bool {
        self.all_mut().fold(false, |news, part| part.status_mut().take_news() | news)
    }

    /// Whether every part has something to publish, or a trouble.
    pub fn are_heard_of(&self) -> bool {
        self.all().all(|part| {
            let status = part.status();
            status.change().is_some() || status.problem().is_some() || status.refusal().is_some()
        })
    }

    /// All that is to be written, and which names of the published set stay as they are: those of
    /// parts that have not changed, or about which nothing is known yet.
    pub fn changes(&self) -> (Vec<&File>, impl Fn(&str) -> Keep) {
        let files = self.all().filter_map(|part| match part.status().change() {
            Some(Change::Write(files)) => Some(files),
            _ => None,
        });
        let keeps = |name: &str| {
            let is_unchanged = |part: &dyn Part| part.status().change().is_none();
            let others = || self.all().skip(usize::from(self.x509.is_some()));
            match (others().find(|part| part.owns(name)), &self.x509) {
                // A token that only another user may read must not hold up the rest.
                (Some(part), _) if is_unchanged(part) => Keep::IfPossible,
                // A key without its certificate is of no use to anybody.
                (None, Some(x509)) if is_unchanged(x509) => Keep::Must,
                _ => Keep::No,
            }
        };
        (files.flatten().collect(), keeps)
    }

    /// Whether there are new files among the changes.
    pub fn have_files(&self) -> bool {
        self.all().any(|part| matches!(part.status().change(), Some(Change::Write(_))))
    }

    /// The changes are done: says so, as the part's own words have it.
    pub fn written(&mut self, publication: Publication, path: &Path) {
        for part in self.all_mut() {
            match (part.status().change(), publication) {
                (Some(Change::Write(_)), Publication::Unchanged) => {
                    log::debug!("{} is already in {}; nothing written", part.describe(), path.display());
                }
                (Some(Change::Write(_)), _) => log_published(part, path),
                (Some(Change::Remove), _) => {
                    log::info!("removed the files from {}: {}", path.display(), part.describe());
                }
                (None, _) => {}
            }
            part.status_mut().written();
        }
    }
}

fn log_published(part: &dyn Part, path: &Path) {
    let (what, path) = (part.describe(), path.display());
    let Some(term) = part.status().newest() else {
        return log::info!(path:%; "published {what} in {path}");
    };
    let (id, not_after) = (&term.id, rfc3339(term.not_after, 0));
    let not_after = not_after.as_str();
    match term.serial.as_deref() {
        Some(serial) => {
            log::info!(spiffe_id:% = id, serial, not_after, path:%; "published {what} in {path}")
        }
        None => log::info!(spiffe_id:% = id, not_after, path:%; "published {what} in {path}"),
    }
}
