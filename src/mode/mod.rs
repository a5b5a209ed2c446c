//! The modes: the only place that knows the Workload API, identities and files at once.

pub mod check;
pub mod init;
pub mod inspect;
mod part;
pub mod refresh;

use std::time::{Duration, Instant};

use crate::backoff::Backoff;
use crate::notify::{News, Notifier, Target};
use crate::options::Options;
use crate::store::publish::{Publication, Store, StoreError};
use crate::timestamp::rfc3339;
use part::Parts;

/// Between attempts to write.
const WRITE: Backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(10));
/// The same, while another helper is at it: a matter of moments.
const BUSY: Duration = Duration::from_millis(100);
/// How long the first publication waits for parts that have not been heard of, so that one set
/// comes out of them, and the application is told once.
const GATHERING: Duration = Duration::from_millis(500);

/// Writes what the parts have, when it is time to.
struct Publisher {
    store: Store,
    /// When the parts' changes are written, if there are any.
    write_at: Option<Instant>,
    /// Until the first attempt to write.
    gathers: bool,
    backoff: Backoff,
}

/// A publication that failed, and will be tried again.
struct NotWritten {
    error: StoreError,
    retry_in: Duration,
}

impl Publisher {
    /// Looks at the directory: removes what a crash left. A trouble is no more than a warning, for
    /// a publication meets it again if it matters.
    fn new(options: &Options) -> Self {
        let store = Store::new(options.svid_path.clone());
        if let Err(error) = store.clean() {
            log::warn!("{error}");
        }
        if store.is_shared() {
            log::warn!(
                "{} is shared by all users: they may be unable to follow the links there, and can block their names; a directory of the pod's own is better",
                store.path().display()
            );
        }
        Self { store, write_at: None, gathers: true, backoff: WRITE }
    }

    /// When there is something to write.
    fn wake_at(&self) -> Option<Instant> {
        self.write_at
    }

    /// Waits no longer for parts that have not been heard of.
    fn hurry(&mut self) {
        self.write_at = self.write_at.map(|at| at.min(Instant::now()));
    }

    /// Publishes what has changed in the parts, all of it at one moment, if that is due.
    fn on_time(&mut self, parts: &mut Parts<'_>) -> Option<Result<Publication, NotWritten>> {
        if parts.take_news() {
            self.backoff.reset();
            let now = Instant::now();
            let gathered_at = self.write_at.unwrap_or(now + GATHERING);
            self.write_at = Some(if self.gathers { gathered_at } else { now });
        }
        if self.gathers && parts.are_heard_of() {
            self.hurry();
        }
        self.write_at.take_if(|at| *at <= Instant::now())?;
        self.gathers = false;
        Some(self.publish(parts).map_err(|error| {
            let retry_in = match error {
                StoreError::Busy { .. } => BUSY,
                _ => self.backoff.advance(),
            };
            self.write_at = Some(Instant::now() + retry_in);
            NotWritten { error, retry_in }
        }))
    }

    fn publish(&self, parts: &mut Parts<'_>) -> Result<Publication, StoreError> {
        let publication = {
            let (files, keeps) = parts.changes();
            match self.store.publish(&files, keeps)? {
                // What remains is as it was.
                Publication::Replaced if !parts.have_files() => Publication::Removed,
                publication => publication,
            }
        };
        parts.written(publication, self.store.path());
        Ok(publication)
    }

    /// Tells the application of a publication.
    fn tell(&self, notifier: &mut Notifier, parts: &Parts<'_>, publication: Publication) {
        let term = parts.newest();
        let news: News = vec![
            ("SVID_PATH", Some(self.store.path().into())),
            ("SVID_SPIFFE_ID", term.map(|term| term.id.as_str().into())),
            ("SVID_NOT_AFTER", term.map(|term| rfc3339(term.not_after, 0).into())),
        ];
        match publication {
            Publication::Replaced => notifier.published(news),
            Publication::Unchanged => notifier.stands(news),
            Publication::Removed => {}
        }
    }
}

/// Whom the options name to be told.
fn notifier(options: &Options) -> Notifier {
    let by_file = options.pid_file.clone().map(Target::PidFile);
    let by_name = options.signal_process.as_ref().map(|name| Target::Name(name.as_str().to_owned()));
    let signal = options.renew_signal.unwrap_or_default().0;
    Notifier::new(signal, by_file.into_iter().chain(by_name).collect(), &options.command)
}
