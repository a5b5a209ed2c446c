//! The choice of one SVID among several, by SPIFFE ID and hint.

use std::fmt;

use super::raw::{RawJwtSvid, RawWitSvid, RawX509Svid, shortened};
use super::spiffe_id::SpiffeId;

/// The properties of the SVID to use; `None` matches any.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Selection {
    /// Its SPIFFE ID.
    pub(crate) id: Option<SpiffeId>,
    /// Its hint.
    pub(crate) hint: Option<String>,
}

/// An SVID among others, not checked yet.
pub(crate) trait Candidate {
    /// Its SPIFFE ID, as it came.
    fn id(&self) -> &str;
    /// Its hint, as it came; may be empty.
    fn hint(&self) -> &str;
}

impl Candidate for RawX509Svid {
    fn id(&self) -> &str {
        &self.spiffe_id
    }

    fn hint(&self) -> &str {
        &self.hint
    }
}

impl Candidate for RawJwtSvid {
    fn id(&self) -> &str {
        &self.spiffe_id
    }

    fn hint(&self) -> &str {
        &self.hint
    }
}

impl Candidate for RawWitSvid {
    fn id(&self) -> &str {
        &self.spiffe_id
    }

    fn hint(&self) -> &str {
        &self.hint
    }
}

impl Selection {
    /// The first SVID that matches, and its index. Without ID and hint, that is the default identity
    /// (SPIFFE Workload API standard, section 8). If two have the same hint, the first counts (sections
    /// 5.2.1, 6.2.1 and 7.2.1).
    pub(crate) fn pick<T: Candidate>(&self, mut offered: Vec<T>) -> Result<(usize, T), NotOfferedError> {
        let matches = |svid: &T| {
            self.id.as_ref().is_none_or(|id| svid.id() == id.as_str())
                && self.hint.as_ref().is_none_or(|hint| svid.hint() == hint)
        };
        let Some(index) = offered.iter().position(matches) else {
            return Err(NotOfferedError::new(self, &offered));
        };
        Ok((index, offered.swap_remove(index)))
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

/// The agent does not offer the selected SVID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NotOfferedError {
    selection: Selection,
    /// ID and hint of the first [`NAMED`].
    offered: Vec<(String, String)>,
    /// The number of the others.
    more: usize,
}

/// The most SVIDs that a message names.
const NAMED: usize = 10;

impl NotOfferedError {
    fn new(selection: &Selection, offered: &[impl Candidate]) -> Self {
        let named = offered.iter().take(NAMED);
        Self {
            selection: selection.clone(),
            offered: named.map(|svid| (shortened(svid.id()), shortened(svid.hint()))).collect(),
            more: offered.len().saturating_sub(NAMED),
        }
    }
}

impl std::error::Error for NotOfferedError {}

impl fmt::Display for NotOfferedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the agent does not offer {}, only ", self.selection)?;
        for (index, (id, hint)) in self.offered.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{}", id.escape_debug())?;
            match (hint.as_str(), &self.selection.hint) {
                ("", None) => {}
                ("", Some(_)) => f.write_str(" (no hint)")?,
                (hint, _) => write!(f, " (hint {hint:?})")?,
            }
        }
        if self.more > 0 { write!(f, " and {} more", self.more) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_ten_svids_and_counts_the_others() {
        let svid = |number| RawJwtSvid {
            spiffe_id: format!("spiffe://example.org/{number}\n"),
            hint: String::new(),
            token: Default::default(),
        };
        let offered: Vec<_> = (1..=12).map(svid).collect();
        let text = NotOfferedError::new(&Selection::default(), &offered).to_string();
        assert!(
            text.starts_with("the agent does not offer any SVID, only spiffe://example.org/1\\n, "),
            "{text}"
        );
        assert!(text.ends_with(", spiffe://example.org/10\\n and 2 more"), "{text}");
    }
}
