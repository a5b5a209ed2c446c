//! The choice of one SVID among several, by SPIFFE ID and hint.

use std::fmt;

use super::raw::{Offered, shortened};
use super::spiffe_id::SpiffeId;
use crate::words::{Flaw, flaw};

/// The properties of the SVID to use; `None` matches any.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Selection {
    /// Its SPIFFE ID.
    pub(crate) id: Option<SpiffeId>,
    /// Its hint.
    pub(crate) hint: Option<String>,
}

impl Selection {
    /// The first SVID that matches, and its index. Without ID and hint, that is the default identity
    /// (SPIFFE Workload API standard, section 8). If two have the same hint, the first counts (sections
    /// 5.2.1, 6.2.1 and 7.2.1).
    pub(crate) fn pick<T>(&self, mut offered: Vec<Offered<T>>) -> Result<(usize, Offered<T>), Flaw> {
        let matches = |svid: &Offered<T>| {
            self.id.as_ref().is_none_or(|id| svid.spiffe_id == id.as_str())
                && self.hint.as_ref().is_none_or(|hint| svid.hint == *hint)
        };
        let Some(index) = offered.iter().position(matches) else {
            return Err(not_offered(self, &offered));
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

/// The most SVIDs that a message names.
const NAMED: usize = 10;

/// The agent does not offer the selected SVID.
fn not_offered<T>(selection: &Selection, offered: &[Offered<T>]) -> Flaw {
    let named = offered.iter().take(NAMED).map(|svid| {
        let (id, hint) = (shortened(&svid.spiffe_id), shortened(&svid.hint));
        let id = id.escape_debug();
        match (hint.as_str(), &selection.hint) {
            ("", None) => id.to_string(),
            ("", Some(_)) => format!("{id} (no hint)"),
            (hint, _) => format!("{id} (hint {hint:?})"),
        }
    });
    let named = named.collect::<Vec<_>>().join(", ");
    let more = match offered.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    flaw!("the agent does not offer {selection}, only {named}{more}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_ten_svids_and_counts_the_others() {
        let svid = |number| Offered {
            spiffe_id: format!("spiffe://example.org/{number}\n"),
            hint: String::new(),
            fields: (),
        };
        let offered: Vec<_> = (1..=12).map(svid).collect();
        let text = not_offered(&Selection::default(), &offered).to_string();
        assert!(
            text.starts_with("the agent does not offer any SVID, only spiffe://example.org/1\\n, "),
            "{text}"
        );
        assert!(text.ends_with(", spiffe://example.org/10\\n and 2 more"), "{text}");
    }
}
