//! What a publication changes: the kinds of it, each with its word.

use std::collections::btree_set::{self, BTreeSet};
use std::fmt;
use std::str::FromStr;

use crate::words::{Flaw, words};

words! {
    /// What a publication can change. They are named in this order.
    ChangeKind {
        Svid = "svid",
        Bundle = "bundle",
        Token = "token",
        Keys = "keys",
        Wit = "wit",
        Crl = "crl",
    }
}

/// A set of kinds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ChangeKinds(BTreeSet<ChangeKind>);

impl ChangeKinds {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The kinds that are in both sets.
    pub(crate) fn common(&self, other: &Self) -> Self {
        Self(&self.0 & &other.0)
    }

    /// Adds the other's kinds.
    pub(crate) fn add(&mut self, other: Self) {
        self.0.extend(other.0);
    }
}

impl FromIterator<ChangeKind> for ChangeKinds {
    fn from_iter<I: IntoIterator<Item = ChangeKind>>(kinds: I) -> Self {
        // `collect` would sort them, with 8 KiB of code of its own.
        let mut all = BTreeSet::new();
        all.extend(kinds);
        Self(all)
    }
}

impl IntoIterator for ChangeKinds {
    type Item = ChangeKind;
    type IntoIter = btree_set::IntoIter<ChangeKind>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl FromStr for ChangeKinds {
    type Err = Flaw;

    /// Reads words with commas between them.
    fn from_str(text: &str) -> Result<Self, Flaw> {
        text.split(',').map(|word| word.trim().parse::<ChangeKind>()).collect()
    }
}

impl fmt::Display for ChangeKinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<_> = self.0.iter().map(ChangeKind::to_string).collect();
        f.write_str(&words.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_read_in_any_order_and_written_in_one() {
        for (text, written) in [
            ("svid", "svid"),
            ("keys, TOKEN,svid", "svid,token,keys"),
            ("token,bundle,svid,keys,svid", "svid,bundle,token,keys"),
        ] {
            assert_eq!(text.parse::<ChangeKinds>().map(|kinds| kinds.to_string()), Ok(written.to_owned()));
        }
        for text in ["", ",", "svid,", "svids", "svid;bundle"] {
            assert_eq!(text.parse::<ChangeKinds>(), Err(Flaw::obvious()), "{text:?}");
        }
    }
}
