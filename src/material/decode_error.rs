//! Why published files are not good.

use thiserror::Error;

use crate::store::StoreError;
use crate::words::Flaw;

pub(super) const NOT_ONE_KEY: &str = "it does not hold one private key and nothing else";

/// What is wrong with a published set.
#[derive(Debug, Clone, Error)]
pub(crate) enum DecodeError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Contents(#[from] Flaw),
}

impl DecodeError {
    /// Whether a name does not lead into the published set.
    pub(crate) fn leads_elsewhere(&self) -> bool {
        matches!(self, Self::Store(StoreError::NotOfTheSet { .. }))
    }
}

/// Adds the name of the file.
pub(super) fn in_file(name: &str) -> impl Fn(Flaw) -> DecodeError {
    move |flaw| flaw.within(name).into()
}

/// The text in a file.
pub(super) fn text<'a>(name: &str, contents: &'a [u8]) -> Result<&'a str, DecodeError> {
    std::str::from_utf8(contents).map_err(|_| in_file(name)(Flaw::new("it is not text")))
}
