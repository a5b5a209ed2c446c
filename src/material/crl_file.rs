//! The revocation lists in a file: read back from PEM.

use std::io::{self, Read};
use std::path::Path;

use crate::identity::crl::RevocationLists;
use crate::layout::pem::{self, Label};
use crate::regular_file;
use crate::words::{Flaw, flaw};

/// The longest file that is read: three times the longest response of an agent.
const MAX_SIZE: u64 = 24 << 20;

/// The lists in a file: one at least, and nothing else.
pub(super) fn parse(text: &[u8]) -> Result<RevocationLists, Flaw> {
    let blocks = pem::decode(text)?;
    if blocks.is_empty() || blocks.iter().any(|(label, _)| *label != Label::RevocationList) {
        return Err(flaw!("it does not hold certificate revocation lists and nothing else"));
    }
    let (lists, flaws) = RevocationLists::parse(blocks.iter().map(|(_, der)| der.to_vec()).collect());
    if flaws.is_empty() { Ok(lists) } else { Err(Flaw::new(flaws.join("; "))) }
}

/// The lists that an earlier process has left; none if there is no file.
pub(super) fn left_by_earlier_process(path: &Path) -> Result<RevocationLists, String> {
    let file = match regular_file::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(RevocationLists::default()),
        opened => opened.map_err(|error| error.to_string())?,
    };
    let mut text = Vec::new();
    let file = file.ok_or("it is not a regular file")?;
    file.take(MAX_SIZE).read_to_end(&mut text).map_err(|error| error.to_string())?;
    parse(&text).map_err(|error| error.to_string())
}
