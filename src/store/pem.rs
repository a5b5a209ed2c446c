//! PEM (RFC 7468): the textual form in which TLS stacks read certificates and keys.

use der::pem::{self, LineEnding};
use thiserror::Error;
use zeroize::Zeroizing;

/// The block types that the helper writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Label {
    /// X.509.
    Certificate,
    /// PKCS#8, unencrypted.
    PrivateKey,
    /// A certificate revocation list.
    Crl,
}

impl Label {
    const ALL: [Self; 3] = [Self::Certificate, Self::PrivateKey, Self::Crl];

    fn as_str(self) -> &'static str {
        match self {
            Self::Certificate => "CERTIFICATE",
            Self::PrivateKey => "PRIVATE KEY",
            Self::Crl => "X509 CRL",
        }
    }
}

/// Encodes each of the DER blobs as a block, one behind the other. The encoder's time does not
/// depend on the bytes, and every copy of the text is wiped when dropped.
pub fn encode<'a>(
    blocks: impl IntoIterator<Item = (Label, &'a [u8])>,
) -> Result<Zeroizing<Vec<u8>>, pem::Error> {
    let block = |(label, der): (Label, &[u8])| {
        pem::encode_string(label.as_str(), LineEnding::LF, der).map(Zeroizing::new)
    };
    let blocks = blocks.into_iter().map(block).collect::<Result<Vec<_>, _>>()?;
    // Sized once: a buffer that grows leaves copies of a key behind.
    let mut text = Zeroizing::new(Vec::with_capacity(blocks.iter().map(|block| block.len()).sum()));
    for block in blocks {
        text.extend_from_slice(block.as_bytes());
    }
    Ok(text)
}

/// A block, decoded: its label and its DER, wiped from memory when dropped.
pub type Block = (Label, Zeroizing<Vec<u8>>);

/// Decodes what [`encode`] writes: blocks of known labels, and nothing else.
pub fn decode(text: &[u8]) -> Result<Vec<Block>, NotPem> {
    let text = std::str::from_utf8(text).map_err(|_| NotPem { block: 0 })?;
    let mut blocks = Vec::new();
    let mut rest = text;
    while !rest.trim_start().is_empty() {
        let not_pem = || NotPem { block: blocks.len() };
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

/// The text is not a series of PEM blocks of the labels that the helper writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("block {block} is no PEM of a certificate, an unencrypted PKCS#8 key or a revocation list")]
pub struct NotPem {
    /// Counted from 0.
    pub block: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_encoded_is_decoded_in_order() {
        let blobs = [(Label::PrivateKey, &b"key"[..]), (Label::Certificate, b"leaf"), (Label::Crl, b"list")];
        let decoded = decode(&encode(blobs).unwrap()).unwrap();
        let decoded: Vec<_> = decoded.iter().map(|(label, der)| (*label, der.as_slice())).collect();
        assert_eq!(decoded, blobs);
    }

    #[test]
    fn what_is_not_pem_is_refused_with_the_number_of_the_block() {
        let good = String::from_utf8(encode([(Label::Certificate, &b"leaf"[..])]).unwrap().to_vec()).unwrap();
        for (text, block) in [
            ("text".to_owned(), 0),
            (good.clone() + "more", 1),
            (good.clone() + &good.replace("CERTIFICATE", "EC PRIVATE KEY"), 1),
            (good.replace("-----END", ""), 0),
        ] {
            assert_eq!(decode(text.as_bytes()), Err(NotPem { block }), "{text}");
        }
        assert_eq!(decode(b"\xff"), Err(NotPem { block: 0 }));
    }
}
