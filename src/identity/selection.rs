//! Which of several SVIDs is wanted.

use std::fmt;

use super::spiffe_id::SpiffeId;

/// What the wanted SVID must have; what is `None` does not matter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// This very ID.
    pub id: Option<SpiffeId>,
    /// This very hint.
    pub hint: Option<String>,
}

/// An SVID among others.
pub trait Candidate {
    /// The identity it proves.
    fn id(&self) -> &SpiffeId;
    /// What the operator means it for; may be empty.
    fn hint(&self) -> &str;
}

impl Selection {
    /// The first SVID that has all that is wanted. When nothing is, it is the default identity
    /// (SPIFFE Workload API standard, sections 5.3 and 6.2.1); of two with one hint, the first
    /// counts (section 5.2.1).
    pub fn pick<T: Candidate>(&self, mut offered: Vec<T>) -> Result<T, NotOffered> {
        let fits = |svid: &T| {
            self.id.as_ref().is_none_or(|id| svid.id() == id)
                && self.hint.as_ref().is_none_or(|hint| svid.hint() == hint)
        };
        match offered.iter().position(fits) {
            Some(index) => Ok(offered.swap_remove(index)),
            None => Err(NotOffered {
                wanted: self.clone(),
                offered: offered.iter().map(|svid| (svid.id().clone(), svid.hint().to_owned())).collect(),
            }),
        }
    }
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.id, &self.hint) {
            (None, None) => f.write_str("any SVID"),
            (Some(id), None) => write!(f, "{id}"),
            (None, Some(hint)) => write!(f, "an SVID with the hint {hint:?}"),
            (Some(id), Some(hint)) => write!(f, "{id} with the hint {hint:?}"),
        }
    }
}

/// The wanted SVID is not among those offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotOffered {
    wanted: Selection,
    offered: Vec<(SpiffeId, String)>,
}

impl std::error::Error for NotOffered {}

impl fmt::Display for NotOffered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let describe = |(id, hint): &(SpiffeId, String)| match (hint.as_str(), &self.wanted.hint) {
            ("", None) => id.to_string(),
            ("", Some(_)) => format!("{id} (no hint)"),
            (hint, _) => format!("{id} (hint {hint:?})"),
        };
        let offered: Vec<_> = self.offered.iter().map(describe).collect();
        write!(f, "the agent does not offer {}, only {}", self.wanted, offered.join(", "))
    }
}
