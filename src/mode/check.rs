//! `check`: are the published files good? Opens no socket: it is the exec probe of an image without
//! a shell.

use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use crate::identity::spiffe_id::SpiffeId;
use crate::identity::svid_info::SvidInfo;
use crate::material::{Facts, Part, fault, read_published};
use crate::store::{Store, StoreError};
use crate::time::clock::Now;
use crate::time::timestamp::{in_words, rfc3339};
use crate::time::timing::{LOOK_AT_NAMES, LOOKS_AT_NAMES};
use crate::words::{Flaw, flaw};

/// Which files to check, and against what.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) svid_path: PathBuf,
    pub(crate) parts: Vec<Rc<dyn Part>>,
    /// The identity that they must have, if any will not do.
    pub(crate) id: Option<SpiffeId>,
    /// An SVID must be valid for longer than this.
    pub(crate) min_ttl: Option<Duration>,
}

/// Checks every file; returns a line that describes them.
pub(crate) fn run(settings: &Settings, now: Now) -> Result<String, StoreError> {
    let store = Store::new(settings.svid_path.clone());
    let found = read(settings, &store, now);
    let has_x509 = settings.parts.iter().any(|part| part.decides_identity());
    let mut summary = None;
    for (part, found) in settings.parts.iter().zip(found) {
        let facts = found?;
        facts.doubts().for_each(|doubt| log::warn!("{}: {doubt}", part.file()));
        if let (Some(SvidInfo { id, .. }), Some(expected)) = (&facts.svid, &settings.id)
            && id != expected
        {
            let file = part.file();
            return Err(flaw!("{file}: it is the SVID of {id}, not of {expected} (--pod-spiffe-id)").into());
        }
        if let Some(fault) = fault(part.as_ref(), &facts, now.time) {
            return Err(Flaw::new(fault).into());
        }
        let Some(svid) = facts.svid else { continue };
        // JWT-SVIDs live for minutes: --min-ttl is about them only where there is no X.509-SVID.
        let is_measured = part.decides_identity() || !has_x509;
        let left = now.until(svid.not_after);
        if let Some(least) = settings.min_ttl.filter(|least| is_measured && left <= *least) {
            let (kind, id, end) = (&svid.kind, &svid.id, rfc3339(svid.not_after, 0));
            let least = in_words(least);
            return Err(
                flaw!("the {kind} of {id} expires at {end}, sooner than in {least} (--min-ttl)").into()
            );
        }
        summary.get_or_insert_with(|| summarize(&svid, left));
    }
    let what = summary.or_else(|| settings.parts.first().map(|part| part.name())).unwrap_or_default();
    Ok(format!("ok: {what} in {}", settings.svid_path.display()))
}

/// Reads the published set. In a directory that all users share, names may still follow a new set: they are
/// looked at again.
fn read(settings: &Settings, store: &Store, now: Now) -> Vec<Result<Facts, StoreError>> {
    let look = || read_published(&settings.parts, store, now.time);
    let is_behind = |found: &[Result<_, StoreError>]| {
        found.iter().any(|found| matches!(found, Err(StoreError::NotOfTheSet(_))))
    };
    for _ in 0..LOOKS_AT_NAMES {
        let found = look();
        if !is_behind(&found) {
            return found;
        }
        std::thread::sleep(LOOK_AT_NAMES);
    }
    look()
}

fn summarize(svid: &SvidInfo, left: Duration) -> String {
    let (id, end) = (&svid.id, rfc3339(svid.not_after, 0));
    let serial = svid.serial().map(|serial| format!("serial {serial}, ")).unwrap_or_default();
    format!("{id} ({serial}valid until {end}, {} left)", in_words(left))
}
