//! PEM (RFC 7468): the textual form in which TLS stacks read certificates and keys.

use std::io::{self, Write};

use crate::words::{Flaw, flaw};
use der::pem::{self, LineEnding};
use zeroize::Zeroizing;

/// The block types that the helper writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Label {
    /// X.509.
    Certificate,
    /// PKCS#8, unencrypted.
    PrivateKey,
    /// A certificate revocation list.
    RevocationList,
}

impl Label {
    const ALL: [Self; 3] = [Self::Certificate, Self::PrivateKey, Self::RevocationList];

    fn as_str(self) -> &'static str {
        match self {
            Self::Certificate => "CERTIFICATE",
            Self::PrivateKey => "PRIVATE KEY",
            Self::RevocationList => "X509 CRL",
        }
    }
}

/// Writes each of the DER blobs as a block, one behind the other. The encoder's time does not depend on
/// the bytes, and every copy of the text is wiped.
pub(crate) fn write<'a>(
    blocks: impl IntoIterator<Item = (Label, &'a [u8])>,
    out: &mut dyn Write,
) -> io::Result<()> {
    blocks.into_iter().try_for_each(|(label, der)| {
        let block = pem::encode_string(label.as_str(), LineEnding::LF, der).map_err(io::Error::other)?;
        out.write_all(Zeroizing::new(block).as_bytes())
    })
}

/// A block, decoded: its label and its DER, wiped from memory when dropped.
pub(crate) type Block = (Label, Zeroizing<Vec<u8>>);

/// Decodes what [`write`] writes: blocks of known labels, and nothing else.
pub(crate) fn decode(text: &[u8]) -> Result<Vec<Block>, Flaw> {
    let text = std::str::from_utf8(text).map_err(|_| not_pem(0))?;
    let mut blocks = Vec::new();
    let mut rest = text;
    while !rest.trim_start().is_empty() {
        let not_pem = || not_pem(blocks.len());
        // The closing line ends with the second "-----" behind "-----END".
        let end = rest.find("-----END ").ok_or_else(not_pem)?;
        let closing = end + "-----END ".len();
        let length = closing + rest[closing..].find("-----").ok_or_else(not_pem)? + "-----".len();
        let (block, after) = rest.split_at(length);
        let (label, der) = pem::decode_vec(block.trim_start().as_bytes()).map_err(|_| not_pem())?;
        let label = Label::ALL.into_iter().find(|known| known.as_str() == label).ok_or_else(not_pem)?;
        blocks.push((label, Zeroizing::new(der)));
        rest = after;
    }
    Ok(blocks)
}

/// `block` is counted from 0.
fn not_pem(block: usize) -> Flaw {
    flaw!(
        "block {block} is not the PEM of a certificate, of a revocation list or of an unencrypted PKCS#8 key"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode<'a>(blocks: impl IntoIterator<Item = (Label, &'a [u8])>) -> String {
        let mut text = Vec::new();
        write(blocks, &mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn what_was_encoded_is_decoded_in_order() {
        let blobs =
            [(Label::PrivateKey, &b"key"[..]), (Label::Certificate, b"leaf"), (Label::Certificate, b"ca")];
        let decoded = decode(encode(blobs).as_bytes()).unwrap();
        let decoded: Vec<_> = decoded.iter().map(|(label, der)| (*label, der.as_slice())).collect();
        assert_eq!(decoded, blobs);
    }

    #[test]
    fn what_is_not_pem_is_refused_with_the_number_of_the_block() {
        let good = encode([(Label::Certificate, &b"leaf"[..])]);
        for (text, block) in [
            ("text".to_owned(), 0),
            (good.clone() + "more", 1),
            (good.clone() + &good.replace("CERTIFICATE", "EC PRIVATE KEY"), 1),
            (good.replace("-----END", ""), 0),
        ] {
            assert_eq!(decode(text.as_bytes()), Err(not_pem(block)), "{text}");
        }
        assert_eq!(decode(b"\xff"), Err(not_pem(0)));
    }
}
