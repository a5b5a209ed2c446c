//! The kinds of material that become files: what it is called, which files it has and how they
//! are read back; and how it is fetched from the agent and checked. See [`part`].
//!
//! A source returns an [`Update`], and logs its own failures. The items log what is about all of them, such as a
//! withdrawal. No source holds up another.

mod ask;
mod call;
mod call_counts;
mod changes;
mod crl_file;
mod denials;
mod facts;
mod failure_log;
mod file_flaw;
mod followed_selection;
mod jwks;
mod jwt_svid;
mod part;
mod profile_off;
mod rejection;
mod svid_stream;
mod verdict;
mod watchdog;
mod wit_svid;
mod x509;
pub(crate) mod x509_files;
mod x509_part;
mod x509_read;

use std::rc::Rc;
use std::time::SystemTime;

pub(crate) use ask::{AskError, ask};
pub(crate) use call_counts::CallCounts;
pub(crate) use changes::{ChangeKind, ChangeKinds};
pub(crate) use facts::Facts;
pub(crate) use jwks::JwksPart;
pub(crate) use jwt_svid::{Audience, JwtSvidFile, JwtSvidPart, good_token};
pub(crate) use part::{Agent, Learned, Part, Source, Until, Update, Wish};
pub(crate) use rejection::Rejection;
pub(crate) use verdict::fault;
pub(crate) use wit_svid::{KeyFormat, WitSvidPart};
pub(crate) use x509_part::{CrlFile, PemFiles, X509Part};

use crate::store::{Store, StoreError};
use crate::words::flaw;

/// The facts of each part of the published set, in their order, or why it cannot be read.
pub(crate) fn read_published(
    parts: &[Rc<dyn Part>],
    store: &Store,
    now: SystemTime,
) -> Vec<Result<Facts, StoreError>> {
    loop {
        let set = match store.published() {
            Ok(set) => set,
            Err(error) => return parts.iter().map(|_| Err(error.clone())).collect(),
        };
        let found: Vec<_> = parts.iter().map(|part| part.read(&set, now)).collect();
        // A set that is replaced meanwhile loses its files: read the new one.
        if found.iter().all(Result::is_ok) || set.is_current() {
            return of_one_identity(parts, found);
        }
    }
}

/// The X.509-SVID decides whose the set is: a token or a WIT-SVID of another identity does not count.
fn of_one_identity(
    parts: &[Rc<dyn Part>],
    found: Vec<Result<Facts, StoreError>>,
) -> Vec<Result<Facts, StoreError>> {
    let decides = parts.iter().zip(&found).find(|(part, _)| part.decides_identity());
    let own = decides.and_then(|(part, found)| Some((part, found.as_ref().ok()?.svid.clone()?.id)));
    let Some((deciding, own)) = own else { return found };
    let check = |(part, found): (&Rc<dyn Part>, Result<Facts, StoreError>)| {
        let facts = found?;
        let Some(svid) = facts.svid.as_ref().filter(|svid| svid.id != own) else { return Ok(facts) };
        let (file, id, deciding) = (part.file(), &svid.id, deciding.file());
        Err(flaw!(
            "{file}: it is the SVID of {id}, and {deciding} is that of {own} (the log of the helper that writes there says why)"
        )
        .into())
    };
    parts.iter().zip(found).map(check).collect()
}
