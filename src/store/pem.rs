//! PEM (RFC 7468): the textual form in which TLS stacks read certificates and keys.

use der::pem::{self, LineEnding};
use zeroize::Zeroizing;

/// The block types that the helper writes.
#[derive(Debug, Clone, Copy)]
pub enum Label {
    /// X.509.
    Certificate,
    /// PKCS#8, unencrypted.
    PrivateKey,
}

impl Label {
    fn as_str(self) -> &'static str {
        match self {
            Self::Certificate => "CERTIFICATE",
            Self::PrivateKey => "PRIVATE KEY",
        }
    }
}

/// Encodes each of the DER blobs as a block, one behind the other. The encoder's time does not
/// depend on the bytes, and every copy of the text is wiped when dropped.
pub fn encode<'a>(
    label: Label,
    ders: impl IntoIterator<Item = &'a [u8]>,
) -> Result<Zeroizing<Vec<u8>>, pem::Error> {
    let block = |der| pem::encode_string(label.as_str(), LineEnding::LF, der).map(Zeroizing::new);
    let blocks = ders.into_iter().map(block).collect::<Result<Vec<_>, _>>()?;
    // Sized once: a buffer that grows leaves copies of a key behind.
    let mut text = Zeroizing::new(Vec::with_capacity(blocks.iter().map(|block| block.len()).sum()));
    for block in blocks {
        text.extend_from_slice(block.as_bytes());
    }
    Ok(text)
}
