//! The modes: the only place that knows the Workload API, identities and files at once.

pub mod check;
pub mod init;
pub mod inspect;
mod part;
pub mod refresh;

use crate::notify::{News, Notifier, Target};
use crate::options::Options;
use crate::store::publish::{Publication, Store, StoreError};
use crate::timestamp::rfc3339;
use part::Parts;

/// Where the files go, and who is told of them.
struct Publisher {
    store: Store,
    notifier: Notifier,
}

impl Publisher {
    /// Looks at the directory: removes what a crash left. A trouble is no more than a warning, for
    /// a publication meets it again if it matters.
    fn new(options: &Options, notifier: Notifier) -> Self {
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
        Self { store, notifier }
    }

    /// Publishes what has changed in the parts, all of it at one moment, and tells of it.
    fn publish(&mut self, parts: &mut Parts<'_>) -> Result<(), StoreError> {
        let publication = {
            let (files, keeps) = parts.changes();
            self.store.publish(&files, keeps)?
        };
        let path = self.store.path();
        parts.written(publication == Publication::Replaced, path);
        let end = parts.newest().map(|term| rfc3339(term.not_after, 0));
        let spiffe_id = parts.newest().map(|term| term.id.as_str());
        let news = News { path, spiffe_id, not_after: end.as_deref() };
        match publication {
            Publication::Replaced => self.notifier.published(news),
            Publication::Unchanged => self.notifier.stands(news),
            Publication::Removed => {}
        }
        Ok(())
    }
}

/// Whom the options name to be told.
fn notifier(options: &Options) -> Notifier {
    let by_file = options.pid_file.clone().map(Target::PidFile);
    let by_name = options.signal_process.as_ref().map(|name| Target::Name(name.as_str().to_owned()));
    let signal = options.renew_signal.unwrap_or_default().0;
    Notifier::new(signal, by_file.into_iter().chain(by_name).collect(), &options.command)
}
