//! The SPIFFE Workload API, as a client sees it. Knows nothing of files.

pub mod client;
pub mod connect;
pub mod endpoint;
pub mod failure;
pub mod procedure;
pub mod watch;

/// The messages, generated from proto/workload.proto.
pub mod proto {
    #![allow(missing_docs, clippy::all)]
    include!(concat!(env!("OUT_DIR"), "/workload_api/mod.rs"));
}
