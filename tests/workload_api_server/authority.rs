//! A trust domain's CA: mints X.509-SVIDs, good ones and, when asked to, bad ones.

use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use pod_svid_helper::workload_api::proto::workload::{X509SVID, X509SVIDResponse};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};
use rsa::pkcs8::EncodePrivateKey;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyType {
    P256,
    P384,
    Rsa2048,
    Ed25519,
}

impl KeyType {
    pub const ALL: [(&'static str, Self); 4] =
        [("p256", Self::P256), ("p384", Self::P384), ("rsa2048", Self::Rsa2048), ("ed25519", Self::Ed25519)];

    fn generate(self) -> KeyPair {
        match self {
            Self::P256 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
            Self::P384 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384),
            Self::Ed25519 => KeyPair::generate_for(&rcgen::PKCS_ED25519),
            Self::Rsa2048 => {
                let key = rsa::PrivateKey::new(&mut getrandom::SysRng, 2048).expect("an RSA key");
                let der = key.to_pkcs8_der().expect("PKCS#8").as_bytes().to_vec();
                KeyPair::from_pkcs8_der_and_sign_algo(&der.into(), &rcgen::PKCS_RSA_SHA256)
            }
        }
        .expect("a key pair")
    }
}

/// The CA of one trust domain: a root, and perhaps an intermediate that signs in its name.
pub struct Authority {
    trust_domain: String,
    root: CertifiedIssuer<'static, KeyPair>,
    intermediate: Option<CertifiedIssuer<'static, KeyPair>>,
}

impl Authority {
    pub fn new(trust_domain: &str) -> Self {
        let root = CertifiedIssuer::self_signed(ca_params(trust_domain, "root"), KeyType::P256.generate());
        Self { trust_domain: trust_domain.to_owned(), root: root.expect("a root"), intermediate: None }
    }

    pub fn with_intermediate(mut self) -> Self {
        let params = ca_params(&self.trust_domain, "intermediate");
        let issuer = CertifiedIssuer::signed_by(params, KeyType::P256.generate(), &self.root);
        self.intermediate = Some(issuer.expect("an intermediate"));
        self
    }

    /// The trust domain as a SPIFFE ID.
    pub fn id(&self) -> String {
        format!("spiffe://{}", self.trust_domain)
    }

    /// The bundle, DER.
    pub fn bundle(&self) -> Vec<u8> {
        self.root.der().to_vec()
    }

    /// Mints what the recipe says.
    pub fn mint(&self, recipe: &Recipe) -> X509SVID {
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name("workload");
        params.serial_number = Some(fresh_serial());
        params.subject_alt_names =
            recipe.uris.iter().map(|uri| SanType::URI(uri.as_str().try_into().expect("ASCII"))).collect();
        params.is_ca =
            if recipe.is_ca { IsCa::Ca(BasicConstraints::Unconstrained) } else { IsCa::ExplicitNoCa };
        params.key_usages = recipe.key_usages.clone();
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        // Tells CAs of one name apart while both are in the bundle.
        params.use_authority_key_identifier_extension = true;
        params.not_before = recipe.not_before.into();
        params.not_after = recipe.not_after.into();
        let key = recipe.key_type.generate();
        let signer = self.intermediate.as_ref().unwrap_or(&self.root);
        let leaf = params.signed_by(&key, signer).expect("a leaf");
        let mut chain = leaf.der().to_vec();
        if let Some(intermediate) = &self.intermediate {
            chain.extend_from_slice(intermediate.der());
        }
        X509SVID {
            spiffe_id: recipe.spiffe_id.clone(),
            x509_svid: chain,
            x509_svid_key: key.serialize_der(),
            bundle: self.bundle(),
            hint: recipe.hint.clone(),
            ..Default::default()
        }
    }

    /// A response with one SVID for each recipe, in this order.
    pub fn response<'a>(&self, recipes: impl IntoIterator<Item = &'a Recipe>) -> X509SVIDResponse {
        X509SVIDResponse {
            svids: recipes.into_iter().map(|recipe| self.mint(recipe)).collect(),
            ..Default::default()
        }
    }
}

fn ca_params(trust_domain: &str, role: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(&format!("{trust_domain} {role}"));
    params.serial_number = Some(fresh_serial());
    let uri = format!("spiffe://{trust_domain}");
    params.subject_alt_names = vec![SanType::URI(uri.as_str().try_into().expect("ASCII"))];
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    params
}

fn common_name(name: &str) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    subject
}

/// Counts up from a start that differs from run to run, so that a serial is never seen twice. The
/// highest bit is set, which DER hides behind a zero byte.
fn fresh_serial() -> SerialNumber {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: OnceLock<AtomicU64> = OnceLock::new();
    let start = || {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
        AtomicU64::new(1 << 63 | now.as_nanos() as u64 >> 1)
    };
    NEXT.get_or_init(start).fetch_add(1, Ordering::Relaxed).into()
}

/// What an SVID is to look like. [`Recipe::for_id`] makes a good one; its fields are there to
/// spoil.
#[derive(Clone)]
pub struct Recipe {
    /// The message's `spiffe_id`.
    pub spiffe_id: String,
    /// The leaf's URI names.
    pub uris: Vec<String>,
    pub hint: String,
    pub key_type: KeyType,
    pub is_ca: bool,
    pub key_usages: Vec<KeyUsagePurpose>,
    pub not_before: SystemTime,
    pub not_after: SystemTime,
}

impl Recipe {
    /// Valid for an hour from now on.
    pub fn for_id(id: &str) -> Self {
        let now = SystemTime::now();
        Self {
            spiffe_id: id.to_owned(),
            uris: vec![id.to_owned()],
            hint: String::new(),
            key_type: KeyType::P256,
            is_ca: false,
            key_usages: vec![KeyUsagePurpose::DigitalSignature],
            not_before: now,
            not_after: now + Duration::from_secs(3600),
        }
    }

    pub fn key_type(self, key_type: KeyType) -> Self {
        Self { key_type, ..self }
    }

    pub fn hint(self, hint: &str) -> Self {
        Self { hint: hint.to_owned(), ..self }
    }

    /// Valid from now on for so long. (Certificates count in whole seconds.)
    pub fn ttl(self, ttl: Duration) -> Self {
        let now = SystemTime::now();
        Self { not_before: now, not_after: now + ttl, ..self }
    }

    /// Its validity ended so long ago.
    pub fn expired_for(self, ago: Duration) -> Self {
        let end = SystemTime::now() - ago;
        Self { not_before: end - Duration::from_secs(3600), not_after: end, ..self }
    }
}
