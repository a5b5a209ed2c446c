//! A trust domain's CA: mints X.509-SVIDs and JWT-SVIDs, good ones and, when asked to, bad ones.

use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use base64ct::{Base64UrlUnpadded, Encoding};
use der::asn1::UintRef;
use der::{Decode, Sequence};
use pod_svid_helper::for_tests::workload::{JWTSVID, JWTSVIDResponse, X509SVID, X509SVIDResponse};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, CustomExtension,
    DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SanType, SerialNumber,
};
use rsa::pkcs8::EncodePrivateKey;
use x509_cert::Certificate;

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

    pub fn generate(self) -> KeyPair {
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

/// The CA of one trust domain: a root, and perhaps an intermediate that signs in its name. And the
/// key that signs its JWT-SVIDs.
pub struct Authority {
    trust_domain: String,
    root: CertifiedIssuer<'static, KeyPair>,
    intermediate: Option<CertifiedIssuer<'static, KeyPair>>,
    jwt_key: KeyPair,
    jwt_key_id: String,
}

impl Authority {
    pub fn new(trust_domain: &str) -> Self {
        Self::named(trust_domain, "root")
    }

    /// With this name for the root.
    pub fn named(trust_domain: &str, role: &str) -> Self {
        Self::of(trust_domain, role, KeyType::P256.generate())
    }

    /// With a key of this kind for the root.
    pub fn with_key(trust_domain: &str, key_type: KeyType) -> Self {
        Self::of(trust_domain, "root", key_type.generate())
    }

    /// With the root's key in this file, which the first call writes: the next process has the same CA.
    pub fn with_key_in(file: &Path, trust_domain: &str) -> Self {
        let key = std::fs::read(file).unwrap_or_else(|_| {
            let key = KeyType::P256.generate().serialize_der();
            std::fs::write(file, &key).expect("the CA's key can be written");
            key
        });
        Self::of(trust_domain, "root", key.as_slice().try_into().expect("the CA's key, PKCS#8"))
    }

    fn of(trust_domain: &str, role: &str, key: KeyPair) -> Self {
        let root = CertifiedIssuer::self_signed(ca_params(trust_domain, role), key);
        Self {
            trust_domain: trust_domain.to_owned(),
            root: root.expect("a root"),
            intermediate: None,
            jwt_key: KeyType::P256.generate(),
            jwt_key_id: "1".to_owned(),
        }
    }

    /// With this name for the key of its tokens.
    pub fn with_jwt_key_id(trust_domain: &str, key_id: &str) -> Self {
        Self { jwt_key_id: key_id.to_owned(), ..Self::new(trust_domain) }
    }

    /// The root with its name and its key, valid until this time.
    pub fn root_until(&self, end: SystemTime) -> Vec<u8> {
        self.bundle_until("root", end)
    }

    /// The same of a root with another name.
    pub fn bundle_until(&self, role: &str, end: SystemTime) -> Vec<u8> {
        let mut params = ca_params(&self.trust_domain, role);
        params.not_after = end.into();
        params.self_signed(self.root.key()).expect("a root").der().to_vec()
    }

    /// The root with its name and its key, and with this URI in place of the trust domain's.
    pub fn root_with_uri(&self, uri: &str) -> Vec<u8> {
        let mut params = ca_params(&self.trust_domain, "root");
        params.subject_alt_names = vec![SanType::URI(uri.try_into().expect("ASCII"))];
        params.self_signed(self.root.key()).expect("a root").der().to_vec()
    }

    /// Another CA of the trust domain, whose validity is over.
    pub fn expired_root(&self) -> Vec<u8> {
        let mut params = ca_params(&self.trust_domain, "old root");
        params.not_after = (SystemTime::now() - Duration::from_secs(60)).into();
        let root = CertifiedIssuer::self_signed(params, KeyType::P256.generate());
        root.expect("a root").der().to_vec()
    }

    pub fn with_intermediate(self) -> Self {
        self.with_intermediate_until(SystemTime::now() + Duration::from_secs(3600))
    }

    /// With an intermediate whose validity ends at this time.
    pub fn with_intermediate_until(mut self, end: SystemTime) -> Self {
        let mut params = ca_params(&self.trust_domain, "intermediate");
        params.not_after = end.into();
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

    /// A revocation list that revokes nothing, DER.
    pub fn crl(&self) -> Vec<u8> {
        self.crl_of(&[], Duration::ZERO)
    }

    /// A revocation list of this age that revokes these SVIDs, DER. Later ones have higher numbers.
    pub fn crl_of(&self, revoked: &[&X509SVID], age: Duration) -> Vec<u8> {
        let serial = |svid: &&X509SVID| {
            let leaf = Certificate::from_der(&svid.x509_svid).expect("a chain of one certificate");
            leaf.tbs_certificate().serial_number().as_bytes().to_vec()
        };
        self.crl_of_serials(&revoked.iter().map(serial).collect::<Vec<_>>(), age)
    }

    /// The same of serial numbers, big-endian.
    pub fn crl_of_serials(&self, revoked: &[Vec<u8>], age: Duration) -> Vec<u8> {
        self.crl_from(SystemTime::now() - age, revoked)
    }

    /// The same of this date.
    pub fn crl_from(&self, now: SystemTime, revoked: &[Vec<u8>]) -> Vec<u8> {
        let revoked = revoked.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from_slice(serial),
            revocation_time: now.into(),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: now.into(),
            next_update: (now + Duration::from_secs(3600)).into(),
            crl_number: fresh_serial(),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.root).expect("a revocation list").der().to_vec()
    }

    /// The keys that verify its JWT-SVIDs: a JWKS document.
    pub fn jwks(&self) -> Vec<u8> {
        // An uncompressed point: 4, x, y.
        let point = self.jwt_key.public_key_raw();
        let coordinate = |bytes| Base64UrlUnpadded::encode_string(bytes);
        let (x, y) = (coordinate(&point[1..33]), coordinate(&point[33..]));
        let key = serde_json::json!({ "kty": "EC", "use": "jwt-svid", "kid": self.jwt_key_id, "crv": "P-256", "x": x, "y": y });
        serde_json::json!({ "keys": [key] }).to_string().into_bytes()
    }

    /// Mints a token for an ID and an audience, valid from now on for so long.
    pub fn mint_jwt(&self, id: &str, audience: &[String], ttl: Duration) -> JWTSVID {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
        let (issued, expires) = (now.as_secs_f64(), (now + ttl).as_secs_f64());
        self.sign_jwt(id, &serde_json::json!({ "sub": id, "aud": audience, "iat": issued, "exp": expires }))
    }

    /// Signs claims, whatever they say, as the token of an ID (ES256).
    pub fn sign_jwt(&self, id: &str, claims: &serde_json::Value) -> JWTSVID {
        let header = serde_json::json!({ "alg": "ES256", "kid": self.jwt_key_id, "typ": "JWT" });
        JWTSVID { spiffe_id: id.to_owned(), svid: self.sign(&header, claims), ..Default::default() }
    }

    /// Signs a header and claims, whatever they say (ES256).
    pub fn sign(&self, header: &serde_json::Value, claims: &serde_json::Value) -> String {
        let part = |json: &serde_json::Value| Base64UrlUnpadded::encode_string(json.to_string().as_bytes());
        let signed = format!("{}.{}", part(header), part(claims));
        let signature = rcgen::SigningKey::sign(&self.jwt_key, signed.as_bytes()).expect("a signature");
        let signature = EcdsaSignature::from_der(&signature).expect("DER");
        let half = |number: UintRef<'_>| format!("{:0>64}", hexadecimal(number.as_bytes()));
        let raw = bytes(&(half(signature.r) + &half(signature.s)));
        format!("{signed}.{}", Base64UrlUnpadded::encode_string(&raw))
    }

    /// Mints what the recipe says.
    pub fn mint(&self, recipe: &Recipe) -> X509SVID {
        let mut params = CertificateParams::default();
        params.distinguished_name =
            if recipe.has_subject { common_name("workload") } else { DistinguishedName::new() };
        params.serial_number = Some(fresh_serial());
        let ascii = |name: &String| name.as_str().try_into().expect("ASCII");
        let uris = recipe.uris.iter().map(|uri| SanType::URI(ascii(uri)));
        params.subject_alt_names =
            uris.chain(recipe.dns_names.iter().map(|name| SanType::DnsName(ascii(name)))).collect();
        params.is_ca =
            if recipe.is_ca { IsCa::Ca(BasicConstraints::Unconstrained) } else { IsCa::ExplicitNoCa };
        params.key_usages = recipe.key_usages.clone();
        params.custom_extensions =
            vec![CustomExtension::from_oid_content(&[2, 5, 29, 1], vec![5, 0]); recipe.extensions];
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

/// Tokens as a response.
pub fn jwt_response(svids: impl IntoIterator<Item = JWTSVID>) -> JWTSVIDResponse {
    JWTSVIDResponse { svids: svids.into_iter().collect(), ..Default::default() }
}

/// As X.509 has it; a JWS has both numbers in 32 bytes each.
#[derive(Sequence)]
struct EcdsaSignature<'a> {
    r: UintRef<'a>,
    s: UintRef<'a>,
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of hexadecimal digits, two for each.
pub fn bytes(hexadecimal: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&hexadecimal[at..at + 2], 16).expect("digits");
    (0..hexadecimal.len()).step_by(2).map(byte).collect()
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
    pub dns_names: Vec<String>,
    /// Without one, the extension with the leaf's names is critical.
    pub has_subject: bool,
    pub hint: String,
    pub key_type: KeyType,
    pub is_ca: bool,
    pub key_usages: Vec<KeyUsagePurpose>,
    /// How often one more extension is there.
    pub extensions: usize,
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
            dns_names: Vec::new(),
            has_subject: true,
            hint: String::new(),
            key_type: KeyType::P256,
            is_ca: false,
            extensions: 0,
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
