//! The SPIFFE Workload API, as a client sees it. Knows nothing of files.

pub(crate) mod call_error;
pub(crate) mod client;
pub(crate) mod connect;
mod core_clock;
pub(crate) mod decode;
pub(crate) mod endpoint;
pub(crate) mod limits;
pub(crate) mod retry;
pub(crate) mod rpc;

/// The messages, generated from proto/workload.proto.
pub(crate) mod proto {
    #![allow(clippy::all, unreachable_pub)]
    include!(concat!(env!("OUT_DIR"), "/workload_api/mod.rs"));
}
