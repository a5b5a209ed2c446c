//! What is wrong with the contents of a published file.

use crate::store::StoreError;
use crate::words::Flaw;

pub(super) const NOT_ONE_KEY: &str = "it does not hold one private key and nothing else";

/// Adds the name of the file.
pub(super) fn in_file(name: &str) -> impl Fn(Flaw) -> StoreError {
    move |flaw| flaw.within(name).into()
}

/// The text in a file.
pub(super) fn text<'a>(name: &str, contents: &'a [u8]) -> Result<&'a str, StoreError> {
    std::str::from_utf8(contents).map_err(|_| in_file(name)(Flaw::new("it is not text")))
}
