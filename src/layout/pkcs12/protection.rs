//! How PKCS#12 is protected by a password: encryption by PBES2 (RFC 8018) and the MAC of RFC 7292.

use std::io::{self, Write};
use std::iter;

use aes::Aes256;
use cbc::cipher::array::Array;
use cbc::cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit};
use der::asn1::{AnyRef, OctetStringRef};
use hmac::{Hmac, KeyInit, Mac};
use pkcs8::spki::{AlgorithmIdentifier, AlgorithmIdentifierRef};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::asn1::{self, DigestInfo, MacData, Pbes2, Pbes2Parameters, Pbkdf2Parameters};
use super::password::Password;
use crate::words::{Flaw, flaw};

pub(super) const WRONG_PASSWORD: &str = "the password is wrong, or the file is damaged";
pub(super) const OTHER_MAC: &str = "its MAC does not use SHA-256";

/// How often each key derivation of a written file is repeated.
///
/// Iterations slow down a search for the password. This one protects nothing that the file mode does
/// not protect, and it is `changeit` mostly. Java and OpenSSL read 1; NIST SP 800-132 and OpenSSL's
/// FIPS provider ask for 1,000 at least, with a salt of 16 bytes. Measured for a key store and a
/// trust store: 0.03 ms with 1, 0.9 ms with 1,000, 1.9 ms with OpenSSL's 2,048, 9 ms with Java's
/// 10,000. An init without them takes 4 ms.
pub(super) const ITERATIONS: u32 = 1_000;
/// The largest number that is accepted from a file: 0.03 s for each key derivation.
const MAX_ITERATIONS: u32 = 100_000;
/// The block size of AES, in bytes.
const BLOCK: usize = 16;
/// As many bytes are encrypted at once; whole blocks.
const PIECE: usize = 16 << 10;
/// The length of salts and initialization vectors, in bytes. Java refuses a salt of less than 8.
const SALT_LENGTH: usize = 16;

type Key = Zeroizing<[u8; 32]>;
/// A salt, or an initialization vector.
pub(super) type Salt = [u8; SALT_LENGTH];

/// Salts that are a function of the contents, so that the same contents are the same bytes.
///
/// A salt need not be random; it must differ from file to file. An initialization vector must be
/// unpredictable before the plaintext is fixed. A pseudorandom function of the whole contents, keyed
/// by the private key, gives both (RFC 5297 encrypts and RFC 6979 signs in this way). A trust store
/// has no key, and no secret either. The password is left out: a salt would publish a hash of it
/// without iterations.
pub(super) struct Salts(Hmac<Sha256>);

impl Salts {
    pub(super) fn new<'a>(key: &[u8], certificates: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut hmac = hmac(&Zeroizing::new(Sha256::digest(key).into()));
        for certificate in certificates {
            // DER says where it ends.
            hmac.update(certificate);
        }
        Self(hmac)
    }

    /// One for each purpose.
    pub(super) fn salt(&self, purpose: &str) -> Salt {
        let hash = self.0.clone().chain_update(purpose).finalize().into_bytes();
        std::array::from_fn(|index| hash[index])
    }
}

/// Encrypts what is written to it, and passes it on; its end is [`finish`](Self::finish).
pub(super) struct Encrypted<'a> {
    encryptor: cbc::Encryptor<Aes256>,
    /// Not yet encrypted.
    piece: Zeroizing<Vec<u8>>,
    out: &'a mut dyn Write,
}

impl<'a> Encrypted<'a> {
    pub(super) fn new(password: &Password, salt: &Salt, iv: &Salt, out: &'a mut dyn Write) -> Self {
        let key = encryption_key(password, salt, ITERATIONS);
        let encryptor = cbc::Encryptor::new((&*key).into(), iv.into());
        Self { encryptor, piece: Zeroizing::new(Vec::with_capacity(PIECE)), out }
    }

    /// Passes on the rest.
    pub(super) fn finish(mut self) -> io::Result<()> {
        // RFC 8018, section 6.1.1: 1 to 16 bytes, each of which is their number.
        let padding = encrypted_length(self.piece.len()) - self.piece.len();
        self.piece.extend(iter::repeat_n(padding as u8, padding));
        self.pass_on()
    }

    fn pass_on(&mut self) -> io::Result<()> {
        let (blocks, _) = Array::slice_as_chunks_mut(&mut self.piece);
        self.encryptor.encrypt_blocks(blocks);
        self.out.write_all(&self.piece)?;
        self.piece.clear();
        Ok(())
    }
}

impl Write for Encrypted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PIECE - self.piece.len());
        self.piece.extend_from_slice(&bytes[..taken]);
        if self.piece.len() == PIECE {
            self.pass_on()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How long so many bytes are when they are encrypted.
pub(super) fn encrypted_length(plaintext: usize) -> usize {
    (plaintext + 1).next_multiple_of(BLOCK)
}

/// Computes the MAC of what is written to it (RFC 7292, section 5.1), and passes it on.
pub(super) struct Authenticated<'a> {
    mac: Hmac<Sha256>,
    out: &'a mut dyn Write,
}

impl<'a> Authenticated<'a> {
    pub(super) fn new(password: &Password, salt: &Salt, out: &'a mut dyn Write) -> Self {
        Self { mac: hmac(&mac_key(password, salt, ITERATIONS)), out }
    }

    pub(super) fn finish(self) -> [u8; 32] {
        self.mac.finalize().into_bytes().into()
    }
}

impl Write for Authenticated<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write_all(bytes)?;
        self.mac.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reverses [`Encrypted`].
pub(super) fn decrypt(
    algorithm: &Pbes2<'_>,
    ciphertext: &[u8],
    password: &Password,
) -> Result<Zeroizing<Vec<u8>>, Flaw> {
    let (salt, iterations, iv) = pbes2_parameters(algorithm)
        .ok_or_else(|| flaw!("its encryption is not PBES2 with PBKDF2, HMAC-SHA-256 and AES-256-CBC"))?;
    let key = encryption_key(password, salt, accepted(iterations)?);
    let mut plaintext = Zeroizing::new(ciphertext.to_vec());
    let (blocks, rest) = Array::slice_as_chunks_mut(&mut plaintext);
    if !rest.is_empty() {
        return Err(Flaw::new(WRONG_PASSWORD));
    }
    cbc::Decryptor::<Aes256>::new((&*key).into(), (&iv).into()).decrypt_blocks(blocks);
    // Not a padding oracle: the MAC was right before.
    let padding = plaintext.last().map_or(0, |last| usize::from(*last));
    if !(1..=BLOCK).contains(&padding) || !plaintext.ends_with(&vec![padding as u8; padding]) {
        return Err(Flaw::new(WRONG_PASSWORD));
    }
    let length = plaintext.len() - padding;
    plaintext.truncate(length);
    Ok(plaintext)
}

/// The algorithm of [`Encrypted`], for the reader of the file.
pub(super) fn pbes2<'a>(salt: &'a Salt, iv: &'a Salt) -> der::Result<Pbes2<'a>> {
    let derivation = Pbkdf2Parameters {
        salt: OctetStringRef::new(salt)?,
        iterations: ITERATIONS,
        key_length: None,
        prf: AlgorithmIdentifierRef { oid: asn1::HMAC_WITH_SHA256, parameters: Some(AnyRef::NULL) },
    };
    let key_derivation = AlgorithmIdentifier { oid: asn1::PBKDF2, parameters: Some(derivation) };
    let encryption =
        AlgorithmIdentifier { oid: asn1::AES_256_CBC, parameters: Some(OctetStringRef::new(iv)?) };
    Ok(Pbes2 { oid: asn1::PBES2, parameters: Some(Pbes2Parameters { key_derivation, encryption }) })
}

/// Salt, iterations and initialization vector, if the algorithm is the one of [`Encrypted`].
fn pbes2_parameters<'a>(algorithm: &Pbes2<'a>) -> Option<(&'a [u8], u32, Salt)> {
    let Pbes2Parameters { key_derivation, encryption } = algorithm.parameters.as_ref()?;
    let derivation = key_derivation.parameters.as_ref()?;
    let known = algorithm.oid == asn1::PBES2
        && key_derivation.oid == asn1::PBKDF2
        && is(&derivation.prf, asn1::HMAC_WITH_SHA256)
        && derivation.key_length.is_none_or(|length| length == 32)
        && encryption.oid == asn1::AES_256_CBC;
    let iv = encryption.parameters?.as_bytes().try_into().ok()?;
    known.then_some((derivation.salt.as_bytes(), derivation.iterations, iv))
}

fn encryption_key(password: &Password, salt: &[u8], iterations: u32) -> Key {
    let mut key = Key::default();
    pbkdf2::pbkdf2_hmac::<Sha256>(password.as_bytes(), salt, iterations, &mut *key);
    key
}

/// A MAC of [`Authenticated`], in its structure.
pub(super) fn mac_data<'a>(digest: &'a [u8], salt: &'a Salt) -> der::Result<MacData<'a>> {
    let algorithm = AlgorithmIdentifierRef { oid: asn1::SHA256, parameters: Some(AnyRef::NULL) };
    let mac = DigestInfo { algorithm, digest: OctetStringRef::new(digest)? };
    Ok(MacData { mac, salt: OctetStringRef::new(salt)?, iterations: ITERATIONS })
}

/// Checks the MAC of `content`.
pub(super) fn verify(mac: &MacData<'_>, content: &[u8], password: &Password) -> Result<(), Flaw> {
    if !is(&mac.mac.algorithm, asn1::SHA256) {
        return Err(Flaw::new(OTHER_MAC));
    }
    let key = mac_key(password, mac.salt.as_bytes(), accepted(mac.iterations)?);
    let computed = hmac(&key).chain_update(content);
    computed.verify_slice(mac.mac.digest.as_bytes()).map_err(|_| Flaw::new(WRONG_PASSWORD))
}

/// RFC 7292, appendix B.2, for an output of one SHA-256 hash: its loop then runs once.
fn mac_key(password: &Password, salt: &[u8], iterations: u32) -> Key {
    /// Says that the key is for a MAC (appendix B.3).
    const DIVERSIFIER: [u8; 64] = [3; 64];
    /// Repeats `bytes`, up to a multiple of the hash's block size.
    fn fill(bytes: &[u8]) -> impl Iterator<Item = u8> {
        bytes.iter().copied().cycle().take(bytes.len().next_multiple_of(64))
    }
    let password = password.to_bmp_string();
    let input: Zeroizing<Vec<u8>> = Zeroizing::new(fill(salt).chain(fill(&password)).collect());
    let mut hash: Key =
        Zeroizing::new(Sha256::new().chain_update(DIVERSIFIER).chain_update(&*input).finalize().into());
    for _ in 1..iterations {
        *hash = Sha256::digest(*hash).into();
    }
    hash
}

fn hmac(key: &Key) -> Hmac<Sha256> {
    let mut block = Zeroizing::new([0; 64]);
    // HMAC fills a short key up with zeros.
    block[..key.len()].copy_from_slice(&**key);
    Hmac::new((&*block).into())
}

fn accepted(iterations: u32) -> Result<u32, Flaw> {
    match iterations {
        1..=MAX_ITERATIONS => Ok(iterations),
        _ => {
            Err(flaw!("its key derivation has {iterations} iterations (1 to {MAX_ITERATIONS} are accepted)"))
        }
    }
}

/// Whether the algorithm is this one, which has no parameters.
fn is(algorithm: &AlgorithmIdentifierRef<'_>, oid: der::oid::ObjectIdentifier) -> bool {
    algorithm.oid == oid && algorithm.parameters.is_none_or(|parameters| parameters.is_null())
}
