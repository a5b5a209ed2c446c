//! Checked identity material: SPIFFE IDs, certificates, keys, bundles, SVIDs, tokens. A value of one of
//! these types is valid by the SPIFFE standards; [`raw`] holds what is not checked yet. Nothing here
//! knows gRPC or files.

pub(crate) mod bundle;
pub(crate) mod ca_jwk;
pub(crate) mod certificate;
pub(crate) mod context;
pub(crate) mod crl;
pub(crate) mod dates;
pub(crate) mod digest;
mod distinguished_name;
mod early_dates;
mod extension_form;
mod jwk;
pub(crate) mod jwks;
pub(crate) mod jwt_bundle;
pub(crate) mod jwt_svid;
pub(crate) mod limits;
pub(crate) mod private_key;
pub(crate) mod raw;
mod rsa_key;
pub(crate) mod selection;
pub(crate) mod spiffe_id;
pub(crate) mod svid_info;
pub(crate) mod svids;
pub(crate) mod token;
pub(crate) mod trust;
pub(crate) mod wit_svid;
pub(crate) mod x509_svid;
