//! Files: which there are, what is in them, and how they replace the ones before them. Knows
//! nothing of X.509 and nothing of gRPC; what it stores are blobs.

pub mod layout;
pub mod pem;
pub mod publish;
