//! The SVIDs of one response that holds tokens: the fields that each must have, and the choice of one.

use thiserror::Error;

use super::limits::MAX_SVIDS;
use super::raw::shortened;
use super::selection::{Candidate, NotOfferedError, Selection};

/// Checks that there are SVIDs and that each has its mandatory fields: `fields` names them, and says which are
/// empty.
pub(super) fn check_fields<T, E, const N: usize>(
    raw: &[T],
    fields: impl Fn(&T) -> [(&'static str, bool); N],
) -> Result<(), SvidsError<E>> {
    if raw.is_empty() {
        return Err(SvidsError::NoSvids);
    }
    if raw.len() > MAX_SVIDS {
        return Err(SvidsError::TooManySvids(raw.len()));
    }
    for (index, svid) in raw.iter().enumerate() {
        if let Some((field, _)) = fields(svid).into_iter().find(|(_, is_empty)| *is_empty) {
            return Err(SvidsError::Empty { index, field });
        }
    }
    Ok(())
}

/// Checks the selected SVID in full, and no other: none holds it up.
pub(super) fn select<T: Candidate, S, E>(
    raw: Vec<T>,
    selection: &Selection,
    parse: impl FnOnce(T) -> Result<S, E>,
) -> Result<S, SvidsError<E>> {
    let (index, svid) = selection.pick(raw)?;
    let id = shortened(svid.id());
    parse(svid).map_err(|error| SvidsError::Svid { index, id, error })
}

/// Why a response is refused; `E` is why its selected SVID is.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum SvidsError<E> {
    #[error("svids: the mandatory field is empty")]
    NoSvids,
    #[error("svids: there are {0} (at most {MAX_SVIDS} are accepted)")]
    TooManySvids(usize),
    #[error("svids[{index}] {field}: the mandatory field is empty")]
    Empty { index: usize, field: &'static str },
    #[error("svids[{index}] ({id:?}) {error}")]
    Svid { index: usize, id: String, error: E },
    #[error(transparent)]
    NotOffered(#[from] NotOfferedError),
}
