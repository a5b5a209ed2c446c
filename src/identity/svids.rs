//! The SVIDs of one response: the fields that each must have, and the choice of one.

use std::fmt::Display;

use thiserror::Error;

use super::limits::MAX_SVIDS;
use super::raw::{Offered, shortened};
use super::selection::Selection;
use super::spiffe_id::SpiffeId;
use crate::words::{Flaw, flaw};

/// Checks that there are SVIDs and that each has its mandatory fields: `mandatory` names them, and says which are
/// empty.
pub(super) fn check_fields<T, F: Display, const N: usize>(
    raw: &[Offered<T>],
    mandatory: impl Fn(&str, &T) -> [(F, bool); N],
) -> Result<(), Flaw> {
    if raw.is_empty() {
        return Err(flaw!("svids: {EMPTY}"));
    }
    if raw.len() > MAX_SVIDS {
        return Err(flaw!("svids: there are {} (at most {MAX_SVIDS} are accepted)", raw.len()));
    }
    for (index, Offered { spiffe_id, fields, .. }) in raw.iter().enumerate() {
        if let Some((field, _)) = mandatory(spiffe_id, fields).into_iter().find(|(_, is_empty)| *is_empty) {
            return Err(in_svid(index, spiffe_id)(flaw!("{field}: {EMPTY}")));
        }
    }
    Ok(())
}

/// Checks the selected SVID in full, and no other: none holds it up.
pub(super) fn select<T, S>(
    raw: Vec<Offered<T>>,
    selection: &Selection,
    parse: impl FnOnce(&str, T) -> Result<S, Flaw>,
) -> Result<S, Unusable> {
    let (index, Offered { spiffe_id, fields, .. }) = selection.pick(raw).map_err(Unusable::NotOffered)?;
    Ok(parse(&spiffe_id, fields).map_err(in_svid(index, &spiffe_id))?)
}

/// One SVID, good or not.
pub(crate) type Inspected<S> = Offered<Result<S, Flaw>>;

/// Checks each SVID on its own.
pub(super) fn inspect<T, S>(
    raw: Vec<Offered<T>>,
    parse: impl Fn(&str, T) -> Result<S, Flaw>,
) -> Vec<Inspected<S>> {
    let inspect = |Offered { spiffe_id, hint, fields }| {
        let fields = parse(&spiffe_id, fields);
        Offered { spiffe_id, hint, fields }
    };
    raw.into_iter().map(inspect).collect()
}

/// Parses the identity of an SVID.
pub(super) fn parse_id(text: &str) -> Result<SpiffeId, Flaw> {
    let id = text.parse().map_err(|flaw: Flaw| flaw.within("not a SPIFFE ID"));
    id.and_then(SpiffeId::must_name_workload)
}

/// What is wrong with a mandatory field.
pub(super) const EMPTY: &str = "the mandatory field is empty";

/// Adds which SVID of the response it is.
fn in_svid(index: usize, id: &str) -> impl FnOnce(Flaw) -> Flaw {
    move |flaw| flaw!("svids[{index}] ({:?}) {flaw}", shortened(id))
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
