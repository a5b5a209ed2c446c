//! PKCS#12 (RFC 7292): the form in which a JVM (8u301 and later), .NET and OpenSSL 3 read a key with
//! its certificates, and trusted certificates.
//!
//! A file is a function of its contents and the password: an unchanged update is the same bytes, as with
//! PEM.

mod asn1;
mod envelope;
#[cfg(test)]
mod interoperability;
mod password;
mod protection;
mod read;
#[cfg(test)]
mod tests;
mod write;

pub(crate) use password::{KeystorePassword, Password};
pub(crate) use read::{Contents, read};
pub(crate) use write::{Alias, key_store, trust_store};
