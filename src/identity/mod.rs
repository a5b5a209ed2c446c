//! Checked identity material: what exists as one of these types is valid by the SPIFFE standards.
//! Knows nothing of gRPC and nothing of files.

pub mod bundle;
pub mod certificate;
pub mod context;
pub mod crl;
pub mod jwt_bundle;
pub mod jwt_svid;
pub mod offered;
pub mod private_key;
pub mod selection;
pub mod spiffe_id;
pub mod term;
pub mod x509_svid;
