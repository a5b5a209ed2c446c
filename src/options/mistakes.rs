//! Names that are nearly those of options, and variables that are probably a mistake.

use super::sources::Sources;
use super::table::{TABLE, row};

/// The most that a mistyped name differs from the right one: letters left out, added, changed or swapped.
const MOST_TYPOS: usize = 2;
/// How many times as long as its end a name may be that is meant by its end.
const LONGEST_REST: usize = 3;
/// What is shorter or longer is no mistyped name.
const SHORTEST_NAME: usize = 3;
const LONGEST_NAME: usize = 64;

/// The name that is meant by a mistyped one, if that is plain: `svid-path` by `svidPath`, `svid-pth` or `path`.
pub(super) fn nearest(given: &str, names: impl Iterator<Item = String>) -> Option<String> {
    let letters = |name: &str| name.to_lowercase().replace(['-', '_'], "");
    let words = |name: &str| -> Vec<String> {
        name.to_lowercase().split(['-', '_']).filter(|word| !word.is_empty()).map(str::to_owned).collect()
    };
    let given_words = words(given);
    // "cert" is no mistyped "crl", however long the rest of the name is.
    let has_another_word = |name: &&String| {
        let words = words(name);
        let mut pairs = words.iter().zip(&given_words);
        words.len() == given_words.len()
            && pairs.any(|(word, given)| strsim::damerau_levenshtein(word, given) > 1.max(given.len() / 3))
    };
    let given = letters(given);
    if !(SHORTEST_NAME..=LONGEST_NAME).contains(&given.len()) {
        return None;
    }
    let names: Vec<_> = names.collect();
    let typos = |name: &&String| strsim::damerau_levenshtein(&given, &letters(name));
    let most = MOST_TYPOS.min(given.len() / 3);
    let mistyped =
        names.iter().filter(|name| typos(name) <= most && !has_another_word(name)).min_by_key(typos);
    // Two options that end so are no plain case, and a small part of a long name is none.
    let shortened = || {
        let mut longer = names.iter().filter(|name| letters(name).ends_with(&given));
        let only = longer.next().filter(|_| longer.next().is_none());
        only.filter(|name| letters(name).len() <= LONGEST_REST * given.len())
    };
    mistyped.or_else(shortened).cloned()
}

/// Warnings for the log: the identity may be chosen by a variable that is empty or mistyped, and then any
/// identity would be taken without a word.
pub(super) fn in_environment(sources: &Sources) -> Vec<String> {
    let chosen = [(&row::pod_spiffe_id, "SPIFFE ID"), (&row::hint, "hint")];
    let empty = chosen.into_iter().filter(|(row, _)| sources.is_empty_variable(row)).map(|(row, what)| {
        format!(
            "{} is set but empty, so an SVID with any {what} is used; give it a value, or remove it",
            row.variable()
        )
    });
    let is_own = |name: &str| TABLE.iter().any(|row| row.variable() == name);
    let mistyped = sources.set_variables().filter_map(|name| {
        let given = name.to_uppercase().strip_prefix("HELPER_")?.to_owned();
        if is_own(name) {
            return None;
        }
        let nearest = nearest(&given, TABLE.iter().map(|row| row.name()))?;
        let row = TABLE.iter().find(|row| row.name() == nearest)?;
        Some(format!("ignored the variable {name}: no option has it; did you mean {}?", row.variable()))
    });
    empty.chain(mistyped).collect()
}
