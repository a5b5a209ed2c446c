//! One kind of material that is kept: what fetches it, its next files, and its published ones.

use std::mem::ManuallyDrop;
use std::time::Instant;

use log::Level;

use crate::http::NotReady;
use crate::identity::spiffe_id::SpiffeId;
use crate::logging::{Repetition, SharedReminder};
use crate::material::{ChangeKind, ChangeKinds, Facts, Part, Source, fault};
use crate::store::file::File;
use crate::store::{Publication, StoreError};
use crate::time::clock::Now;

/// What has become of what the agent has sent, while the directory is the trouble.
const UNWRITTEN: &str = "has come, and could not be written";

/// A part of the files, with what is wanted of it and what is there.
pub(super) struct Item<'a> {
    pub(super) part: &'a dyn Part,
    /// Never dropped: to end its calls, gRPC may need threads that it could not start.
    pub(super) source: ManuallyDrop<Box<dyn Source + 'a>>,
    /// What the next publication does to its files.
    pub(super) change: Option<Change>,
    /// The newest good material, published or about to be.
    pub(super) newest: Option<Facts>,
    /// The files on disk, if they are there.
    pub(super) published: Option<Facts>,
    /// The files that others have removed or changed, until they are restored.
    pub(super) lost: Option<Facts>,
    /// Whether its next files are those that were last published or found, byte by byte, beside others that are new.
    pub(super) is_there: bool,
    /// The last failure, until something good comes.
    pub(super) problem: Option<Problem>,
    /// Logs that `newest` has become bad, once per state.
    expiry: Repetition,
}

/// What a publication does to an item's files.
pub(super) enum Change {
    /// Writes these files in place of the earlier ones.
    Write(Vec<File>),
    Remove,
}

/// Why there is nothing good of an item.
#[derive(Debug, Clone)]
pub(super) struct Problem {
    /// What the source says, as the log has it.
    pub(super) message: String,
    /// Whether the agent's answer must not be retried.
    pub(super) is_final: bool,
    since: Instant,
}

impl<'a> Item<'a> {
    /// Nothing is known yet. Items that `share` their reminders are all of one set.
    pub(super) fn new(part: &'a dyn Part, source: Box<dyn Source + 'a>, share: SharedReminder) -> Self {
        Self {
            part,
            source: ManuallyDrop::new(source),
            change: None,
            newest: None,
            published: None,
            lost: None,
            is_there: false,
            problem: None,
            expiry: Repetition::sharing(share),
        }
    }

    /// Something went wrong; the same trouble goes on for as long as nothing good comes.
    pub(super) fn record_failure(&mut self, message: String, is_final: bool, now: Instant) {
        let since = self.problem.as_ref().map_or(now, |problem| problem.since);
        self.problem = Some(Problem { message, is_final, since });
    }

    /// Takes good files; returns whether there was a problem before.
    pub(super) fn accept(&mut self, files: Vec<File>, facts: Facts) -> bool {
        // Some agents send the same keys again and again, each time in another order.
        let is_same = facts.keys.is_some()
            && self.change.is_none()
            && [&self.newest, &self.published].iter().all(|known| known.as_ref() == Some(&facts));
        if !is_same {
            self.newest = Some(facts);
            self.change = Some(Change::Write(files));
        }
        self.problem.take().is_some()
    }

    /// Whether it is of another identity than `own`, and is to be there.
    pub(super) fn is_anothers(&self, own: &SpiffeId) -> bool {
        let facts = self.newest.as_ref().or(self.published.as_ref());
        let svid = facts.and_then(|facts| facts.svid.as_ref());
        !matches!(self.change, Some(Change::Remove)) && svid.is_some_and(|svid| svid.id != *own)
    }

    /// Whether its files on disk may be kept in a set of this identity. `has_read`: what was found there is known.
    pub(super) fn may_be_of(&self, own: &SpiffeId, has_read: bool) -> bool {
        let has_svid =
            self.part.kinds().into_iter().any(|kind| matches!(kind, ChangeKind::Token | ChangeKind::Wit));
        let svid = self.before().and_then(|facts| facts.svid.as_ref());
        !has_svid || svid.map_or(!has_read, |svid| svid.id == *own)
    }

    /// The new files, if there are any.
    pub(super) fn files(&self) -> &[File] {
        match &self.change {
            Some(Change::Write(files)) => files,
            Some(Change::Remove) | None => &[],
        }
    }

    /// The facts that the application was told last. Others may have removed or changed the files since.
    pub(super) fn before(&self) -> Option<&Facts> {
        self.lost.as_ref().or(self.published.as_ref())
    }

    /// Whether the application knows the newest files: this publication has changed nothing, or restores what others
    /// have removed or changed, or has the same keys as an earlier process.
    pub(super) fn is_known(&self, publication: Publication) -> bool {
        let has_keys = self.newest.as_ref().is_some_and(|facts| facts.keys.is_some());
        let restores = self.before() == self.newest.as_ref() && (has_keys || self.lost.is_some());
        publication == Publication::Unchanged || self.is_there || restores
    }

    /// What its newest files change, as far as facts show that. Its first files change everything.
    pub(super) fn changes(&self) -> ChangeKinds {
        match (self.before(), &self.newest) {
            (Some(before), Some(newest)) => self.part.changes(before, newest),
            _ => self.part.kinds(),
        }
    }

    /// Why it is not published or not good now: the one verdict, or else what the agent said, and for how long; and
    /// the `error` of the last publication, if its files wait for the next one.
    pub(super) fn fault(&self, error: Option<&StoreError>, now: Now) -> Option<NotReady> {
        let newest = || self.newest.as_ref().and_then(|facts| fault(self.part, facts, now.time));
        let unwritten = error.filter(|_| !self.files().is_empty() && newest().is_none());
        let Some(published) = &self.published else {
            let name = self.part.name();
            let (cause, lasts) = match (unwritten, &self.problem) {
                (Some(error), _) => (format!("one {UNWRITTEN}: {error}"), None),
                (None, Some(Problem { message, since, .. })) => {
                    (message.clone(), now.instant.checked_duration_since(*since))
                }
                (None, None) => (newest().unwrap_or_else(|| self.source.describe_wait()), None),
            };
            let name = name.strip_prefix("the ").unwrap_or(&name);
            let cause = cause.strip_prefix(&format!("{name}: ")).unwrap_or(&cause);
            return Some(NotReady { cause: format!("no {name} yet: {cause}"), lasts });
        };
        let cause = fault(self.part, published, now.time)?;
        let cause = match unwritten {
            Some(error) => with_newer(&cause, error),
            None => cause,
        };
        Some(NotReady { cause, lasts: None })
    }

    /// What went wrong, or what the source waits for.
    pub(super) fn describe_problem(&self) -> String {
        match &self.problem {
            Some(problem) => problem.message.clone(),
            None => format!("{}: {}", self.part.name(), self.source.describe_wait()),
        }
    }

    /// Logs the fault of the newest material, or else of what is published: at once, and then each minute. `error` is
    /// that of the last publication.
    pub(super) fn report_expired(&mut self, error: Option<&StoreError>, now: Now) {
        let fault =
            |facts: &Option<Facts>| facts.as_ref().and_then(|facts| fault(self.part, facts, now.time));
        let newest = if self.newest.is_some() { &self.newest } else { &self.published };
        let message = match (fault(newest), error) {
            (Some(fault), _) => Some(format!("{fault}, and the agent has sent nothing newer")),
            (None, Some(error)) => fault(&self.published).map(|fault| with_newer(&fault, error)),
            (None, None) => None,
        };
        match message {
            Some(message) => self.expiry.log_state(Level::Error, &message, now.instant),
            None => self.expiry.end(),
        }
    }
}

/// A fault of what is published, while the directory is the trouble.
fn with_newer(fault: &str, error: &StoreError) -> String {
    format!("{fault}, and a newer one {UNWRITTEN}: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::selection::Selection;
    use crate::identity::token::Profile;
    use crate::material::{Agent, JwksPart, Until, Wish};
    use crate::wait::Waiter;
    use crate::workload_api::client::{Client, start_grpc};
    use crate::workload_api::endpoint::Endpoint;

    #[test]
    fn the_keys_of_an_earlier_process_in_another_order_change_nothing() {
        let (name, mode) = ("jwks.json".parse().unwrap(), "0644".parse().unwrap());
        let part = JwksPart { profile: Profile::Jwt, name, federated_files: false, mode };
        let client = Client::new(Endpoint::Unix("/nowhere".into()), start_grpc());
        let (waiter, share) = (Waiter::new().unwrap(), SharedReminder::default());
        let agent = Agent { client: &client, waiter: &waiter, until: Until::Stopped, share };
        let selection = &Selection::default();
        let wish = Wish { agent, selection, follows_identity: false, now: Now::look() };
        let mut item = Item::new(&part, part.source(&wish), SharedReminder::default());
        let keys = |keys| Facts { keys: Some(keys), ..Facts::default() };
        item.published = Some(keys(1));
        for (newest, is_change) in [(1, false), (2, true)] {
            item.accept(Vec::new(), keys(newest));
            assert_eq!(item.is_known(Publication::Replaced), !is_change);
        }
    }
}
