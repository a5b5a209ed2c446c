//! Mutual TLS with the helper's files: the chain and the key of an SVID, and the trust bundle.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{ClientConfig, DigitallySignedStruct as Signed, RootCertStore, ServerConfig, SignatureScheme};
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use crate::{ID, Outcome};

/// The files of one set.
pub struct Files {
    pub chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    bundle: RootCertStore,
}

impl Files {
    pub fn read(volume: &Path) -> Outcome<Self> {
        // A rotation may remove the set that is being read: the new one is there by then.
        Self::read_set(volume).or_else(|_| Self::read_set(volume))
    }

    fn read_set(volume: &Path) -> Outcome<Self> {
        let set = volume.join("..data").canonicalize()?;
        let mut bundle = RootCertStore::empty();
        for ca in CertificateDer::pem_file_iter(set.join("bundle.pem"))? {
            bundle.add(ca?)?;
        }
        let chain = CertificateDer::pem_file_iter(set.join("svid.pem"))?.collect::<Result<_, _>>()?;
        Ok(Self { chain, key: PrivateKeyDer::from_pem_file(set.join("svid-key.pem"))?, bundle })
    }

    /// A server that verifies its clients' chains; it is to look at their SPIFFE IDs as well.
    pub fn server(self) -> Outcome<Arc<ServerConfig>> {
        let verifier = WebPkiClientVerifier::builder(self.bundle.into()).build()?;
        let config = ServerConfig::builder().with_client_cert_verifier(verifier);
        Ok(config.with_single_cert(self.chain, self.key)?.into())
    }

    pub fn client(self) -> Outcome<Arc<ClientConfig>> {
        let algorithms = ring::default_provider().signature_verification_algorithms;
        let verifier = Arc::new(SpiffeVerifier { bundle: self.bundle, algorithms });
        let config = ClientConfig::builder().dangerous().with_custom_certificate_verifier(verifier);
        Ok(config.with_client_auth_cert(self.chain, self.key)?.into())
    }
}

/// Verifies a server's chain, and its SPIFFE ID in place of a DNS name, which it does not have.
#[derive(Debug)]
struct SpiffeVerifier {
    bundle: RootCertStore,
    algorithms: WebPkiSupportedAlgorithms,
}

type Verified = Result<HandshakeSignatureValid, rustls::Error>;

impl ServerCertVerifier for SpiffeVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let (parsed, algorithms) = (ParsedCertificate::try_from(leaf)?, self.algorithms.all);
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.bundle, intermediates, now, algorithms)?;
        match id_and_serial(Some(std::slice::from_ref(leaf))) {
            Ok((id, _)) if id == ID => Ok(ServerCertVerified::assertion()),
            _ => Err(rustls::Error::General(format!("the server is not {ID}"))),
        }
    }

    fn verify_tls12_signature(&self, message: &[u8], leaf: &CertificateDer<'_>, signed: &Signed) -> Verified {
        verify_tls12_signature(message, leaf, signed, &self.algorithms)
    }

    fn verify_tls13_signature(&self, message: &[u8], leaf: &CertificateDer<'_>, signed: &Signed) -> Verified {
        verify_tls13_signature(message, leaf, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// The SPIFFE ID of a chain's leaf, its one URI; and its serial number as the helper prints it: hexadecimal,
/// without the sign byte of its DER.
pub fn id_and_serial(chain: Option<&[CertificateDer<'_>]>) -> Outcome<(String, String)> {
    let leaf = chain.and_then(<[_]>::first).ok_or("there is no certificate")?;
    let leaf = Certificate::from_der(leaf)?;
    let number = leaf.tbs_certificate().serial_number().as_bytes();
    let digits = number.strip_prefix(&[0]).filter(|rest| !rest.is_empty()).unwrap_or(number);
    let names = leaf.tbs_certificate().get_extension::<SubjectAltName>()?.map(|(_, names)| names.0);
    match names.unwrap_or_default().as_slice() {
        [GeneralName::UniformResourceIdentifier(id)] => {
            Ok((id.to_string(), digits.iter().map(|byte| format!("{byte:02x}")).collect()))
        }
        _ => Err("the certificate has other names than one URI".into()),
    }
}
