//! The SVIDs of one response: the fields that each must have, and the choice of one.

use std::fmt::Display;

use thiserror::Error;

use super::limits::MAX_SVIDS;
use super::raw::shortened;
use super::selection::{Candidate, Selection};
use crate::words::{Flaw, flaw};

/// Checks that there are SVIDs and that each has its mandatory fields: `fields` names them, and says which are
/// empty.
pub(super) fn check_fields<T: Candidate, F: Display, const N: usize>(
    raw: &[T],
    fields: impl Fn(&T) -> [(F, bool); N],
) -> Result<(), Flaw> {
    if raw.is_empty() {
        return Err(flaw!("svids: {EMPTY}"));
    }
    if raw.len() > MAX_SVIDS {
        return Err(flaw!("svids: there are {} (at most {MAX_SVIDS} are accepted)", raw.len()));
    }
    for (index, svid) in raw.iter().enumerate() {
        if let Some((field, _)) = fields(svid).into_iter().find(|(_, is_empty)| *is_empty) {
            return Err(in_svid(index, svid.id())(flaw!("{field}: {EMPTY}")));
        }
    }
    Ok(())
}

/// Checks the selected SVID in full, and no other: none holds it up.
pub(super) fn select<T: Candidate, S>(
    raw: Vec<T>,
    selection: &Selection,
    parse: impl FnOnce(T) -> Result<S, Flaw>,
) -> Result<S, Unusable> {
    let (index, svid) = selection.pick(raw).map_err(Unusable::NotOffered)?;
    let in_svid = in_svid(index, svid.id());
    Ok(parse(svid).map_err(in_svid)?)
}

/// What is wrong with a mandatory field.
pub(super) const EMPTY: &str = "the mandatory field is empty";

/// Adds which SVID of the response it is.
fn in_svid(index: usize, id: &str) -> impl FnOnce(Flaw) -> Flaw + use<> {
    let place = format!("svids[{index}] ({:?})", shortened(id));
    move |flaw| flaw!("{place} {flaw}")
}

/// Why a response is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum Unusable {
    /// None of its SVIDs is the selected one.
    #[error(transparent)]
    NotOffered(Flaw),
    #[error(transparent)]
    Flawed(#[from] Flaw),
}
